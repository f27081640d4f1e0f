"""On what a benchmark ran: a figure says little without it."""

import os
import platform
import resource
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["describe", "raise_file_limit"]

PACKAGES = (
    "asgi-notify", "anyio", "uvicorn", "uvloop", "websockets", "httptools", "starlette",
    "broadcaster", "litestar", "python-socketio", "channels", "Django",
)  # fmt: skip


def describe() -> dict[str, str]:
    """The machine, its load, and the versions of what is measured."""
    return dict(_facts())


def _facts() -> Iterator[tuple[str, str]]:
    yield "processor", f"{_processor()}, {len(os.sched_getaffinity(0))} cores"
    yield "system", f"{platform.system()} {platform.release()}"
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "load average", ", ".join(f"{load:.2f}" for load in os.getloadavg())
    yield "open files", f"at most {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} per process"
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():  # proc(5)
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def raise_file_limit() -> None:
    """Let this process and its children open as many files as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
