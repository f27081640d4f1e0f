"""What the patterns of routes accept, and which ones are refused when built."""

import re
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_notify.exceptions import MisuseError, RouteError
from asgi_notify.routing.patterns import (
    CONVERTERS,
    Captured,
    compile_path,
    compile_regex,
    remaining_path,
)


def capture(route: str, path: str, **converters: Any) -> dict[str, Any] | None:
    """The kwargs that a route takes from a whole path."""
    found = compile_path(route, converters).match(path, is_prefix=False)
    return found.kwargs if found else None


SLUG = st.text("abcXYZ019-_", min_size=1)
SEGMENT = st.text(min_size=1).filter(lambda text: "/" not in text)
LINE = st.text(min_size=1).filter(lambda text: "\n" not in text)  # "." matches no newline


@given(st.integers(min_value=0))
def test_an_int_comes_back_equal(value: int) -> None:
    assert capture("rooms/<int:room>/", f"rooms/{value}/") == {"room": value}


@given(SEGMENT)
def test_a_str_comes_back_equal(value: str) -> None:
    assert capture("rooms/<str:room>/", f"rooms/{value}/") == {"room": value}
    assert capture("rooms/<room>/", f"rooms/{value}/") == {"room": value}


@given(SLUG)
def test_a_slug_comes_back_equal(value: str) -> None:
    assert capture("rooms/<slug:room>/", f"rooms/{value}/") == {"room": value}


@given(st.uuids())
def test_a_uuid_comes_back_equal(value: UUID) -> None:
    assert capture("rooms/<uuid:room>/", f"rooms/{value}/") == {"room": value}


@given(LINE)
def test_a_path_comes_back_equal(value: str) -> None:
    assert capture("files/<path:file>", f"files/{value}") == {"file": value}


@given(st.sampled_from(sorted(CONVERTERS)), st.text(), st.booleans())
@example("int", "9" * 10_000, False)
@example("int", "9" * 10_000, True)
@example("uuid", "-" * 36, False)
def test_no_path_makes_a_match_raise(converter: str, text: str, is_prefix: bool) -> None:
    pattern = compile_path(f"<{converter}:value>")
    found = pattern.match(text, is_prefix=is_prefix)
    assert found is None or text.endswith(found.rest)


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("rooms/<int:room>/", "rooms/x/"),
        ("rooms/<int:room>/", "rooms/-1/"),
        ("rooms/<int:room>/", "rooms/\u0663/"),  # a digit, but not of ASCII
        ("rooms/<int:room>/", "rooms/" + "9" * 10_000 + "/"),
        ("rooms/<int:room>/", "rooms/1"),
        ("rooms/<int:room>/", "rooms/1/\n"),
        ("rooms/<int:room>/", "rooms/1/more"),
        ("rooms/<int:room>/", "my/rooms/1/"),
        ("rooms/<room>/", "rooms//"),
        ("rooms/<room>/", "rooms/a/b/"),
        ("rooms/<slug:room>/", "rooms/\u00e4/"),
        ("rooms/<uuid:room>/", "rooms/12345678-1234-1234-1234-1234567890AB/"),
        ("a.b", "axb"),
        ("", "x"),
    ],
)
def test_another_path_is_no_match(route: str, path: str) -> None:
    assert capture(route, path) is None


def test_a_prefix_leaves_the_rest() -> None:
    found = compile_path("rooms/<int:room>/").match("rooms/7/log/today", is_prefix=True)
    assert found == Captured("log/today", (), {"room": 7})


class Year:
    regex = "[0-9]{4}"

    def to_python(self, value: str) -> int:
        if value == "0000":
            raise ValueError("there was no such year")
        return int(value)


@pytest.mark.parametrize("converter", [Year, Year()])
def test_own_converters_are_passed_in_as_class_or_instance(converter: object) -> None:
    assert capture("<year:y>", "1984", year=converter) == {"y": 1984}
    assert capture("<year:y>", "84", year=converter) is None
    assert capture("<year:y>", "0000", year=converter) is None
    assert "year" not in CONVERTERS


class NoRegex:
    def to_python(self, value: str) -> str:
        return value


class Named(Year):
    regex = "(?P<century>[0-9]{2})[0-9]{2}"


class Unbalanced(Year):
    regex = "a)|(b"


class FlagInside(Year):
    regex = "(?i)x"


@pytest.mark.parametrize(
    ("converter", "way_out"),
    [
        (NoRegex, "needs a text 'regex'"),
        (Named, r"take the names off"),
        (Unbalanced, "is no regular expression"),
        (FlagInside, "is no regular expression"),
    ],
)
def test_a_converter_that_cannot_work_is_refused(converter: type, way_out: str) -> None:
    with pytest.raises(RouteError, match=way_out):
        capture("rooms/<year:y>", "", year=converter)


