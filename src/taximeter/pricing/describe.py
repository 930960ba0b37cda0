"""A rate card as plain data: what ``taximeter prices`` prints. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taximeter.money import Rate
from taximeter.pricing.base import RateCard
from taximeter.pricing.rows import text_of


def describe(card: RateCard) -> dict[str, Any]:
    """A card as plain data: rates in USD per million tokens, fees in USD each, as decimal strings.

    Keys: ``provider``, ``model``, ``rates``, and where there is something to say ``fees``,
    ``tiers``, ``service_tiers``, ``regions`` (factors), ``off_peak``, ``context_tokens``,
    ``output_tokens_max``, ``reasons``, ``free``, ``flags``, ``since``, ``until``, ``source``,
    ``history``.
    """
    tokens, fees = _split(card.rates)
    facts: dict[str, Any] = {
        "provider": card.provider,
        "model": card.model,
        "rates": tokens,
        "fees": fees,
        "tiers": [
            {
                ("from" if step.inclusive else "over"): step.over,
                "rates": _split(step.rates)[0],
                "service_tiers": {n: _split(rates)[0] for n, rates in step.variants.items()},
            }
            for step in card.tiers
        ],
        "service_tiers": {name: _split(rates)[0] for name, rates in card.variants.items()},
        "regions": {zone: f"{factor / 1000:g}" for zone, factor in card.regions.items()},
        "off_peak": _split(card.off_peak.rates)[0] if card.off_peak is not None else {},
        "context_tokens": card.context_tokens,
        "output_tokens_max": card.output_tokens_max,
        "reasons": card.reasons,
        "free": card.free,
        "flags": list(card.flags),
        "since": card.since,
        "until": card.until,
        "source": card.source,
        "history": [
            {"since": step.since, "until": step.until, "rates": _split(step.rates)[0]}
            for step in card.history
        ],
    }
    return {key: value for key, value in facts.items() if value or key == "rates"}


def _split(rates: Mapping[str, Rate]) -> tuple[dict[str, str], dict[str, str]]:
    """Token rates per million, and fees each."""
    tokens: dict[str, str] = {}
    fees: dict[str, str] = {}
    for kind in sorted(rates, key=_order):
        if kind.startswith("request"):
            fees[kind.removeprefix("requests.")] = text_of(rates[kind] // 1_000_000)
        else:
            tokens[kind] = text_of(rates[kind])
    return tokens, fees


def _order(kind: str) -> tuple[int, str]:
    first = ("input", "cached_input", "cache_write_5m", "cache_write_1h", "output", "reasoning")
    return (first.index(kind) if kind in first else len(first), kind)
