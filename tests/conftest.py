"""Fixtures of every area."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import recordings as files


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets with a name or a window live in the user's file: each test is a user of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TAXIMETER_STORE", raising=False)


@pytest.fixture(scope="session")
def recordings() -> Callable[[str], Iterator[files.Recording]]:
    """``recordings("openai.chat")``: that wire's recordings; skips, loudly, where there are none."""

    def of(wire: str) -> Iterator[files.Recording]:
        reason = files.missing(wire)
        if reason is not None:
            pytest.skip(reason)
        return files.read(wire)

    return of
