"""The command line as a whole: help, exit codes, --debug, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from constitution.cli import COMMANDS, app, main

MAIN = [sys.executable, "-m", "constitution"]
ROOT = Path(__file__).parents[1]


def call(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MAIN, *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def every_command() -> list[str]:
    """All commands, as they are typed."""
    context = click.Context(app)
    names = []
    for name in COMMANDS:
        command = app.get_command(context, name)
        names.append(name)
        if isinstance(command, click.Group):
            names += [f"{name} {inner}" for inner in command.list_commands(context)]
    return names


@pytest.mark.parametrize("name", ["", *every_command()])
def test_help_ends_in_an_example_of_this_very_command(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert f"constitution {name}".strip() in " ".join(shown.output.split("Example")[1].split())


@pytest.mark.parametrize(
    "words", ["--debug principles show nope", "principles --debug show nope", "principles show nope --debug"]
)
def test_debug_shows_the_traceback_wherever_it_stands(words: str) -> None:
    shown = call(*words.split())
    assert "Traceback" in shown.stderr
    assert shown.returncode == 1


def test_an_error_is_one_sentence() -> None:
    shown = call("principles", "show", "nope")
    assert (shown.returncode, len(shown.stderr.splitlines())) == (2, 1)
    assert shown.stderr.startswith("constitution: principles/: there is no constitution 'nope'")


def test_exit_codes(tmp_path: Path) -> None:
    assert call("principles", "diff", "general@1.0.0", "general@1.0.0").returncode == 0
    assert call("principles", "diff", "general@1.0.0", "general@1.1.0").returncode == 1
    for wrong in (["no-such-command"], ["principles", "show"], ["--no-such-option"]):
        shown = call(*wrong)
        assert shown.returncode == 2
        assert "Usage" in shown.stderr
    (tmp_path / "principles").write_text("a file where a folder should be", encoding="utf-8")
    shown = call("init", ".", cwd=tmp_path)
    assert (shown.returncode, len(shown.stderr.splitlines())) == (2, 1)
    assert "principles" in shown.stderr


def test_ctrl_c_while_a_class_is_made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Python 3.11 then raises a RuntimeError."""

    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    def opened(*_: object, **__: object) -> None:
        type("Made", (), {"field": Named()})

    monkeypatch.setattr("constitution.cli.app", opened)
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "constitution: interrupted\n")


def test_ctrl_c_ends_any_command_with_130(tmp_path: Path) -> None:
    code = "from constitution.warehouse import Warehouse; from pathlib import Path; import sys;"
    subprocess.run(
        [sys.executable, "-c", code + "Warehouse(Path(sys.argv[1])).rebuild_views()", str(tmp_path)], check=True
    )
    # Whoever runs the tests in the background has Ctrl-C ignored, and children inherit that.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            heard + "from constitution.cli import main; main()",
            "sql",
            "--warehouse",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    # More than a pipe holds: when all is written, it reads its query, and waits for the rest.
    process.stdin.write("-" * 200_000)
    process.stdin.flush()
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (130, "constitution: interrupted")
