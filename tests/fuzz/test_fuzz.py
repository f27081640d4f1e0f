"""What was once found stays mended, and what clients send at random is survived."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target

CORPUS = Path(__file__).with_name("corpus")
KEPT = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*") if path.is_file())

METHODS = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"put", b""])
PATHS = st.sampled_from(
    [b"/notifications/42/", b"/notifications/", b"/", b"/healthz", b"/asgi-notify.js", b"/x"]
)
QUERIES = st.sampled_from([b"", b"?since=", b"?group=", b"?ticket=", b"?timeout=", b"?a=%"])
NAMES = st.sampled_from(
    [b"authorization", b"cookie", b"origin", b"host", b"last-event-id", b"forwarded",
     b"sec-websocket-protocol", b"idempotency-key", b"content-length", b"x-forwarded-for"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([b"Bearer x.y", b"session=x.y", b"http://127.0.0.1:8000", b"null",
                     b"asgi-notify.v1", b"asgi-notify.v1, asgi-notify.auth.x", b"for=_x"]),
    st.binary(max_size=40),
)  # fmt: skip
BODIES = st.one_of(
    st.sampled_from([b'{"data": 1}', b'{"type": "subscribe", "group": "user_7"}',
                     b'{"type": "auth", "token": "x"}', b'{"type":"ping"}\nping\n\1x', b"[["]),
    st.binary(max_size=200),
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Bytes that look like a request, here and there."""
    target = draw(PATHS) + draw(QUERIES) + draw(st.binary(max_size=20)).replace(b"\n", b"")
    lines = [draw(METHODS) + b" " + target]
    for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=4)):
        lines.append(name + b": " + value.replace(b"\n", b""))
    return b"\n".join(lines) + b"\n\n" + draw(BODIES)


@pytest.mark.parametrize("kept", KEPT)
def test_what_was_kept_is_survived(kept: str) -> None:
    TARGETS[kept.partition("/")[0]]((CORPUS / kept).read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=100, deadline=None)
@given(data=st.one_of(st.binary(max_size=300), requests()))
def test_whatever_comes_is_survived(name: str, data: bytes) -> None:
    target: Target = TARGETS[name]
    target(data)


def test_each_target_has_a_corpus() -> None:
    assert {name.partition("/")[0] for name in KEPT} == TARGETS.keys()


def test_an_unknown_target_is_refused() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "nothing"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "there is no 'nothing'; there are frame" in ended.stderr
