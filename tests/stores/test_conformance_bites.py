"""The suite for stores catches what goes wrong with stores: each broken one fails in it."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from _pytest.outcomes import Skipped
from hypothesis import Phase

from taximeter.budgets import holds
from taximeter.budgets.books import Balance, Charge, ExpiredHold, HoldAnswer
from taximeter.ledger import Entry
from taximeter.stores.memory import MemoryStore
from taximeter.testing.conformance import CombinedStoreConformance
from taximeter.testing.fake_clock import FakeClock


class Quick(CombinedStoreConformance):
    """Only whether it fails, and the same each time: no smaller example is looked for."""

    model_settings: ClassVar[dict[str, Any]] = {
        **CombinedStoreConformance.model_settings,
        "max_examples": 200,
        "phases": [Phase.generate],
        "derandomize": True,
    }

    __test__ = False


MODEL = "test_any_sequence_of_operations_agrees_with_the_model"


def failures(make: Callable[[FakeClock], Any], *, model: bool) -> list[str]:
    """Names of the tests that ``make``'s store fails."""
    suite = Quick()
    failed = []
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if not name.startswith("test_") or (name == MODEL) is not model:
            continue
        for arguments in _parameters(test):
            clock = FakeClock()
            given = {"clock": clock, "store": make(clock), "reopen": None, **arguments}
            wanted = {key: given[key] for key in inspect.signature(test).parameters}
            try:
                test(**wanted)
            except Skipped:
                continue
            except (Exception, pytest.fail.Exception):
                failed.append(name)
    return failed


def _parameters(test: Any) -> Iterable[dict[str, Any]]:
    for mark in getattr(test, "pytestmark", []):
        names, values = mark.args
        for value in values:
            yield {names: value} if isinstance(names, str) else dict(zip(names, value, strict=True))
        return
    yield {}


class CheckThenIncrement(MemoryStore):
    """Reads, decides, and only then writes."""

    def hold(
        self, hold_id: str, charges: Sequence[Charge], *, ttl: float = 60.0, note: str = ""
    ) -> HoldAnswer:
        balances = self.read([c.key for c in charges])
        amounts = {c.key: c.amount for c in charges}
        if holds.place(balances, charges, amounts) is None:
            return HoldAnswer(False, balances)
        time.sleep(0)  # Another thread's turn.
        return super().hold(
            hold_id, [Charge(c.key, c.amount, None, c.expiry) for c in charges], ttl=ttl, note=note
        )


class LimitIsExclusive(MemoryStore):
    """Refuses what fits exactly."""

    def hold(
        self, hold_id: str, charges: Sequence[Charge], *, ttl: float = 60.0, note: str = ""
    ) -> HoldAnswer:
        lower = [
            Charge(c.key, c.amount, c.limit - 1 if c.limit else c.limit, c.expiry) for c in charges
        ]
        return super().hold(hold_id, lower, ttl=ttl, note=note)


class LimitIsOneTooHigh(MemoryStore):
    """Lets one nano-USD through."""

    def extend(self, hold_id: str, charges: Sequence[Charge], *, step: int = 1) -> HoldAnswer:
        higher = [
            Charge(c.key, c.amount, None if c.limit is None else c.limit + 1, c.expiry)
            for c in charges
        ]
        return super().extend(hold_id, higher, step=step)


class HoldsWhatFits(MemoryStore):
    """Places the charges that fit and forgets to take them back when another does not."""

    def hold(
        self, hold_id: str, charges: Sequence[Charge], *, ttl: float = 60.0, note: str = ""
    ) -> HoldAnswer:
        answer = super().hold(hold_id, charges, ttl=ttl, note=note)
        if not answer.accepted:
            for charge in charges:
                super().hold(f"{hold_id}/{charge.key}", [charge], ttl=ttl, note=note)
        return answer


class ExpiryFrees(MemoryStore):
    """Gives the money back, as cards do."""

    def sweep(
        self, *, entry: Callable[[ExpiredHold], Entry | None] | None = None
    ) -> list[ExpiredHold]:
        now = self.now()
        for hold_id in [i for i, hold in self._open.items() if hold.expires_at <= now]:
            self.void(hold_id)
        return []


