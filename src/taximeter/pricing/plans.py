"""Plans: the rates a request is billed at, of one tier, service tier and region, all fallbacks resolved.

A plan is made once and remembered on its card, so that a warm call only looks it up. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taximeter.money import Rate
from taximeter.pricing.base import RateCard

FALLBACK: Final[Mapping[str, str]] = {
    "cached_input": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "audio_input": "input",
    "cached_audio_input": "audio_input",  # No discount that nobody has promised.
    "image_input": "input",
    "reasoning": "output",
    "audio_output": "output",
    "image_output": "output",
}
"""The kind whose rate stands in. Read in this order, every stand-in is resolved before it is used."""

FLAGS: Final[Mapping[str, str]] = {
    "cache_write_5m": "cache_write_price_missing",
    "cache_write_1h": "cache_write_price_missing",
    "audio_input": "audio_price_missing",
    "audio_output": "audio_price_missing",
    "image_output": "image_price_missing",
}
"""Fallbacks that may be too cheap, and the flag that says so."""

STANDARD: Final = frozenset(
    {"", "auto", "default", "standard", "standard_only", "on_demand", "ON_DEMAND", "unspecified"}
)
SERVICE_TIERS: Final[Mapping[str, str]] = {
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "batches": "batch",
    "fast": "priority",  # Unless the card has a rate named "fast".
}
"""Names that providers give to the tiers of the book."""

TOKEN_INPUTS: Final = ("input", "cached_input")
MEDIA_INPUTS: Final = ("audio_input", "cached_audio_input", "image_input")
OUTPUTS: Final = ("output", "reasoning", "audio_output", "image_output")

Plan = tuple[dict[str, Rate], dict[str, str]]
"""Every kind with the rate that it is billed at, and the flag of each that is not its own."""

MEMO_MAX: Final = 64
"""Plans kept on a card: service tiers are strings from the wire, so their number must be bounded."""


def tier_of(card: RateCard, prompt_tokens: int) -> int:
    """1-based index of the highest tier reached; 0: none."""
    reached = 0
    for index, step in enumerate(card.tiers, 1):
        if prompt_tokens > step.over or (step.inclusive and prompt_tokens == step.over):
            reached = index
    return reached


def _variant(name: str | None, variants: Mapping[str, Any]) -> str | None:
    """The book's name of a service tier; None: the standard rates."""
    if name is None or name in STANDARD:
        return None
    if name in variants:
        return name
    return SERVICE_TIERS.get(name, name)


def plan_of(card: RateCard, tier: int, service_tier: str | None, region: str | None) -> Plan:
    """The rates of this tier, service tier and region, with every fallback resolved. Remembered."""
    variant = _variant(service_tier, card.variants)
    missing = False
    rates = dict(card.rates)
    if tier:
        step = card.tiers[tier - 1]
        overlay(rates, step.rates)
    if variant is not None:
        special = card.variants.get(variant, {})
        if tier and card.tiers[tier - 1].variants.get(variant):
            special = card.tiers[tier - 1].variants[variant]
        elif tier and special:
            # No rate of this service at this length is known: the dearer of the two is billed.
            special = {kind: max(rate, rates.get(kind, 0)) for kind, rate in special.items()}
            missing = True
        missing = missing or not special
        overlay(rates, special)
    flags: dict[str, str] = {}
    for kind, stand_in in FALLBACK.items():
        if kind not in rates and stand_in in rates:
            rates[kind] = rates[stand_in]
            if kind in FLAGS:
                flags[kind] = FLAGS[kind]
    rates.setdefault("output", 0)  # Embeddings have none, and bill none.
    for kind in OUTPUTS:
        rates.setdefault(kind, rates["output"])
    if missing:
        flags["tier"] = "tier_price_missing"
    factor = None
    if region and region != "global":
        factor = card.regions.get(region, card.regions.get("*"))
    if factor is not None:
        rates = {kind: -(-rate * factor // 1000) for kind, rate in rates.items()}
    resolved = (rates, flags)
    remember(card, (tier, service_tier, region), resolved)
    return resolved


def overlay(rates: dict[str, Rate], special: Mapping[str, Rate]) -> None:
    """Put ``special`` over ``rates``. A kind that cost what its whole cost goes on doing so."""
    followers = [
        kind
        for kind, whole in FALLBACK.items()
        if kind in rates and kind not in special and rates[kind] == rates.get(whole)
    ]
    rates.update(special)
    for kind in followers:
        rates[kind] = rates[FALLBACK[kind]]


def dearest(
    card: RateCard,
    reached: int,
    service_tier: str | None,
    cache_write: str,
    region: str | None,
    media: bool,
) -> tuple[Rate, Rate, dict[str, Rate]]:
    """The dearest rate that an input and an output token can reach, and that each fee can."""
    services: list[str | None] = [None]
    if service_tier == "auto":
        services.append("priority")
    elif _variant(service_tier, card.variants) is not None:
        services.append(service_tier)
    inputs = list(TOKEN_INPUTS)
    if media:
        inputs += MEDIA_INPUTS
    # Anthropic writes a cache only when asked; where others bill a write, they write unasked.
    if cache_write or "claude" not in card.model:
        inputs.append("cache_write_5m")
    if cache_write not in ("", "5m"):
        inputs.append("cache_write_1h")
    dear_input = dear_output = 0
    fees: dict[str, Rate] = {}
    for tier in range(reached + 1):
        for service in services:
            rates, _ = plan_of(card, tier, service, region)
            dear_input = max(dear_input, *(rates.get(kind, 0) for kind in inputs))
            dear_output = max(dear_output, *(rates[kind] for kind in OUTPUTS))
            for kind, rate in rates.items():
                if kind.startswith("request"):
                    fees[kind] = max(fees.get(kind, 0), rate)
    return dear_input, dear_output, fees


def remember(card: RateCard, key: tuple[Any, ...], value: Any) -> None:
    """Keep ``value`` on the card, at most ``MEMO_MAX`` of them."""
    if len(card.memo) >= MEMO_MAX:
        card.memo.clear()
    card.memo[key] = value
