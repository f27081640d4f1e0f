"""Random programs of frames leave the same bytes, in the same order, gathered or not.

A program says what is sent to which of some connections, and when the event loop gets a
turn. It runs on real sockets and a real server, on both of the loops that uvicorn knows,
while each client reads at once or not before the server waits for it.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.utils import ClientDisconnected

from asgi_notify.asgi import DIRECT
from asgi_notify.types import Receive, Scope, Send
from tests.examples import examples
from tests.hostile.probes import GOODBYE, PING, frame
from tests.sockets import WAIT, Frame, Socket, serving

uvloop = pytest.importorskip("uvloop", reason="there is none for this Python or system")

pytestmark = pytest.mark.slow

STALL = 0.03  # seconds in which a program ends, or waits for clients that do not read
CLIENTS = 3
SMALL = 2048  # bytes; the kernel makes it the least that it can
OURS = "asgi_notify.uvicorn:WebSocketProtocol"
DATA = {"text": 0x81, "bytes": 0x82}  # FIN, and the opcode
PING_OF_SERVER, PONG, CLOSE = 0x89, 0x8A, 0x88
CODES = {"close": (4000).to_bytes(2), "goodbye": (1000).to_bytes(2)}

# (which client, what befalls it, with what)
Step = tuple[int, str, int]

sizes = st.sampled_from([0, 1, 10, 125, 126, 1000, 30_000, 65_535, 65_536, 200_000])
steps = st.one_of(
    st.tuples(st.integers(0, CLIENTS - 1), st.sampled_from(["text", "bytes", "direct"]), sizes),
    st.tuples(st.integers(0, CLIENTS - 1), st.just("ping"), st.integers(0, 125)),
    st.tuples(st.just(0), st.just("turn"), st.integers(1, 3)),
    st.tuples(st.just(0), st.just("to all"), sizes),
)


class Programs:
    """An application whose connections are run by one program together."""

    def __init__(self) -> None:
        self.members: dict[int, tuple[Scope, Receive, Send]] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.may_end: asyncio.Event
        self.has_last_word = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
            self.may_end = asyncio.Event()
        await receive()
        await send({"type": "websocket.accept"})
        self.members[int(scope["path"][1:])] = scope, receive, send
        await self.may_end.wait()
        if self.has_last_word:
            await send({"type": "websocket.send", "text": "last"})

    async def run(self, program: list[Step], ending: str, clients: list[Socket]) -> None:
        """Run a program, and end all of its connections."""
        for number, (which, what, size) in enumerate(program):
            await self._step(number, which, what, size, clients)
        for which, client in enumerate(clients):
            _, receive, send = self.members[which]
            if ending == "close":
                await send({"type": "websocket.close", "code": 4000})
            elif ending == "goodbye":
                client.send(GOODBYE)
                while (await receive())["type"] != "websocket.disconnect":
                    pass
                with pytest.raises(ClientDisconnected):
                    await send({"type": "websocket.send", "text": "too late"})
        self.has_last_word = ending == "return"
        may_end, self.may_end = self.may_end, asyncio.Event()
        may_end.set()
        self.members.clear()

    async def _step(
        self, number: int, which: int, what: str, size: int, clients: list[Socket]
    ) -> None:
        if what == "turn":
            for _ in range(size):
                await asyncio.sleep(0)
        elif what == "ping":
            clients[which].send(frame(PING, payload(number, size)))
            await asyncio.sleep(0)
        else:
            key = "bytes" if what == "bytes" else "text"
            data = payload(number, size)
            content = data if key == "bytes" else data.decode()
            for each in range(len(clients)) if what == "to all" else [which]:
                scope, _, send = self.members[each]
                send_text = scope["extensions"].get(DIRECT, {}).get("send_text")
                if what != "direct" or send_text is None or not send_text(content):
                    await send({"type": "websocket.send", key: content})


def payload(number: int, size: int) -> bytes:
    """Which step it was, as often as fits."""
    return (b"%d " % number * size)[:size]


def expected(program: list[Step], which: int, opcodes: dict[str, int]) -> list[Frame]:
    """The frames of these kinds that a client is sent, in order."""
    return [
        (opcodes[what], payload(number, size))
        for number, (whom, what, size) in enumerate(program)
        if what in opcodes and (whom == which or what == "to all")
    ]


Run = Callable[[list[Step], str, list[bool]], list[list[Frame]]]


@contextmanager
def runner(loop_factory: Any, ws: str) -> Iterator[Run]:
    """Runs a program on a server of its own; returns what each client was sent."""
    programs = Programs()
    options = {"ws": ws, "ws_ping_interval": 0.005, "ws_ping_timeout": None}  # seconds
    with serving(programs, loop_factory, **options) as port, ThreadPoolExecutor(CLIENTS) as pool:

        def run(program: list[Step], ending: str, reads_late: list[bool]) -> list[list[Frame]]:
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(Socket(port, f"/{number}", receive_buffer=SMALL))
                    for number in range(CLIENTS)
                ]
                all_read = Event()
                reading = [
                    pool.submit(read, client, all_read if is_late else None)
                    for client, is_late in zip(clients, reads_late, strict=True)
                ]
                assert programs.loop is not None
                running = programs.run(program, ending, clients)
                ran = asyncio.run_coroutine_threadsafe(running, programs.loop)
                wait([ran], STALL)
                all_read.set()
                ran.result(WAIT)
                return [frames.result(WAIT) for frames in reading]

        yield run


def read(client: Socket, may_read: Event | None) -> list[Frame]:
    """What a client is sent until the end, which it answers."""
    if may_read is not None:
        assert may_read.wait(WAIT)
    frames = []
    with suppress(EOFError):
        while True:
            frames.append(client.frame())
            if frames[-1][0] == CLOSE:
                with suppress(OSError):  # it was the server's answer, and the end
                    client.send(GOODBYE)
    return frames


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def runners(request: pytest.FixtureRequest) -> Iterator[dict[str, Run]]:
    loop_factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    is_gathered = {"gathered": True, "not gathered": False, "uvicorn": False}
    with ExitStack() as stack:
        found = {}
        for name, setting in is_gathered.items():
            ws = "websockets-sansio" if name == "uvicorn" else OURS
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ASGI_NOTIFY_GATHERING", str(int(setting)))
                found[name] = stack.enter_context(runner(loop_factory, ws))
                # The first connection on a loop reads the setting.
                assert found[name]([], "close", [False] * CLIENTS)
        yield found


@settings(
    max_examples=examples(50),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    program=st.lists(steps, max_size=25),
    ending=st.sampled_from(["close", "return", "goodbye"]),
    reads_late=st.lists(st.booleans(), min_size=CLIENTS, max_size=CLIENTS),
)
def test_a_program_leaves_the_same_bytes_gathered_or_not(
    runners: dict[str, Run], program: list[Step], ending: str, reads_late: list[bool]
) -> None:
    if ending == "return":  # a server that closes with a ping unread takes back what it has sent
        program = [step for step in program if step[1] != "ping"]
    for name, run in runners.items():
        for which, frames in enumerate(run(program, ending, reads_late)):
            messages = [frame for frame in frames if frame[0] in DATA.values()]
            sent = expected(program, which, {**DATA, "direct": 0x81, "to all": 0x81})
            assert messages == sent + ([(0x81, b"last")] if ending == "return" else [])
            pongs = [frame for frame in frames if frame[0] == PONG]
            pings = iter(expected(program, which, {"ping": PONG}))
            assert all(pong in pings for pong in pongs), name  # in order, and none of its own
            last = [frame for frame in frames if frame[0] not in (PING_OF_SERVER, PONG)][-1:]
            closes = [frame for frame in frames if frame[0] == CLOSE]
            assert closes == ([] if ending == "return" else [(CLOSE, CODES[ending])])
            assert closes in ([], last)  # pings that came meanwhile are answered behind it
