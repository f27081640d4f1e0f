"""The tool that tries mutants: what it changes, what it draws, and how it notices."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.__main__ import PLACES, drawn
from tests.mutants.mutations import mutants
from tests.servers import ROOT


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("a < b", ["(a <= b)", "pass"]),
        ("x = a and not b", ["x = (a or not b)", "x = a and (b)"]),
        ("x = 1 if a else True", ["x = 1 if (not a) else True", "x = 2 if a else True",
                                  "x = 1 if a else False"]),
        ("while a: break", ["while (not a): break", "while a: continue"]),
        ("x = 'é' + b", ["x = ('é' - b)", "x = 'XXé' + b"]),
        ("def f(): return a", ["def f(): return None"]),
        ("def f(): return None", []),
        ("def f(): return", ["def f(): pass"]),
        ("f(a, b, key=c)", ["(f(b, a, key=c))", "(f(a, b))", "pass"]),
        ("f(*a, b)", ["pass"]),
        ("x = isinstance(a, b)", []),
        ("x = max(a, b)", []),
        ("self.x = a", ["pass"]),
        ("x = a", []),
        ("x += a", ["x -= a", "pass"]),
        ("del x.y", ["pass"]),
        ("raise ValueError('words', 1)", ["pass"]),
        ("logger.warning('words')", ["pass"]),
        ("'a docstring'", []),
        ("x: 'A | B' = 1", ["x: 'A | B' = 2"]),
        ("def f(a: 'A' = 1) -> 'B': ...", ["def f(a: 'A' = 2) -> 'B': ..."]),
        ("__all__ = ['a']", []),
        ("x = 'two words', 'more than two'", ["x = 'XXtwo words', 'more than two'"]),
        ("assert a == 1, 'words'", []),
        ("if TYPE_CHECKING: f(1)", []),
    ],
)  # fmt: skip
def test_what_is_changed(text: str, changed: list[str]) -> None:
    assert sorted(mutant.now for mutant in mutants("a.py", text)) == sorted(changed)


def test_a_mutant_is_told_by_its_line_and_reached_by_its_statement() -> None:
    text = "if (\n    a\n    < b\n):\n    f(\n        1,\n    )\n"
    compared, called, counted = mutants("a.py", text)
    assert str(compared) == "a.py:2\n      was  a < b\n      now  (a <= b)"
    assert compared.reached_by == range(1, 5)
    assert (called.line, called.reached_by) == (5, range(5, 8))
    assert (counted.line, counted.reached_by) == (6, range(5, 8))
    assert counted.text == text.replace("1", "2")


def test_a_seed_draws_the_same_mutants_again_and_each_can_be_compiled() -> None:
    sample = drawn(PLACES, 60, seed=1)
    assert sample == drawn(PLACES, 60, seed=1) != drawn(PLACES, 60, seed=2)
    for mutant in sample:
        compile(mutant.text, mutant.path, "exec")
        assert mutant.text != (ROOT / mutant.path).read_text()


def test_a_line_of_a_file_can_be_named() -> None:
    one, *others = drawn(["asgi_notify/client/backoff.py"], None, seed=0)
    assert {mutant.path for mutant in others} == {one.path}
    of_line = [mutant for mutant in [one, *others] if mutant.line == one.line]
    assert drawn([f"{one.path}:{one.line}"], None, seed=0) == of_line


TESTS = {
    "test_passes": "pass",
    "test_fails": "raise ValueError",
    "test_is_busy": "while True:\n        try:\n            while True: pass\n"
    "        except BaseException: pass",
    "test_ends": "import os; os._exit(3)",
}
TRIED = """
import sys
from pathlib import Path
from tests.mutants.trial import run_tests

for name in sys.argv[2:]:
    outcome = run_tests(Path(sys.argv[1]), [f"{name}.py"], None, 3)
    print(name, len(outcome.seconds), outcome.failed, outcome.ended)
names = [f"{name}.py" for name in sys.argv[2:4]]
chosen = run_tests(Path(sys.argv[1]), names, {"test_passes.py::test_one": 1.0}, 3)
print([*chosen.seconds], chosen.failed)
"""


@pytest.mark.slow
def test_a_run_tells_what_passes_from_what_fails_hangs_or_dies(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    copy.mkdir()
    settings = '[tool.pytest.ini_options]\nmarkers = ["slow", "browser"]\n'
    (copy / "pyproject.toml").write_text(settings)
    for name, body in TESTS.items():
        (copy / f"{name}.py").write_text(f"def test_one():\n    {body}\n")
    command = [sys.executable, "-c", TRIED, str(copy), *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "test_passes 1 [] ok",
        "test_fails 1 ['test_fails.py::test_one'] ok",
        "test_is_busy 0 [] SIGXCPU",
        "test_ends 0 [] exit code 3",
        "['test_passes.py::test_one'] []",
    ]


@pytest.mark.slow
def test_a_mutant_that_a_test_notices_is_killed_and_the_project_stays_as_it_is() -> None:
    """The whole way: a copy, the test named, and what is printed at the end."""
    *_, mutant = drawn(["asgi_notify/client/backoff.py"], None, seed=0)
    before = (ROOT / mutant.path).read_text()
    place = f"{mutant.path}:{mutant.line}"
    for test, fate in ("client/test_backoff.py", "killed"), ("test_names.py", "SURVIVED"):
        command = [sys.executable, "-m", "tests.mutants", place, "--tests", f"tests/{test}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert f"{fate} " in done.stdout, done.stdout + done.stderr
        assert done.returncode == (fate == "SURVIVED")
    assert (ROOT / mutant.path).read_text() == before
