"""What every command has in common: help that teaches, errors in one line, quiet ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import taximeter as library
from taximeter.cli import COMMANDS, main
from tests.cli.conftest import Taximeter, command
from tests.recordings import ROOT

HELPS = [[name] for name in COMMANDS] + [["prices", "list"], ["prices", "show"]]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_every_help_teaches_with_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert f"taximeter {' '.join(words)}" in shown.partition("examples:")[2]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"taximeter {library.__version__}\n"


@pytest.mark.parametrize("argv", [[], ["fly"], ["stats", "--since"], ["stats", "--sinc", "7d"]])
def test_wrong_arguments_are_status_2_and_a_word_on_stderr(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "usage: taximeter" in shown.err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["stats", "--since", "yesteryear"], "'yesteryear'"),
        (["stats", "--by", "colour", "--store", "memory://"], "'colour'"),
        (["stats", "--store", "ftp://x"], "'ftp://x'"),
        (["stats", "--store", "sqlite:///no/such/file.db"], "no/such/file.db"),
        (["prices", "show", "gpt-4o-minnie"], "gpt-4o-mini"),
        (["prices", "list", "--provider", "nobody"], "'nobody'"),
        (["estimate", "gpt-4o-minnie", "--text", "hi"], "'gpt-4o-minnie'"),
        (["estimate", "gpt-4o", "--text", "hi", "--max-tokens", "0"], "--max-tokens 0"),
        (["estimate", "gpt-4o", "--file", "no-such-file"], "'no-such-file'"),
        (["run"], "script.py"),
        (["run", "no-such-file.py"], "'no-such-file.py'"),
        (["run", "--budget", "-1", __file__], "-1"),
        (["run", "--budget", "nan", __file__], "nan"),
        (["run", "--mode", "wild", __file__], "'wild'"),
        (["run", "--on-limit", "explode", __file__], "'explode'"),
        (["run", "--tags", "nonsense", __file__], "'nonsense'"),
        (["run", "--store", "redis://x", __file__], "redis"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:40].replace("/", "_"),
)
def test_bad_input_is_one_line_that_names_the_value(
    argv: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("taximeter: ")
    assert named in line


def test_a_closed_pipe_is_quiet(environment: Mapping[str, str]) -> None:
    process = subprocess.Popen(
        command("prices", "list", "--json"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_the_installed_script_is_this_command(taximeter: Taximeter) -> None:
    script = Path(sys.executable).with_name("taximeter")
    if not script.exists():
        pytest.skip("NOT INSTALLED: there is no taximeter script beside this python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == taximeter("--version").out


def test_starting_the_command_line_imports_nothing_foreign(
    environment: Mapping[str, str],
) -> None:
    program = (
        "import sys; before = set(sys.modules); from taximeter.cli import main; main(['--help'])\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "['taximeter']"


def test_the_reference_names_every_command_and_option() -> None:
    import re

    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    missing = []
    for words in HELPS:
        done = subprocess.run(
            command(*words, "--help"), capture_output=True, text=True, check=True, cwd=ROOT
        )
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", done.stdout)) - {"--help"}
        options -= {"--its-own", "--its-own-option"}
        missing += [f"{words}: {name}" for name in sorted(options) if name not in page]
    assert missing == []
