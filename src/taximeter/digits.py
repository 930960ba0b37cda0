"""How amounts are written, in messages and in tables."""

from __future__ import annotations

from decimal import Decimal


def plain(amount: Decimal) -> str:
    """Every digit that says something, never an exponent: ``0.0000123``."""
    return f"{amount.normalize():f}"


def dollars(amount: Decimal | None) -> str:
    """USD with at least cents, ``-$0.01`` for less than nothing, ``?`` for unknown."""
    if amount is None:
        return "?"
    whole, _, cents = plain(abs(amount)).partition(".")
    return f"{'-' if amount < 0 else ''}${int(whole):,}.{cents.ljust(2, '0')}"
