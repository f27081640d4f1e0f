"""``asgi-notify serve``: what it refuses to do, what it tells the server, and a real one."""

import pickle
import re
import shlex
import socket
import ssl
import sys
import tempfile
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPSConnection
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.main import main as uvicorn_command
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from asgi_notify.app import application
from asgi_notify.cli.serve import UVICORN, make_served
from asgi_notify.layers import registry
from asgi_notify.routing.base import unwrap
from asgi_notify.settings import Settings
from asgi_notify.uvicorn import HttpProtocol, WebSocketProtocol
from tests.cli.conftest import Run
from tests.cli.serving import Serve
from tests.http2 import Certificate
from tests.servers import ROOT, Server, is_answered

ORIGIN = Origin("https://shop.example")


# What it refuses.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", ""])
def test_a_host_that_others_reach_needs_a_key(
    run: Run, served: dict[str, Any], environ: dict[str, str], host: str
) -> None:
    refused = run("serve", "--host", host)
    assert refused.exit_code == 2
    assert "set ASGI_NOTIFY_PUBLISH_KEY" in refused.output
    assert served == {}
    environ["ASGI_NOTIFY_PUBLISH_KEY"] = "secret"
    assert run("serve", "--host", host).exit_code == 0
    assert served["host"] == host


def test_it_says_that_everybody_may_watch_where_others_come_in(
    run: Run, served: dict[str, Any], environ: dict[str, str]
) -> None:
    environ["ASGI_NOTIFY_PUBLISH_KEY"] = "secret"
    (line,) = run("serve", "--host", "0.0.0.0").output.splitlines()
    assert line.startswith("Everybody who reaches 0.0.0.0 may watch every room")
    assert "ASGI_NOTIFY_TOKEN_KEYS" in line
    assert run("serve").output == ""  # on loopback nobody else comes in
    environ["ASGI_NOTIFY_TOKEN_KEYS"] = "k" * 32
    assert run("serve", "--host", "0.0.0.0").output == ""
    del environ["ASGI_NOTIFY_TOKEN_KEYS"]
    another = run("serve", "examples.quickstart:app", "--host", "0.0.0.0")
    assert another.output == ""  # who may watch there is for that application to say


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_keys_for_logins_are_looked_at_first(
    run: Run, served: dict[str, Any], environ: dict[str, str], host: str
) -> None:
    environ.update(ASGI_NOTIFY_PUBLISH_KEY="secret", ASGI_NOTIFY_TOKEN_KEYS="short-key")
    refused = run("serve", "--host", host)
    assert refused.exit_code == 2
    assert "32 bytes" in refused.output
    assert "short-key" not in refused.output
    assert served == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_the_loopback_interface_needs_none(run: Run, served: dict[str, Any], host: str) -> None:
    assert run("serve", "--host", host).exit_code == 0
    assert served["host"] == host


@pytest.mark.parametrize("layer", ["memory://", "memory://?capacity=5", "MEMORY://"])
def test_several_workers_cannot_share_memory(run: Run, served: dict[str, Any], layer: str) -> None:
    refused = run("serve", "--workers", "2", "--layer", layer)
    assert refused.exit_code == 2
    assert "2 workers cannot share the layer memory://" in refused.output
    assert served == {}


