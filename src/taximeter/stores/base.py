"""The two contracts of storage: BudgetStore (balances and holds) and Ledger (entries).

Every operation may be repeated with the same id after a lost answer, with the same effect as once.
Stores are synchronous; ``blocking`` says whether a call may wait for a disk, a lock or a network, so
that asynchronous shells know to leave the event loop first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from taximeter.budgets.books import Balance, Charge, ExpiredHold, HoldAnswer
from taximeter.ledger import Entry, Stats


class BudgetStore(Protocol):
    """Balances and holds, linearizable for each counter.

    Raises (all operations): ``StoreUnavailableError`` when the outcome is unknown: ask again with
    the same id, or follow the outage policy.
    """

    blocking: bool

    def now(self) -> float:
        """The store's clock, seconds since the epoch: it decides windows and expiry."""
        ...

    def hold(
        self, hold_id: str, charges: Sequence[Charge], *, ttl: float = 60.0, note: str = ""
    ) -> HoldAnswer:
        """Set every charge aside, or none of them.

        The same id with the same amounts again is accepted again, without a second hold, while it is
        open; with other amounts ``HoldConflictError``. Once it has ended: ``HoldClosedError`` (an
        acceptance always means that the money is set aside). A refusal leaves no trace: the
        same id may ask again. ``ttl``: seconds without :meth:`renew` until the hold expires.
        ``note``: handed back by :meth:`sweep`.
        """
        ...

    def extend(self, hold_id: str, charges: Sequence[Charge], *, step: int = 1) -> HoldAnswer:
        """Add to an open hold, in all counters or none. ``HoldNotFoundError``, ``HoldClosedError``.

        ``step`` (1, 2, ...) makes a retry safe: a step not above the last accepted one changes
        nothing; the last one with other amounts is a ``HoldConflictError``. A charge's ``expiry``
        replaces the counter's; without one it never stays below what is then held.
        """
        ...

    def settle(self, hold_id: str, amounts: Mapping[str, int]) -> None:
        """Book ``amounts`` (by counter key) and free the hold. Never refuses money.

        A counter of the hold that ``amounts`` does not name is booked at 0.
        Late (the hold had expired): the books are corrected to ``amounts``. Unknown id: booked
        all the same, once. The same id again with the same amounts: nothing; with others:
        ``HoldClosedError``.
        """
        ...

    def void(self, hold_id: str) -> None:
        """Free the hold; nothing was billed. Unknown or already voided: nothing happens.

        Late (the hold had expired): the books are corrected to nothing. ``HoldClosedError`` when it
        was settled at more than nothing.
        """
        ...

    def shrink(self, hold_id: str, amounts: Mapping[str, int]) -> None:
        """Lower what an open hold holds to ``amounts`` by key (early release). Never raises it.

        A hold that has ended, or is unknown, has nothing to release: nothing happens.
        """
        ...

    def renew(self, hold_ids: Iterable[str], *, ttl: float = 60.0) -> None:
        """Heartbeat: these holds live ``ttl`` seconds from now."""
        ...

    def sweep(self) -> list[ExpiredHold]:
        """Settle every expired hold at its ``expiry`` amounts; say which. Never simply frees one."""
        ...

    def adjust(self, adjustment_id: str, amounts: Mapping[str, int]) -> None:
        """Add signed amounts to ``settled``, once for each id."""
        ...

    def read(self, keys: Iterable[str]) -> dict[str, Balance]:
        """Balances now; a counter nobody has used is ``Balance()``."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Using the store afterwards reopens or raises StoreError."""
        ...


class Ledger(Protocol):
    """Append-only usage entries, unique by id."""

    blocking: bool

    def save(self, entry: Entry) -> None:
        """Append; the same id again is ignored."""
        ...

    def save_batch(self, entries: Sequence[Entry]) -> None:
        """Append all in one step."""
        ...

    def entries(
        self, *, start: float | None = None, end: float | None = None, **where: Any
    ) -> Iterator[Entry]:
        """Entries by start time (seconds, start inclusive, end exclusive), oldest first."""
        ...

    def stats(
        self,
        *,
        start: float | None = None,
        end: float | None = None,
        by: Sequence[str] = (),
        **where: Any,
    ) -> Stats:
        """Totals, and a group for each distinct value of ``by`` (entry fields, or day/hour)."""
        ...

    def close(self) -> None: ...


class CombinedStore(BudgetStore, Ledger, Protocol):
    """Both in one place, so that books and ledger change in one step and cannot come apart."""

    def settle(
        self, hold_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        """As :meth:`BudgetStore.settle`, and append ``entry`` in the same step.

        When the hold had expired and the ledger has an entry of this id already (the sweep's), the
        difference in cost is appended as an adjustment of it, ``<id>+late``.
        """
        ...

    def sweep(
        self, *, entry: Callable[[ExpiredHold], Entry | None] | None = None
    ) -> list[ExpiredHold]:
        """As :meth:`BudgetStore.sweep`; ``entry`` makes the ledger's row of each expired hold.

        Give the row the id that the call's own entry would have had, so that a late settle finds
        it. Called inside the step and perhaps again: it must be pure.
        """
        ...

    def adjust(
        self, adjustment_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        """As :meth:`BudgetStore.adjust`, and append ``entry`` in the same step."""
        ...
