"""An engine of the server's own: what is started, who can use it, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import httpx
import psutil
import pytest
from anyio.to_thread import run_sync
from redis import AuthenticationError, Redis, RedisError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from asgi_notify.cli import embedded, engine_program
from asgi_notify.cli.embedded import EmbeddedEngine
from asgi_notify.cli.engine_program import Program, find_program
from asgi_notify.client import Backoff, Gap
from asgi_notify.client import connect as listening
from asgi_notify.exceptions import ConfigurationError
from asgi_notify.layers.registry import layer_from_url
from asgi_notify.layers.valkey_address import read_url
from tests.cli.conftest import Run
from tests.cli.serving import Serve
from tests.servers import HOST, ROOT, free_port
from tests.valkey_servers import SERVERS, plain_client, program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no program for this system")

linux = pytest.mark.skipif(sys.platform != "linux", reason="others cannot bind it to its parent")

WAIT = 60.0  # seconds for what comes soon, on a machine that is busy


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture(params=SERVERS)
def real(request: pytest.FixtureRequest) -> Program:
    return Program(program(request.param), request.param)


def client(engine: EmbeddedEngine) -> Redis:
    (address,) = read_url(f"valkey://{engine.location}").addresses
    ((host, port),) = address.nodes
    assert host == HOST
    return plain_client(port, address.password)


def has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


# Which program.


def script(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that carries a program, on a machine that has none."""
    (tmp_path / "fake_wheel").mkdir()
    (tmp_path / "fake_wheel/__init__.py").write_text("raise RuntimeError('it is not imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(engine_program, "CARRIER", "fake_wheel")
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path / "path"))
    return script(tmp_path / "fake_wheel/bin", "redis-server", "echo Redis server v=6.2.14 bits=64")


def test_a_program_on_the_path_goes_before_the_one_that_the_wheel_carries(
    carried: Path, tmp_path: Path
) -> None:
    assert find_program() == Program(str(carried), "Redis 6.2.14")
    redis = script(tmp_path / "path", "redis-server", "echo Redis server v=7.0.15 sha=0:0")
    assert find_program() == Program(str(redis), "Redis 7.0.15")
    valkey = script(tmp_path / "path", "valkey-server", "echo Valkey server v=8.1.0 sha=0:0")
    assert find_program() == Program(str(valkey), "Valkey 8.1.0")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo Redis server v=6.0.16 sha=0:0", "is 6.0.16, and 6.2 is the oldest"),
        ("echo hello", "does not say its version"),
        ("exit 1", "does not say its version"),
    ],
)
def test_a_program_that_will_not_do_is_passed_over_and_named_if_there_is_no_other(
    carried: Path, tmp_path: Path, text: str, reason: str
) -> None:
    other = script(tmp_path / "path", "redis-server", text)
    assert find_program().path == str(carried)
    carried.unlink()
    with pytest.raises(ConfigurationError) as refused:
        find_program()
    assert f"{other} {reason}" in str(refused.value)
    assert "pip install 'asgi-notify[embedded]'" in str(refused.value)


def test_a_program_that_cannot_be_run_is_passed_over(carried: Path, tmp_path: Path) -> None:
    script(tmp_path / "path", "redis-server", "").write_bytes(b"\x00")
    assert find_program().path == str(carried)


def test_the_wheel_of_the_extra_carries_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", "")
    assert find_program().name.startswith("Redis 6.2.")


# One engine.


def test_it_answers_who_has_its_password_on_the_loopback_interface_alone(real: Program) -> None:
    with EmbeddedEngine(real) as engine, client(engine) as redis:
        assert redis.ping()
        assert redis.config_get("bind")["bind"] == HOST
        assert redis.config_get("appendonly")["appendonly"] == "no"
        port = redis.connection_pool.connection_kwargs["port"]
        with pytest.raises(AuthenticationError), plain_client(port) as other:
            other.ping()
        pid = engine.pid
        assert pid is not None
        password = redis.connection_pool.connection_kwargs["password"]
        words = psutil.Process(pid).cmdline()
        assert len(password) > 30
        assert not any(password in word for word in words)
        environment = psutil.Process(pid).environ().values()
        assert not any(password in text for text in environment)
    assert has_ended(pid)


def test_two_have_each_their_own_port_and_password(real: Program) -> None:
    with EmbeddedEngine(real) as one, EmbeddedEngine(real) as other:
        assert one.location != other.location
        with client(one) as redis, client(other) as another:
            redis.set("key", 1)
            assert another.get("key") is None


def kill(engine: EmbeddedEngine) -> None:
    """End it at once; it is another process that answers next."""
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: has_ended(pid))


