"""The hold machine's table: what may follow what, and that nothing is changed in place."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from taximeter.budgets import holds
from taximeter.budgets.books import Balance, Charge, HoldState
from taximeter.budgets.holds import TRANSITIONS, Hold, HoldEvent
from taximeter.errors import ConfigurationError, HoldClosedError

BALANCES = MappingProxyType({"k": Balance(5, 40)})
CHARGES = [Charge("k", 10, 100)]


@pytest.mark.parametrize("state", HoldState)
@pytest.mark.parametrize("event", HoldEvent)
def test_only_moves_of_the_table_are_made(state: HoldState, event: HoldEvent) -> None:
    hold = Hold({"k": 40}, {"k": 40}, state)
    steps = {
        HoldEvent.EXTEND: lambda: holds.extend("h", BALANCES, hold, CHARGES, 1),
        HoldEvent.SHRINK: lambda: holds.shrink("h", BALANCES, hold, {"k": 1}),
        HoldEvent.SETTLE: lambda: holds.settle("h", BALANCES, hold, {"k": 7}),
        HoldEvent.VOID: lambda: holds.void("h", BALANCES, hold),
        HoldEvent.EXPIRE: lambda: holds.expire("h", BALANCES, hold),
    }
    target = TRANSITIONS.get((state, event))
    same = state in holds.CLOSED and event is HoldEvent.EXPIRE  # At what it is booked at already.
    if target is None and not same:
        with pytest.raises(HoldClosedError, match=f"is {state.value}"):
            steps[event]()
    else:
        step = steps[event]()
        assert step is not None
        assert step[1].state is (target or state)


def test_open_is_left_once_and_only_expiry_may_be_corrected() -> None:
    ends = {target for (state, _), target in TRANSITIONS.items() if state is HoldState.OPEN}
    assert ends == set(HoldState)
    assert {state for state, _ in TRANSITIONS} == {HoldState.OPEN, HoldState.EXPIRED}


def test_only_placing_and_extending_can_refuse() -> None:
    full = {"k": Balance(100, 0)}
    charges = [Charge("k", 1, 100)]
    assert holds.place(full, charges, {"k": 1}) is None
    placed = holds.place(full, [Charge("k", 0, 100)], {"k": 0})
    assert placed is not None
    assert holds.extend("h", full, placed[1], charges, 1) is None
    after, _ = holds.settle("h", full, placed[1], {"k": 10**6})
    assert after == {"k": Balance(100 + 10**6, 0)}


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan")])
def test_a_time_to_live_is_a_number_of_seconds(ttl: float) -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        holds.check_ttl(ttl)
