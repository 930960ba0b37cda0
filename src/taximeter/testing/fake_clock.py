"""A clock that moves when it is told to."""

from __future__ import annotations


class FakeClock:
    """Seconds since the epoch; call it for the time, ``advance`` it by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.now += seconds