def test_several_workers_share_a_layer_that_others_reach(
    run: Run, served: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.ENGINES, "fake", registry.ENGINES["memory"])
    assert run("serve", "--workers", "2", "--layer", "fake://").exit_code == 0
    assert served["workers"] == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--layer", "nats://host"], "no channel layer for 'nats://"),
        (["--layer", "memory://?capacity=0"], "capacity is a number above 0"),
        (["--layer", "memory://?size=1"], "no option 'size'"),
        (["--allowed-origin", "https://shop.example/path"], "can match no origin"),
        (["--allowed-host", "https://shop.example"], "can match no host"),
        (["--ssl-certfile", "nowhere.pem"], "'nowhere.pem' does not exist"),
        (["--ssl-keyfile", __file__], "--ssl-keyfile needs the certificate"),
        (["--ssl-certfile", __file__], "no certificate and its own key, both in PEM"),
        (["--uds", "/tmp/a", "--port", "80"], "--uds and --port do not go together"),
        (["--uds", "/tmp/a", "--host", "::1"], "--uds and --host do not go together"),
        (["--uds", "/tmp/a"], "set ASGI_NOTIFY_PUBLISH_KEY"),
        (["--reload", "--workers", "2"], "--reload and --workers do not go together"),
        (["--port", "65536"], "65536"),
        (["--port", "http"], "http"),
        (["--workers", "0"], "0"),
        (["--log-level", "loud"], "loud"),
        (["extra"], "extra"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    run: Run, served: dict[str, Any], options: list[str], sentence: str
) -> None:
    refused = run("serve", *options)
    assert refused.exit_code == 2
    assert sentence in refused.output
    assert served == {}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("ASGI_NOTIFY_HANDLER_THREADS", "many", "ASGI_NOTIFY_HANDLER_THREADS is a whole number"),
        ("ASGI_NOTIFY_MAX_BODY_SIZE", "0", "ASGI_NOTIFY_MAX_BODY_SIZE is a whole number"),
        ("ASGI_NOTIFY_LAYER", "memory", "no channel layer for 'memory'"),
        ("ASGI_NOTIFY_ALLOWED_ORIGINS", "https://a.example, nonsense/", "can match no origin"),
        ("ASGI_NOTIFY_ALLOWED_HOSTS", "a.example, nonsense/", "can match no host"),
        ("ASGI_NOTIFY_TRUSTED_PROXIES", "10.0.0.1, a.example", "trusted proxies are addresses"),
        ("ASGI_NOTIFY_FORWARDED_HEADER", "via", "header is one of x-forwarded-for"),
        ("ASGI_NOTIFY_LIMIT_CONNECTIONS", "0", "ASGI_NOTIFY_LIMIT_CONNECTIONS is a whole number"),
        ("ASGI_NOTIFY_LIMIT_CONNECTION", "5", "ASGI_NOTIFY_LIMIT_CONNECTION is no limit"),
    ],
)
def test_a_wrong_variable_is_refused_before_anything_starts(
    run: Run, served: dict[str, Any], environ: dict[str, str], name: str, text: str, sentence: str
) -> None:
    environ[name] = text
    refused = run("serve")
    assert refused.exit_code == 2
    assert sentence in refused.output
    assert served == {}


def test_without_uvicorn_it_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    refused = run("serve")
    assert refused.exit_code == 1
    assert "pip install 'asgi-notify[server]'" in refused.output


# What it tells the server.


@pytest.mark.parametrize("args", [[], ["serve"]])
def test_without_options_it_serves_this_machine_on_port_8000(
    run: Run, served: dict[str, Any], args: list[str]
) -> None:
    assert run(*args).exit_code == 0
    assert served["app"] == "asgi_notify.cli.serve:make_served"
    assert application in unwrap(make_served())
    assert (served["host"], served["port"], served["workers"]) == ("127.0.0.1", 8000, 1)
    assert served["log_level"] == "info"
    assert served["ws_max_size"] == 64 * 1024


def test_options_go_before_the_environment_and_reach_the_workers(
    run: Run, served: dict[str, Any], environ: dict[str, str]
) -> None:
    environ["ASGI_NOTIFY_LAYER"] = "memory://?capacity=1"
    environ["ASGI_NOTIFY_ALLOWED_ORIGINS"] = "https://old.example"
    run("serve")
    settings = Settings.from_environ(environ)
    assert settings.layer == "memory://?capacity=1"
    assert settings.allowed_origins == ("https://old.example",)
    run("serve", "--layer", "memory://?capacity=2", "--allowed-origin", ORIGIN,
        "--allowed-origin", "b.example")  # fmt: skip
    settings = Settings.from_environ(environ)
    assert settings.layer == "memory://?capacity=2"
    assert settings.allowed_origins == (ORIGIN, "b.example")
    run("serve", "--allowed-host", "a.example", "--allowed-host", ".b.example")
    assert Settings.from_environ(environ).allowed_hosts == ("a.example", ".b.example")


def test_what_uvicorn_knows_as_well_is_handed_to_it(run: Run, served: dict[str, Any]) -> None:
    names = ["reload", "uds", "ssl_certfile", "ssl_keyfile", "proxy_headers"]
    run("serve")
    assert [served[name] for name in names] == [False, None, None, None, True]
    run("serve", "--reload", "--no-proxy-headers")
    assert [served[name] for name in names] == [True, None, None, None, False]
    assert served["factory"] is True  # so that it can be made again


def test_what_the_servers_processes_are_told_can_be_pickled(
    run: Run, served: dict[str, Any]
) -> None:
    run("serve", "--reload")
    assert pickle.loads(pickle.dumps(served)) == served


def test_the_packages_own_log_follows_the_level(run: Run, served: dict[str, Any]) -> None:
    run("serve", "--log-level", "error")
    assert served["log_level"] == "error"
    assert served["log_config"]["loggers"]["asgi_notify"]["level"] == "ERROR"
    assert "asgi_notify" not in uvicorn.config.LOGGING_CONFIG["loggers"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("loop", "auto"),
        ("http", "asgi_notify.uvicorn:HttpProtocol"),
        ("ws", "asgi_notify.uvicorn:WebSocketProtocol"),
        ("ws_per_message_deflate", False),
        ("ws_ping_interval", 20),
        ("ws_ping_timeout", 20),
        ("backlog", 2048),
        ("timeout_graceful_shutdown", 10),
    ],
)
def test_the_server_has_the_settings_that_were_measured(
    run: Run, served: dict[str, Any], setting: str, value: object
) -> None:
    run("serve")
    assert served[setting] == value


