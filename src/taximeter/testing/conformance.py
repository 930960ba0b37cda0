"""The contracts of stores as tests: subclass a suite, give it a fresh store, and run pytest.

    class TestMyStore(CombinedStoreConformance):
        @pytest.fixture
        def store(self, clock): ...        # fresh, on this clock; nothing left open at the end

``BudgetStoreConformance`` and ``LedgerConformance`` are for stores that are only one of the two.
Stores that several processes share also override ``reopen``. Readable failures need
``pytest.register_assert_rewrite("taximeter.testing")`` in a conftest. Needs pytest and hypothesis.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar, Final

import pytest

from taximeter.budgets.books import Balance, Charge, ExpiredHold
from taximeter.errors import (
    ConfigurationError,
    HoldClosedError,
    HoldConflictError,
    HoldNotFoundError,
)
from taximeter.ledger import Entry
from taximeter.money import AMOUNT_MAX
from taximeter.stores.base import BudgetStore, CombinedStore, Ledger
from taximeter.testing.fake_clock import FakeClock
from taximeter.usage import Usage

THREADS: Final = 8
Reopen = Callable[[], BudgetStore]

DAY, MONTH = "acme:usd:day:2026-11-22", "acme:usd:month:2026-11"


def both(amount: int, *, limit: int | None = 100, expiry: int | None = None) -> list[Charge]:
    """A charge of ``amount`` against the day (``limit``) and the month (no limit)."""
    return [Charge(DAY, amount, limit, expiry), Charge(MONTH, amount, None, expiry)]


def booked(amount: int) -> dict[str, int]:
    """Amounts of both counters."""
    return {DAY: amount, MONTH: amount}


class _Suite:
    """Fixtures of every suite."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The store's clock."""
        return FakeClock()

    @pytest.fixture
    def store(self, clock: FakeClock) -> Any:
        """A fresh store on ``clock``: override."""
        raise NotImplementedError("a conformance suite needs a store fixture")

    @pytest.fixture
    def reopen(self) -> Reopen | None:
        """A picklable function that opens the same store in another process; None: not shared."""
        return None


