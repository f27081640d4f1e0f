"""``asgi-notify bench``: real servers, good and flawed ones, and what is said of each."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import create_server
from threading import Thread
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidHandshake, InvalidMessage

from asgi_notify.cli import load
from tests.cli.conftest import Run
from tests.servers import ROOT, Server

KEY = "Schlüssel"
FEW = ["--clients", "5", "--messages", "10"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    env = {"ASGI_NOTIFY_PUBLISH_KEY": KEY}
    with Server("uvicorn-websockets-sansio", "asgi_notify.app:application", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def flawed() -> Iterator[Server]:
    with Server("uvicorn-websockets-sansio", "tests.apps.flawed:app") as server:
        yield server


def figures(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output)
    return found


# What it measures.


@pytest.mark.slow
def test_what_arrived_is_counted_and_told(run: Run, server: Server) -> None:
    ran = run("bench", server.http, *FEW, "--key", KEY)
    assert ran.exit_code == 0
    assert ran.stderr == ""  # which is no terminal
    connected, published, delivered, lost, latency, *_ = ran.stdout.splitlines()
    assert connected.startswith("connected  5 in ")
    assert published.startswith("published  10 in ")
    assert delivered.startswith("delivered  50 in ")
    assert lost == "lost       0 of 50"
    assert re.fullmatch(r"latency    p50 \S+, p90 \S+, p99 \S+, max \S+ ms", latency)


@pytest.mark.slow
def test_the_figures_come_as_json_and_the_key_from_the_environment(
    run: Run, server: Server, environ: dict[str, str]
) -> None:
    environ["ASGI_NOTIFY_PUBLISH_KEY"] = KEY
    ran = run("bench", server.http + "/", *FEW, "--rooms", "2", "--size", "4096", "--json")
    found = figures(ran.stdout)
    assert found["url"] == server.http
    assert (found["clients"], found["rooms"], found["size"]) == (5, 2, 4096)
    # Five messages to a room of three, five to a room of two.
    assert (found["published"], found["expected"], found["delivered"]) == (10, 25, 25)
    assert (found["lost"], found["cut"], found["error"]) == (0, {}, None)
    latency = found["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert min(found["connects_per_second"], found["delivered_per_second"], found["busy"]) > 0


@pytest.mark.slow
def test_an_application_may_be_mounted_and_addressed_as_a_socket(run: Run, flawed: Server) -> None:
    ran = run("bench", f"{flawed.ws}/good/", *FEW, "--json")
    assert figures(ran.stdout)["delivered"] == 50


@pytest.mark.slow
def test_a_rate_is_kept(run: Run, flawed: Server) -> None:
    ran = run("bench", f"{flawed.http}/good", *FEW, "--rate", "50", "--json")
    found = figures(ran.stdout)
    assert found["publish_seconds"] >= 9 / 50
    assert found["lost"] == 0


@pytest.mark.slow
def test_its_rooms_are_far_from_those_of_users_or_where_it_is_told(
    run: Run, server: Server
) -> None:
    output = server.output
    run("bench", server.http, "--clients", "2", "--rooms", "2", "--messages", "2", "--key", KEY)
    run("bench", server.http, "--first-room", "77", "--clients", "1", "--key", KEY)
    log = server.output.removeprefix(output)
    rooms = set(re.findall(r"WebSocket /notifications/(\d+)/", log))
    assert rooms == {"900000000", "900000001", "77"}


@pytest.mark.slow
def test_on_a_terminal_it_shows_how_far_it_is(flawed: Server) -> None:
    pty = pytest.importorskip("pty", reason="a terminal is asked for, and this system has none")
    reader, terminal = pty.openpty()
    with closing(os.fdopen(reader, "rb", buffering=0)), closing(os.fdopen(terminal, "wb")):
        command = [sys.executable, "-m", "asgi_notify", "bench", f"{flawed.http}/good", *FEW]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, cwd=ROOT, check=True)
        shown = os.read(reader, 65536).decode()
    for label in "Connecting", "Publishing", "Receiving":
        assert re.search(rf"{label} .*100%", shown)
    assert ran.stdout.startswith(b"connected  5 in ")


@pytest.mark.slow
def test_an_interrupt_ends_it_without_a_traceback(flawed: Server) -> None:
    room = "/good/notifications/880000000/"
    options = ["--first-room", "880000000", "--rate", "1", "--clients", "5"]
    with subprocess.Popen(
        [sys.executable, "-m", "asgi_notify", "bench", f"{flawed.http}/good", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 30
        # One publish asks whether the server is there, the next is the first of the run.
        while flawed.output.count(f"POST {room}") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output.strip() == "Aborted!"


# What goes wrong on the way.


@pytest.mark.slow
def test_what_is_lost_is_counted_and_fails_the_command(run: Run, flawed: Server) -> None:
    ran = run("bench", f"{flawed.http}/dropping", *FEW, "--wait", "0.2", "--json")
    assert ran.exit_code == 1
    found = figures(ran.stdout)
    assert (found["expected"], found["delivered"], found["lost"]) == (50, 25, 25)


@pytest.mark.slow
def test_who_is_cut_is_counted_by_the_code_and_not_waited_for(run: Run, flawed: Server) -> None:
    ran = run("bench", f"{flawed.http}/cutting", *FEW, "--wait", "1000")
    assert ran.exit_code == 1
    assert "lost       40 of 50" in ran.stdout
    assert "cut        5 with 1013" in ran.stdout


@pytest.mark.slow
def test_a_server_that_dies_leaves_the_figures_so_far(run: Run) -> None:
    with Server("uvicorn-websockets-sansio", "tests.apps.flawed:app") as server:
        ran = run("bench", f"{server.http}/dying", *FEW, "--wait", "1000")
    assert ran.exit_code == 1
    assert "published  2 in " in ran.stdout
    assert "lost       0 of 10" in ran.stdout
    assert "cut        5 with 1006" in ran.stdout
    assert "Error: no server at" in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--key", "wrong"]])
def test_a_server_that_wants_another_key_says_so(
    run: Run, server: Server, options: list[str]
) -> None:
    refused = run("bench", server.http, *options)
    assert refused.exit_code == 1
    assert "publish key: " in refused.stderr


@pytest.mark.slow
def test_a_path_where_no_such_application_is_mounted_is_told(run: Run, server: Server) -> None:
    refused = run("bench", f"{server.http}/elsewhere", "--key", KEY)
    assert refused.exit_code == 1
    assert "the server answered 404: " in refused.stderr


@pytest.mark.slow
def test_who_may_not_watch_is_told_with_the_address(run: Run, flawed: Server) -> None:
    refused = run("bench", f"{flawed.http}/denying", *FEW)
    assert refused.exit_code == 1
    room = f"{flawed.ws}/denying/notifications/900000000/"
    assert f"client 1 did not get in at {room}: the server answered 403" in refused.stderr


@pytest.mark.slow
def test_a_handshake_that_is_not_answered_is_given_up(
    run: Run, flawed: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "OPEN_TIMEOUT", 0.2)
    refused = run("bench", f"{flawed.http}/silent", *FEW)
    assert refused.exit_code == 1
    assert "no answer within 0.2 s" in refused.stderr


@pytest.mark.slow
def test_too_many_open_files_are_told_with_the_way_out(flawed: Server, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="this system has no such limit")
    script = tmp_path / "limited.py"
    script.write_text(
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "runpy.run_module('asgi_notify', run_name='__main__')\n"
    )
    command = [sys.executable, str(script), "bench", f"{flawed.http}/good"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert ran.returncode == 1
    assert "too many open files in this process; raise the limit with ulimit -n" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionClosedError(None, None), "the server ended the connection at once; if it has"),
        (ConnectionResetError(104, "reset"), "raise its limit with ulimit -n"),
        (OSError(errno.ENFILE, "file table overflow"), "use fewer --clients"),
        (OSError(errno.ENETUNREACH, "network is unreachable"), "network is unreachable"),
        (InvalidMessage("did not receive a valid HTTP response"), "did not receive a valid"),
        (InvalidHandshake(), "InvalidHandshake"),
    ],
)
def test_why_a_client_could_not_connect(error: Exception, sentence: str) -> None:
    assert sentence in load.explain(error)


def test_without_a_server_it_says_how_to_start_one(run: Run) -> None:
    with closing(create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    failed = run("bench", f"http://127.0.0.1:{port}")
    assert failed.exit_code == 1
    assert "start one with: asgi-notify serve" in failed.stderr


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (426, "the server answered 426: Upgrade Required"),
        (None, "the server ended the connection at once"),
    ],
)
def test_a_server_without_websockets_is_told_apart(
    run: Run, status: int | None, sentence: str
) -> None:
    class Publishing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._answer(202)

        def do_GET(self) -> None:
            if status is None:
                self.close_connection = True
            else:
                self._answer(status)

        def _answer(self, status: int) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            self.send_response(status)
            self.send_header("content-length", "14")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b'{"reached": 0}')

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Publishing) as peer:
        thread = Thread(target=peer.serve_forever)
        thread.start()
        try:
            refused = run("bench", f"http://127.0.0.1:{peer.server_port}", "--clients", "1")
        finally:
            peer.shutdown()
            thread.join()
    assert refused.exit_code == 1
    assert sentence in refused.stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["localhost:8000"], "give http://HOST:PORT/"),
        (["http://host", "--clients", "2", "--rooms", "3"], "2 clients cannot fill 3 rooms"),
        (["http://host", "--clients", "0"], "--clients"),
        (["http://host", "--rooms", "0"], "--rooms"),
        (["http://host", "--messages", "0"], "--messages"),
        (["http://host", "--rate", "-1"], "--rate"),
        (["http://host", "--size", "63"], "--size"),
        (["http://host", "--wait", "-1"], "--wait"),
        (["http://host", "--first-room", "-1"], "--first-room"),
        ([], "URL"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, args: list[str], sentence: str) -> None:
    refused = run("bench", *args)
    assert refused.exit_code == 2
    assert sentence in refused.stderr


def test_without_websockets_it_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "asgi_notify.cli.load")
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    refused = run("bench", "http://127.0.0.1:1")
    assert refused.exit_code == 1
    assert "pip install 'asgi-notify[server]'" in refused.stderr
