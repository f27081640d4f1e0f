"""Runs the JavaScript client's tests with node's own test runner, one test file at a time."""

import subprocess
from pathlib import Path

import pytest

from tests.needed import missing, program

HERE = Path(__file__).parent
OLDEST = 20  # the major version of node whose test runner these files use


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def node() -> str:
    found = program("node")
    if int(run(found, "--version").removeprefix("v").partition(".")[0]) < OLDEST:
        missing(f"this node is older than {OLDEST}")
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_node_runs(node: str, name: str) -> None:
    assert "\n# pass 0\n" not in run(node, "--test", "--test-reporter=tap", name)


def test_the_types_are_those_that_a_typed_page_needs() -> None:
    tsc = program("tsc", hint="npm install --global typescript")
    run(tsc, "--noEmit", "--strict", "--target", "es2022", "--moduleResolution", "bundler",
        "--module", "esnext", "usage.ts")  # fmt: skip
