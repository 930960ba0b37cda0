"""Rows: a rate card as compact JSON, the form in which the snapshot keeps it. Pure.

Rates are decimal strings of USD per million units, as price pages print them (``"2.5"`` for 2.50 USD
per million tokens, ``"10000"`` for a fee of 1 cent), so that a row is exact and can be read.

``r`` rates · ``t`` tiers ``[over, inclusive, rates, variants]`` · ``v`` variants by service tier ·
``c`` context window · ``m`` output maximum · ``x`` may reason unseen · ``f`` free · ``g`` region
factors in thousandths · ``o`` off-peak ``{"r": rates, "w": [[weekdays, minute, minute]]}`` ·
``s`` since · ``u`` until · ``q`` source · ``h`` rows of other days · ``n`` no text model that is sold:
does not count towards a ceiling
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from taximeter.money import Rate
from taximeter.pricing.base import OffPeak, RateCard, Tier

Row = dict[str, Any]

ATTO_PER_MILLION: Final = 12  # Decimal places between USD per million units and atto-USD per unit.


def rate_of(text: str) -> Rate:
    """USD per million units, as a decimal string, to atto-USD per unit."""
    return int(Decimal(text).scaleb(ATTO_PER_MILLION).to_integral_value())


def text_of(rate: Rate) -> str:
    """Atto-USD per unit to USD per million units, without an exponent or trailing zeros."""
    text = f"{Decimal(rate).scaleb(-ATTO_PER_MILLION):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def card_of(row: Row, *, provider: str, model: str, flags: tuple[str, ...] = ()) -> RateCard:
    """The rate card of a row."""
    off_peak = row.get("o")
    return RateCard(
        provider=provider,
        model=model,
        rates=_rates(row["r"]),
        tiers=tuple(
            Tier(over=over, inclusive=bool(inclusive), rates=_rates(rates), variants=_by_tier(more))
            for over, inclusive, rates, more in row.get("t", ())
        ),
        variants=_by_tier(row.get("v", {})),
        context_tokens=row.get("c"),
        output_tokens_max=row.get("m"),
        reasons=bool(row.get("x")),
        free=bool(row.get("f")),
        flags=flags,
        since=row.get("s"),
        until=row.get("u"),
        source=row.get("q"),
        history=tuple(
            card_of(earlier, provider=provider, model=model, flags=flags)
            for earlier in row.get("h", ())
        ),
        off_peak=None
        if off_peak is None
        else OffPeak(
            rates=_rates(off_peak["r"]),
            windows=tuple((tuple(days), first, end) for days, first, end in off_peak["w"]),
        ),
        regions=row.get("g", {}),
    )


def _rates(texts: Mapping[str, str]) -> dict[str, Rate]:
    return {kind: rate_of(text) for kind, text in texts.items()}


def _by_tier(variants: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Rate]]:
    return {name: _rates(rates) for name, rates in variants.items()}