class BudgetStoreConformance(_Suite):
    """Balances and holds.

    ``model_settings``: of Hypothesis, for the run against the model.
    """

    model_settings: ClassVar[Mapping[str, Any]] = {
        "max_examples": 60,
        "stateful_step_count": 30,
        "deadline": None,
        "database": None,
    }

    def test_a_counter_that_nobody_used_reads_zero(self, store: BudgetStore) -> None:
        assert store.read([DAY, MONTH]) == {DAY: Balance(), MONTH: Balance()}

    def test_a_hold_sets_every_charge_aside_and_answers_with_the_new_balances(
        self, store: BudgetStore
    ) -> None:
        answer = store.hold("h", both(40))
        assert answer.accepted
        assert dict(answer.balances) == {DAY: Balance(0, 40), MONTH: Balance(0, 40)}
        assert store.read([DAY, MONTH]) == dict(answer.balances)

    @pytest.mark.parametrize(("amount", "fits"), [(59, True), (60, True), (61, False)])
    def test_a_hold_is_refused_exactly_above_what_is_free(
        self, store: BudgetStore, amount: int, fits: bool
    ) -> None:
        store.settle("spent", booked(30))
        store.hold("held", both(10))
        assert store.hold("h", both(amount)).accepted is fits

    def test_a_refusal_changes_nothing_and_answers_with_todays_balances(
        self, store: BudgetStore
    ) -> None:
        store.hold("first", both(70))
        answer = store.hold("h", [Charge(MONTH, 31, None), Charge(DAY, 31, 100)])
        assert not answer.accepted
        assert dict(answer.balances) == {DAY: Balance(0, 70), MONTH: Balance(0, 70)}
        assert store.read([DAY, MONTH]) == dict(answer.balances)

    def test_a_refusal_leaves_no_trace_of_its_id(self, store: BudgetStore) -> None:
        store.hold("first", both(70))
        assert not store.hold("h", both(31)).accepted
        store.void("first")
        assert store.hold("h", both(99)).accepted

    def test_hold_twice_under_one_id_reserves_once(self, store: BudgetStore) -> None:
        store.hold("h", both(60))
        again = store.hold("h", both(60))
        assert again.accepted
        assert store.read([DAY]) == {DAY: Balance(0, 60)} == {DAY: again.balances[DAY]}

    def test_hold_again_with_other_amounts_is_a_conflict(self, store: BudgetStore) -> None:
        store.hold("h", both(60))
        for charges in (both(61), both(60)[:1], [*both(60), Charge("other", 1)]):
            with pytest.raises(HoldConflictError):
                store.hold("h", charges)
        assert store.read([DAY, "other"]) == {DAY: Balance(0, 60), "other": Balance()}

    def test_hold_again_after_its_end_is_no_second_hold_and_no_false_acceptance(
        self, store: BudgetStore, clock: FakeClock
    ) -> None:
        for hold_id in ("settled", "voided", "expired"):
            store.hold(hold_id, both(10))
        store.settle("settled", booked(10))
        store.void("voided")
        clock.advance(3600)
        store.sweep()
        for hold_id in ("settled", "voided", "expired"):
            with pytest.raises(HoldClosedError):
                store.hold(hold_id, both(10))
        assert store.read([DAY])[DAY].held == 0

    def test_one_counter_twice_in_a_hold_is_an_error(self, store: BudgetStore) -> None:
        with pytest.raises(ConfigurationError, match="twice"):
            store.hold("h", [Charge(DAY, 1), Charge(DAY, 2)])

    @pytest.mark.parametrize("amount", [-1, 1.5, "7", None, True])
    def test_what_is_no_amount_is_an_error_that_names_it(
        self, store: BudgetStore, amount: Any
    ) -> None:
        with pytest.raises(ConfigurationError, match="amount"):
            store.hold("h", [Charge(DAY, amount, 100)])
        with pytest.raises(ConfigurationError, match="amount"):
            store.settle("h", {DAY: amount})
        assert store.read([DAY]) == {DAY: Balance()}

    def test_zero_amounts_go_through_the_whole_life(self, store: BudgetStore) -> None:
        store.settle("spent", booked(100))
        assert store.hold("h", both(0)).accepted
        assert store.extend("h", both(0), step=1).accepted
        store.settle("h", booked(0))
        store.settle("h", booked(0))
        assert store.read([DAY]) == {DAY: Balance(100, 0)}

    def test_a_settle_books_the_cost_and_frees_the_hold(self, store: BudgetStore) -> None:
        store.hold("h", both(60))
        store.settle("h", {DAY: 25, MONTH: 26})
        assert store.read([DAY, MONTH]) == {DAY: Balance(25, 0), MONTH: Balance(26, 0)}

    def test_overrun_is_booked_in_full(self, store: BudgetStore) -> None:
        store.hold("h", both(60))
        store.settle("h", booked(250))
        assert store.read([DAY]) == {DAY: Balance(250, 0)}
        assert not store.hold("next", both(1)).accepted

    def test_a_counter_that_settle_does_not_name_is_freed_and_booked_at_nothing(
        self, store: BudgetStore
    ) -> None:
        store.hold("h", both(60))
        store.settle("h", {DAY: 5, "new": 7})
        assert store.read([DAY, MONTH, "new"]) == {
            DAY: Balance(5, 0), MONTH: Balance(0, 0), "new": Balance(7, 0),
        }  # fmt: skip

    def test_settle_twice_books_once_and_with_other_amounts_is_an_error(
        self, store: BudgetStore
    ) -> None:
        store.hold("h", both(60))
        store.settle("h", booked(25))
        store.settle("h", booked(25))
        with pytest.raises(HoldClosedError):
            store.settle("h", booked(26))
        assert store.read([DAY]) == {DAY: Balance(25, 0)}

    def test_a_settle_of_an_unknown_hold_is_charged_once(self, store: BudgetStore) -> None:
        store.settle("lost", booked(25))
        store.settle("lost", booked(25))
        assert store.read([DAY]) == {DAY: Balance(25, 0)}

    def test_a_void_frees_the_hold_once(self, store: BudgetStore) -> None:
        store.hold("other", both(10))
        store.hold("h", both(60))
        store.void("h")
        store.void("h")
        store.void("unknown")
        assert store.read([DAY]) == {DAY: Balance(0, 10)}

    def test_what_was_settled_cannot_be_voided_nor_what_was_voided_settled(
        self, store: BudgetStore
    ) -> None:
        store.hold("h", both(60))
        store.settle("h", booked(25))
        with pytest.raises(HoldClosedError):
            store.void("h")
        store.hold("v", both(60))
        store.void("v")
        with pytest.raises(HoldClosedError):
            store.settle("v", booked(25))
        assert store.read([DAY]) == {DAY: Balance(25, 0)}

    @pytest.mark.parametrize(("amount", "fits"), [(39, True), (40, True), (41, False)])
    def test_an_extension_is_refused_exactly_above_what_is_free(
        self, store: BudgetStore, amount: int, fits: bool
    ) -> None:
        store.hold("h", both(60))
        answer = store.extend("h", both(amount), step=1)
        held = 60 + amount if fits else 60
        assert answer.accepted is fits
        assert dict(answer.balances) == {DAY: Balance(0, held), MONTH: Balance(0, held)}
        assert store.read([DAY, MONTH]) == dict(answer.balances)

    def test_an_extension_repeated_adds_once(self, store: BudgetStore) -> None:
        store.hold("h", both(10))
        for step in (1, 1, 2, 2, 1):
            assert store.extend("h", both(5 * step), step=step).accepted or step == 1
        assert store.read([DAY]) == {DAY: Balance(0, 25)}
        with pytest.raises(HoldConflictError):
            store.extend("h", both(11), step=2)
        store.settle("h", booked(3))
        assert store.read([DAY, MONTH]) == {DAY: Balance(3, 0), MONTH: Balance(3, 0)}

    def test_a_refused_step_may_be_tried_again_with_less(self, store: BudgetStore) -> None:
        store.hold("h", both(60))
        assert not store.extend("h", both(50), step=1).accepted
        assert store.extend("h", both(30), step=1).accepted
        assert store.read([DAY]) == {DAY: Balance(0, 90)}

    def test_only_an_open_hold_can_be_extended(self, store: BudgetStore, clock: FakeClock) -> None:
        with pytest.raises(HoldNotFoundError):
            store.extend("unknown", both(1), step=1)
        store.hold("settled", both(10))
        store.settle("settled", booked(1))
        store.hold("expired", both(10))
        clock.advance(3600)
        store.sweep()
        for hold_id in ("settled", "expired"):
            with pytest.raises(HoldClosedError):
                store.extend(hold_id, both(1), step=1)
        assert store.read([DAY]) == {DAY: Balance(11, 0)}

    def test_shrinking_lowers_and_never_raises(self, store: BudgetStore) -> None:
        store.hold("h", both(60))
        for _ in range(2):
            store.shrink("h", {DAY: 20, MONTH: 90, "other": 5})
        assert store.read([DAY, MONTH, "other"]) == {
            DAY: Balance(0, 20), MONTH: Balance(0, 60), "other": Balance(),
        }  # fmt: skip
        assert store.hold("next", both(80)).accepted
        store.settle("h", booked(7))
        store.shrink("h", booked(0))
        store.shrink("unknown", booked(0))
        assert store.read([DAY]) == {DAY: Balance(7, 80)}

    def test_a_hold_that_expires_is_booked_and_never_just_freed(
        self, store: BudgetStore, clock: FakeClock
    ) -> None:
        store.hold("worst", both(60), ttl=30, note="who and what")
        store.hold("known", both(40, expiry=15), ttl=30)
        clock.advance(29)
        assert store.sweep() == []
        clock.advance(2)
        found = sorted(store.sweep(), key=lambda hold: hold.hold_id)
        assert [(hold.hold_id, dict(hold.amounts), hold.note) for hold in found] == [
            ("known", booked(15), ""),
            ("worst", booked(60), "who and what"),
        ]
        assert store.read([DAY, MONTH]) == {DAY: Balance(75, 0), MONTH: Balance(75, 0)}
        assert store.sweep() == []

    def test_expiry_covers_extensions_and_what_shrank(
        self, store: BudgetStore, clock: FakeClock
    ) -> None:
        store.hold("extended", both(10), ttl=30)
        store.extend("extended", both(20), step=1)
        store.hold("capped", both(10, expiry=25), ttl=30)
        store.extend("capped", both(5), step=1)
        store.extend("capped", both(5, expiry=8), step=2)
        store.hold("shrunk", both(40), ttl=30)
        store.shrink("shrunk", booked(3))
        clock.advance(60)
        found = {hold.hold_id: dict(hold.amounts) for hold in store.sweep()}
        assert found == {"extended": booked(30), "capped": booked(8), "shrunk": booked(3)}
        assert store.read([DAY]) == {DAY: Balance(41, 0)}

    def test_an_extension_never_leaves_expiry_below_what_is_held(
        self, store: BudgetStore, clock: FakeClock
    ) -> None:
        store.hold("low", both(30, expiry=10), ttl=30)
        store.extend("low", both(5), step=1)
        store.hold("high", both(10, expiry=50), ttl=30)
        store.extend("high", both(5), step=1)
        clock.advance(60)
        found = {hold.hold_id: dict(hold.amounts) for hold in store.sweep()}
        assert found == {"low": booked(35), "high": booked(50)}

    def test_a_heartbeat_keeps_a_hold_alive(self, store: BudgetStore, clock: FakeClock) -> None:
        store.hold("h", both(60), ttl=30)
        store.hold("dead", both(5), ttl=30)
        for _ in range(4):
            clock.advance(20)
            store.renew(["h", "unknown"], ttl=30)
            store.sweep()
        store.renew([])
        assert store.read([DAY]) == {DAY: Balance(5, 60)}

    def test_a_late_settle_corrects_what_expiry_booked(
        self, store: BudgetStore, clock: FakeClock
    ) -> None:
        store.hold("h", both(60), ttl=30)
        store.hold("unsent", both(10), ttl=30)
        clock.advance(60)
        store.sweep()
        store.settle("h", {DAY: 20, "other": 4})
        store.settle("h", {DAY: 20, "other": 4})
        store.void("unsent")
        store.void("unsent")
        assert store.read([DAY, MONTH, "other"]) == {
            DAY: Balance(20, 0), MONTH: Balance(0, 0), "other": Balance(4, 0),
        }  # fmt: skip

    def test_an_adjustment_counts_once_and_may_be_negative(self, store: BudgetStore) -> None:
        store.settle("h", booked(50))
        for _ in range(2):
            store.adjust("a", {DAY: -20, MONTH: 3})
        assert store.read([DAY, MONTH]) == {DAY: Balance(30, 0), MONTH: Balance(53, 0)}

    def test_a_new_window_is_a_new_key_and_an_old_hold_settles_in_the_old_one(
        self, store: BudgetStore
    ) -> None:
        tomorrow = "acme:usd:day:2026-11-23"
        store.hold("late", [Charge(DAY, 100, 100)])
        assert store.hold("early", [Charge(tomorrow, 100, 100)]).accepted
        store.settle("late", {DAY: 90})
        assert store.read([DAY, tomorrow]) == {DAY: Balance(90, 0), tomorrow: Balance(0, 100)}

    def test_amounts_up_to_int64_are_exact(self, store: BudgetStore) -> None:
        most = AMOUNT_MAX
        assert store.hold("h", [Charge(DAY, most - 1, most)]).accepted
        assert store.hold("one", [Charge(DAY, 1, most)]).accepted
        assert not store.hold("over", [Charge(DAY, 1, most)]).accepted
        assert not store.hold("untold", [Charge(DAY, 1, None)]).accepted
        assert store.read([DAY]) == {DAY: Balance(0, most)}
        store.settle("h", {DAY: most - 3})
        assert store.read([DAY]) == {DAY: Balance(most - 3, 1)}
        assert not store.hold("huge", [Charge(MONTH, 10 * most, None)]).accepted

    def test_sums_past_int64_stop_there_and_settling_is_still_not_refused(
        self, store: BudgetStore
    ) -> None:
        store.settle("a", {DAY: AMOUNT_MAX})
        store.settle("b", {DAY: AMOUNT_MAX})
        store.settle("c", {DAY: 10 * AMOUNT_MAX})
        assert store.read([DAY]) == {DAY: Balance(AMOUNT_MAX, 0)}

    def test_keys_and_notes_of_any_text_come_back_unchanged(
        self, store: BudgetStore, clock: FakeClock
    ) -> None:
        key = "Zoë's 'team' \"a\"; DROP TABLE x -- % _ \\ 💸\n"
        store.hold("h " + key, [Charge(key, 5, 9)], ttl=1, note=key)
        assert store.read([key]) == {key: Balance(0, 5)}
        clock.advance(2)
        assert store.sweep() == [ExpiredHold("h " + key, {key: 5}, key)]

    def test_many_counters_in_one_hold_are_all_or_none(self, store: BudgetStore) -> None:
        charges = [Charge(f"k{number}", 1, 10) for number in range(1200)]
        assert store.hold("h", charges).accepted
        assert not store.hold("i", [*charges, Charge("last", 1, 0)]).accepted
        balances = store.read([charge.key for charge in charges])
        assert set(balances.values()) == {Balance(0, 1)}

    def test_threads_never_hold_more_than_the_limit(self, store: BudgetStore) -> None:
        """A check and its write in two steps lets more than ten of these through."""
        start = threading.Barrier(THREADS)

        def work(thread: int) -> int:
            start.wait()
            charges = [Charge(DAY, 100, 1000), Charge(MONTH, 100, None)]
            return sum(store.hold(f"{thread}/{n}", charges).accepted for n in range(10))

        assert sum(_in_threads(work)) == 10
        assert store.read([DAY, MONTH]) == {DAY: Balance(0, 1000), MONTH: Balance(0, 1000)}

    def test_sums_match_after_threads_have_held_extended_and_settled(
        self, store: BudgetStore
    ) -> None:
        start = threading.Barrier(THREADS)

        def work(thread: int) -> int:
            start.wait()
            return _spend(store, f"thread {thread}", rounds=25)

        spent = sum(_in_threads(work))
        assert store.read([DAY, MONTH]) == {DAY: Balance(spent, 0), MONTH: Balance(spent, 0)}

    def test_the_same_settle_from_many_threads_books_once(self, store: BudgetStore) -> None:
        start = threading.Barrier(THREADS)
        store.hold("h", both(60))

        def work(thread: int) -> int:
            start.wait()
            store.settle("h", booked(25))
            store.settle("unknown", booked(5))
            return 0

        _in_threads(work)
        assert store.read([DAY]) == {DAY: Balance(30, 0)}

    def test_sums_match_after_processes_have_held_extended_and_settled(
        self, store: BudgetStore, reopen: Reopen | None
    ) -> None:
        if reopen is None:
            pytest.skip("this store is not shared by processes")
        spawn = multiprocessing.get_context("spawn")
        with spawn.Pool(3) as pool:
            spent = sum(pool.starmap(_spend_elsewhere, [(reopen, n) for n in range(3)]))
        assert spent > 0
        assert store.read([DAY, MONTH]) == {DAY: Balance(spent, 0), MONTH: Balance(spent, 0)}

    def test_any_sequence_of_operations_agrees_with_the_model(
        self, store: BudgetStore, clock: FakeClock
    ) -> None:
        """Hypothesis plays every operation, repeated, late and at the limit, against a model."""
        from hypothesis import settings
        from hypothesis.stateful import run_state_machine_as_test

        from taximeter.testing.store_model import machine

        run_state_machine_as_test(
            machine(store, clock),
            settings=settings(**self.model_settings),
        )


