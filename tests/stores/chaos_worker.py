"""A process that spends until it is killed: ``python chaos_worker.py FILE SEED``.

One line on standard output for each call begun, so that its killer can count without a clock.
"""

from __future__ import annotations

import random
import sys
import time
import uuid

from taximeter.budgets.books import Charge
from taximeter.ledger import Entry
from taximeter.stores.sqlite import SQLiteStore

CAP = 200_000
KEYS = {"outer": CAP, "inner": CAP - 1000}


def entry(hold_id: str, cost: int) -> Entry:
    return Entry(id=hold_id, cost=cost, started_at=time.time())


def call(store: SQLiteStore, dice: random.Random) -> None:
    hold_id = uuid.UUID(int=dice.getrandbits(128)).hex
    held = dice.randint(1, 300)
    charges = [Charge(key, held, limit) for key, limit in KEYS.items()]
    if not store.hold(hold_id, charges, ttl=3600).accepted:
        return
    for step in range(1, dice.randint(1, 3)):
        more = dice.randint(0, 50)
        charges = [Charge(key, more, limit) for key, limit in KEYS.items()]
        if store.extend(hold_id, charges, step=step).accepted:
            held += more
    if dice.random() < 0.1:
        store.void(hold_id)
        return
    cost = dice.randint(0, held)
    if dice.random() < 0.2:
        store.shrink(hold_id, dict.fromkeys(KEYS, cost))
    for _ in range(dice.randint(1, 2)):
        store.settle(hold_id, dict.fromkeys(KEYS, cost), entry=entry(hold_id, cost))


def main(path: str, seed: str) -> None:
    store = SQLiteStore(path, timeout=60)
    dice = random.Random(f"{seed}/{uuid.uuid4()}")
    while True:
        print(flush=True)
        if dice.random() < 0.05:
            store.sweep(entry=lambda hold: entry(hold.hold_id, hold.amounts["outer"]))
        call(store, dice)


if __name__ == "__main__":
    main(*sys.argv[1:])
