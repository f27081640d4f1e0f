"""Which names channels, groups and handlers may have."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.exceptions import InvalidMessage, InvalidName
from asgi_notify.names import (
    MAX_NAME_LENGTH,
    handler_name,
    require_channel_name,
    require_group_name,
)

GOOD = ["a", "user_42", "chat.room-1", "-", "_", ".", "A" * MAX_NAME_LENGTH]
BAD: list[object] = [
    "",
    "a" * (MAX_NAME_LENGTH + 1),
    "with space",
    "line\n",
    "\n",
    "tab\t",
    "café",
    "٣",  # a digit, but not of ASCII
    "a/b",
    "a:b",
    "a*",
    "\x00",
    7,
    None,
    b"bytes",
    ["a"],
]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_returned(name: str) -> None:
    assert require_group_name(name) == name
    assert require_channel_name(name) == name


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_any_other_name_is_refused_with_what_is_allowed(name: object) -> None:
    for noun, require in (("group", require_group_name), ("channel", require_channel_name)):
        with pytest.raises(InvalidName, match=f"cannot name a {noun}: use 1 to 100 ASCII letters"):
            require(name)


def test_a_channel_of_one_process_has_one_exclamation_mark() -> None:
    for name in ("specific.ab12!7", "a!", "a!b.c-d_e"):
        assert require_channel_name(name) == name
        with pytest.raises(InvalidName):
            require_group_name(name)
    for name in ("!", "!a", "a!b!c", "a!b\n"):
        with pytest.raises(InvalidName):
            require_channel_name(name)


@given(st.text(alphabet=st.sampled_from("aZ9-_.!\n é"), max_size=104))
def test_a_name_is_taken_if_and_only_if_every_character_is(name: str) -> None:
    allowed = set("aZ9-_.")
    good = 0 < len(name) <= 100 and set(name) <= allowed
    try:
        assert require_group_name(name) == name
    except InvalidName:
        assert not good
    else:
        assert good


@pytest.mark.parametrize(
    ("kind", "name"),
    [("chat.message", "chat_message"), ("a", "a"), ("a._b.", "a__b_"), ("a.b.c", "a_b_c")],
)
def test_a_handler_is_named_after_the_type(kind: str, name: str) -> None:
    assert handler_name({"type": kind}) == name


@pytest.mark.parametrize("kind", ["_private", ".private", "__init__", "._x", "_"])
def test_no_type_reaches_a_private_method(kind: str) -> None:
    with pytest.raises(InvalidMessage, match="starts with an underscore or a period"):
        handler_name({"type": kind})


@pytest.mark.parametrize("message", [{}, {"type": ""}, {"type": None}, {"type": b"a"}, {"type": 1}])
def test_a_message_without_a_type_is_refused_with_an_example(message: object) -> None:
    with pytest.raises(InvalidMessage, match=r"no 'type'; add one .* such as 'chat\.message'"):
        handler_name(message)


@pytest.mark.parametrize(("message", "kind"), [(["type"], "list"), ("type", "str"), (None, "None")])
def test_what_is_no_mapping_is_refused_with_its_type(message: object, kind: str) -> None:
    with pytest.raises(InvalidMessage, match=re.escape("{'type': 'chat.message'}") + f".*{kind}"):
        handler_name(message)
