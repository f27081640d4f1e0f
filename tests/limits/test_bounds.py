"""The limits: what they may be, and how the environment names them."""

from dataclasses import fields, replace
from typing import Any

import pytest

from asgi_notify import Limits, Settings
from asgi_notify.exceptions import ConfigurationError
from asgi_notify.limits.bounds import PREFIX
from tests.servers import ROOT

FIELDS = fields(Limits)
NUMBERS = [field.name for field in FIELDS if field.name != "exempt"]
WHOLE = [field.name for field in FIELDS if isinstance(field.default, int)]


@pytest.mark.parametrize("name", NUMBERS)
def test_each_is_set_by_a_variable_of_its_own(name: str) -> None:
    variable = PREFIX + name.upper()
    limits = Settings.from_environ({variable: "7"}).limits
    changed: dict[str, Any] = {name: 7}
    assert limits == replace(Limits(), **changed)
    assert Settings.from_environ({variable: ""}).limits == Limits()


@pytest.mark.parametrize("name", NUMBERS)
def test_none_turns_a_limit_off(name: str) -> None:
    variable = PREFIX + name.upper()
    if name == "burst":
        with pytest.raises(ConfigurationError, match=variable):
            Limits.from_environ({variable: "none"})
    else:
        assert getattr(Limits.from_environ({variable: "none"}), name) is None


def test_networks_are_a_list() -> None:
    def exempt(text: str) -> tuple[str, ...]:
        return Limits.from_environ({f"{PREFIX}EXEMPT": text}).exempt

    assert exempt("10.0.0.0/8, 2001:db8::/32 ,,") == ("10.0.0.0/8", "2001:db8::/32")
    assert exempt("none") == ()
    assert exempt("") == Limits.exempt
    with pytest.raises(ConfigurationError, match=r"exempt holds '10\.0\.0\.1/8', which is no net"):
        exempt("10.0.0.1/8")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["0", "-1", "many", " 7", "nan", "inf", "1_0", "٣"])
def test_what_is_no_limit_is_refused_by_name(name: str, text: str) -> None:
    variable = PREFIX + name.upper()
    with pytest.raises(ConfigurationError, match=f"^{variable} is a"):
        Limits.from_environ({variable: text})


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_counted_is_whole(name: str) -> None:
    with pytest.raises(ConfigurationError):
        Limits.from_environ({PREFIX + name.upper(): "1.5"})
    values: Any = {name: 1.5}
    with pytest.raises(ConfigurationError, match=name):
        Limits(**values)


@pytest.mark.parametrize("value", [0, -1, True, "7", float("inf"), float("nan")])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_limit_is_refused_in_code(name: str, value: Any) -> None:
    values: Any = {name: value}
    with pytest.raises(ConfigurationError, match=f"^{name} is a number above 0"):
        Limits(**values)


@pytest.mark.parametrize("value", ["10.0.0.0/8", ["10.0.0.0/8"], ("here",)])
def test_what_is_no_network_is_refused_in_code(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^exempt"):
        Limits(exempt=value)


def test_a_variable_that_is_no_limit_is_told() -> None:
    # A limit whose name is misspelled would else not be there, and nobody would know.
    with pytest.raises(ConfigurationError, match=r"_CONECTIONS is no limit; there are .*_BODIES"):
        Settings.from_environ({f"{PREFIX}CONECTIONS": "7"})


def test_the_docs_have_each_limit_with_its_default() -> None:
    page = (ROOT / "docs" / "limits.md").read_text()
    for field in FIELDS:
        value = field.default
        shown = ", ".join(value) if isinstance(value, tuple) else f"{value:,g}"
        if isinstance(value, int):
            shown = f"{value:,}"
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{field.name}` |")]
        assert f"| {shown} |" in row.replace("`", ""), (row, shown)
