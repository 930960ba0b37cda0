"""The import contracts are broken on purpose: a gate that lets everything through is no gate."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recordings import ROOT

pytest.importorskip(
    "importlinter", reason="NO IMPORT-LINTER: the import contracts were not checked"
)

PROGRAM = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project that may be spoilt."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=without_caches)
    return tmp_path


def verdicts(project: Path) -> str:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--no-logo", "--no-cache"],
        cwd=project,
        env={"PYTHONPATH": str(project / "src"), "PATH": "", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout + run.stderr


def spoil(project: Path, module: str, line: str) -> None:
    path = project / "src" / "taximeter" / module
    path.write_text(f"{path.read_text()}\n{line}\n")


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("usage.py", "import threading", "The core is pure"),
        (
            "wire/base.py",
            "def now() -> float:\n    import time\n    return time.time()",
            "The core",
        ),
        ("money.py", "from taximeter import budgets", "Imports go one way"),
        ("wire/base.py", "from taximeter.stores import base", "Imports go one way"),
        (
            "testing/__init__.py",
            "from taximeter import pricing",
            "The simulated provider's invoice",
        ),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    copy: Path, module: str, line: str, broken: str
) -> None:
    spoil(copy, module, line)
    lines = verdicts(copy).splitlines()
    assert [text for text in lines if text.startswith(broken) and text.endswith("BROKEN")]


def test_the_contracts_are_kept(copy: Path) -> None:
    assert "0 broken" in verdicts(copy)
