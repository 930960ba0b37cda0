"""A store in the plainest words, and a machine that plays it against a real one.

The model keeps no sums: what a counter holds is added up from the open holds each time it is asked,
so it shares no arithmetic with the stores it judges. Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from taximeter.budgets.books import Balance, Charge
from taximeter.errors import HoldClosedError, HoldConflictError, HoldNotFoundError
from taximeter.stores.base import BudgetStore
from taximeter.testing.fake_clock import FakeClock

LIMITS: Final[Mapping[str, int | None]] = {"day": 100, "month": 130, "tracked": None}
Outcome = str | type[Exception]


@dataclass
class ModelHold:
    """One hold: ``amounts`` are held while it is open, booked once it has ended."""

    placed: dict[str, int]
    amounts: dict[str, int]
    deadline: float
    expiries: dict[str, int] = field(default_factory=dict)
    state: str = "open"
    step: int = 0
    step_amounts: dict[str, int] = field(default_factory=dict)


class StoreModel:
    """What a BudgetStore must answer."""

    def __init__(self) -> None:
        self.holds: dict[str, ModelHold] = {}
        self.adjusted: dict[str, dict[str, int]] = {}

    def settled(self, key: str) -> int:
        """Everything that ended, and every adjustment."""
        ended = [hold for hold in self.holds.values() if hold.state != "open"]
        return sum(h.amounts.get(key, 0) for h in ended) + sum(
            amounts.get(key, 0) for amounts in self.adjusted.values()
        )

    def held(self, key: str) -> int:
        """Everything still open."""
        return sum(h.amounts.get(key, 0) for h in self.holds.values() if h.state == "open")

    def free(self, key: str) -> int:
        """What the limit leaves."""
        limit = LIMITS[key]
        return 1000 if limit is None else limit - self.settled(key) - self.held(key)

    def fits(self, charges: Sequence[Charge]) -> bool:
        """Whether every charge does."""
        return all(c.limit is None or c.amount <= self.free(c.key) for c in charges)

    def hold(self, hold_id: str, charges: Sequence[Charge], deadline: float) -> Outcome:
        """Gives "accepted", "refused" or the error."""
        amounts = {c.key: c.amount for c in charges}
        known = self.holds.get(hold_id)
        if known is not None:
            if known.state != "open":
                return HoldClosedError
            return "accepted" if known.placed == amounts else HoldConflictError
        if not self.fits(charges):
            return "refused"
        expiries = {c.key: c.expiry for c in charges if c.expiry is not None}
        self.holds[hold_id] = ModelHold(amounts, dict(amounts), deadline, expiries)
        return "accepted"

    def extend(self, hold_id: str, charges: Sequence[Charge], step: int) -> Outcome:
        """Gives "accepted", "refused" or the error."""
        hold = self.holds.get(hold_id)
        if hold is None:
            return HoldNotFoundError
        if hold.state != "open":
            return HoldClosedError
        amounts = {c.key: c.amount for c in charges}
        if step == hold.step and amounts != hold.step_amounts:
            return HoldConflictError
        if step <= hold.step:
            return "accepted"
        if not self.fits(charges):
            return "refused"
        for c in charges:
            hold.amounts[c.key] = hold.amounts.get(c.key, 0) + c.amount
            if c.key in hold.expiries:
                hold.expiries[c.key] = max(hold.expiries[c.key], hold.amounts[c.key])
        hold.step, hold.step_amounts = step, amounts
        return "accepted"

    def end(self, hold_id: str, amounts: dict[str, int], state: str) -> Outcome:
        """Settle or void."""
        hold = self.holds.get(hold_id)
        if hold is None:
            if state == "settled":
                self.holds[hold_id] = ModelHold({}, amounts, 0.0, state=state)
        elif hold.state in ("open", "expired"):
            hold.state, hold.amounts = state, amounts
        elif any(hold.amounts.get(k, 0) != amounts.get(k, 0) for k in LIMITS):
            return HoldClosedError
        return "done"

    def shrink(self, hold_id: str, amounts: Mapping[str, int]) -> None:
        """Lower where it is lower."""
        hold = self.holds.get(hold_id)
        if hold is not None and hold.state == "open":
            hold.amounts = {k: min(n, amounts.get(k, n)) for k, n in hold.amounts.items()}

    def sweep(self, now: float) -> dict[str, dict[str, int]]:
        """Expired holds, and what they are booked at."""
        found = {i: h for i, h in self.holds.items() if h.state == "open" and h.deadline <= now}
        for hold in found.values():
            hold.state, hold.amounts = "expired", {**hold.amounts, **hold.expiries}
        return {hold_id: hold.amounts for hold_id, hold in found.items()}


_examples = count(1)


def machine(store: BudgetStore, clock: FakeClock) -> type[RuleBasedStateMachine]:
    """A state machine that plays ``store`` against the model; every example uses keys of its own."""

    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(store, clock)

    return Machine


class StoreMachine(RuleBasedStateMachine):
    """Rules: every operation, repeated, late, unknown, at the limit and one beside it."""

    def __init__(self, store: BudgetStore, clock: FakeClock) -> None:
        super().__init__()
        self.store = store
        self.clock = clock
        self.model = StoreModel()
        self.prefix = f"example {next(_examples)}/"
        self.adjustments = count(1)
        self.charges: dict[str, list[Charge]] = {}

    def outcome(self, operation: Callable[[], Any]) -> Outcome:
        try:
            answer = operation()
        except (HoldClosedError, HoldConflictError, HoldNotFoundError) as exc:
            return type(exc)
        if answer is None:
            return "done"
        for key, balance in answer.balances.items():
            assert balance == self.balance(key.removeprefix(self.prefix)), (
                "answered with old figures"
            )
        return "accepted" if answer.accepted else "refused"

    def balance(self, key: str) -> Balance:
        return Balance(self.model.settled(key), self.model.held(key))

    def stored(self, charges: Sequence[Charge]) -> list[Charge]:
        return [Charge(self.prefix + c.key, c.amount, c.limit, c.expiry) for c in charges]

    def keyed(self, amounts: Mapping[str, int]) -> dict[str, int]:
        return {self.prefix + key: amount for key, amount in amounts.items()}

    def draw_charges(self, data: st.DataObject) -> list[Charge]:
        keys = data.draw(st.lists(st.sampled_from(list(LIMITS)), unique=True, max_size=3))
        charges = []
        at_limit = data.draw(st.sampled_from([None, *keys]))  # One of them, or the others refuse.
        for key in keys:
            free = max(self.model.free(key), 1)
            beside = st.sampled_from([free - 1, free, free + 1])
            amount = data.draw(beside if key == at_limit else st.integers(0, 15))
            expiry = data.draw(st.none() | st.integers(0, 60))
            charges.append(Charge(key, amount, LIMITS[key], expiry))
        return charges

    def draw_amounts(self, data: st.DataObject) -> dict[str, int]:
        keys = st.sampled_from(list(LIMITS))
        return data.draw(st.dictionaries(keys, st.integers(0, 120), max_size=3))

    def draw_id(self, data: st.DataObject) -> str:
        """Mostly an open hold, else one that has ended in whatever way, or an unknown one."""
        by_state: dict[str, list[str]] = {}
        for hold_id, hold in self.model.holds.items():
            by_state.setdefault(hold.state, []).append(hold_id)
        states = ["open", "open", "open", "expired", "expired", "settled", "voided"]
        known = [state for state in states if state in by_state]
        if not known or data.draw(st.integers(0, 9)) == 9:
            return f"unknown {len(self.model.holds)}"
        return data.draw(st.sampled_from(by_state[data.draw(st.sampled_from(known))]))

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        for ttl in (5.0, 20.0, 20.0):
            self.hold_new(data, ttl)

    @rule(data=st.data(), ttl=st.sampled_from([5.0, 20.0]))
    def hold(self, data: st.DataObject, ttl: float) -> None:
        self.hold_new(data, ttl)

    def hold_new(self, data: st.DataObject, ttl: float) -> None:
        hold_id = f"h{len(self.charges)}"
        self.charges[hold_id] = charges = self.draw_charges(data)
        self.place(hold_id, charges, ttl)

    @rule(data=st.data())
    def hold_again(self, data: st.DataObject) -> None:
        if self.charges:
            hold_id = data.draw(st.sampled_from(list(self.charges)))
            charges = self.charges[hold_id] if data.draw(st.booleans()) else self.draw_charges(data)
            self.place(hold_id, charges, 20.0)

    def place(self, hold_id: str, charges: list[Charge], ttl: float) -> None:
        expected = self.model.hold(hold_id, charges, self.clock() + ttl)
        found = self.outcome(
            lambda: self.store.hold(
                self.prefix + hold_id, self.stored(charges), ttl=ttl, note=f"note of {hold_id}"
            )
        )
        # The model has changed already, so an accepted answer was compared with its new figures.
        assert found == expected, f"hold: {found}, expected {expected}"

    @rule(data=st.data(), ahead=st.sampled_from([1, 1, 0, 2, -1]))
    def extend(self, data: st.DataObject, ahead: int) -> None:
        hold_id, charges = self.draw_id(data), self.draw_charges(data)
        known = self.model.holds.get(hold_id)
        charges = [Charge(c.key, c.amount, c.limit) for c in charges]
        step = max(1, (known.step if known else 0) + ahead)
        for _ in range(data.draw(st.integers(1, 2))):  # The answer may be lost and asked for again.
            expected = self.model.extend(hold_id, charges, step)
            found = self.outcome(
                lambda: self.store.extend(self.prefix + hold_id, self.stored(charges), step=step)
            )
            assert found == expected, f"extend: {found}, expected {expected}"

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        hold_id, amounts = self.draw_id(data), self.draw_amounts(data)
        known = self.model.holds.get(hold_id)
        if known is not None and data.draw(st.booleans()):
            amounts = dict(known.amounts)
        for _ in range(data.draw(st.integers(1, 2))):
            expected = self.model.end(hold_id, amounts, "settled")
            found = self.outcome(
                lambda: self.store.settle(self.prefix + hold_id, self.keyed(amounts))
            )
            assert found == expected, f"settle: {found}, expected {expected}"

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        hold_id = self.draw_id(data)
        expected = self.model.end(hold_id, {}, "voided")
        found = self.outcome(lambda: self.store.void(self.prefix + hold_id))
        assert found == expected, f"void: {found}, expected {expected}"

    @rule(data=st.data())
    def shrink(self, data: st.DataObject) -> None:
        hold_id, amounts = self.draw_id(data), self.draw_amounts(data)
        self.model.shrink(hold_id, amounts)
        self.store.shrink(self.prefix + hold_id, self.keyed(amounts))

    @rule(data=st.data(), later=st.sampled_from([0.0, 8.0, 12.0]))
    def renew(self, data: st.DataObject, later: float) -> None:
        """A heartbeat, and a look between the old deadline and the new one, or after both."""
        hold_id = self.draw_id(data)
        known = self.model.holds.get(hold_id)
        if known is not None:
            known.deadline = self.clock() + 10
        self.store.renew([self.prefix + hold_id], ttl=10.0)
        if later:
            self.time_passes(later)

    @rule(seconds=st.sampled_from([0.0, 4.0, 8.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.sweep()

    def sweep(self) -> None:
        expected = {
            self.prefix + hold_id: (self.keyed(amounts), f"note of {hold_id}")
            for hold_id, amounts in self.model.sweep(self.clock()).items()
        }
        found = {h.hold_id: (dict(h.amounts), h.note) for h in self.store.sweep()}
        mine = {k: v for k, v in found.items() if k.startswith(self.prefix)}
        assert mine == expected, f"sweep: {mine}, expected {expected}"

    @rule(amount=st.integers(-20, 20), key=st.sampled_from(list(LIMITS)), times=st.integers(1, 2))
    def adjust(self, amount: int, key: str, times: int) -> None:
        adjustment_id = f"a{next(self.adjustments)}"
        self.model.adjusted[adjustment_id] = {key: amount}
        for _ in range(times):
            self.store.adjust(self.prefix + adjustment_id, self.keyed({key: amount}))

    @invariant()
    def balances_agree(self) -> None:
        found = self.store.read([self.prefix + key for key in LIMITS])
        expected = {self.prefix + key: self.balance(key) for key in LIMITS}
        assert found == expected, f"balances: {found}, expected {expected}"

    def teardown(self) -> None:
        self.clock.advance(1000)
        self.store.sweep()
