"""Errors that say why: numbers, scope, window, and what would have passed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from taximeter.budgets.books import Balance
from taximeter.budgets.policy import Cover, Refuse
from taximeter.call import Call, Stop
from taximeter.errors import BudgetExceededError, UnboundedCostError
from taximeter.money import dollars, usd
from taximeter.usage import Usage


def refusal_error(call: Call, refuse: Refuse, fares: int, now: float) -> BudgetExceededError:
    """The error of a call that was refused before it was sent. ``fares``: of running streams."""
    cover = refuse.cover
    facts = _facts(call, cover, refuse.settled + fares, now)
    facts["requested"] = _number(cover, refuse.requested)
    facts["available"] = _number(cover, max(refuse.available, 0))
    if refuse.unbounded is not None:
        hint = f"The cost of this call has no bound: {refuse.unbounded}"
        return UnboundedCostError(hint=hint, **facts)  # type: ignore[arg-type]
    return BudgetExceededError(hint=_would_have_passed(call, refuse), **facts)  # type: ignore[arg-type]


def stop_error(
    call: Call, stop: Stop, balances: Mapping[str, Balance], now: float
) -> BudgetExceededError:
    """The error of a stream that was stopped, or that ended at the cap we had set."""
    cover = stop.cover or next((c for c in call.covers if c.enforcing), call.covers[0])
    entry = call.entry
    balance = balances.get(cover.key, Balance())
    facts = _facts(call, cover, balance.settled, now)
    usage = entry.usage if entry is not None else None
    if usage is not None:
        usage = replace(usage, requests=dict(usage.requests))
    facts["usage"] = (usage or Usage()).to_dict()
    hint = stop.reason
    if cover.unit == "usd" and balance.held > 0:
        hint += f"; other calls in flight hold {dollars(usd(balance.held))}"
    return BudgetExceededError(hint=hint, **facts)  # type: ignore[arg-type]


def _facts(call: Call, cover: Cover, spent: int, now: float) -> dict[str, object]:
    start = cover.window_start
    user = call.who.get("user_id")
    return {
        "spent": _number(cover, spent),
        "limit": _number(cover, cover.limit) if cover.limit is not None else None,
        "unit": cover.unit,
        "scope": cover.terms.name,
        "user_id": user,
        "window": cover.window,
        "window_start": datetime.fromtimestamp(start, UTC) if start is not None else None,
        "retry_after": max(cover.window_end - now, 0.0) if cover.window_end is not None else None,
    }


def _number(cover: Cover, amount: int) -> Decimal:
    return usd(amount) if cover.unit == "usd" else Decimal(amount)


def _would_have_passed(call: Call, refuse: Refuse) -> str | None:
    cover = refuse.cover
    if refuse.busy:
        return "Other calls in flight hold the money; a longer wait= may help"
    if cover.unit == "calls":
        return None
    fits = cover.line(call.quote).affords(refuse.available)
    if cover.strict and fits >= 1:
        return f"With max_tokens up to {fits}, or mode='clamp', it would have passed"
    if fits < 0:
        return "Its input alone may cost more than that"
    floor = call.quote.floor(cover.terms.min_output_tokens)
    return f"{fits} output tokens are affordable, at least {floor} are needed"