class SettleRefuses(MemoryStore):
    """Will not book more than was held."""

    def settle(
        self, hold_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        held = self._open[hold_id].amounts if hold_id in self._open else amounts
        capped = {key: min(amount, held.get(key, amount)) for key, amount in amounts.items()}
        super().settle(hold_id, capped, entry=entry)


class ForgetsEnds(MemoryStore):
    """Does not know a repeated settle for one."""

    def settle(
        self, hold_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        super().settle(hold_id, amounts, entry=entry)
        self._closed._young.clear()


class ExtendsTwice(MemoryStore):
    """Takes every repeated step for a new one."""

    def extend(self, hold_id: str, charges: Sequence[Charge], *, step: int = 1) -> HoldAnswer:
        hold = self._open.get(hold_id)
        return super().extend(hold_id, charges, step=(hold.step if hold else 0) + 1)


class AdjustsTwice(MemoryStore):
    """Adds a repeated adjustment again."""

    def adjust(
        self, adjustment_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        super().adjust(f"{adjustment_id}/{time.perf_counter_ns()}", amounts, entry=entry)


class LateSettleAdds(MemoryStore):
    """Books a late settle on top of what expiry booked."""

    def settle(
        self, hold_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        late = self._expired.get(hold_id) is not None
        super().settle(f"{hold_id}/late" if late else hold_id, amounts, entry=entry)


class DropsUnknownSettles(MemoryStore):
    """Ignores the settle of a hold that it does not know."""

    def settle(
        self, hold_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        if self._find(hold_id) is not None:
            super().settle(hold_id, amounts, entry=entry)


class ShrinkRaises(MemoryStore):
    """Takes a shrink for the new amount, also where it is higher."""

    def shrink(self, hold_id: str, amounts: Mapping[str, int]) -> None:
        hold = self._open.get(hold_id)
        if hold is not None:
            for key, amount in amounts.items():
                balance = self._balances.get(key, Balance())
                more = amount - hold.amounts.get(key, 0)
                self._balances[key] = Balance(balance.settled, balance.held + more)
            self._open[hold_id] = hold._replace(amounts={**hold.amounts, **amounts})


class NoHeartbeat(MemoryStore):
    """Expires holds that are renewed."""

    def renew(self, hold_ids: Iterable[str], *, ttl: float = 60.0) -> None:
        pass


class SettlesWithoutALock(MemoryStore):
    """Reads the balance, lets another thread in, and writes what it had read."""

    def settle(
        self, hold_id: str, amounts: Mapping[str, int], *, entry: Entry | None = None
    ) -> None:
        with self._lock:
            stale = dict(self._balances)
        time.sleep(0)
        with self._lock:
            fresh, self._balances = self._balances, stale
            try:
                super().settle(hold_id, amounts, entry=entry)
            finally:
                self._balances = {**fresh, **{key: stale[key] for key in amounts if key in stale}}


class SavesTwice(MemoryStore):
    """Appends an entry of a known id again."""

    def save(self, entry: Entry) -> None:
        self._entry_ids.pop(entry.id, None)
        super().save(entry)


BROKEN = [
    CheckThenIncrement, LimitIsExclusive, LimitIsOneTooHigh, HoldsWhatFits, ExpiryFrees,
    SettleRefuses, ForgetsEnds, ExtendsTwice, AdjustsTwice, LateSettleAdds, DropsUnknownSettles,
    ShrinkRaises, NoHeartbeat, SettlesWithoutALock, SavesTwice,
]  # fmt: skip
FOR_THREADS = {CheckThenIncrement, SettlesWithoutALock, SavesTwice}


def test_a_sound_store_passes() -> None:
    assert failures(lambda clock: MemoryStore(clock=clock), model=False) == []


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_each_broken_store_fails_in_a_test_of_its_own(broken: type[MemoryStore]) -> None:
    assert failures(lambda clock: broken(clock=clock), model=False)


@pytest.mark.parametrize(
    "broken", [cls for cls in BROKEN if cls not in FOR_THREADS], ids=lambda cls: cls.__name__
)
def test_each_broken_store_that_one_thread_can_notice_fails_against_the_model(
    broken: type[MemoryStore],
) -> None:
    assert failures(lambda clock: broken(clock=clock), model=True) == [MODEL]


def test_the_suite_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    failures(lambda clock: MemoryStore(clock=clock), model=False)
    assert threading.active_count() == before
