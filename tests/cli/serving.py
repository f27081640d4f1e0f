"""The command ``asgi-notify serve`` as a process of its own."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.servers import ROOT, Server

__all__ = ["Serve"]


class Serve(Server):
    """``python -m asgi_notify`` with these arguments, on a free port."""

    def __init__(self, *args: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
        name = "asgi_notify.app:application"
        super().__init__("uvicorn-websockets-sansio", name, env=env, cwd=cwd)
        self._command = [sys.executable, "-m", "asgi_notify", *args, "--port", str(self.port)]
