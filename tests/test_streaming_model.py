"""Random programs of parts leave the same answers, in the same order, taken at once or not.

A program says which part is sent to which of some streams, and when the event loop gets a turn.
It runs on real sockets and a real server, on both of the loops that uvicorn knows, while each
client reads at once or not before the server waits for it. Behind each stream, another request
waits on the same connection.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_notify.asgi import DIRECT
from asgi_notify.types import Receive, Scope, Send
from tests.sockets import WAIT, Answers, serving

uvloop = pytest.importorskip("uvloop", reason="there is none for this Python or system")

pytestmark = pytest.mark.slow

STALL = 0.03  # seconds in which a program ends, or waits for clients that do not read
CLIENTS = 3
SMALL = 2048  # bytes; the kernel makes it the least that it can
OURS = "asgi_notify.uvicorn:HttpProtocol"

# (which client, what befalls it, with what)
Step = tuple[int, str, int]

sizes = st.sampled_from([0, 1, 15, 16, 1000, 16_384, 16_385, 65_535, 65_536, 200_000])
steps = st.one_of(
    st.tuples(st.integers(0, CLIENTS - 1), st.sampled_from(["part", "direct", "task"]), sizes),
    st.tuples(st.just(0), st.just("turn"), st.integers(1, 3)),
    st.tuples(st.just(0), st.just("to all"), sizes),
)


class Programs:
    """An application whose streams are run by one program together."""

    def __init__(self) -> None:
        self.members: dict[int, tuple[Scope, Send]] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.may_end: asyncio.Event
        self.is_direct = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
            self.may_end = asyncio.Event()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/next":
            await send({"type": "http.response.body", "body": b"next"})
            return
        self.members[int(scope["path"][1:])] = scope, send
        await self.may_end.wait()

    async def run(self, program: list[Step], ending: str) -> None:
        """Run a program, and end all of its streams."""
        while len(self.members) < CLIENTS:  # noqa: ASYNC110  # the requests are on their way
            await asyncio.sleep(0.001)
        members = [self.members[which] for which in range(CLIENTS)]
        tasks: dict[int, asyncio.Task[None]] = {}
        for number, (which, what, size) in enumerate(program):
            if what == "turn":
                for _ in range(size):
                    await asyncio.sleep(0)
                continue
            body = payload(number, size)
            for each in range(CLIENTS) if what == "to all" else [which]:
                if each in tasks:
                    await tasks.pop(each)  # what several tasks send at once has no order
                sending = self._send(*members[each], body, is_direct=what in ("direct", "to all"))
                if what == "task":  # the program goes on meanwhile
                    tasks[each] = asyncio.create_task(sending)
                else:
                    await sending
        for which, (_, send) in enumerate(members):
            if which in tasks:
                await tasks[which]
            if ending == "end":
                await send({"type": "http.response.body", "body": b"last"})
        may_end, self.may_end = self.may_end, asyncio.Event()
        self.members.clear()
        may_end.set()

    async def _send(
        self, scope: Scope, send: Send, body: bytes, *, is_direct: bool = False
    ) -> None:
        offer = (scope.get("extensions") or {}).get(DIRECT, {})
        if is_direct and offer and offer["send_body"](body):
            self.is_direct = True
            return
        await send({"type": "http.response.body", "body": body, "more_body": True})


def payload(number: int, size: int) -> bytes:
    """Which step it was, as often as fits."""
    return (b"%d " % number * size)[:size]


def expected(program: list[Step], which: int) -> list[bytes]:
    """The chunks that a client is sent, in order: of nothing, there is none."""
    return [
        payload(number, size)
        for number, (whom, what, size) in enumerate(program)
        if what != "turn" and size and (whom == which or what == "to all")
    ]


Run = Callable[[list[Step], str, list[bool]], list[list[bytes]]]


@contextmanager
def runner(loop_factory: Any, http: str, *, is_direct: bool) -> Iterator[Run]:
    """Runs a program on a server of its own; returns what each client was sent."""
    programs = Programs()
    with serving(programs, loop_factory, http=http) as port, ThreadPoolExecutor(CLIENTS) as pool:

        def run(program: list[Step], ending: str, reads_late: list[bool]) -> list[list[bytes]]:
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(Answers(port, request(number), receive_buffer=SMALL))
                    for number in range(CLIENTS)
                ]
                all_read = Event()
                reading = [
                    pool.submit(read, client, all_read if is_late else None, ending)
                    for client, is_late in zip(clients, reads_late, strict=True)
                ]
                while programs.loop is None:
                    wait([], 0.001)
                ran = asyncio.run_coroutine_threadsafe(programs.run(program, ending), programs.loop)
                wait([ran], STALL)
                all_read.set()
                ran.result(WAIT)
                return [chunks.result(WAIT) for chunks in reading]

        yield run
        assert programs.is_direct is is_direct


def request(number: int) -> bytes:
    return b"".join(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % path
                    for path in (str(number).encode(), b"next"))  # fmt: skip


def read(client: Answers, may_read: Event | None, ending: str) -> list[bytes]:
    """What a client is sent until the end, and the answer to its next request."""
    if may_read is not None:
        assert may_read.wait(WAIT)
    client.head()
    chunks = client.chunks()
    if ending == "end":
        client.head()
        chunks += client.chunks()
    return chunks


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def runners(request: pytest.FixtureRequest) -> Iterator[dict[str, Run]]:
    loop_factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    is_gathered = {"gathered": True, "not gathered": False, "uvicorn": False}
    with ExitStack() as stack:
        found = {}
        for name, setting in is_gathered.items():
            http = "httptools" if name == "uvicorn" else OURS
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ASGI_NOTIFY_GATHERING", str(int(setting)))
                found[name] = stack.enter_context(runner(loop_factory, http, is_direct=setting))
                # The first connection on a loop reads the setting.
                assert found[name]([(0, "direct", 1)], "end", [False] * CLIENTS)
        yield found


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    program=st.lists(steps, max_size=25),
    ending=st.sampled_from(["end", "return"]),
    reads_late=st.lists(st.booleans(), min_size=CLIENTS, max_size=CLIENTS),
)
def test_a_program_leaves_the_same_answers_taken_at_once_or_not(
    runners: dict[str, Run], program: list[Step], ending: str, reads_late: list[bool]
) -> None:
    for name, run in runners.items():
        for which, chunks in enumerate(run(program, ending, reads_late)):
            end = [b"last", b"", b"next", b""] if ending == "end" else []
            assert chunks == expected(program, which) + end, name
