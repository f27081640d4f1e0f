"""The command itself: its help, its version, and what it says where click is missing."""

import sys
from importlib.metadata import entry_points, version

import pytest

import asgi_notify
from asgi_notify import cli
from tests.cli.conftest import Run

COMMANDS = ["bench", "commands", "publisher", "routes", "send", "serve"]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_commands_and_each_has_its_own(run: Run, option: str) -> None:
    shown = run(option)
    assert shown.exit_code == 0
    assert shown.output.startswith("Usage: asgi-notify ")
    for name in "serve", "send", "routes", "worker", "bench":
        assert f"\n  {name} " in shown.output
        assert run(name, option).exit_code == 0


def test_version_is_the_packages(run: Run) -> None:
    assert run("--version").output == f"asgi-notify, version {version('asgi-notify')}\n"
    assert asgi_notify.__version__ == version("asgi-notify")


def test_an_unknown_command_or_option_is_named(run: Run) -> None:
    for wrong in "server", "--porte":
        result = run(wrong)
        assert result.exit_code == 2
        assert wrong in result.output


def test_the_installed_program_and_the_module_run_the_same_function() -> None:
    [program] = entry_points(group="console_scripts", name="asgi-notify")
    assert program.load() is cli.main


def test_main_runs_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["anything", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("asgi-notify, version ")


def _forget(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in COMMANDS:
        monkeypatch.delitem(sys.modules, f"asgi_notify.cli.{name}")
    monkeypatch.setitem(sys.modules, missing, None)


def test_without_click_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(monkeypatch, "click")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert "pip install 'asgi-notify[server]'" in str(ended.value.code)


def test_another_import_that_fails_is_not_taken_for_click(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(monkeypatch, "asgi_notify.hosts")
    with pytest.raises(ImportError, match="hosts"):
        cli.main()
