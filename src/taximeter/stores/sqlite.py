"""Books and ledger in one SQLite file, shared by every process of a machine.

A call's last step books its cost and appends its ledger entry in one transaction, so that at no
moment, kill -9 included, the books and the ledger tell different stories.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from taximeter.budgets import holds
from taximeter.budgets.books import Balance, Charge, ExpiredHold, HoldAnswer, HoldState
from taximeter.budgets.holds import NOTHING, UNKNOWN_HOLD, ZERO, Hold, amounts_of, check_ttl
from taximeter.errors import ConfigurationError, HoldNotFoundError
from taximeter.ledger import ENTRY_FIELDS, Entry, Stats
from taximeter.stores import sqlite_rows as rows
from taximeter.stores.ledger_query import check_by, conditions, grouped, late_adjustment
from taximeter.stores.owner import Owner, is_gone, this_process
from taximeter.stores.sqlite_file import SQLiteFile, named_statements
from taximeter.stores.turns import Turns, answering, deferrable

SQL: Final = named_statements("sqlite.sql")
SYNCHRONOUS: Final = ("normal", "full")
DAY_SECONDS: Final = 86_400.0
SWEEP_HOLDS_MAX: Final = 500
PAGE_ROWS: Final = 1000

dumps: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_STATES: Final = {state.value: state for state in HoldState}


class SQLiteStore(Turns):
    """A BudgetStore and a Ledger in the file ``path``. Safe for threads, processes and forks.

    One connection and one lock: threads wait for their turn here instead of meeting as strangers at
    the file, at about the speed of a connection each (2.6 k against 2.9 k calls/s, eight threads).
    Long questions (``entries``, ``stats``) use a connection of their own.

    Args:
        path: The file, made when it is missing; its directory must exist.
        timeout: Seconds to wait for other processes.
        synchronous: ``normal`` or ``full``; see :class:`SQLiteFile`.
        clock: Seconds since the epoch; decides when holds expire.
        keep_ended: Seconds for which ended holds are remembered, so that a repeated settle is known
            as such; expired ones thirty times as long, as their truth may come late.

    Raises:
        StoreError: The file cannot be used; the text says why and what to do.
        StoreUnavailableError: It is locked for longer than ``timeout``.
        SchemaMismatchError: It belongs to another program or to a newer taximeter.
    """

    blocking = True

    def __init__(
        self,
        path: str | Path,
        *,
        timeout: float = 5.0,
        synchronous: str = "normal",
        clock: Callable[[], float] = time.time,
        keep_ended: float = DAY_SECONDS,
    ) -> None:
        if synchronous not in SYNCHRONOUS:
            raise ConfigurationError(f"synchronous={synchronous!r}; use one of {SYNCHRONOUS}")
        if not 0 <= timeout < float("inf"):
            raise ConfigurationError(
                f"timeout={timeout!r} is not a number of seconds of at least 0"
            )
        super().__init__(turn_timeout=timeout + 1)
        self.path = Path(path).expanduser().absolute()
        self._clock = clock
        self._keep_ended = keep_ended
        self._file = SQLiteFile(self.path, timeout=timeout, synchronous=synchronous)
        self._ready()

    def now(self) -> float:
        """The machine's clock: all processes of a file share it."""
        return self._clock()

    @answering
    def hold(
        self, hold_id: str, charges: Sequence[Charge], *, ttl: float = 60.0, note: str = ""
    ) -> HoldAnswer:
        """See BudgetStore."""
        amounts = amounts_of(charges)
        check_ttl(ttl)

        def work(connection: sqlite3.Connection) -> HoldAnswer:
            known = _find(connection, hold_id)
            balances = _balances(connection, amounts)
            if known is not None:
                holds.check_repeat(hold_id, known, amounts)
                return HoldAnswer(True, balances)
            expires_at = self.now() + ttl
            placed = holds.place(balances, charges, amounts, expires_at, note)
            if placed is None:
                return HoldAnswer(False, balances)
            after, hold = placed
            _put_balances(connection, after)
            owner = this_process()
            values = (*_hold_row(hold), hold_id, owner.host, owner.pid, owner.started)
            connection.execute(SQL["hold_insert"], values)
            return HoldAnswer(True, after)

        return self._file.write(work)

    @answering
    def extend(self, hold_id: str, charges: Sequence[Charge], *, step: int = 1) -> HoldAnswer:
        """See BudgetStore."""
        amounts = amounts_of(charges)

        def work(connection: sqlite3.Connection) -> HoldAnswer:
            known = _find(connection, hold_id)
            if known is None:
                raise HoldNotFoundError(f"hold {hold_id!r} is not known to {str(self.path)!r}")
            balances = _balances(connection, amounts)
            extended = holds.extend(hold_id, balances, known, charges, step)
            if extended is None:
                return HoldAnswer(False, balances)
            after, hold = extended
            _put_balances(connection, after)
            connection.execute(SQL["hold_update"], (*_hold_row(hold), hold_id))
            return HoldAnswer(True, {**balances, **after})

        return self._file.write(work)

    @deferrable
    def settle(
        self, hold_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        """See CombinedStore."""

        def work(connection: sqlite3.Connection) -> None:
            hold = _find(connection, hold_id) or UNKNOWN_HOLD
            balances = _balances(connection, {**hold.amounts, **amounts})
            self._end(connection, hold_id, *holds.settle(hold_id, balances, hold, amounts))
            if entry is not None:
                late = hold.state is HoldState.EXPIRED
                _append(connection, [_corrected(connection, entry) if late else entry])

        self._file.write(work)

    @deferrable
    def void(self, hold_id: str) -> None:
        """See BudgetStore."""

        def work(connection: sqlite3.Connection) -> None:
            hold = _find(connection, hold_id)
            if hold is not None:
                balances = _balances(connection, hold.amounts)
                self._end(connection, hold_id, *holds.void(hold_id, balances, hold))

        self._file.write(work)

    @deferrable
    def shrink(self, hold_id: str, amounts: Mapping[str, int]) -> None:
        """See BudgetStore."""

        def work(connection: sqlite3.Connection) -> None:
            hold = _find(connection, hold_id)
            if hold is not None and hold.state is HoldState.OPEN:
                balances = _balances(connection, hold.amounts)
                after, shrunk = holds.shrink(hold_id, balances, hold, amounts)
                _put_balances(connection, after)
                connection.execute(SQL["hold_update"], (*_hold_row(shrunk), hold_id))

        self._file.write(work)

    @deferrable
    def renew(self, hold_ids: Iterable[str], *, ttl: float = 60.0) -> None:
        """See BudgetStore."""
        expires_at = self.now() + check_ttl(ttl)
        values = [(expires_at, hold_id) for hold_id in hold_ids]
        if values:
            self._file.write(lambda connection: connection.executemany(SQL["hold_renew"], values))

    @answering
    def sweep(
        self, *, entry: Callable[[ExpiredHold], Entry | None] | None = None
    ) -> list[ExpiredHold]:
        """See CombinedStore. A process of this host that has ended does not keep its holds waiting.

        Also forgets what ended long ago.
        """
        found: list[ExpiredHold] = []
        while True:
            some = self._file.write(lambda connection: self._sweep(connection, entry))
            found += some
            if len(some) < SWEEP_HOLDS_MAX:
                return found

    @deferrable
    def adjust(
        self, adjustment_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        """See CombinedStore."""

        def work(connection: sqlite3.Connection) -> None:
            values = (adjustment_id, dumps(dict(amounts)), self.now())
            if connection.execute(SQL["adjustment_insert"], values).rowcount:
                balances = _balances(connection, amounts)
                _put_balances(connection, holds.adjust(balances, amounts))
            if entry is not None:
                _append(connection, [entry])

        self._file.write(work)

    @answering
    def read(self, keys: Iterable[str]) -> dict[str, Balance]:
        """See BudgetStore."""
        wanted = list(keys)
        return self._file.read(lambda connection: _balances(connection, wanted))

    @deferrable
    def save(self, entry: Entry) -> None:
        """See Ledger."""
        self._file.write(lambda connection: _append(connection, [entry]))

    @deferrable
    def save_batch(self, entries: Sequence[Entry]) -> None:
        """See Ledger."""
        self._file.write(lambda connection: _append(connection, entries))

    def entries(
        self, *, start: float | None = None, end: float | None = None, **where: Any
    ) -> Iterator[Entry]:
        """See Ledger. Read in pages, so that a slow reader keeps nobody from writing."""
        condition, values = rows.where_sql(start, end, conditions(where))
        return self._pages(condition, values)

    def stats(
        self,
        *,
        start: float | None = None,
        end: float | None = None,
        by: Sequence[str] = (),
        **where: Any,
    ) -> Stats:
        """See Ledger."""
        names = check_by(by)
        columns = [rows.expression_of(name) for name in names]
        condition, values = rows.where_sql(start, end, conditions(where))
        selected = "".join(f"{sql}, " for sql, _ in columns)
        ordinals = ", ".join(str(number + 1) for number in range(len(columns)))
        # Column names are checked, values are bound.
        query = f"SELECT {selected}{rows.SUMS} FROM entries WHERE {condition}"  # noqa: S608
        if columns:
            query += f" GROUP BY {ordinals}"
        parameters = [value for _, some in columns for value in some] + values
        self._ready()
        with self._file.reader() as read:
            found = read(partial(_fetch, query, parameters))
        parts = [
            (_group(names, row[: len(names)]), rows.totals_of_row(row[len(names) :]))
            for row in found
        ]
        return grouped(names, parts)

    @deferrable
    def close(self) -> None:
        """Close the file; using the store again opens it again."""
        self._file.close()

    def _pages(self, condition: str, values: list[Any]) -> Iterator[Entry]:
        query = (
            f"{rows.SELECT} WHERE {condition} AND (started_at, seq) > (?, ?)"
            f" ORDER BY started_at, seq LIMIT {PAGE_ROWS}"
        )
        place = (float("-inf"), 0)
        started_at = 1 + ENTRY_FIELDS.index("started_at")
        self._ready()
        with self._file.reader() as read:
            while True:
                page = read(partial(_fetch, query, (*values, *place)))
                for row in page:
                    yield rows.entry_of(row[1:])
                if len(page) < PAGE_ROWS:
                    return
                place = (page[-1][started_at], page[-1][0])

    @answering
    def _ready(self) -> None:
        """The file is open, ours and up to date; else the error that says what is wrong."""
        self._file.read(lambda connection: None)

    def _end(
        self,
        connection: sqlite3.Connection,
        hold_id: str,
        after: Mapping[str, Balance],
        hold: Hold,
    ) -> None:
        _put_balances(connection, after)
        values = (hold_id, hold.state.value, dumps(dict(hold.amounts)), self.now())
        connection.execute(SQL["hold_end"], values)

    def _sweep(
        self,
        connection: sqlite3.Connection,
        make_entry: Callable[[ExpiredHold], Entry | None] | None,
    ) -> list[ExpiredHold]:
        now = self.now()
        found: list[ExpiredHold] = []
        for hold_id in _lost(connection, now):
            hold = _find(connection, hold_id)
            assert hold is not None
            balances = _balances(connection, {**hold.amounts, **hold.expiries})
            after, ended = holds.expire(hold_id, balances, hold)
            expired = ExpiredHold(hold_id, ended.amounts, hold.note)
            entry = make_entry(expired) if make_entry is not None else None
            self._end(connection, hold_id, after, ended)
            if entry is not None:
                _append(connection, [entry])
            found.append(expired)
        old = now - self._keep_ended
        connection.execute(SQL["holds_forget"], (old, old - 29 * self._keep_ended))
        return found

    def _after_fork(self) -> None:
        super()._after_fork()
        self._file.close()


def _find(connection: sqlite3.Connection, hold_id: str) -> Hold | None:
    row = connection.execute(SQL["hold_find"], (hold_id,)).fetchone()
    if row is None:
        return None
    placed, amounts, state, expiries, step, step_amounts, expires_at, note = row
    return Hold(
        _amounts(placed), _amounts(amounts), _STATES[state], _amounts(expiries),
        step, _amounts(step_amounts), expires_at, note,
    )  # fmt: skip


def _amounts(text: str) -> Mapping[str, int]:
    return NOTHING if text == "{}" else json.loads(text)


def _hold_row(hold: Hold) -> tuple[Any, ...]:
    return (
        dumps(dict(hold.placed)), dumps(dict(hold.amounts)), hold.state.value,
        dumps(dict(hold.expiries)), hold.step, dumps(dict(hold.step_amounts)),
        hold.expires_at, rows.clean(hold.note),
    )  # fmt: skip


def _balances(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, Balance]:
    found = dict.fromkeys(keys, ZERO)
    wanted = list(found)
    for first in range(0, len(wanted), 500):  # SQLite's own limit of parameters may be 999.
        some = wanted[first : first + 500]
        marks = ",".join("?" * len(some))
        query = f"SELECT key, settled, held FROM counters WHERE key IN ({marks})"  # noqa: S608
        for key, settled, held in connection.execute(query, some):
            found[key] = Balance(settled, held)
    return found


def _fetch(query: str, values: Sequence[Any], connection: sqlite3.Connection) -> list[Any]:
    return connection.execute(query, values).fetchall()


def _put_balances(connection: sqlite3.Connection, after: Mapping[str, Balance]) -> None:
    values = [(key, balance.settled, balance.held) for key, balance in after.items()]
    connection.executemany(SQL["counter_put"], values)


def _append(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    connection.executemany(rows.INSERT, [rows.row_of(entry) for entry in entries])


def _corrected(connection: sqlite3.Connection, entry: Entry) -> Entry:
    row = connection.execute(f"{rows.SELECT} WHERE id = ?", (entry.id,)).fetchone()
    return entry if row is None else late_adjustment(entry, rows.entry_of(row[1:]))


def _lost(connection: sqlite3.Connection, now: float) -> list[str]:
    """Open holds past their time, and those of processes of this host that have ended."""
    me = this_process()
    gone: dict[tuple[int, int], bool] = {}
    lost: list[str] = []
    for hold_id, expires_at, pid, started in connection.execute(
        SQL["holds_lost"], (now, me.host, me.pid)
    ):
        if expires_at > now:
            if (pid, started) not in gone:
                gone[pid, started] = is_gone(Owner(me.host, pid, started))
            if not gone[pid, started]:
                continue
        lost.append(hold_id)
        if len(lost) == SWEEP_HOLDS_MAX:
            break
    return lost


def _group(names: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        bool(value) if name == "streamed" else value
        for name, value in zip(names, values, strict=True)
    )
