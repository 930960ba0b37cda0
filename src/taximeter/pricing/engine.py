"""The price engine: usage times rates, exactly, in integers of atto-USD. Pure.

Parts stand inside their wholes (see :mod:`taximeter.usage`), so each token is billed once: cached and
written and audio and image tokens at their own rates, what is left of the input at the input rate;
the same for the output. A kind without a rate of its own falls back to the kind that contains it, and
a flag says so wherever the fallback may be too cheap.

The whole request moves to a long-context tier once its prompt passes the threshold: cached tokens
count towards it, the output moves too. Sources: research notes on pricing, sections 2.2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from taximeter.money import Rate
from taximeter.pricing.base import Cost, RateCard
from taximeter.usage import Usage

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
FEE_SIZES: Final = ("low", "medium", "high")

Plan = tuple[dict[str, Rate], dict[str, str]]
"""Every kind with the rate that it is billed at, and the flag of each that is not its own."""

AT_MAX: Final = 253_402_300_800
"""The year 10000: a time that a damaged answer gives is not a reason to fail."""

MEMO_MAX: Final = 64
"""Plans kept on a card: service tiers are strings from the wire, so their number must be bounded."""


def cost(
    card: RateCard,
    usage: Usage,
    *,
    service_tier: str | None = None,
    at: float | None = None,
    context_tokens: int | None = None,
    region: str | None = None,
    search_context_size: str | None = None,
    **_: Any,
) -> Cost:
    """Exact cost of ``usage`` at ``card``'s rates.

    Args:
        card: The rates of the model that answered.
        usage: Normalised counts.
        service_tier: As *answered* by the provider: what was asked may have been downgraded.
        at: Seconds since the epoch: chooses dated and off-peak rates. None: today's, at peak.
        context_tokens: The largest single prompt, where ``input_tokens`` is a sum over a loop.
        region: Data zone or region with a factor of its own, e.g. ``"eu"``.
        search_context_size: ``low``, ``medium`` or ``high``, where search fees depend on it.
    """
    if at is not None and (card.history or card.off_peak is not None) and 0 <= at < AT_MAX:
        card = _card_at(card, at)
    tier = 0
    if card.tiers:
        tier = _tier(card, usage.input_tokens if context_tokens is None else context_tokens)
    plan = card.memo.get((tier, service_tier, region))
    rates, fallbacks = plan if plan is not None else _plan(card, tier, service_tier, region)

    lines: list[tuple[str, int, Rate]] = []
    flags: tuple[str, ...] = card.flags
    fallback_tier = fallbacks.get("tier")
    if fallback_tier is not None:
        flags += (fallback_tier,)
    text = usage.input_tokens
    if (
        usage.cached_input_tokens
        or usage.audio_input_tokens
        or usage.image_input_tokens
        or (usage.cache_write_5m_tokens or usage.cache_write_1h_tokens)
    ):
        lines, flags = _input_lines(usage, rates, fallbacks, flags)
    elif text:
        lines.append(("input", text, rates["input"]))
    if usage.output_tokens:
        if usage.reasoning_tokens or usage.audio_output_tokens or usage.image_output_tokens:
            parts, flags = _output_lines(usage, rates, fallbacks, flags)
            lines += parts
        else:
            lines.append(("output", usage.output_tokens, rates["output"]))
    if usage.requests or "request" in rates:
        flags = _add_fees(lines, rates, usage.requests, search_context_size, flags)
    atto = 0
    for line in lines:
        atto += line[1] * line[2]
    return Cost(atto, tuple(lines), flags)


def bound(
    card: RateCard,
    *,
    input_tokens: int,
    output_tokens: int,
    service_tier: str | None = None,
    cache_write: str = "",
    requests: Mapping[str, int] | None = None,
    region: str | None = None,
    search_context_size: str | None = None,
    media: bool = True,
    at: float | None = None,
    **_: Any,
) -> Cost:
    """Most that a call within these counts can cost; linear in ``output_tokens``.

    Counts on no discount (cache, batch, flex, off-peak). Takes the dearest tier the input bound can
    reach, the priority rates where the request asks for them or leaves the choice to the provider,
    the cache-write rate where the request or the provider itself may write a cache.

    Args:
        card: The rates of the model that was asked.
        input_tokens: Upper bound of the input.
        output_tokens: Upper bound of the output, hidden reasoning and all choices included.
        service_tier: As *asked*.
        cache_write: ``"5m"`` or ``"1h"`` if the request asks to write to a prompt cache.
        requests: Most requests of each kind that carries a fee.
        region: As for :func:`cost`.
        search_context_size: As for :func:`cost`; unknown: the dearest.
        media: False if the prompt is known to be text alone (audio costs more with some models).
        at: Seconds since the epoch, for dated rates; the peak is assumed at any hour.
    """
    if at is not None and card.history and 0 <= at < AT_MAX:
        card = _dated(card, at)
    reached = 0
    for step in card.tiers:
        if input_tokens > step.over or (step.inclusive and input_tokens == step.over):
            reached += 1
    key = ("bound", reached, service_tier, cache_write, region, media)
    rates = card.memo.get(key)
    if rates is None:
        rates = _dearest(card, reached, service_tier, cache_write, region, media)
        _remember(card, key, rates)
    dear_input, dear_output, fees = rates
    lines: tuple[tuple[str, int, Rate], ...] = (
        ("input", input_tokens, dear_input),
        ("output", output_tokens, dear_output),
    )
    atto = input_tokens * dear_input + output_tokens * dear_output
    flags = card.flags
    if requests or "request" in fees:
        more: list[tuple[str, int, Rate]] = []
        flags = _add_fees(more, fees, requests or {}, search_context_size or "dearest", flags)
        atto += sum(units * rate for _kind, units, rate in more)
        lines += tuple(more)
    return Cost(atto, lines, flags)


# --- which rates ----------------------------------------------------------------------------------


def _tier(card: RateCard, prompt_tokens: int) -> int:
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


def _plan(card: RateCard, tier: int, service_tier: str | None, region: str | None) -> Plan:
    """The rates of this tier, service tier and region, with every fallback resolved. Remembered."""
    variant = _variant(service_tier, card.variants)
    missing = False
    rates = dict(card.rates)
    if tier:
        step = card.tiers[tier - 1]
        _overlay(rates, step.rates)
    if variant is not None:
        special = card.variants.get(variant, {})
        if tier and card.tiers[tier - 1].variants.get(variant):
            special = card.tiers[tier - 1].variants[variant]
        elif tier and special:
            # No rate of this service at this length is known: the dearer of the two is billed.
            special = {kind: max(rate, rates.get(kind, 0)) for kind, rate in special.items()}
            missing = True
        missing = missing or not special
        _overlay(rates, special)
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
    plan = (rates, flags)
    _remember(card, (tier, service_tier, region), plan)
    return plan


def _overlay(rates: dict[str, Rate], special: Mapping[str, Rate]) -> None:
    """Put ``special`` over ``rates``. A kind that cost what its whole cost goes on doing so."""
    followers = [
        kind
        for kind, whole in FALLBACK.items()
        if kind in rates and kind not in special and rates[kind] == rates.get(whole)
    ]
    rates.update(special)
    for kind in followers:
        rates[kind] = rates[FALLBACK[kind]]


def _dearest(
    card: RateCard,
    reached: int,
    service_tier: str | None,
    cache_write: str,
    region: str | None,
    media: bool,
) -> tuple[Rate, Rate, dict[str, Rate]]:
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
            rates, _ = _plan(card, tier, service, region)
            dear_input = max(dear_input, *(rates.get(kind, 0) for kind in inputs))
            dear_output = max(dear_output, *(rates[kind] for kind in OUTPUTS))
            for kind, rate in rates.items():
                if kind.startswith("request"):
                    fees[kind] = max(fees.get(kind, 0), rate)
    return dear_input, dear_output, fees


def _remember(card: RateCard, key: tuple[Any, ...], value: Any) -> None:
    if len(card.memo) >= MEMO_MAX:
        card.memo.clear()
    card.memo[key] = value


# --- which tokens ---------------------------------------------------------------------------------


def _input_lines(
    usage: Usage, rates: Mapping[str, Rate], fallbacks: Mapping[str, str], flags: tuple[str, ...]
) -> tuple[list[tuple[str, int, Rate]], tuple[str, ...]]:
    """The input as disjoint kinds; where parts do not fit into their whole, they overlap."""
    cached_audio = min(usage.cached_audio_input_tokens, usage.cached_input_tokens)
    cached = usage.cached_input_tokens - cached_audio
    audio = max(0, usage.audio_input_tokens - cached_audio)
    image = usage.image_input_tokens
    short, long = usage.cache_write_5m_tokens, usage.cache_write_1h_tokens
    text = usage.input_tokens - cached - cached_audio - short - long - audio - image
    rewritten = 0
    if text < 0:
        # Tokens that were read from a cache and written to one, then cached audio and images,
        # where the provider does not say which. Each is billed once, and its write beside it.
        rewritten = min(-text, cached, short)
        overlap = min(-text - rewritten, image)
        image -= overlap
        audio -= min(-text - rewritten - overlap, audio)
        text = max(0, text + rewritten + overlap)
        flags += ("parts_overlap",)
    lines = [
        ("input", text, rates["input"]),
        ("cached_input", cached, rates["cached_input"]),
        ("cache_write_5m", short - rewritten, rates["cache_write_5m"]),
        ("cache_write_5m", rewritten, max(0, rates["cache_write_5m"] - rates["input"])),
        ("cache_write_1h", long, rates["cache_write_1h"]),
        ("audio_input", audio, rates["audio_input"]),
        ("cached_audio_input", cached_audio, rates["cached_audio_input"]),
        ("image_input", image, rates["image_input"]),
    ]
    lines = [line for line in lines if line[1]]
    return lines, _flagged(lines, fallbacks, flags)


def _output_lines(
    usage: Usage, rates: Mapping[str, Rate], fallbacks: Mapping[str, str], flags: tuple[str, ...]
) -> tuple[list[tuple[str, int, Rate]], tuple[str, ...]]:
    rest = usage.output_tokens
    lines: list[tuple[str, int, Rate]] = []
    for kind, units in (
        ("image_output", usage.image_output_tokens),
        ("audio_output", usage.audio_output_tokens),
        ("reasoning", usage.reasoning_tokens),
    ):
        inside = min(units, rest)  # A part is never larger than what is left of its whole.
        rest -= inside
        if inside:
            lines.append((kind, inside, rates[kind]))
    if rest:
        lines.append(("output", rest, rates["output"]))
    return lines, _flagged(lines, fallbacks, flags)


def _flagged(
    lines: list[tuple[str, int, Rate]], fallbacks: Mapping[str, str], flags: tuple[str, ...]
) -> tuple[str, ...]:
    if not fallbacks:
        return flags
    for kind, _units, _rate in lines:
        flag = fallbacks.get(kind)
        if flag is not None and flag not in flags:
            flags += (flag,)
    return flags


def _add_fees(
    lines: list[tuple[str, int, Rate]],
    rates: Mapping[str, Rate],
    requests: Mapping[str, int],
    size: str | None,
    flags: tuple[str, ...],
) -> tuple[str, ...]:
    """Fees of the request itself and of ``requests``; a fee without a known rate is flagged."""
    if "request" in rates:
        lines.append(("request", 1, _fee(rates, "request", size)))
    for kind, count in requests.items():
        if count <= 0:
            continue
        name = f"requests.{kind}"
        if name in rates:
            lines.append((name, count, _fee(rates, name, size)))
        elif "fee_price_missing" not in flags:
            flags += ("fee_price_missing",)
    return flags


def _fee(rates: Mapping[str, Rate], kind: str, size: str | None) -> Rate:
    if size == "dearest":
        return max(rates.get(f"{kind}.{each}", rates[kind]) for each in FEE_SIZES)
    return rates.get(f"{kind}.{size}", rates[kind]) if size else rates[kind]


# --- which day and hour ---------------------------------------------------------------------------

_DAY: Final = 86_400


def _card_at(card: RateCard, at: float) -> RateCard:
    """The card that holds at ``at``: an earlier or announced one, or its off-peak twin."""
    card = _dated(card, at)
    if card.off_peak is None:
        return card
    days, second = divmod(int(at), _DAY)
    weekday = (days + 3) % 7 + 1  # 1 January 1970 was a Thursday.
    minute = second // 60
    for weekdays, first, end in card.off_peak.windows:
        if weekday in weekdays and first <= minute < end:
            return _off_peak_card(card)
    return card


def _dated(card: RateCard, at: float) -> RateCard:
    if card.history:
        day = iso_date(at)
        for other in card.history:
            if (other.since or "") <= day < (other.until or "9"):
                return other
    return card


def _off_peak_card(card: RateCard) -> RateCard:
    twin: RateCard | None = card.memo.get("off_peak")
    if twin is None:
        assert card.off_peak is not None
        rates = dict(card.rates)
        _overlay(rates, card.off_peak.rates)
        twin = replace(card, rates=rates, off_peak=None, history=(), memo={})
        card.memo["off_peak"] = twin
    return twin


def iso_date(at: float) -> str:
    """The UTC date of ``at`` (seconds since the epoch) as ``YYYY-MM-DD``, without a calendar import."""
    days = int(at // _DAY) + 719_468  # Days since 0000-03-01; civil-from-days of H. Hinnant.
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    year = year_of_era + era * 400 + (month <= 2)
    return f"{year:04d}-{month:02d}-{day:02d}"
