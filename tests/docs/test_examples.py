"""Every example runs as it stands, in a process of its own, and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests.recordings import ROOT

pytest.importorskip("openai", reason="NO OPENAI SDK: the examples were not run")

EXAMPLES = ROOT / "examples"


def run(name: str, folder: Path) -> list[str]:
    """The lines that an example prints; it must end well, without a warning of ours."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("TAXIMETER")},
        "HOME": str(folder),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT / "src"),
        "XDG_STATE_HOME": str(folder),
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_every_example_is_run_here() -> None:
    tested = {
        "budget_around_a_stream.py",
        "decorator_that_truncates.py",
        "tags_and_stats.py",
    }
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_a_stream_under_a_budget_shows_its_fare_and_costs_what_the_invoice_says(
    tmp_path: Path,
) -> None:
    lines = run("budget_around_a_stream.py", tmp_path)
    fares = [Decimal(line.split("$")[1].split(",")[0]) for line in lines if "  fare $" in line]
    assert len(fares) > 1
    assert fares == sorted(fares)
    invoice = Decimal(lines[-1].rpartition("$")[2])
    assert fares[-1] <= invoice <= Decimal("0.0002")
    assert any(line.startswith("stopped: ") for line in lines)
    assert any(line.startswith(f"budget (clamp): ${invoice.normalize():f}") for line in lines)


def test_a_decorated_function_returns_a_short_answer_at_its_limit(tmp_path: Path) -> None:
    brief, cut = run("decorator_that_truncates.py", tmp_path)
    assert brief == "3 words about brevity, finish_reason=stop"
    assert cut.endswith("finish_reason=length")
    assert 0 < int(cut.split()[0]) < 1000


def test_tags_become_groups_of_the_statistics(tmp_path: Path) -> None:
    *groups, total = run("tags_and_stats.py", tmp_path)
    assert [line.split()[0] for line in groups] == ["ada", "ada", "grace"]
    parts = [Decimal(line.rpartition("$")[2]) for line in groups]
    assert total.startswith("3 calls, ")
    assert sum(parts) == Decimal(total.rpartition("$")[2])
    assert all(part > 0 for part in parts)
