"""Hold and settle over four limits, in memory and in SQLite (with the ledger row)."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from bench.paired import median_seconds
from taximeter.budgets.books import Charge
from taximeter.ledger import Entry
from taximeter.stores.urls import open_store
from taximeter.usage import Usage

CHARGES = tuple(Charge(f"limit-{n}", 1000, 10**15) for n in range(4))
AMOUNTS = {charge.key: 600 for charge in CHARGES}
_ids = itertools.count()


def hold_and_settle(url: str, *, ledger: bool, count: int, rounds: int) -> float:
    """Seconds of CPU for one hold and its settlement."""
    store = open_store(url)
    usage = Usage(input_tokens=200, output_tokens=100)

    def work() -> int:
        for _ in range(count):
            name = f"bench-{next(_ids)}"
            store.hold(name, CHARGES)
            store.settle(name, AMOUNTS)
            if ledger:
                store.save(  # type: ignore[attr-defined]
                    Entry(id=name, provider="openai", model="gpt-4o-mini", usage=usage, cost=600)
                )
        return count

    return median_seconds(work, rounds=rounds)


def memory(rounds: int) -> float:
    return hold_and_settle("memory://", ledger=False, count=2000, rounds=rounds)


def sqlite(rounds: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        return hold_and_settle(url, ledger=True, count=200, rounds=rounds)