def entry(id: str, **facts: Any) -> Entry:
    """A call's entry with usual facts."""
    usual: dict[str, Any] = {
        "provider": "openai", "model": "gpt-4o-mini", "cost": 10, "started_at": 1_700_000_000.0,
        "usage": Usage(input_tokens=7, output_tokens=3), "usage_source": "provider",
    }  # fmt: skip
    return Entry(id=id, **{**usual, **facts})


EVERYTHING: Final = Entry(
    id="all", kind="call", corrects="c", request_id="req_1", project="p", group="g", user_id="ü",
    tier="pro", session_id="s", run_id="r", prompt_version="v2", tags={"team": "x", "a'\"b": "💸"},
    budget="outer/inner", provider="anthropic", wire="anthropic.messages", model="claude",
    model_asked="claude-latest", streamed=True,
    usage=Usage(input_tokens=10**12, cached_input_tokens=5, output_tokens=2, reasoning_tokens=1,
                requests={"web_search": 3}),
    cost=AMOUNT_MAX, bound=12, provider_cost=Decimal("0.000000000000123"), price_snapshot="2026-11",
    price_flags=("ceiling", "tier_price_missing"), usage_source="counted", settlement="estimated",
    finish="length", status=200, error="cut", clamped_to=16, started_at=1_700_000_000.123456,
    first_token_at=1_700_000_000.5, ended_at=1_700_000_002.25, latency_ms=2126.5,
)  # fmt: skip


