"""How the tests themselves end: none for ever, none skipped unasked, wherever they are started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

HANGING = """
import threading

import anyio
import pytest

pytestmark = pytest.mark.anyio


async def helper():
    await anyio.sleep_forever()  # here it waits


async def test_waits():
    await helper()


async def test_is_busy():
    while True: pass  # here it is busy


def test_waits_for_a_thread():
    threading.Event().wait()


async def test_goes_on():
    pass
"""

SWALLOWING = """
def test_never_listens():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""


def run(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run tests as a process of their own, with this project's settings."""
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-rfEs"]
    command += ["--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    env = {**os.environ, "REQUIRE": "", **options}
    return subprocess.run([*command, *arguments], cwd=ROOT, env=env, text=True, check=False,
                          capture_output=True, timeout=50)  # fmt: skip


@pytest.mark.slow
def test_a_test_that_hangs_fails_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    done = run("-p", "tests.conftest", str(tmp_path), "--timeout", "2")
    assert "5 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("    await anyio.sleep_forever()  # here it waits") == 2
    assert done.stdout.count(">       while True: pass  # here it is busy") == 2


def test_a_test_that_swallows_its_failure_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "test_swallowing.py").write_text(SWALLOWING)
    done = run(
        "-p", "tests.conftest", str(tmp_path), "--timeout", "0.5", "-o", "faulthandler_timeout=2"
    )
    assert done.returncode == 1
    assert "in test_never_listens" in done.stderr


def test_a_process_that_a_test_starts_can_be_interrupted(tmp_path: Path) -> None:
    test = "import os, signal, subprocess, sys\n\n\ndef test_child():\n"
    test += "    code = 'import signal; print(signal.getsignal(signal.SIGINT))'\n"
    test += "    told = subprocess.check_output([sys.executable, '-c', code], text=True)\n"
    test += "    assert 'default_int_handler' in told\n"
    (tmp_path / "test_child.py").write_text(test)
    # As in the background of a script: see POSIX, Shell Command Language, 2.12.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run("-p", "tests.conftest", str(tmp_path))
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("required", ["", "browser"])
def test_what_is_missing_is_skipped_unless_it_is_required(required: str, tmp_path: Path) -> None:
    pages = ["tests/browser/test_readme.py", "tests/js/test_node.py"]
    done = run(*pages, PATH=str(tmp_path), REQUIRE=required)
    outcomes = done.stdout.splitlines()[-1]
    if required:
        assert done.returncode == 1
        assert "passed" not in outcomes
        assert "skipped" not in outcomes
    else:
        assert done.returncode == 0, done.stdout
        assert "failed" not in outcomes
        assert "passed" not in outcomes
    for name in "chromium", "node", "tsc":
        assert f"there is no {name}" in done.stdout
