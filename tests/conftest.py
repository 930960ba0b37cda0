"""Fixtures of every area."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests import recordings as files


@pytest.fixture(scope="session")
def recordings() -> Callable[[str], Iterator[files.Recording]]:
    """``recordings("openai.chat")``: that wire's recordings; skips, loudly, where there are none."""

    def of(wire: str) -> Iterator[files.Recording]:
        reason = files.missing(wire)
        if reason is not None:
            pytest.skip(reason)
        return files.read(wire)

    return of
