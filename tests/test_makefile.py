"""What the Makefile's targets would run."""

import re
import shutil
import subprocess

import pytest

from tests.servers import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def make(*arguments: str) -> str:
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_run_serves_where_it_is_told() -> None:
    assert 'asgi_notify serve --host "127.0.0.1" --port "8000"' in make("--dry-run", "run")
    told = make("--dry-run", "run", "HOST=localhost", "PORT=9000")
    assert 'asgi_notify serve --host "localhost" --port "9000"' in told


def test_help_lists_every_target() -> None:
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    assert re.findall(r"^  make (\w+)", make("help"), re.MULTILINE) == declared[1].split()


def test_bench_has_an_environment_of_its_own_and_takes_arguments() -> None:
    assert '".venv-bench/bin/python" -m benchmarks --quick' in make(
        "--dry-run", "bench", "ARGS=--quick"
    )
    assert '".venv-bench"' in make("--dry-run", "clean")


def test_soak_takes_arguments() -> None:
    assert "-m tests.chaos --minutes 60" in make("--dry-run", "soak", "ARGS=--minutes 60")


def test_hostile_takes_arguments() -> None:
    assert "-m tests.hostile --server plain" in make("--dry-run", "hostile", "ARGS=--server plain")


def test_mutants_takes_arguments() -> None:
    assert "-m tests.mutants --sample 9" in make("--dry-run", "mutants", "ARGS=--sample 9")


def test_tests_are_shared_by_processes_unless_told_otherwise() -> None:
    for target in "test", "quick", "slow":
        assert '-n "4"' in make("--dry-run", target)
        assert '-n "0"' in make("--dry-run", target, "JOBS=0")


def test_explore_tries_more_examples_of_every_property_test_than_others() -> None:
    assert 'EXAMPLES="20"' in make("--dry-run", "explore")
    assert 'EXAMPLES="3"' in make("--dry-run", "explore", "EXAMPLES=3")
    assert 'EXAMPLES="0.3"' in make("--dry-run", "quick")
    assert "tests/test_hub_model.py" in make("--dry-run", "explore")


def test_bytecode_is_written_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in make("--eval=told: ; @env", "told")


def test_plain_turns_off_every_way_to_be_fast() -> None:
    told = make("--dry-run", "plain")
    for way in "STEPPING", "GATHERING", "SYNC_LANE", "DIRECT", "GC_TUNING":
        assert f"ASGI_NOTIFY_{way}=0" in told
        assert f"ASGI_NOTIFY_{way}" in (ROOT / "asgi_notify/settings.py").read_text()
    assert "tests/consumers" in told