def test_the_command_line_of_uvicorn_in_the_documents_is_equal_to_it(
    run: Run, served: dict[str, Any]
) -> None:
    run("serve")
    text = (ROOT / "docs/deployment.md").read_text().replace("\\\n", "")
    found = re.search(r"^\$ uvicorn (.*)$", text, re.MULTILINE)
    assert found is not None
    params = uvicorn_command.make_context("uvicorn", shlex.split(found[1])).params
    assert {name: params[name] for name in UVICORN} == {name: served[name] for name in UVICORN}


def test_it_runs_the_faster_loop_and_parser_that_the_extra_brings(
    run: Run, served: dict[str, Any]
) -> None:
    run("serve")
    config = uvicorn.Config(**served | {"log_config": None})  # the tests' own logging stays
    config.load()
    assert config.http_protocol_class is HttpProtocol
    assert issubclass(HttpProtocol, HttpToolsProtocol)
    assert config.ws_protocol_class is WebSocketProtocol
    assert issubclass(WebSocketProtocol, WebSocketsSansIOProtocol)
    uvloop = pytest.importorskip("uvloop", reason="there is none for this Python or system")
    assert config.get_loop_factory() is uvloop.new_event_loop


# A real one.


@pytest.mark.slow
def test_a_real_server_answers_logs_and_stops_in_time() -> None:
    with Serve("serve", "--allowed-origin", ORIGIN) as server:
        assert httpx.get(f"{server.http}/healthz").json() == {"status": "ok"}
        with connect(f"{server.ws}/notifications/42/", origin=ORIGIN) as socket:
            answer = httpx.post(f"{server.http}/notifications/42/", json={"data": "hello"})
            assert (answer.status_code, answer.json()["reached"]) == (202, 1)
            assert socket.recv(10) == "hello"
            exit = server.stop()
            with pytest.raises(ConnectionClosed, match="1012"):
                socket.recv(10)
    assert exit.code in (0, -15)  # uvicorn sends itself the signal again, once it has ended
    assert exit.seconds < 5
    assert "Traceback" not in exit.output
    assert re.search(r"ended websocket '/notifications/42/' .* code 1012", exit.output)


TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO: +"


@pytest.mark.slow
def test_an_accepted_websocket_is_one_line_and_its_end_another_each_with_a_time() -> None:
    with Serve("serve") as server:
        with connect(f"{server.ws}/notifications/42/") as socket:
            port = socket.local_address[1]
        with pytest.raises(InvalidStatus, match="404"):
            connect(f"{server.ws}/notifications/42")
        output = server.stop().output
    words = re.compile("websocket|connection", re.IGNORECASE)
    lines = [line for line in output.splitlines() if words.search(line)]
    accepted, ended, refused, answered = lines
    channel = r"websocket '/notifications/42/' \(channel specific\.\S+\)"
    assert re.fullmatch(f"{TIME}accepted {channel} from 127.0.0.1:{port}", accepted)
    assert re.fullmatch(rf"{TIME}ended {channel} after \d+\.\d s, code 1000", ended)
    assert re.match(f"{TIME}websocket refused: nothing is served at '/notifications/42'", refused)
    assert re.fullmatch(rf'{TIME}127.0.0.1:\d+ - "WebSocket /notifications/42" 404', answered)
    assert all(re.match(TIME, line) for line in output.splitlines())


@pytest.mark.slow
def test_an_accepted_websocket_of_another_application_is_one_line_of_the_servers() -> None:
    with Serve("serve", "examples.quickstart:app") as server:
        with connect(f"{server.ws}/notifications/42/") as socket:
            port = socket.local_address[1]
        output = server.stop().output
    lines = [line for line in output.splitlines() if "accepted" in line]
    assert len(lines) == 1
    assert f'127.0.0.1:{port} - "WebSocket /notifications/42/" [accepted]' in lines[0]
    assert "connection open" not in output


class UnixConnection(HTTPConnection):
    """A connection to a server on a Unix socket, as a proxy makes it."""

    def __init__(self, path: str) -> None:
        super().__init__("shop.example", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)  # which close() closes, if this fails, too
        self.sock.connect(self._path)


