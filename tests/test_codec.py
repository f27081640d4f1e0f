"""What a message may hold, and that nobody changes it on its way."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from asgi_notify.codec import FrozenMessage, spelled, stamped
from asgi_notify.positions import Position


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message.__setitem__("n", 2),
        lambda message: message.__ior__({"n": 2}),
        lambda message: message.pop("n"),
        lambda message: message.update(n=2),
    ],
)
def test_a_message_on_its_way_is_read_only(change: Callable[[Any], object]) -> None:
    message = FrozenMessage({"type": "x", "n": 1})
    with pytest.raises(TypeError, match=r"change a copy: dict\(message\)"):
        change(message)
    assert message == {"type": "x", "n": 1}


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda message: pickle.loads(pickle.dumps(message))]
)
def test_a_message_that_is_copied_whole_stays_read_only(copied: Callable[[Any], Any]) -> None:
    message = FrozenMessage({"type": "x", "n": [1]})
    twin = copied(message)
    assert twin == message
    assert isinstance(twin, FrozenMessage)
    assert twin is not message


def test_a_message_that_was_not_stamped_has_no_group_and_no_position() -> None:
    message = FrozenMessage({"type": "x"})
    assert message.group is None
    assert message.position is None


def test_a_stamped_message_is_a_copy_that_knows_where_it_stands() -> None:
    original = {"type": "x", "n": [1]}
    message = stamped(original, "room", Position("abcdefgh", 5))
    assert isinstance(message, FrozenMessage)
    assert message == original
    assert dict(message) is not original
    assert message.group == "room"
    assert message.position == Position("abcdefgh", 5)
    assert stamped(original, "room").position is None
    assert spelled(message) == original  # the stamp is no part of it


@pytest.mark.parametrize("message", [FrozenMessage({"n": 1}), stamped({"n": 1}, "room")])
@pytest.mark.parametrize("name", ["group", "position", "other"])
def test_what_a_message_knows_of_itself_is_read_only(message: FrozenMessage, name: str) -> None:
    with pytest.raises(TypeError, match="cannot be changed"):
        setattr(message, name, "x")
    with pytest.raises(TypeError, match="cannot be changed"):
        delattr(message, name)
    assert message.position is None


@pytest.mark.parametrize("position", [None, Position("abcdefgh", 5)])
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda message: pickle.loads(pickle.dumps(message))]
)
def test_a_copy_of_a_stamped_message_keeps_the_stamp(
    copied: Callable[[Any], Any], position: Position | None
) -> None:
    message = stamped({"type": "x", "n": [1]}, "room", position)
    twin = copied(message)
    assert twin == message
    assert twin is not message
    assert (twin.group, twin.position) == ("room", position)
    with pytest.raises(TypeError, match="cannot be changed"):
        twin["n"] = 2
