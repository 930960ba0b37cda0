"""Prices a metered answer from a recording: what ``taximeter replay`` prints as its cost. Pure.

A recording says when it was made only inside its body, where the protocol dates its answers; its
price is that of this day. Answers without a date are priced as of the snapshot's.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from taximeter.money import plain
from taximeter.pricing.base import Cost, PriceBook
from taximeter.pricing.book import embedded

_CREATED: Final = re.compile(r'"created(?:_at)?": ?(\d{10})(?:\.\d+)?[,}\s]')
_SEARCH_SIZE: Final = re.compile(r'"search_context_size": ?"(low|medium|high)"')
_AFTER: Final = 1_577_836_800  # 2020: fixtures made by hand say 0 or 1.


def answered_at(body: str) -> float | None:
    """Seconds since the epoch at which the answer says it was made, or None."""
    found = _CREATED.search(body)
    at = int(found.group(1)) if found is not None else 0
    return float(at) if at > _AFTER else None


def replayed_cost(
    done: Any, book: PriceBook | None = None, *, maker: str = "unknown"
) -> str | None:
    """USD, exact, as a decimal string; None where no price is known.

    Args:
        done: A :class:`taximeter.wire.replay.Replayed`: ``provider``, ``model``, ``model_asked``,
            ``meter`` (its usage is not None) and ``record``.
        book: Prices; by default the embedded ones.
        maker: Whose price it is where the recorded provider sells no such model (a local server).
    """
    cost = answer_cost(done, book, maker=maker)
    return None if cost is None else plain(Decimal(cost.atto).scaleb(-18))


def answer_cost(done: Any, book: PriceBook | None = None, *, maker: str = "unknown") -> Cost | None:
    """The same as a :class:`~taximeter.pricing.base.Cost`."""
    book = book if book is not None else embedded()
    meter = done.meter
    found = (
        book.find(seller, model)
        for seller in (done.provider, maker)
        for model in (done.model, done.model_asked)
    )
    card = next((card for card in found if card is not None), None)
    if card is None or meter.usage is None:
        return None
    body = done.record.get("response_body")
    text = body if isinstance(body, str) else ""
    size = _SEARCH_SIZE.search(text)
    facts: dict[str, Any] = dict(getattr(meter, "facts", None) or {})
    facts["at"] = answered_at(text)
    facts["context_tokens"] = getattr(meter, "context_tokens", None)
    if size is not None:
        facts["search_context_size"] = size.group(1)
    cost = book.cost(card, meter.usage, service_tier=meter.service_tier, **facts)
    atto, lines, flags = cost.atto, cost.lines, cost.flags
    for part in meter.parts:
        part_card = book.find(card.provider, part.model)
        if part_card is None:
            return None
        more = book.cost(part_card, part.usage, at=facts["at"])
        atto, lines, flags = atto + more.atto, lines + more.lines, flags + more.flags
    return Cost(atto, lines, flags)
