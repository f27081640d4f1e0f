"""What the documents say is what the code does."""

import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import asgi_notify
from asgi_notify import exceptions
from asgi_notify.exceptions import CLOSE_CODES, NotifyError

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)

ERRORS = {
    name: error
    for name, error in vars(exceptions).items()
    if inspect.isclass(error) and issubclass(error, NotifyError)
}


def rows(document: str) -> list[list[str]]:
    lines = (ROOT / document).read_text().splitlines()
    return [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if "|" in line
    ]


def blocks(document: Path, language: str) -> list[str]:
    found = BLOCK.finditer(document.read_text())
    return [block["code"] for block in found if block["language"] == language]


def test_the_table_of_close_codes_is_the_one_in_the_code() -> None:
    table = {int(row[0]): row[1] for row in rows("docs/errors.md") if row[0].isdigit()}
    assert table == CLOSE_CODES


def test_every_close_code_of_an_error_is_in_the_table() -> None:
    assert {error.close_code for error in ERRORS.values()} <= set(CLOSE_CODES)


def test_the_table_of_errors_is_the_one_in_the_code() -> None:
    table = {
        row[0]: (int(row[1]), int(row[2]))
        for row in rows("docs/errors.md")
        if len(row) == 4 and row[1].isdigit()
    }
    assert table == {
        name: (error.close_code, error.http_status)
        for name, error in ERRORS.items()
        if error is not NotifyError
    }


def test_the_tree_in_the_docstring_is_the_one_in_the_code() -> None:
    lines = (exceptions.__doc__ or "").splitlines()
    drawn = {}
    for line in lines:
        found = re.match(r"[\s|]*(?:\+-- )?(\w+) +(\d{4}) +(\d{3})\b", line)
        if found:
            drawn[found[1]] = (int(found[2]), int(found[3]))
    assert drawn == {
        name: (error.close_code, error.http_status)
        for name, error in ERRORS.items()
        if error is not NotifyError
    }


@pytest.mark.parametrize("name", ["quickstart", "login_fastapi"])
def test_the_readme_shows_examples_as_they_are(name: str) -> None:
    example = (ROOT / f"examples/{name}.py").read_text()
    assert example in blocks(ROOT / "README.md", "python")


def snippets() -> dict[str, str]:
    """Each block of Python in the documents, by the place where it begins."""
    found = {}
    for document in DOCUMENTS:
        text = document.read_text()
        for block in BLOCK.finditer(text):
            if block["language"] == "python":
                line = text.count("\n", 0, block.start("code")) + 1
                found[f"{document.relative_to(ROOT)}:{line}"] = block["code"]
    return found


SNIPPETS = snippets()


@pytest.mark.parametrize("place", SNIPPETS)
def test_python_in_the_documents_runs_when_it_is_copied_alone(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_notify.channel_layers, "_layers", {})
    exec(compile(SNIPPETS[place], place, "exec"), {"__name__": "document"})


def test_tests_in_the_documents_pass_as_files_of_their_own(tmp_path: Path) -> None:
    tests = {place: code for place, code in SNIPPETS.items() if "def test_" in code}
    for place, code in tests.items():
        name = re.sub(r"\W+", "_", place)
        (tmp_path / f"test_{name}.py").write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # nothing of this project's settings
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-rA"]
    run = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                         capture_output=True, text=True, timeout=50, check=False)  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout.splitlines()[-1], run.stdout
    assert [path.name for path in tmp_path.glob("test_*.py")
            if f"PASSED {path.name}::" not in run.stdout] == []  # fmt: skip


REPOSITORY = "https://github.com/asgi-notify/asgi-notify"
OWN_PAGES = (
    f"{REPOSITORY}/blob/main/",
    f"{REPOSITORY}/tree/main/",
    "https://raw.githubusercontent.com/asgi-notify/asgi-notify/main/",
)


def links(document: Path) -> list[str]:
    """The targets of all links, those of references such as ``[name]: address`` too."""
    text = document.read_text()
    inline = re.findall(r"\]\(([^)]+)\)", text)
    return inline + re.findall(r"^\[[^\]]+\]: (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_the_documents_lead_somewhere(document: Path) -> None:
    for target in links(document):
        base = next((page for page in OWN_PAGES if target.startswith(page)), None)
        path = target.removeprefix(base or "").partition("#")[0]
        if base is not None:
            assert (ROOT / path).exists(), target
        elif path and not target.startswith(("https://", "http://")):
            assert (document.parent / path).exists(), target


def test_the_readme_has_no_relative_link_since_a_package_index_shows_it_elsewhere() -> None:
    targets = links(ROOT / "README.md")
    assert len(targets) > 20  # or the links are written in another way now
    assert [target for target in targets if not target.startswith("https://")] == []


def test_each_document_that_the_readme_names_in_brackets_is_a_link() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\[([^\]\n]+\.(?:md|py))\](?!:)", text))
    assert len(named) > 15
    assert named <= set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))


def test_the_addresses_of_the_project_are_those_of_one_repository() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Homepage"] == REPOSITORY
    assert all(address.startswith(REPOSITORY) for address in project["urls"].values())
    for address in project["urls"].values():
        base = next((page for page in OWN_PAGES if address.startswith(page)), None)
        assert base is None or (ROOT / address.removeprefix(base)).exists()
