"""Every promise in the tables of guarantees and of threats names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TABLE = "\n".join((ROOT / f"docs/{name}.md").read_text() for name in ("guarantees", "security"))
NAMED = re.findall(r"`(tests/\S+?\.(?:py|mjs|js))(?:::(\w+))?`", TABLE)


def rows() -> list[str]:
    """The lines of promises, without heads and rules."""
    lines = [line for line in TABLE.splitlines() if line.startswith("|")]
    return [line for line in lines if not re.match(r"\|(-| promise | an attacker | what \|)", line)]


def defined_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_there_are_promises() -> None:
    assert len(rows()) > 20


@pytest.mark.parametrize("row", rows())
def test_every_promise_names_its_test(row: str) -> None:
    promise, where, test = (cell.strip() for cell in row.strip("|").split("|"))
    assert promise
    assert where
    assert re.fullmatch(r"(`tests/\S+`(, )?)+", test), f"{promise}: name the test that holds it"


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_named_test_is_there(file: str, name: str) -> None:
    path = ROOT / file
    assert path.is_file(), f"{file} is named, and is not there"
    if path.suffix == ".py" and name:
        assert name in defined_in(path), f"{file} has no {name}"
        assert name.startswith("test_")