def test_one_that_dies_comes_back_where_it_was_with_the_data_of_its_folder(
    real: Program, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedEngine(real, tmp_path / "new/folder") as engine:
        location = engine.location
        with client(engine) as redis:
            redis.set("key", "value")
        kill(engine)
        wait_for(lambda: answers(engine))
        assert engine.location == location
        with client(engine) as redis:
            assert redis.get("key") == b"value"
        wait_for(lambda: f"the engine is back on {HOST}:" in caplog.text)
    assert "the engine has ended by SIGKILL" in caplog.text
    with EmbeddedEngine(real, tmp_path / "new/folder") as engine, client(engine) as redis:
        assert redis.get("key") == b"value"  # it outlives the server, too
    assert (tmp_path / "new/folder").stat().st_mode & 0o777 == 0o700


def answers(engine: EmbeddedEngine) -> bool:
    try:
        with client(engine) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def test_one_that_dies_without_a_folder_comes_back_empty(real: Program) -> None:
    with EmbeddedEngine(real) as engine:
        with client(engine) as redis:
            redis.set("key", "value")
        kill(engine)
        wait_for(lambda: answers(engine))
        with client(engine) as redis:
            assert redis.get("key") is None


def test_one_that_cannot_come_back_is_tried_until_the_server_ends(
    real: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[bool] = []
    try_to_start = EmbeddedEngine._try_to_start

    def note(engine: EmbeddedEngine) -> bool:
        failed.append(not try_to_start(engine))
        return not failed[-1]

    monkeypatch.setattr(EmbeddedEngine, "_try_to_start", note)
    link = tmp_path / "server"
    link.symlink_to(real.path)
    with EmbeddedEngine(Program(str(link), "Redis")) as engine:
        link.unlink()
        kill(engine)
        wait_for(lambda: not answers(engine))
        wait_for(lambda: failed[:2] == [True, True])
        link.symlink_to(real.path)
        wait_for(lambda: answers(engine))
        link.unlink()
        kill(engine)
        wait_for(lambda: not answers(engine))


def test_a_port_that_was_taken_meanwhile_is_left_for_another(
    real: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedEngine(real) as other:
        taken = other.location.rpartition(":")[2].partition("/")[0]
        ports = iter([int(taken), free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        with EmbeddedEngine(real) as engine:
            assert f":{taken}/" not in engine.location
            assert answers(engine)
        assert answers(other)


def test_who_takes_the_port_learns_no_password_that_is_used(
    real: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = bytearray()
    with socket.create_server((HOST, 0)) as thief:
        thief.settimeout(10)

        def listen() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = thief.accept()
                    with connection:
                        heard.extend(connection.recv(1000))

        thread = Thread(target=listen)
        thread.start()
        ports = iter([thief.getsockname()[1], free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        with EmbeddedEngine(real) as engine:
            password = engine.location[1:].partition("@")[0]
            assert answers(engine)
        thief.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert password.encode() not in heard


def test_a_machine_that_has_no_room_for_an_engine_is_told(
    real: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(ConfigurationError, match="cannot be started: No usable temporary"):
        EmbeddedEngine(real).__enter__()


def test_a_folder_holds_the_data_of_one_engine(real: Program, tmp_path: Path) -> None:
    with EmbeddedEngine(real, tmp_path), pytest.raises(ConfigurationError) as refused:
        EmbeddedEngine(real, tmp_path).__enter__()
    assert f"the engine of another server keeps its data in {tmp_path}" in str(refused.value)


def test_a_folder_that_cannot_be_used_is_refused(real: Program, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot hold the engine's data: "):
        EmbeddedEngine(real, tmp_path / "file").__enter__()


def test_a_folder_may_have_any_name(real: Program, tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" \\ c\nd é'
    with EmbeddedEngine(real, folder) as engine, client(engine) as redis:
        redis.set("key", "value")
    assert list(folder.iterdir())


def test_a_program_that_does_not_start_is_refused_with_its_own_words(tmp_path: Path) -> None:
    bad = script(tmp_path, "bad", "echo it is not my day; exit 3")
    with pytest.raises(ConfigurationError, match=f"{bad} does not start: it is not my day"):
        EmbeddedEngine(Program(str(bad), "Redis")).__enter__()
    silent = script(tmp_path, "silent", "exit 3")
    with pytest.raises(ConfigurationError, match="does not start: it says nothing"):
        EmbeddedEngine(Program(str(silent), "Redis")).__enter__()


OWNER = """
import sys, time
from asgi_notify.cli.embedded import EmbeddedEngine
from asgi_notify.cli.engine_program import Program
with EmbeddedEngine(Program(sys.argv[1], "Redis")) as engine:
    print(engine.pid, flush=True)
    time.sleep(60)
"""


@linux
def test_it_ends_with_its_process_however_that_ends_and_leaves_no_file(
    real: Program, tmp_path: Path
) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, real.path],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    wait_for(lambda: has_ended(pid))
    assert list(tmp_path.iterdir()) == []


# What the command line makes of it.


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
    """The layer and whether its engine answers, at the time when the server would run."""
    seen: list[str | None] = []

    def run(app: str, **options: Any) -> None:
        url = os.environ.get("ASGI_NOTIFY_LAYER")
        seen.append(url)
        if url is not None and url.startswith("valkey://:"):
            ((_, port),) = read_url(url.partition("?")[0]).addresses[0].nodes
            with plain_client(port, url[10:].partition("@")[0]) as redis:
                assert redis.ping()

    monkeypatch.setattr("uvicorn.run", run)
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)  # the tests' own stays
    before = signal.getsignal(signal.SIGTERM)
    yield seen
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("options", "query"),
    [
        (["--workers", "2"], "?history=user_*"),
        (["--layer", "embedded://"], ""),
        (["--workers", "2", "--layer", "embedded://?capacity=5"], "?capacity=5"),
        (["--reload", "--layer", "embedded://"], ""),
    ],
)
def test_a_server_that_needs_an_engine_gets_one_while_it_runs(
    run: Run, engines: list[str | None], options: list[str], query: str
) -> None:
    done = run("serve", *options, "--port", str(free_port()))
    assert done.exit_code == 0, done.output
    (url,) = engines
    assert url is not None
    assert url.endswith(f"/0{query}")
    ((_, port),) = read_url(url, ["history", "capacity"]).addresses[0].nodes
    with pytest.raises(RedisError), plain_client(port) as redis:
        redis.ping()


def test_the_folder_of_the_data_is_the_path_of_the_url(
    run: Run, engines: list[str | None], tmp_path: Path
) -> None:
    folder = tmp_path / "a b"
    url = f"embedded://{tmp_path}/a%20b?history=user_*"
    assert run("serve", "--layer", url, "--port", str(free_port())).exit_code == 0
    assert list(folder.iterdir())


SHARING = """
from asgi_notify import ProtocolTypeRouter, channel_layers
channel_layers.set("default", "{}")
app = ProtocolTypeRouter({{}})
"""


@pytest.mark.parametrize(("layer", "needs_one"), [("valkey://", False), ("memory://", True)])
def test_an_application_that_has_set_a_shared_layer_gets_no_engine(
    run: Run, engines: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    layer: str, needs_one: bool,
) -> None:  # fmt: skip
    name = f"sharing_{needs_one}"
    (tmp_path / f"{name}.py").write_text(SHARING.format(layer))
    monkeypatch.syspath_prepend(tmp_path)
    from asgi_notify import channel_layers

    before = channel_layers.set("default", None)
    try:
        answer = run("serve", f"{name}:app", "--workers", "2", "--port", str(free_port()))
        assert answer.exit_code == 0, answer.output
    finally:
        channel_layers.set("default", before)
    assert [url is not None for url in engines] == [needs_one]


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("embedded://data", "begins with a slash: embedded:///data"),
        ("embedded://?size=1", "no option 'size'"),
        ("embedded://?capacity=0", "capacity is a number above 0"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused(
    run: Run, engines: list[str | None], layer: str, sentence: str
) -> None:
    refused = run("serve", "--layer", layer)
    assert refused.exit_code == 2
    assert sentence in " ".join(refused.output.split())
    assert engines == []


def test_without_a_program_or_the_client_the_refusal_says_what_to_install(
    run: Run, engines: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_program, "_candidates", list)
    refused = run("serve", "--workers", "2")
    assert refused.exit_code == 2
    assert "pip install 'asgi-notify[embedded]'" in refused.output
    for module in [name for name in sys.modules if name.startswith("asgi_notify.layers.valkey")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "glide", None)
    refused = run("serve", "--workers", "2")
    assert refused.exit_code == 2
    assert "an engine of its own needs the embedded extra" in refused.output
    assert engines == []


def test_elsewhere_the_url_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigurationError, match="`asgi-notify serve` starts"):
        layer_from_url("embedded://")


# Real servers.

ROOM = "/notifications/42/"


class Workers(Serve):
    """A server of several processes, with an engine of its own."""

    def __init__(self, *args: str, folder: Path) -> None:
        env = {"TMPDIR": str(folder), "NO_PROXY": "*"}
        super().__init__("serve", *args, env=env)

    @property
    def processes(self) -> list[psutil.Process]:
        """All of them, with the server's main one."""
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    @property
    def engine(self) -> psutil.Process:
        (found,) = [one for one in self.processes if "server" in one.name()]
        return found

    @property
    def workers(self) -> list[psutil.Process]:
        return [one for one in self.processes if "spawn_main" in " ".join(one.cmdline())]

    def is_served_by(self, count: int) -> bool:
        return self.output.count("Application startup complete") >= count


def publish(server: Serve, data: object) -> None:
    """Until it is taken: while the engine is away, the answer is 503."""

    def is_taken() -> bool:
        answer = httpx.post(server.http + ROOM, json={"data": data}, timeout=WAIT, trust_env=False)
        assert answer.status_code in (202, 503), answer.text
        return answer.status_code == 202

    wait_for(is_taken)


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    yield from started(4, tmp_path, monkeypatch)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    yield from started(2, tmp_path, monkeypatch)


def started(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setattr("tests.servers.START", 2 * WAIT)  # all of them load at the same time
    with Workers("--workers", str(count), folder=folder) as server:
        wait_for(lambda: server.is_served_by(count))
        yield server


@pytest.mark.slow
def test_each_publication_reaches_every_client_of_four_workers_and_nothing_is_left_behind(
    four: Workers, tmp_path: Path
) -> None:
    processes = four.processes
    assert len(four.workers) == 4
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(four.ws + ROOM)) for _ in range(20)]
        for number in range(20):
            publish(four, f"{number}")
        for socket in sockets:
            assert [socket.recv(WAIT) for _ in range(20)] == [str(n) for n in range(20)]
        exit = four.stop()
        for socket in sockets:
            with pytest.raises(ConnectionClosed, match="1012"):
                socket.recv(WAIT)
    assert exit.code in (0, -15)
    assert exit.output.count("code 1012") == 20
    assert "Traceback" not in exit.output
    assert "is away" not in exit.output  # the engine outlives the workers
    # Python's own tracker of resources goes when it notices that the others are gone.
    wait_for(lambda: all(has_ended(one.pid) for one in processes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_serves_with_the_others(two: Workers) -> None:
    two.workers[0].kill()
    wait_for(lambda: two.is_served_by(3) and len(two.workers) == 2)
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(two.ws + ROOM)) for _ in range(20)]
        publish(two, "hello")
        assert [socket.recv(WAIT) for socket in sockets] == ["hello"] * 20


async def publish_on(server: Serve) -> None:
    """What is published before the gap was told may be part of it."""
    while True:
        await run_sync(publish, server, "on")
        await anyio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.anyio
async def test_clients_stay_and_are_told_of_a_gap_when_the_engine_is_killed(two: Workers) -> None:
    url = two.ws + "/notifications/"
    async with listening(url, backoff=Backoff(base=0.02, max=0.1)) as session:
        gaps: list[Gap] = []
        async with session.subscribe("user_42", on_gap=gaps.append) as notifications:
            await run_sync(publish, two, 1)
            with anyio.fail_after(WAIT):
                assert (await anext(notifications)).data == 1
                first = two.engine
                first.kill()
                await run_sync(wait_for, lambda: "the engine is back" in two.output)
                assert two.engine.pid != first.pid
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(publish_on, two)
                    went_on = await anext(notifications)
                    tasks.cancel_scope.cancel()
                assert went_on.data == "on"
                assert [(gap.group, gap.reason) for gap in gaps] == [("user_42", "unrecovered")]
    assert "code 1012" not in two.output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_worker_ends_its_engine_too_and_then_as_ever(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Workers("--layer", "embedded://?history=user_*", folder=tmp_path) as server:
        engine = server.engine
        publish(server, "hello")
        assert server._process is not None
        server._process.send_signal(number)
        assert server._process.wait(WAIT) in (0, -number)
        assert has_ended(engine.pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_a_folder_keeps_outlives_the_server(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path}/data?history=user_*"
    answers = []
    for _ in range(2):
        with Workers("--layer", url, folder=tmp_path) as server:
            body = {"data": "once", "idempotency_key": "the-same"}
            answer = httpx.post(server.http + ROOM, json=body, timeout=WAIT, trust_env=False)
            answers.append((answer.status_code, answer.json()))
            server.stop()
    assert answers[0] == answers[1]
    assert answers[0][0] == 202


@linux
@pytest.mark.slow
def test_workers_and_engine_end_when_the_main_process_is_killed(
    two: Workers, tmp_path: Path
) -> None:
    processes = two.processes
    with connect(two.ws + ROOM) as socket:
        two.kill()
        with pytest.raises(ConnectionClosed, match="1012"):
            socket.recv(WAIT)
    wait_for(lambda: all(has_ended(one.pid) for one in processes))
    assert two.output.count("the server's main process is gone") == 2
    assert list(tmp_path.iterdir()) == []
