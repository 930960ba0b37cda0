"""The life of a hold, as a table and six pure steps. Every store does exactly this.

place ─► OPEN ─ extend, shrink ─► OPEN
          ├─ settle ─► SETTLED          booked at the real cost, the hold is free again
          ├─ void ───► VOIDED           nothing was billed
          └─ expire ─► EXPIRED          its owner vanished: booked at the expiry amounts, never freed
                        └─ settle, void ─► late, but the truth: the books are corrected to it

Only :func:`place` and :func:`extend` may refuse money. Settling never does: the provider has billed.
Each step takes the counters' balances and gives those it changed; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

from taximeter.budgets.books import Balance, Charge, HoldState
from taximeter.errors import ConfigurationError, HoldClosedError, HoldConflictError
from taximeter.money import AMOUNT_MAX

Amounts = Mapping[str, int]
Balances = Mapping[str, Balance]

NOTHING: Final[Amounts] = MappingProxyType({})
ZERO: Final = Balance()
_balance: Final[Callable[[tuple[int, int]], Balance]] = partial(tuple.__new__, Balance)
"""``Balance(settled, held)`` in half the time; it is done eight times for a call of four limits."""


class HoldEvent(Enum):
    """What can happen to a hold."""

    EXTEND = "extend"
    SHRINK = "shrink"
    SETTLE = "settle"
    VOID = "void"
    EXPIRE = "expire"

    __hash__ = object.__hash__  # See HoldState.


TRANSITIONS: Final[Mapping[tuple[HoldState, HoldEvent], HoldState]] = {
    (HoldState.OPEN, HoldEvent.EXTEND): HoldState.OPEN,
    (HoldState.OPEN, HoldEvent.SHRINK): HoldState.OPEN,
    (HoldState.OPEN, HoldEvent.SETTLE): HoldState.SETTLED,
    (HoldState.OPEN, HoldEvent.VOID): HoldState.VOIDED,
    (HoldState.OPEN, HoldEvent.EXPIRE): HoldState.EXPIRED,
    (HoldState.EXPIRED, HoldEvent.SETTLE): HoldState.SETTLED,
    (HoldState.EXPIRED, HoldEvent.VOID): HoldState.VOIDED,
}


class Hold(NamedTuple):  # Cheaper to make than a frozen dataclass, and one is made at every step.
    """One hold over its counters. ``amounts``: held while open, booked once it has ended."""

    placed: Amounts  # as first asked: what a retry must match; of no use once it has ended
    amounts: Amounts
    state: HoldState = HoldState.OPEN
    expiries: Amounts = NOTHING  # where expiry books another figure than the amount held
    step: int = 0  # the last extension that was accepted
    step_amounts: Amounts = NOTHING
    expires_at: float = 0.0
    note: str = ""


UNKNOWN_HOLD: Final = Hold(NOTHING, NOTHING)


def amounts_of(charges: Sequence[Charge]) -> dict[str, int]:
    """The charges as amounts by key. ``ConfigurationError`` names an amount or key that cannot be."""
    amounts: dict[str, int] = {}
    for charge in charges:
        amount = charge.amount
        if type(amount) is not int or amount < 0:
            raise _not_an_amount(charge.key, amount)
        if charge.expiry is not None:
            _check_amount(charge.key, charge.expiry)
        amounts[charge.key] = amount
    if len(amounts) != len(charges):
        raise ConfigurationError(f"a counter is charged twice in one hold: {list(charges)!r}")
    return amounts


def check_ttl(ttl: float) -> float:
    """``ttl`` when it is a number of seconds above 0."""
    if not 0 < ttl < float("inf"):
        raise ConfigurationError(f"ttl={ttl!r} is not a number of seconds above 0")
    return ttl


def place(
    balances: Balances,
    charges: Sequence[Charge],
    amounts: Amounts,
    expires_at: float = 0.0,
    note: str = "",
) -> tuple[dict[str, Balance], Hold] | None:
    """Set every charge aside, or none: None when one does not fit. ``amounts``: `amounts_of` them."""
    after = _reserve(balances, charges)
    if after is None:
        return None
    expiries: Amounts = NOTHING
    for charge in charges:
        if charge.expiry is not None:
            expiries = {**expiries, charge.key: charge.expiry}
    return after, Hold(amounts, amounts, HoldState.OPEN, expiries, 0, NOTHING, expires_at, note)


def check_repeat(hold_id: str, hold: Hold, amounts: Amounts) -> None:
    """Whether asking again for ``hold`` may be answered as the first time.

    Only while it is open: an acceptance must mean that the money *is* set aside.
    """
    if hold.state is not HoldState.OPEN:
        raise HoldClosedError(f"hold {hold_id!r} is {hold.state.value}; use a new id")
    if hold.placed != amounts:
        raise HoldConflictError(
            f"hold {hold_id!r} was placed for {dict(hold.placed)}, now asked for {dict(amounts)}"
        )


def extend(
    hold_id: str, balances: Balances, hold: Hold, charges: Sequence[Charge], step: int
) -> tuple[dict[str, Balance], Hold] | None:
    """Add to an open hold, in all counters or in none (None). A step taken before changes nothing.

    An ``expiry`` given replaces the counter's; without one it never stays below what is then held.
    """
    move(hold_id, hold, HoldEvent.EXTEND)
    amounts = amounts_of(charges)
    if step <= hold.step:
        if step == hold.step and hold.step_amounts != amounts:
            raise HoldConflictError(
                f"step {step} of hold {hold_id!r} was {dict(hold.step_amounts)}, now {amounts}"
            )
        return {}, hold
    after = _reserve(balances, charges)
    if after is None:
        return None
    held = dict(hold.amounts)
    expiries = dict(hold.expiries)
    for charge in charges:
        held[charge.key] = held.get(charge.key, 0) + charge.amount
        if charge.expiry is not None:
            expiries[charge.key] = charge.expiry
        elif charge.key in expiries:
            expiries[charge.key] = max(expiries[charge.key], held[charge.key])
    extended = hold._replace(amounts=held, expiries=expiries, step=step, step_amounts=amounts)
    return after, extended


def shrink(
    hold_id: str, balances: Balances, hold: Hold, amounts: Amounts
) -> tuple[dict[str, Balance], Hold]:
    """Lower what is held to ``amounts`` where that is less. Other counters stay as they are."""
    move(hold_id, hold, HoldEvent.SHRINK)
    after: dict[str, Balance] = {}
    held = dict(hold.amounts)
    for key, amount in amounts.items():
        _check_amount(key, amount)
        freed = held.get(key, 0) - amount
        if freed > 0:
            balance = balances[key]
            after[key] = Balance(balance.settled, balance.held - freed)
            held[key] = amount
    return after, (hold._replace(amounts=held) if after else hold)


def settle(
    hold_id: str, balances: Balances, hold: Hold, amounts: Amounts
) -> tuple[dict[str, Balance], Hold]:
    """Book ``amounts`` and free the hold; a counter that is not named is booked at 0. Never refuses.

    ``hold``: :data:`UNKNOWN_HOLD` where the store knows none of this id: charged all the same.
    """
    for key, amount in amounts.items():
        if type(amount) is not int or amount < 0:
            raise _not_an_amount(key, amount)
    return _close(hold_id, balances, hold, dict(amounts), HoldEvent.SETTLE)


def void(hold_id: str, balances: Balances, hold: Hold) -> tuple[dict[str, Balance], Hold]:
    """Free the hold: nothing was billed. After expiry the books are corrected to nothing."""
    return _close(hold_id, balances, hold, {}, HoldEvent.VOID)


def expire(hold_id: str, balances: Balances, hold: Hold) -> tuple[dict[str, Balance], Hold]:
    """Book an abandoned hold at its expiry amounts, where none are given at what it held."""
    return _close(hold_id, balances, hold, {**hold.amounts, **hold.expiries}, HoldEvent.EXPIRE)


def adjust(balances: Balances, amounts: Amounts) -> dict[str, Balance]:
    """Add signed amounts to what is settled."""
    after: dict[str, Balance] = {}
    for key, amount in amounts.items():
        balance = balances.get(key, ZERO)
        after[key] = Balance(_saturate(balance.settled + amount), balance.held)
    return after


def move(hold_id: str, hold: Hold, event: HoldEvent) -> HoldState:
    """The state that ``event`` leads to; ``HoldClosedError`` where the table has no such move."""
    state = TRANSITIONS.get((hold.state, event))
    if state is None:
        raise HoldClosedError(
            f"hold {hold_id!r} is {hold.state.value} at {dict(hold.amounts)}; "
            f"it cannot {event.value} any more"
        )
    return state


def _reserve(balances: Balances, charges: Sequence[Charge]) -> dict[str, Balance] | None:
    after: dict[str, Balance] = {}
    for charge in charges:
        key, limit = charge.key, charge.limit
        balance = balances.get(key, ZERO)
        settled = balance.settled
        held = balance.held + charge.amount
        # Sums stay int64 for every store, so past 9.2 billion USD even tracking is refused.
        if settled + held > (AMOUNT_MAX if limit is None or limit > AMOUNT_MAX else limit):
            return None
        after[key] = _balance((settled, held))
    return after


def _close(
    hold_id: str, balances: Balances, hold: Hold, booked: dict[str, int], event: HoldEvent
) -> tuple[dict[str, Balance], Hold]:
    if hold.state in CLOSED and _same(hold.amounts, booked):
        return {}, hold
    state = move(hold_id, hold, event)
    was_open = hold.state is HoldState.OPEN
    had = hold.amounts
    after: dict[str, Balance] = {}
    for key in booked if booked.keys() == had.keys() else {**had, **booked}:
        balance = balances.get(key, ZERO)
        settled, held = balance.settled + booked.get(key, 0), balance.held
        if was_open:
            held -= had.get(key, 0)
            assert held >= 0, f"hold {hold_id!r} frees more of {key!r} than is held"
        else:  # Expiry has freed the hold and booked an amount, which the late one replaces.
            settled -= had.get(key, 0)
        if not -AMOUNT_MAX <= settled <= AMOUNT_MAX:
            settled = _saturate(settled)
        after[key] = _balance((settled, held))
    return after, Hold(NOTHING, booked, state)


CLOSED: Final = (HoldState.SETTLED, HoldState.VOIDED)


def _same(ours: Amounts, theirs: Amounts) -> bool:
    return ours == theirs or all(
        ours.get(key, 0) == theirs.get(key, 0) for key in {**ours, **theirs}
    )


def _saturate(settled: int) -> int:
    """An int64: a counter at its end says "all of it", it does not wrap and is not refused."""
    return max(-AMOUNT_MAX, min(AMOUNT_MAX, settled))


def _check_amount(key: str, amount: int) -> None:
    if type(amount) is not int or amount < 0:
        raise _not_an_amount(key, amount)


def _not_an_amount(key: str, amount: object) -> ConfigurationError:
    return ConfigurationError(f"amount {amount!r} for counter {key!r} is not an int of at least 0")