@pytest.mark.parametrize(
    ("route", "way_out"),
    [
        ("<integer:room>", "use one of int, path, slug, str, uuid"),
        ("<int:room>/<str:room>", "two parameters 'room'; rename one"),
        ("<int:room-id>", "'room-id' cannot name a parameter"),
        ("<int:1st>", "'1st' cannot name a parameter"),
        ("<:room>", "':room' cannot name a parameter"),
        ("<int: room>", "remove the whitespace in '<int: room>'"),
        ("rooms/<int:room", "must enclose a parameter"),
        ("rooms/int:room>", "must enclose a parameter"),
        ("rooms/<>", "must enclose a parameter"),
        ("<<int:room>>", "must enclose a parameter"),
        ("n/{room_name}/", "'<int:room_name>', or '<room_name>' for any text"),
        ("n/{room_name:uuid}/", "'<uuid:room_name>', or '<room_name>'"),
        ("/rooms/", "write 'rooms/'"),
        ("^rooms/", r"use re_path\(\)"),
        ("rooms/$", r"use re_path\(\)"),
        ("(?P<room>x)", r"use re_path\(\)"),
        (None, "a route is text, not None"),
        (b"rooms/", "a route is text"),
    ],
)
def test_a_route_that_cannot_be_meant_is_refused(route: Any, way_out: str) -> None:
    with pytest.raises(RouteError, match=way_out) as raised:
        compile_path(route)
    assert repr(route) in str(raised.value)


@pytest.mark.parametrize("route", ["a{}b/", "{1}/", "{a b}/"])
def test_braces_that_name_no_parameter_are_text(route: str) -> None:
    assert capture(route, route) == {}


def test_a_regex_that_ends_in_a_dollar_matches_the_whole_path() -> None:
    pattern = compile_regex(r"ws/my-path/$")
    assert pattern.match("ws/my-path/", is_prefix=False) == Captured("", (), {})
    assert pattern.match("my/ws/my-path/", is_prefix=False) is None
    assert pattern.match("ws/my-path/\n", is_prefix=False) is None


def test_any_other_regex_is_searched_and_leaves_the_rest() -> None:
    assert compile_regex("b/").match("a/b/c", is_prefix=False) == Captured("c", (), {})
    assert compile_regex("^b/").match("a/b/c", is_prefix=False) is None
    assert compile_regex("^a/$|^a/").match("a/b", is_prefix=True) == Captured("b", (), {})


def test_a_regex_gives_its_groups_as_args() -> None:
    found = compile_regex("^([a-z])/([0-9])?").match("x/", is_prefix=False)
    assert found == Captured("", ("x", None), {})


def test_a_regex_with_named_groups_gives_only_those_that_took_part() -> None:
    pattern = compile_regex("^([a-z])/(?P<room>[0-9])/(?P<page>[0-9])?$")
    assert pattern.match("x/1/", is_prefix=False) == Captured("", (), {"room": "1"})


@pytest.mark.parametrize(
    ("route", "way_out"),
    [
        ("^rooms/(", "is no regular expression"),
        ("^(?P<a>x)(?P<a>y)$", "redefinition of group name 'a'"),
        ("a{99999999999999999999}", "is no regular expression"),
        ("^/rooms/$", "drop the slash after"),
        (r"^\/rooms/$", "drop the slash after"),
        (re.compile("x"), "a route is text"),
        (None, "a route is text"),
    ],
)
def test_a_regex_that_cannot_be_meant_is_refused(route: Any, way_out: str) -> None:
    with pytest.raises(RouteError, match=way_out) as raised:
        compile_regex(route)
    assert repr(route) in str(raised.value)


@pytest.mark.parametrize("route", ["^/?rooms/$", "^/*rooms/$", "^/x|^rooms/$"])
def test_a_slash_that_need_not_match_is_allowed(route: str) -> None:
    assert compile_regex(route).match("rooms/", is_prefix=True) is not None


@given(st.text())
def test_no_path_makes_a_regex_match_raise(text: str) -> None:
    for route in ("^(?P<a>[0-9]+)?(.)?$", "([a-z])|(/)", ""):
        compile_regex(route).match(text, is_prefix=False)


@pytest.mark.parametrize(
    ("root_path", "path", "rest"),
    [
        ("", "/rooms/", "rooms/"),
        ("", "", ""),
        ("", "//rooms/", "rooms/"),
        ("/api", "/api/rooms/", "rooms/"),  # as the specification asks
        ("/api", "/rooms/", "rooms/"),  # a server that has taken it off
        ("/api/", "/api/rooms/", "rooms/"),
        ("/api", "/api", ""),
        ("/api", "/apix", "apix"),
        ("/api", "/x/api/", "x/api/"),
        ("/", "/rooms/", "rooms/"),
        (None, "/rooms/", "rooms/"),
    ],
)
def test_the_path_is_read_below_the_root_path(root_path: str, path: str, rest: str) -> None:
    assert remaining_path({"type": "http", "root_path": root_path, "path": path}) == rest


def test_what_an_outer_router_left_is_read_as_it_is() -> None:
    scope = {"path_remaining": "/api/x", "path": "/y", "root_path": "/api"}
    assert remaining_path(scope) == "api/x"
    assert remaining_path({"path_remaining": "", "path": "/y"}) == ""


def test_a_scope_without_a_path_is_a_misuse_that_says_what_to_do() -> None:
    with pytest.raises(MisuseError, match=r"'lifespan' scope has no path.*ProtocolTypeRouter"):
        remaining_path({"type": "lifespan"})