@pytest.mark.slow
def test_a_server_on_a_unix_socket_serves_a_proxy_and_asks_for_the_key() -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = f"{folder}/s"
        server = Serve("serve", "--uds", path, env={"ASGI_NOTIFY_PUBLISH_KEY": "secret"})
        server._command = server._command[:-2]  # no port
        patch.setattr("tests.servers._answers", lambda _: is_answered(UnixConnection(path)))

        def publish(headers: dict[str, str]) -> int:
            with closing(UnixConnection(path)) as connection:
                connection.request("POST", "/notifications/42/", '{"data": 1}', headers)
                return connection.getresponse().status

        with server:
            assert publish({}) == 401
            assert publish({"authorization": "Bearer secret"}) == 202


@pytest.mark.slow
def test_a_server_with_a_certificate_serves_https(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    files = ["--ssl-certfile", str(certificate.cert), "--ssl-keyfile", str(certificate.key)]
    context = ssl.create_default_context(cafile=str(certificate.cert))

    def answers(port: int) -> bool:
        return is_answered(HTTPSConnection("127.0.0.1", port, timeout=1, context=context))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.servers._answers", answers)
        with Serve("serve", *files) as server:
            with connect(f"wss://127.0.0.1:{server.port}/notifications/42/", ssl=context) as socket:
                socket.send("ping")
                assert socket.recv(10) == "pong"
            assert f"https://127.0.0.1:{server.port}" in server.output


@pytest.mark.slow
def test_a_server_that_reloads_serves_what_the_file_says_now(tmp_path: Path) -> None:
    def write(text: str) -> None:
        (tmp_path / "own_site.py").write_text(
            "from asgi_notify.asgi import response\n"
            "async def app(scope, receive, send):\n"
            f"    for event in response(200, b{text!r}):\n"
            "        await send(event)\n"
        )

    write("the first version")
    with Serve("serve", "own_site:app", "--reload", cwd=tmp_path) as server:
        assert httpx.get(server.http).text == "the first version"
        write("the second one")  # of another length: a file may change twice in one tick of a clock
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):  # it is between the two
                if httpx.get(server.http).text == "the second one":
                    break
            time.sleep(0.05)
        else:
            pytest.fail(f"it still serves the first version:\n{server.output}")
        assert server.stop().code in (0, -15)


@pytest.mark.slow
def test_a_real_server_refuses_other_origins_long_frames_and_compression_in_a_quiet_log() -> None:
    with Serve("serve", "--log-level", "warning") as server:
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{server.ws}/notifications/42/", origin=ORIGIN)
        assert refused.value.response.status_code == 403
        with connect(f"{server.ws}/notifications/42/") as socket:
            assert not socket.protocol.extensions  # this client offers compression
            socket.send("a" * (64 * 1024 + 1))
            with pytest.raises(ConnectionClosed, match="1009"):
                socket.recv(10)
        output = server.stop().output
    assert "INFO" not in output
    assert "ERROR" not in output  # uvicorn's own word on each refusal is left out
    assert f"origin '{ORIGIN}' is not allowed" in output


@pytest.mark.slow
def test_a_real_server_on_loopback_answers_loopback_names_and_those_allowed() -> None:
    room = "/notifications/42/?timeout=0"

    def status(server: Server, host: str) -> int:
        headers = {"host": host, "origin": f"http://{host}"}
        return httpx.get(server.http + room, headers=headers).status_code

    with Serve("serve", "--allowed-host", "shop.example") as server:
        hosts = ["localhost:1", "127.0.0.1", "shop.example", "evil.example"]
        assert [status(server, host) for host in hosts] == [200, 200, 200, 403]
        assert "no host 'evil.example' is served here" in server.output
    with Serve("serve") as server:
        assert status(server, "shop.example") == 403


@pytest.mark.slow
def test_open_streams_do_not_hold_up_the_end() -> None:
    room = "/notifications/42/"
    with Serve("serve") as server, httpx.Client(base_url=server.http, timeout=10) as client:
        accepts = {"accept": "text/event-stream"}
        with client.stream("GET", room, headers=accepts) as stream, connect(server.ws + room):
            lines = stream.iter_lines()
            first = list(takewhile(bool, lines))  # up to the empty line
            assert [line.partition(":")[0] for line in first] == ["id", "retry"]
            exit = server.stop()
            assert list(lines) == []  # whole, for it could have ended anywhere
    assert exit.seconds < 5
    assert "ERROR" not in exit.output
    assert re.search(r"ended websocket .* code 1012", exit.output)


@pytest.mark.slow
def test_port_0_takes_a_free_port_and_says_which() -> None:
    server = Serve("serve")
    server._command[-1] = "0"
    found: re.Match[str] | None = None

    def look(_: int) -> bool:
        nonlocal found
        found = re.search(r"http://127\.0\.0\.1:(\d+)", server.output)
        return found is not None and httpx.get(f"{found[0]}/healthz").status_code == 200

    server_answers = "tests.servers._answers"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_answers, look)
        with server:
            assert found is not None
            assert int(found[1]) != 0
            assert server.stop().seconds < 5
