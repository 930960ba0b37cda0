"""What the README shows is run as it stands, against the simulated provider."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from taximeter.testing import Reply, SimulatedProvider
from tests.recordings import ROOT

pytest.importorskip("openai", reason="NO OPENAI SDK: the README's example was not run")

README = (ROOT / "README.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(program: str, provider: SimulatedProvider, folder: Path) -> str:
    """What ``program`` prints when its SDK is pointed at the simulated provider by environment."""
    environment = dict(os.environ)
    environment.update(
        HOME=str(folder),
        NO_PROXY="127.0.0.1",
        OPENAI_API_KEY="none",
        OPENAI_BASE_URL=provider.base_url,
        XDG_STATE_HOME=str(folder),
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_example_is_about_twenty_lines() -> None:
    assert len(EXAMPLE.splitlines()) <= 22


def test_the_readme_example_prints_the_answer_and_its_fare(tmp_path: Path) -> None:
    with SimulatedProvider(Reply(text="Taxis are yellow here.")) as provider:
        printed = run(EXAMPLE, provider, tmp_path)
        (line,) = provider.invoice
    assert "Taxis are yellow here." in printed
    fare = re.search(r"fare \$(\S+),", printed)
    assert fare is not None
    assert Decimal(fare[1]) == line.cost_usd
    assert "stopped" not in printed


def test_the_readme_example_says_why_it_was_stopped(tmp_path: Path) -> None:
    broke = EXAMPLE.replace('max_usd="0.50"', 'max_usd="0.00000001"')
    assert broke != EXAMPLE
    with SimulatedProvider() as provider:
        printed = run(broke, provider, tmp_path)
        assert provider.invoice_total == 0
    assert "stopped: " in printed
