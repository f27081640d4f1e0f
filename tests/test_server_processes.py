"""A layer in memory says, once in each process, that its server runs several; else it is silent."""

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.sync.client import connect

from asgi_notify.layers import processes
from asgi_notify.layers.processes import server_processes
from tests.servers import HOST, Server

APP = "asgi_notify.app:application"
WARNING = "runs this application in"
WAIT = 30.0  # seconds

# A script that starts its server itself, which the command line then says nothing about.
SCRIPT = f"""
import sys, uvicorn
if __name__ == "__main__":
    uvicorn.run({APP!r}, host={HOST!r}, port=int(sys.argv[1]), workers=int(sys.argv[2]))
"""

UVICORN = f"-m uvicorn {APP} --host {HOST} --port {{port}} "
GUNICORN = f"-m gunicorn {APP} --bind {HOST}:{{port}} -k uvicorn_worker.UvicornWorker "
HYPERCORN = f"-m hypercorn {APP} --bind {HOST}:{{port}} "
GRANIAN = f"-m granian {APP} --interface asgi --host {HOST} --port {{port}} "

SEVERAL: dict[str, tuple[str, dict[str, str]]] = {
    "uvicorn": (UVICORN + "--workers 2", {}),
    "uvicorn by its variable": (UVICORN, {"WEB_CONCURRENCY": "2"}),
    "uvicorn in a script": ("{folder}/script.py {port} 2", {}),
    "gunicorn": (GUNICORN + "-w 2", {}),
    "gunicorn by its file": (GUNICORN + "-c {folder}/gunicorn.conf.py", {}),
    "gunicorn's own ASGI": (GUNICORN + "-w 2 -k asgi", {}),
    "hypercorn": (HYPERCORN + "--workers 2", {}),
    "hypercorn on trio": (HYPERCORN + "--workers 2 -k trio", {}),
    "granian": (GRANIAN + "--workers 2", {}),
}
ONE: dict[str, tuple[str, dict[str, str]]] = {
    "uvicorn": (UVICORN, {}),
    "uvicorn that reloads": (UVICORN + "--reload --workers 2", {}),
    "uvicorn in a script": ("{folder}/script.py {port} 1", {}),
    "gunicorn": (GUNICORN + "-w 1", {}),
    "hypercorn": (HYPERCORN + "--workers 1", {}),
    "hypercorn that reloads": (HYPERCORN + "--reload", {}),
    "granian": (GRANIAN + "--workers 1", {}),
    "daphne": (f"-m daphne {APP} --bind {HOST} --port {{port}}", {}),
    "ours, of several": ("-m asgi_notify serve --workers 2 --port {port}", {}),
}


def running(words: str, env: Mapping[str, str], folder: Path) -> Server:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "gunicorn.conf.py").write_text("workers = 2\n")
    env = {"HOME": str(folder), **env}  # where gunicorn puts a socket
    server = Server("uvicorn-websockets", APP, env=env, cwd=folder)
    line = words.format(port=server.port, folder=folder)
    server._command = [sys.executable, *shlex.split(line)]
    return server


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVERAL)
def test_each_of_several_processes_says_it_once_and_the_way_out(name: str, tmp_path: Path) -> None:
    with running(*SEVERAL[name], tmp_path) as server:
        until = time.monotonic() + WAIT
        while server.output.count(WARNING) < 2:
            assert time.monotonic() < until, "not every process has said it"
            time.sleep(0.05)
        for _ in range(10):
            with connect(f"{server.ws}/notifications/42/"):
                pass
        output = server.output
    assert output.count(WARNING) == 2
    assert f"{name.split()[0].removesuffix(chr(39) + 's')} {WARNING} 2 processes" in output
    assert "ASGI_NOTIFY_LAYER=valkey://127.0.0.1:6379" in output
    assert "asgi-notify serve --workers 2" in output


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_one_process_says_nothing(name: str, tmp_path: Path) -> None:
    with running(*ONE[name], tmp_path) as server:
        with connect(f"{server.ws}/notifications/42/") as socket:
            socket.send("ping")
            assert socket.recv(WAIT) == "pong"
        assert WARNING not in server.output


# The servers' words, of which one cannot be heard here.


def called_by(module: str, variables: dict[str, Any]) -> tuple[str, int]:
    """What is found where a function of a server's calls, with these local variables."""
    text = "def call(found, {}):\n    return found()".format(", ".join(variables))
    namespace: dict[str, Any] = {"__name__": module}
    exec(text, namespace)
    answer: tuple[str, int] = namespace["call"](server_processes, **variables)
    return answer


def test_a_worker_of_granian_that_is_no_fork_knows_its_own_number_alone() -> None:
    assert called_by("granian.server.mp", {"worker_id": 2}) == ("granian", 2)
    assert called_by("granian.server.mp", {"worker_id": 1}) == ("", 1)


@pytest.mark.parametrize("variables", [{"other": 2}, {"self": None}, {"self": SimpleNamespace()}])
def test_a_version_that_looks_otherwise_is_passed_over(variables: dict[str, Any]) -> None:
    for module in processes._WORDS:
        assert called_by(module, variables) == ("", 1)


def test_under_pytest_there_is_no_server() -> None:
    assert server_processes() == ("", 1)
