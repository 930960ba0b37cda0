"""Processes that share a file are killed at any moment, and the books still add up.

The killer counts the calls that a worker has begun; where in the next one the kill lands, nobody
knows. What must hold at every moment is checked on one snapshot, by plain SQL and not by the store.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from taximeter.stores.sqlite import SQLiteStore
from tests.stores.chaos_worker import CAP, KEYS, entry

WORKER = Path(__file__).with_name("chaos_worker.py")
posix = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kill -9 and /proc")


def start(path: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(path), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.communicate()
    assert worker.returncode == -signal.SIGKILL, "a worker died of itself"


def check(path: Path) -> dict[str, int]:
    """The invariants, on a consistent snapshot."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    try:
        connection.execute("BEGIN")
        counters = {
            key: (settled, held)
            for key, settled, held in connection.execute("SELECT key, settled, held FROM counters")
        }
        open_holds = [
            json.loads(amounts)
            for (amounts,) in connection.execute("SELECT amounts FROM holds WHERE state = 'open'")
        ]
        ledger, rows, distinct = connection.execute(
            "SELECT coalesce(sum(cost), 0), count(*), count(DISTINCT id) FROM entries"
        ).fetchone()
        ended = connection.execute(
            "SELECT count(*) FROM holds WHERE state IN ('settled', 'expired')"
        ).fetchone()[0]
        connection.execute("COMMIT")
    finally:
        connection.close()
    for key, limit in KEYS.items():
        settled, held = counters.get(key, (0, 0))
        assert settled == ledger, f"{key}: {settled} is booked, the ledger says {ledger}"
        assert held == sum(amounts.get(key, 0) for amounts in open_holds), f"{key}: held"
        assert settled + held <= limit, f"{key}: {settled} + {held} is above {limit}"
    assert rows == distinct == ended, "each ended hold has one entry"
    return {"settled": ledger, "open": len(open_holds), "rows": rows}


def run(path: Path, *, workers: int, kills: int, seed: int) -> dict[str, int]:
    """Kill ``kills`` workers, each replaced at once; then all; then sweep and check once more."""
    dice = random.Random(seed)
    SQLiteStore(path, timeout=60).close()
    running = [start(path, seed) for _ in range(workers)]
    left_open = 0
    try:
        for _ in range(kills):
            victim = dice.randrange(workers)
            stdout = running[victim].stdout
            assert stdout is not None
            for _ in range(dice.randint(1, 40)):
                assert stdout.readline(), "a worker died of itself"
            kill(running[victim])
            left_open += check(path)["open"]
            running[victim] = start(path, seed)
    finally:
        for worker in running:
            kill(worker)
    check(path)
    store = SQLiteStore(path)
    store.sweep(entry=lambda hold: entry(hold.hold_id, hold.amounts["outer"]))
    store.close()
    end = check(path)
    assert end["open"] == 0
    return {**end, "left_open": left_open}


@posix
def test_books_and_ledger_agree_after_every_kill(tmp_path: Path) -> None:
    end = run(tmp_path / "ledger.db", workers=2, kills=8, seed=1)
    assert end["rows"] > 0
    assert end["settled"] <= CAP


@posix
@pytest.mark.slow
def test_books_and_ledger_agree_after_hundreds_of_kills(tmp_path: Path) -> None:
    end = run(tmp_path / "ledger.db", workers=4, kills=250, seed=2)
    assert end["left_open"] > 0, "no kill ever left a hold open: it proves nothing"
    assert end["settled"] > CAP // 2
