"""Books and ledger of one process, in memory: the store of a bare ``with budget()``.

Nothing is shared with other processes: after a fork parent and child each spend from a copy.
Memory is bounded in the number of calls (closed holds and ledger entries are forgotten, oldest
first), not in the number of counters: every window of every limit that was ever charged stays until
:meth:`MemoryStore.forget` is told that nobody will ask for it again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

from taximeter.budgets import holds
from taximeter.budgets.books import Balance, Charge, ExpiredHold, HoldAnswer, HoldState
from taximeter.budgets.holds import (
    NOTHING,
    UNKNOWN_HOLD,
    ZERO,
    Amounts,
    Hold,
    amounts_of,
    check_ttl,
)
from taximeter.errors import HoldNotFoundError
from taximeter.ledger import Entry, Stats
from taximeter.stores.ledger_query import (
    check_by,
    conditions,
    grouped,
    late_adjustment,
    matches,
    totals_of,
    value_of,
)
from taximeter.stores.turns import Turns, answering, deferrable

CLOSED_HOLDS_MAX: Final = 10_000
ENTRIES_MAX: Final = 100_000


class MemoryStore(Turns):
    """A BudgetStore and a Ledger. Safe for threads and for finalizers.

    Args:
        clock: Seconds since the epoch; decides when holds expire.
        closed_holds_max: Ended holds kept at least, so that a repeated settle is known as such.
        entries_max: Ledger entries kept; then the oldest are dropped and counted in
            ``entries_dropped``. A process that runs for long and asks for statistics wants a file.
    """

    blocking = False

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        closed_holds_max: int = CLOSED_HOLDS_MAX,
        entries_max: int = ENTRIES_MAX,
    ) -> None:
        super().__init__()
        self._clock = clock
        self.entries_dropped = 0
        self._balances: dict[str, Balance] = {}
        self._open: dict[str, Hold] = {}
        self._expired = _Recent[Hold](closed_holds_max)
        self._closed = _Recent[Amounts](closed_holds_max)  # settled or voided: at what
        self._adjusted = _Recent[Amounts](closed_holds_max)
        self._entries: deque[Entry] = deque()
        self._entries_max = entries_max
        self._entry_ids: dict[str, Entry] = {}

    def now(self) -> float:
        """The process's clock, seconds since the epoch."""
        return self._clock()

    def hold(
        self, hold_id: str, charges: Sequence[Charge], *, ttl: float = 60.0, note: str = ""
    ) -> HoldAnswer:
        """See BudgetStore."""
        amounts = amounts_of(charges)
        expires_at = self._clock() + check_ttl(ttl)
        with self._lock:  # What ``answering`` does, in line: every call comes here.
            if self._busy:
                raise self._inside("hold")
            self._busy = True
            try:
                known = self._open.get(hold_id) or self._find_ended(hold_id)
                if known is not None:
                    holds.check_repeat(hold_id, known, amounts)
                    return self._answer(True, amounts)
                placed = holds.place(self._balances, charges, amounts, expires_at, note)
                if placed is None:
                    return self._answer(False, amounts)
                after, self._open[hold_id] = placed
                self._balances.update(after)
                return HoldAnswer(True, after)
            finally:
                self._busy = False
                if self._deferred:
                    self._catch_up()

    @answering
    def extend(self, hold_id: str, charges: Sequence[Charge], *, step: int = 1) -> HoldAnswer:
        """See BudgetStore."""
        known = self._find(hold_id)
        if known is None:
            raise HoldNotFoundError(f"hold {hold_id!r} is not known to this store")
        extended = holds.extend(hold_id, self._balances, known, charges, step)
        if extended is not None:
            after, hold = extended
            self._balances.update(after)
            self._open[hold_id] = hold
        return self._answer(extended is not None, amounts_of(charges))

    def settle(
        self, hold_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        """See CombinedStore."""
        with self._lock:  # What ``deferrable`` does, in line: every call comes here.
            if self._busy:
                self._deferred.append(partial(self.settle, hold_id, amounts, entry=entry))
                return
            self._busy = True
            try:
                hold = self._open.get(hold_id) or self._find_ended(hold_id) or UNKNOWN_HOLD
                after, ended = holds.settle(hold_id, self._balances, hold, amounts)
                self._close(hold_id, after, ended)
                if entry is not None:
                    first = self._entry_ids.get(entry.id)
                    if hold.state is HoldState.EXPIRED and first is not None:
                        entry = late_adjustment(entry, first)
                    self._append(entry)
            finally:
                self._busy = False
                if self._deferred:
                    self._catch_up()

    @deferrable
    def void(self, hold_id: str) -> None:
        """See BudgetStore."""
        hold = self._find(hold_id)
        if hold is not None:
            self._close(hold_id, *holds.void(hold_id, self._balances, hold))

    @deferrable
    def shrink(self, hold_id: str, amounts: Mapping[str, int]) -> None:
        """See BudgetStore."""
        hold = self._open.get(hold_id)
        if hold is not None:
            after, self._open[hold_id] = holds.shrink(hold_id, self._balances, hold, amounts)
            self._balances.update(after)

    @deferrable
    def renew(self, hold_ids: Iterable[str], *, ttl: float = 60.0) -> None:
        """See BudgetStore."""
        expires_at = self._clock() + check_ttl(ttl)
        for hold_id in hold_ids:
            hold = self._open.get(hold_id)
            if hold is not None:
                self._open[hold_id] = hold._replace(expires_at=expires_at)

    @answering
    def sweep(
        self, *, entry: Callable[[ExpiredHold], Entry | None] | None = None
    ) -> list[ExpiredHold]:
        """See CombinedStore."""
        now = self._clock()
        expired: list[ExpiredHold] = []
        for hold_id, hold in [item for item in self._open.items() if item[1].expires_at <= now]:
            after, ended = holds.expire(hold_id, self._balances, hold)
            found = ExpiredHold(hold_id, ended.amounts, hold.note)
            row = entry(found) if entry is not None else None
            self._close(hold_id, after, ended)
            if row is not None:
                self._append(row)
            expired.append(found)
        return expired

    @deferrable
    def adjust(
        self, adjustment_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        """See CombinedStore."""
        if self._adjusted.get(adjustment_id) is None:
            self._balances.update(holds.adjust(self._balances, amounts))
            self._adjusted.put(adjustment_id, amounts)
        if entry is not None:
            self._append(entry)

    def read(self, keys: Iterable[str]) -> dict[str, Balance]:
        """See BudgetStore."""
        with self._lock:
            return {key: self._balances.get(key, ZERO) for key in keys}

    @deferrable
    def forget(self, keys: Iterable[str]) -> None:
        """Drop the counters of a budget that is gone. Those with open holds stay."""
        for key in keys:
            balance = self._balances.get(key)
            if balance is not None and not balance.held:
                del self._balances[key]

    @deferrable
    def save(self, entry: Entry) -> None:
        """See Ledger."""
        self._append(entry)

    @deferrable
    def save_batch(self, entries: Sequence[Entry]) -> None:
        """See Ledger."""
        for entry in entries:
            self._append(entry)

    def entries(
        self, *, start: float | None = None, end: float | None = None, **where: Any
    ) -> Iterator[Entry]:
        """See Ledger. A snapshot: what is saved while it is read does not appear."""
        allowed = conditions(where)
        with self._lock:
            kept = list(self._entries)
        found = [entry for entry in kept if matches(entry, start, end, allowed)]
        return iter(sorted(found, key=lambda entry: entry.started_at))

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
        parts = (
            (tuple(value_of(entry, name) for name in names), totals_of(entry))
            for entry in self.entries(start=start, end=end, **where)
        )
        return grouped(names, parts)

    def close(self) -> None:
        """Nothing to let go of; the books stay as long as the store does."""

    def _answer(self, accepted: bool, keys: Iterable[str]) -> HoldAnswer:
        return HoldAnswer(accepted, {key: self._balances.get(key, ZERO) for key in keys})

    def _find(self, hold_id: str) -> Hold | None:
        return self._open.get(hold_id) or self._find_ended(hold_id)

    def _find_ended(self, hold_id: str) -> Hold | None:
        closed = self._closed.get(hold_id)
        if closed is not None:
            # Settled at nothing and voided are the same to whoever asks again.
            return Hold(NOTHING, closed, HoldState.SETTLED if closed else HoldState.VOIDED)
        return self._expired.get(hold_id)

    def _close(self, hold_id: str, after: Mapping[str, Balance], hold: Hold) -> None:
        self._balances.update(after)
        self._open.pop(hold_id, None)
        if hold.state is HoldState.EXPIRED:
            self._expired.put(hold_id, hold)
        else:
            # Only the amounts are kept: of a dict of ints the garbage collector takes no notice.
            self._closed.put(hold_id, hold.amounts)

    def _append(self, entry: Entry) -> None:
        if entry.id in self._entry_ids:
            return
        self._entry_ids[entry.id] = entry
        self._entries.append(entry)
        if len(self._entries) > self._entries_max:
            del self._entry_ids[self._entries.popleft().id]
            self.entries_dropped += 1


V = TypeVar("V")


class _Recent(Generic[V]):
    """At least the last ``size`` values by id, at most twice as many: two generations of a dict."""

    def __init__(self, size: int) -> None:
        self._size = max(1, size)
        self._young: dict[str, V] = {}
        self._old: dict[str, V] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: str) -> V | None:
        value = self._young.get(key)
        return self._old.get(key) if value is None else value

    def put(self, key: str, value: V) -> None:
        self._young[key] = value
        if len(self._young) >= self._size:
            self._old = self._young
            self._young = {}
