"""The tree of errors, the codes that the other side is told, and the sentences they carry."""

import inspect
import pickle
import re
from http import HTTPStatus

import pytest

from asgi_notify import exceptions
from asgi_notify.exceptions import (
    CLOSE_CODES,
    AcceptConnection,
    ClientError,
    ConfigurationError,
    DenyConnection,
    MethodNotAllowed,
    MissingExtra,
    NotifyError,
    StopConsumer,
    Unauthorized,
)

CLASSES = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if kind.__module__ == exceptions.__name__
]
ERRORS = [kind for kind in CLASSES if issubclass(kind, NotifyError)]
CARRIERS: list[type[NotifyError | DenyConnection]] = [*ERRORS, DenyConnection]
DRAWN = re.compile(
    r"^(?P<indent>[ |+-]*)(?P<name>\w+)\s+(?P<code>\d{4})\s+(?P<status>\d{3})", re.MULTILINE
)


def drawn_tree() -> dict[str, tuple[str | None, int, int]]:
    """Name -> (parent, close code, status), as the module's docstring draws them."""
    tree: dict[str, tuple[str | None, int, int]] = {}
    above: list[tuple[int, str]] = []
    for line in DRAWN.finditer(exceptions.__doc__ or ""):
        depth = len(line["indent"])
        above = [(indent, name) for indent, name in above if indent < depth]
        parent = above[-1][1] if above else "NotifyError"
        tree[line["name"]] = (parent, int(line["code"]), int(line["status"]))
        above.append((depth, line["name"]))
    return tree


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    expected = {
        kind.__name__: (kind.__bases__[0].__name__, kind.close_code, kind.http_status)
        for kind in ERRORS
        if kind is not NotifyError
    }
    assert drawn_tree() == expected


def test_every_code_an_error_carries_has_a_meaning() -> None:
    for kind in CARRIERS:
        assert kind.close_code in CLOSE_CODES, kind
        assert HTTPStatus(kind.http_status)


def test_only_the_clients_own_errors_blame_the_client() -> None:
    for kind in ERRORS:
        assert (400 <= kind.http_status < 500) == issubclass(kind, ClientError), kind


def test_codes_that_are_never_sent_belong_to_no_error() -> None:
    # RFC 6455 7.4.1: 1005, 1006 and 1015 are not for a close frame.
    assert not {kind.close_code for kind in ERRORS} & {1005, 1006, 1015}


def test_private_codes_are_4000_and_the_status() -> None:
    for kind in ERRORS:
        if kind.close_code >= 4000:
            assert kind.close_code == 4000 + kind.http_status


def test_ways_to_go_on_are_no_errors() -> None:
    for kind in (AcceptConnection, DenyConnection, StopConsumer):
        assert not issubclass(kind, NotifyError)
        assert issubclass(kind, Exception)


def test_errors_are_also_what_python_would_raise() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(MissingExtra, ImportError)
    assert issubclass(exceptions.MisuseError, RuntimeError)
    assert issubclass(exceptions.InvalidName, TypeError)
    assert issubclass(exceptions.InvalidMessage, ValueError)


def test_a_missing_extra_says_what_to_install() -> None:
    assert str(MissingExtra("asgi-notify serve", "server")) == (
        "asgi-notify serve needs the server extra: pip install 'asgi-notify[server]'"
    )


def test_a_method_that_is_not_allowed_says_which_are() -> None:
    error = MethodNotAllowed("GET, HEAD")
    assert str(error) == "this path answers GET, HEAD only"
    assert error.allow == "GET, HEAD"
    assert error.headers == ((b"allow", b"GET, HEAD"),)


def test_headers_of_one_error_are_its_own_and_follow_those_of_its_class() -> None:
    error = Unauthorized("why", headers=[(b"retry-after", b"5")])
    assert list(error.headers) == [(b"www-authenticate", b"Bearer"), (b"retry-after", b"5")]
    assert list(Unauthorized("why").headers) == [(b"www-authenticate", b"Bearer")]
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.args, twin.headers) == (("why",), error.headers)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if "__init__" not in vars(kind)])
def test_errors_survive_a_process_pool(kind: type[Exception]) -> None:
    twin = pickle.loads(pickle.dumps(kind("why")))
    assert type(twin) is kind
    assert twin.args == ("why",)
