"""The command line as a user has it: a process of its own, with a home and a provider of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taximeter.testing import Reply, SimulatedProvider
from tests.recordings import ROOT


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def summary(self) -> Any:
        """The JSON line that ``run --json`` leaves as its last on stderr."""
        return json.loads(self.err.strip().splitlines()[-1])


Taximeter = Callable[..., Done]


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(Reply(tokens=100, input_tokens=10), seed=3) as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("TAXIMETER", "COLUMNS"))}
    return keep | {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONWARNINGS": "ignore",
        "NO_PROXY": "127.0.0.1",
    }


def pointed_at(provider: SimulatedProvider) -> dict[str, str]:
    """What SDKs read from the environment."""
    return {
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": "none",
        "ANTHROPIC_BASE_URL": provider.anthropic_url,
        "ANTHROPIC_API_KEY": "none",
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "taximeter.cli", *arguments]


@pytest.fixture
def taximeter(
    tmp_path: Path, environment: Mapping[str, str], provider: SimulatedProvider
) -> Taximeter:
    """``taximeter("stats", "--json")``: run it, in ``tmp_path``, with SDKs at the provider."""

    def run(*arguments: str, input: str | bytes = b"", **more: str) -> Done:
        done = subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env={**environment, **pointed_at(provider), **more},
            input=input.encode() if isinstance(input, str) else input,
            capture_output=True,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
