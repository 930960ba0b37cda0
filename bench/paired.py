"""Paired measurement on a noisy machine: interleave, take medians of each and of the differences."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """Medians over pairs, in seconds of CPU for one unit of work."""

    bare: float
    metered: float
    added: float

    @property
    def ratio(self) -> float:
        return 1 + self.added / self.bare if self.bare else float("inf")


def paired(bare: Callable[[], int], metered: Callable[[], int], *, rounds: int) -> Pair:
    """Run both in turn ``rounds`` times; each returns how many units (chunks, calls) it did."""
    bare(), metered()  # Warm caches, lazy imports and connection state.
    ones: list[float] = []
    others: list[float] = []
    for number in range(rounds):
        order = ((bare, ones), (metered, others))
        for work, times in order if number % 2 else reversed(order):
            gc.collect()
            gc.disable()
            start = time.process_time()
            units = work()
            times.append((time.process_time() - start) / units)
            gc.enable()
    added = statistics.median(b - a for a, b in zip(ones, others, strict=True))
    return Pair(statistics.median(ones), statistics.median(others), added)


def median_seconds(work: Callable[[], int], *, rounds: int) -> float:
    """Median seconds of CPU for one unit of ``work``."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        units = work()
        times.append((time.process_time() - start) / units)
    return statistics.median(times)