class LedgerConformance(_Suite):
    """Entries and statistics."""

    def test_every_fact_of_an_entry_comes_back_unchanged(self, store: Ledger) -> None:
        empty = Entry(id="none", started_at=1.0)
        store.save(EVERYTHING)
        store.save(empty)
        assert list(store.entries()) == [empty, EVERYTHING]

    def test_unknown_usage_and_price_come_back_as_unknown_and_never_as_zero(
        self, store: Ledger
    ) -> None:
        store.save(entry("e", usage=None, cost=None))
        (found,) = store.entries()
        assert (found.usage, found.cost) == (None, None)
        stats = store.stats()
        assert (stats.total_requests, stats.unpriced_requests) == (1, 1)

    def test_the_same_id_again_is_ignored(self, store: Ledger) -> None:
        store.save(entry("e", cost=10))
        store.save(entry("e", cost=99))
        store.save_batch([entry("e", cost=98), entry("f", cost=5), entry("f", cost=6)])
        assert [found.cost for found in store.entries()] == [10, 5]

    def test_entries_come_oldest_first_within_an_interval_that_excludes_its_end(
        self, store: Ledger
    ) -> None:
        store.save_batch([entry(f"e{at}", started_at=float(at)) for at in (30, 10, 20, 40)])
        found = [e.id for e in store.entries(start=10.0, end=40.0)]
        assert found == ["e10", "e20", "e30"]
        assert store.stats(start=20.0, end=30.0).total_requests == 1

    def test_more_entries_than_a_page_come_once_each(self, store: Ledger) -> None:
        saved = [entry(f"e{n:04}", started_at=float(n // 700)) for n in range(2100)]
        store.save_batch(saved)
        assert [e.id for e in store.entries()] == [e.id for e in saved]

    def test_filters_match_fields_lists_missing_values_and_tags(self, store: Ledger) -> None:
        store.save_batch([
            entry("a", user_id="u1", tags={"team": "x"}, streamed=True),
            entry("b", user_id="u2", tags={"team": "y"}),
            entry("c", tags={"team's": "x"}),
        ])  # fmt: skip

        def ids(**where: Any) -> list[str]:
            found = [e.id for e in store.entries(**where)]
            assert store.stats(**where).total_requests == len(found)
            return found

        assert ids(user_id="u1") == ["a"]
        assert ids(user_id=["u1", "u2"]) == ["a", "b"]
        assert ids(user_id=None) == ["c"]
        assert ids(user_id=[]) == []
        assert ids(tags={"team": "y"}) == ["b"]
        assert ids(**{"tag:team's": "x"}) == ["c"]
        assert ids(tags={"team": None}) == ["c"]
        assert ids(streamed=True, user_id="u1") == ["a"]
        assert ids(streamed=True, user_id="u2") == []

    def test_questions_about_unknown_fields_are_errors_that_name_them(self, store: Ledger) -> None:
        with pytest.raises(ConfigurationError, match="colour"):
            store.stats(by=["colour"])
        with pytest.raises(ConfigurationError, match="colour"):
            store.stats(colour="red")
        with pytest.raises(ConfigurationError, match="colour"):
            store.entries(colour="red")
        with pytest.raises(ConfigurationError, match="list"):
            store.stats(by="model")

    def test_totals_say_what_succeeded_failed_was_estimated_and_is_unpriced(
        self, store: Ledger
    ) -> None:
        store.save_batch([
            entry("ok", latency_ms=100.0),
            entry("http", status=429, cost=0, settlement="void", latency_ms=50.0),
            entry("cut", error="cut", settlement="estimated"),
            entry("full", settlement="assumed_full", usage=None),
            entry("unpriced", cost=None),
            entry("late", kind="adjustment", corrects="cut", cost=-4, latency_ms=9.0),
        ])  # fmt: skip
        stats = store.stats()
        assert (stats.total_requests, stats.successful_requests, stats.failed_requests) == (5, 3, 2)
        assert (stats.unpriced_requests, stats.estimated_requests) == (1, 2)
        assert (stats.total_prompt_tokens, stats.total_completion_tokens) == (28, 12)
        assert stats.total_tokens == 40
        assert stats.total_cost_usd == Decimal("0.000000026")
        assert stats.avg_latency_ms == pytest.approx(75.0)

    def test_statistics_of_nothing_are_zero_and_the_mean_of_nothing_is_unknown(
        self, store: Ledger
    ) -> None:
        stats = store.stats(by=["model"])
        assert (stats.total_requests, stats.groups, stats.avg_latency_ms) == (0, (), None)

    def test_groups_add_up_to_the_totals(self, store: Ledger) -> None:
        store.save_batch([
            entry("a", model="m1", cost=1, tags={"team": "x"}, started_at=86_399.9996),
            entry("b", model="m2", cost=2, tags={"team": "y"}, started_at=86_400.0),
            entry("c", model="m1", cost=4, started_at=90_000.0),
        ])  # fmt: skip

        def costs(by: Sequence[str]) -> list[tuple[Any, ...]]:
            groups = store.stats(by=by).groups
            assert all(list(values) == list(by) for values, _ in groups)
            return [(*values.values(), int(s.total_cost_usd * 10**9)) for values, s in groups]

        assert costs(["model"]) == [("m1", 5), ("m2", 2)]
        assert costs(["day"]) == [("1970-01-01", 1), ("1970-01-02", 6)]
        assert costs(["hour", "model"]) == [
            ("1970-01-01T23:00", "m1", 1),
            ("1970-01-02T00:00", "m2", 2),
            ("1970-01-02T01:00", "m1", 4),
        ]
        assert costs(["month"]) == [("1970-01", 7)]
        assert costs(["tag:team"]) == [(None, 4), ("x", 1), ("y", 2)]
        assert costs(["streamed"]) == [(False, 7)]
        assert store.stats(by=["model"], day="1970-01-02").total_requests == 2

    def test_sums_past_int64_are_exact(self, store: Ledger) -> None:
        usage = Usage(input_tokens=AMOUNT_MAX, output_tokens=AMOUNT_MAX)
        store.save_batch([entry(f"e{n}", cost=AMOUNT_MAX, usage=usage) for n in range(3)])
        store.save(entry("less", kind="adjustment", cost=-AMOUNT_MAX))
        stats = store.stats()
        assert stats.total_cost_usd == Decimal(2 * AMOUNT_MAX).scaleb(-9)
        assert stats.total_tokens == 6 * AMOUNT_MAX

    def test_counts_of_a_damaged_answer_can_be_saved(self, store: Ledger) -> None:
        store.save(entry("e", usage=Usage(input_tokens=10**30), model="\ud800", error="\udcff"))
        (found,) = store.entries()
        assert found.usage == Usage(input_tokens=10**30)

    def test_an_entry_saved_from_many_threads_is_there_once(self, store: Ledger) -> None:
        start = threading.Barrier(THREADS)

        def work(thread: int) -> int:
            start.wait()
            for n in range(10):
                store.save(entry(f"shared {n}"))
                store.save_batch([entry(f"{thread}/{n}")])
            return 0

        _in_threads(work)
        assert store.stats().total_requests == 10 * THREADS + 10


class CombinedStoreConformance(BudgetStoreConformance, LedgerConformance):
    """Books and ledger in one step."""

    def test_a_settle_appends_its_entry_and_a_repeated_one_does_not_again(
        self, store: CombinedStore
    ) -> None:
        store.hold("h", both(60))
        for _ in range(2):
            store.settle("h", booked(25), entry=entry("h", cost=25))
        assert [found.cost for found in store.entries()] == [25]
        assert store.read([DAY]) == {DAY: Balance(25, 0)}

    def test_a_settle_that_fails_appends_nothing(self, store: CombinedStore) -> None:
        store.hold("h", both(60))
        store.settle("h", booked(25))
        with pytest.raises(HoldClosedError):
            store.settle("h", booked(26), entry=entry("h", cost=26))
        assert list(store.entries()) == []

    def test_ledger_and_books_agree_through_expiry_and_a_late_settle(
        self, store: CombinedStore, clock: FakeClock
    ) -> None:
        store.hold("h", both(60), ttl=30, note="gpt-4o")
        clock.advance(60)

        def row(hold: ExpiredHold) -> Entry:
            worst = hold.amounts[DAY]
            return entry(hold.hold_id, cost=worst, model=hold.note, settlement="assumed_full")

        store.sweep(entry=row)
        assert [(e.id, e.cost, e.model) for e in store.entries()] == [("h", 60, "gpt-4o")]
        for _ in range(2):
            store.settle("h", booked(20), entry=entry("h", cost=20))
        found = list(store.entries())
        assert [(e.id, e.kind, e.corrects, e.cost) for e in found] == [
            ("h", "call", None, 60),
            ("h+late", "adjustment", "h", -40),
        ]
        assert store.read([DAY])[DAY].settled == sum(e.cost or 0 for e in found)
        assert store.stats().total_requests == 1

    def test_a_late_settle_without_a_row_of_the_sweep_appends_its_own(
        self, store: CombinedStore, clock: FakeClock
    ) -> None:
        store.hold("h", both(60), ttl=30)
        clock.advance(60)
        store.sweep()
        store.settle("h", booked(20), entry=entry("h", cost=20))
        assert [(e.id, e.kind, e.cost) for e in store.entries()] == [("h", "call", 20)]

    def test_an_adjustment_appends_its_entry_once(self, store: CombinedStore) -> None:
        correction = entry("a", kind="adjustment", corrects="h", cost=-4)
        for _ in range(2):
            store.adjust("a", {DAY: -4}, entry=correction)
        assert list(store.entries()) == [replace(correction)]
        assert store.read([DAY]) == {DAY: Balance(-4, 0)}


def _in_threads(work: Callable[[int], int]) -> list[int]:
    """Results of ``work(n)`` in as many threads, switched as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(work, range(THREADS)))
    finally:
        sys.setswitchinterval(interval)


def _spend(store: BudgetStore, name: str, *, rounds: int) -> int:
    """Hold, perhaps extend, settle or void, each answer lost once and asked for again."""
    spent = 0
    for number in range(rounds):
        hold_id = f"{name}/{number}"
        for _ in range(2):
            store.hold(hold_id, both(10, limit=None))
        if number % 3 == 0:
            for _ in range(2):
                store.extend(hold_id, both(5, limit=None), step=1)
        if number % 5 == 4:
            store.void(hold_id)
        else:
            for _ in range(2):
                store.settle(hold_id, booked(number))
            spent += number
    return spent


def _spend_elsewhere(reopen: Reopen, number: int) -> int:
    store = reopen()
    try:
        return _spend(store, f"process {number}", rounds=40)
    finally:
        store.close()
