"""Helpers of the pricing tests: hand-made cards in USD per million tokens."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from taximeter.pricing.base import Cost, RateCard
from taximeter.pricing.book import embedded
from taximeter.pricing.rows import card_of
from taximeter.usage import Usage

BOOK = embedded()


def card(
    rates: dict[str, str], *, provider: str = "test", model: str = "m", **row: Any
) -> RateCard:
    """``rates`` in USD per million; further keys as in a row of the snapshot."""
    return card_of({"r": rates, **row}, provider=provider, model=model)


def found(provider: str, model: str) -> RateCard:
    result = BOOK.find(provider, model)
    assert result is not None, f"{provider}/{model} has no price"
    return result


def dollars(cost: Cost) -> Decimal:
    return Decimal(cost.atto).scaleb(-18)


def price(provider: str, model: str, usage: Usage, **facts: Any) -> Decimal:
    return dollars(BOOK.cost(found(provider, model), usage, **facts))
