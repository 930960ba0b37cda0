"""The memory store: the shared suite, and what only memory has to prove."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from taximeter.budgets.books import Balance, Charge
from taximeter.errors import StoreError
from taximeter.stores.memory import MemoryStore
from taximeter.testing.conformance import CombinedStoreConformance, entry
from taximeter.testing.fake_clock import FakeClock


class TestMemoryStore(CombinedStoreConformance):
    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryStore:
        return MemoryStore(clock=clock)


def test_ended_holds_are_forgotten_so_that_memory_is_bounded() -> None:
    store = MemoryStore(closed_holds_max=10)
    for number in range(1000):
        store.hold(f"h{number}", [Charge("k", 1)])
        store.settle(f"h{number}", {"k": 1})
        store.adjust(f"a{number}", {"k": 0})
    assert len(store._closed) <= 20
    assert len(store._adjusted) <= 20
    store.settle("h995", {"k": 1})  # Still known: nothing happens.
    assert store.read(["k"]) == {"k": Balance(1000, 0)}


def test_the_oldest_entries_are_dropped_and_counted() -> None:
    store = MemoryStore(entries_max=3)
    for number in range(5):
        store.save(entry(f"e{number}", started_at=float(number)))
    assert [e.id for e in store.entries()] == ["e2", "e3", "e4"]
    assert store.entries_dropped == 2


def test_counters_of_a_budget_that_is_gone_can_be_forgotten_unless_they_hold() -> None:
    store = MemoryStore()
    store.hold("h", [Charge("held", 1), Charge("other", 0)])
    store.settle("s", {"gone": 5})
    store.forget(["held", "gone", "unknown"])
    assert store.read(["held", "gone"]) == {"held": Balance(0, 1), "gone": Balance()}


class Interrupting(list[Charge]):
    """Charges that run something while the store reads them inside an operation, as the garbage
    collector could."""

    def __init__(self, store: MemoryStore, charges: list[Charge], then: Callable[[], None]) -> None:
        super().__init__(charges)
        self.store, self.then = store, then

    def __iter__(self) -> Iterator[Charge]:
        if self.store._busy:
            self.then()
        return super().__iter__()


class Dropped:
    def __init__(self, store: MemoryStore, hold_id: str) -> None:
        weakref.finalize(self, store.settle, hold_id, {"k": 3}, entry=entry(hold_id, cost=3))


def test_a_settle_by_a_finalizer_inside_an_operation_is_done_after_it() -> None:
    store = MemoryStore()
    store.hold("dropped", [Charge("k", 50)])
    streams = [Dropped(store, "dropped")]
    answer = store.hold("outer", Interrupting(store, [Charge("k", 10)], streams.clear))
    assert streams == []
    assert answer.balances == {"k": Balance(0, 60)}
    assert store.read(["k"]) == {"k": Balance(3, 10)}
    assert [e.id for e in store.entries()] == ["dropped"]


def test_a_question_from_inside_an_operation_is_an_error_and_not_a_deadlock() -> None:
    errors: list[Exception] = []

    def ask() -> None:
        for question in (partial(store.hold, "inner", [Charge("k", 1)]), store.sweep):
            with pytest.raises(StoreError, match="inside the store") as caught:
                question()
            errors.append(caught.value)

    store = MemoryStore()
    assert store.hold("outer", Interrupting(store, [Charge("k", 10)], ask)).accepted
    assert errors
    assert store.read(["k"]) == {"k": Balance(0, 10)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_is_inside_does_not_lock_the_child() -> None:
    store = MemoryStore()
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with store._lock:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # Ends a child that waits for ever; the test then fails.
        os._exit(0 if store.hold("child", [Charge("k", 1)]).accepted else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.read(["k"]) == {"k": Balance()}
