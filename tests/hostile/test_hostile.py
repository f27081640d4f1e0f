"""The short form of `make hostile`: some of its probes, on a real server each."""

import socket
import ssl
import sys
import time
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from tests.hostile.__main__ import tried
from tests.hostile.probes import GOODBYE, Attacker
from tests.http2 import Certificate
from tests.servers import HOST, Server, is_answered

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]


@pytest.mark.parametrize(
    "probe",
    [
        "pings", "empty-fragments", "compressed", "headers", "header-value", "trailers",
        "requests", "goodbye",
    ],
)  # fmt: skip
def test_serve_bears_it(probe: str) -> None:
    # Enough for uvicorn's own protocols to fail at each of these.
    cost = tried("serve", probe, size=100_000_000, seconds=3)
    # How long others waited says more of the machine than of the server, where tests share it.
    assert cost.is_borne(max_wait=5), cost


@pytest.mark.parametrize("probe", ["pings", "headers", "goodbye"])
def test_so_does_the_command_line_that_the_documents_call_equal(probe: str) -> None:
    cost = tried("uvicorn", probe, size=100_000_000, seconds=3)
    assert cost.is_borne(max_wait=5), cost


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_who_reads_nothing_is_gone_soon_after_its_connection_has_to_close(
    loop: str, is_secure: bool, tmp_path: Path
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop", reason="there is none for this Python or system")
    notes = tmp_path / "notes"
    notes.touch()
    options = ["--loop", loop, "--ws-ping-interval", "3", "--ws-ping-timeout", "3"]
    context = None
    if is_secure:
        certificate = Certificate(tmp_path)
        options += ["--ssl-certfile", str(certificate.cert), "--ssl-keyfile", str(certificate.key)]
        context = ssl.create_default_context(cafile=str(certificate.cert))

    def answers(port: int) -> bool:
        if context is None:
            return is_answered(HTTPConnection(HOST, port, timeout=1))
        return is_answered(HTTPSConnection(HOST, port, timeout=1, context=context))

    env = {"HOSTILE_NOTES": str(notes)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.servers._answers", answers)
        app = "tests.hostile.app:application"
        with Server("uvicorn-bounded", app, env=env, options=tuple(options)) as server:
            attacker = Attacker(server.port, 0, 0, context)
            try:
                leaver, _ = attacker.upgrade("/flood/?goodbye")
                half, _ = attacker.upgrade("/flood/?half-closed")
                attacker.upgrade("/flood/?silent")
                time.sleep(0.5)  # until the server can write no more
                leaver.sendall(GOODBYE)
                socket.socket.shutdown(half, socket.SHUT_WR)  # TLS has a shutdown of its own
                deadline = time.monotonic() + 20
                while notes.read_text().count("flood ended") < 3:
                    assert time.monotonic() < deadline, notes.read_text()
                    time.sleep(0.05)
            finally:
                attacker.close()
            assert "Traceback" not in server.output
