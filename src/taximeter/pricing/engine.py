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
from typing import Any, Final

from taximeter.money import Rate
from taximeter.pricing.base import Cost, RateCard
from taximeter.pricing.dated import AT_MAX, card_at, dated
from taximeter.pricing.plans import dearest, plan_of, remember, tier_of
from taximeter.usage import Usage

FEE_SIZES: Final = ("low", "medium", "high")


def cost(
    card: RateCard,
    usage: Usage,
    *,
    service_tier: str | None = None,
    at: float | None = None,
    context_tokens: int | None = None,
    region: str | None = None,
    search_context_size: str | None = None,
    speed: str | None = None,
    refused_before_output: bool = False,
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
        speed: Anthropic's ``"fast"``, which is priced like a service tier.
        refused_before_output: The provider declined and says that it does not bill.
    """
    if refused_before_output:
        return Cost(0, (), (*card.flags, "not_billed"))
    if speed == "fast":
        service_tier = speed
    if at is not None and (card.history or card.off_peak is not None) and 0 <= at < AT_MAX:
        card = card_at(card, at)
    tier = 0
    tiers = card.tiers
    if tiers:
        prompt = usage.input_tokens if context_tokens is None else context_tokens
        if prompt >= tiers[0].over:
            tier = tier_of(card, prompt)
    plan = card.memo.get((tier, service_tier, region))
    rates, fallbacks = plan if plan is not None else plan_of(card, tier, service_tier, region)

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


def bound(card: RateCard, *, input_tokens: int, output_tokens: int, **facts: Any) -> Cost:
    """Most that a call within these counts can cost; linear in ``output_tokens``.

    Counts on no discount (cache, batch, flex, off-peak). Takes the dearest tier the input bound can
    reach, the priority rates where the request asks for them or leaves the choice to the provider,
    the cache-write rate where the request or the provider itself may write a cache.

    Args:
        card: The rates of the model that was asked.
        input_tokens: Upper bound of the input.
        output_tokens: Upper bound of the output, hidden reasoning and all choices included.
        facts: See :func:`_dear`.
    """
    rates, fees, flags = _dear(card, input_tokens, **facts)
    lines = (("input", input_tokens, rates[0]), ("output", output_tokens, rates[1]), *fees)
    return Cost(sum(units * rate for _kind, units, rate in lines), lines, flags)


def line(card: RateCard, *, input_tokens: int, **facts: Any) -> tuple[int, int]:
    """:func:`bound` for any number of output tokens: atto-USD without any, and for each of them."""
    rates, fees, _flags = _dear(card, input_tokens, **facts)
    base = input_tokens * rates[0]
    for _kind, units, rate in fees:
        base += units * rate
    return base, rates[1]


def _dear(
    card: RateCard,
    input_tokens: int,
    *,
    service_tier: str | None = None,
    cache_write: str = "",
    requests: Mapping[str, int] | None = None,
    region: str | None = None,
    search_context_size: str | None = None,
    media: bool = True,
    at: float | None = None,
    **_: Any,
) -> tuple[tuple[Rate, Rate], list[tuple[str, int, Rate]], tuple[str, ...]]:
    """The dearest rates of an input and of an output token, the fees as lines, and the flags.

    Args:
        service_tier: As *asked*.
        cache_write: ``"5m"`` or ``"1h"`` if the request asks to write to a prompt cache.
        requests: Most requests of each kind that carries a fee.
        region: As for :func:`cost`.
        search_context_size: As for :func:`cost`; unknown: the dearest.
        media: False if the prompt is known to be text alone (audio costs more with some models).
        at: Seconds since the epoch, for dated rates; the peak is assumed at any hour.
    """
    if at is not None and card.history and 0 <= at < AT_MAX:
        card = dated(card, at)
    reached = 0
    for step in card.tiers:
        if input_tokens > step.over or (step.inclusive and input_tokens == step.over):
            reached += 1
    key = ("bound", reached, service_tier, cache_write, region, media)
    rates = card.memo.get(key)
    if rates is None:
        rates = dearest(card, reached, service_tier, cache_write, region, media)
        remember(card, key, rates)
    dear_input, dear_output, fees = rates
    lines: list[tuple[str, int, Rate]] = []
    flags = card.flags
    if requests or "request" in fees:
        flags = _add_fees(lines, fees, requests or {}, search_context_size or "dearest", flags)
    return (dear_input, dear_output), lines, flags


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
        by_prompt = f"{name}_prompt"  # Gemini before 3: one fee however often it searches.
        if by_prompt in rates:
            lines.append((by_prompt, 1, rates[by_prompt]))
        elif name in rates:
            lines.append((name, count, _fee(rates, name, size)))
        elif "fee_price_missing" not in flags:
            flags += ("fee_price_missing",)
    return flags


def _fee(rates: Mapping[str, Rate], kind: str, size: str | None) -> Rate:
    if size == "dearest":
        return max(rates.get(f"{kind}.{each}", rates[kind]) for each in FEE_SIZES)
    return rates.get(f"{kind}.{size}", rates[kind]) if size else rates[kind]
