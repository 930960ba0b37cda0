"""OpenAI-shaped usage, as many providers write it, normalised: parts inside their wholes.

All of these say ``prompt_tokens`` and ``completion_tokens`` (or ``input_tokens`` and
``output_tokens``), and differ in what lies outside them. ``total_tokens`` tells most cases:

- xAI's chat leaves reasoning out of ``completion_tokens`` and puts it into the total.
- Vercel's gateway leaves Gemini's reasoning out of both; its stated cost includes it.
- Gemini's compatible endpoint reports no reasoning: what the total has more is thinking.
- Mistral leaves audio out of ``prompt_tokens``.
- Azure's Grok reports more cached tokens than prompt tokens (its hidden prefix is not billed).

Every rule has recordings that show it, and a case in tests/wire/test_openai_usage.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from taximeter.usage import NO_REQUESTS, Usage
from taximeter.wire.body import amount, count, mapping

_TICKS_EXPONENT: Final = -10  # xAI states cost in ticks of 1e-10 USD.


def read_usage(usage: Any, *, model: str = "") -> Usage | None:
    """Normalise one usage object; None when it states no token count.

    Args:
        usage: The provider's object, parsed. Null counts (Databricks, until the end) are zeros.
        model: The model that answered; decides where only the maker tells.
    """
    if not isinstance(usage, dict):
        return None
    stated_input = _first(usage, "prompt_tokens", "input_tokens")
    stated_output = _first(usage, "completion_tokens", "output_tokens")
    total = count(usage.get("total_tokens"))
    if stated_input is None and stated_output is None:
        if total is None:
            return None
        stated_input = total  # Voyage's embeddings state a total only.
    inputs = mapping(usage.get("prompt_tokens_details")) or mapping(
        usage.get("input_tokens_details")
    )
    outputs = mapping(usage.get("completion_tokens_details")) or mapping(
        usage.get("output_tokens_details")
    )
    reasoning = count(outputs.get("reasoning_tokens")) or count(usage.get("reasoning_tokens")) or 0
    audio = count(inputs.get("audio_tokens")) or 0
    gap = 0
    if total is not None and stated_input is not None and stated_output is not None:
        gap = total - stated_input - stated_output
    input_tokens, output_tokens = stated_input or 0, stated_output or 0
    if gap > 0 or reasoning:
        extra_input, extra_output, reasoning = _outside(
            usage, model, gap, output_tokens, reasoning, audio
        )
        input_tokens += extra_input
        output_tokens += extra_output
        if usage.get("prompt_audio_seconds") and not audio:
            audio = extra_input
    elsewhere = not _ELSEWHERE.isdisjoint(usage)
    if not (inputs or outputs or elsewhere):
        return Usage(
            input_tokens=input_tokens, output_tokens=output_tokens, reasoning_tokens=reasoning
        )
    cached = count(inputs.get("cached_tokens")) or (_cached(usage) if elsewhere else 0)
    written = _written(usage, inputs) if elsewhere or inputs else 0
    return Usage(
        input_tokens=input_tokens,
        cached_input_tokens=min(cached, input_tokens),
        cache_write_5m_tokens=min(written, input_tokens),
        audio_input_tokens=min(audio, input_tokens),
        image_input_tokens=min(count(inputs.get("image_tokens")) or 0, input_tokens),
        output_tokens=output_tokens,
        reasoning_tokens=min(reasoning, output_tokens),
        audio_output_tokens=min(count(outputs.get("audio_tokens")) or 0, output_tokens),
        image_output_tokens=min(count(outputs.get("image_tokens")) or 0, output_tokens),
        requests=read_fees(usage) if elsewhere else NO_REQUESTS,
    )


def _outside(
    usage: Mapping[str, Any], model: str, gap: int, stated_output: int, reasoning: int, audio: int
) -> tuple[int, int, int]:
    """What is billed beside the stated counts: input, output; and how much reasoning there is.

    ``gap`` is what the total has more than prompt and completion.
    """
    if reasoning > stated_output or (reasoning and gap in {reasoning, reasoning + audio}):
        return (audio if audio and gap == reasoning + audio else 0), reasoning, reasoning
    if reasoning and "market_cost" in usage and model.startswith("google/"):
        return 0, reasoning, reasoning
    if gap <= 0:
        return 0, 0, reasoning
    if gap == audio or usage.get("prompt_audio_seconds"):
        return gap, 0, reasoning
    cached = sum(
        count(usage.get(key)) or 0
        for key in ("cache_read_input_tokens", "cache_creation_input_tokens")
    )
    if gap == cached:
        return gap, 0, reasoning
    if not reasoning:
        return 0, gap, gap  # Thinking that nobody itemised: the dearer reading.
    return 0, 0, reasoning


def _first(source: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        found = count(source.get(name))
        if found is not None:
            return found
    return None


_CACHED: Final = (
    "prompt_cache_hit_tokens",  # DeepSeek
    "num_cached_tokens",  # Mistral
    "cached_tokens",  # Moonshot
    "cache_read_input_tokens",  # Databricks
)


def _cached(usage: Mapping[str, Any]) -> int:
    """Cached tokens that are stated beside the details."""
    return next((n for name in _CACHED if (n := count(usage.get(name)))), 0)


def _written(usage: Mapping[str, Any], details: Mapping[str, Any]) -> int:
    return (
        _first(details, "cache_write_tokens", "cache_creation_tokens")
        or _first(usage, *_WRITTEN)
        or 0
    )


_WRITTEN: Final = ("cache_creation_input_tokens", "cache_write_tokens")
_GROUPS: Final = ("server_side_tool_usage_details", "server_tool_use_details", "server_tool_use")
_COUNTED: Final = ("num_sources_used", "num_search_queries", "prompt_audio_seconds")
_ELSEWHERE: Final = frozenset((*_CACHED, *_WRITTEN, *_GROUPS, *_COUNTED))
"""Names of what some providers state beside the details; most usage objects have none of them."""

_SERVER_TOOLS: Final = {
    "web_search_requests": "web_search",  # OpenRouter
    "web_search_calls": "web_search",  # xAI, from here on
    "x_search_calls": "x_search",
    "code_interpreter_calls": "code_interpreter",
    "file_search_calls": "file_search",
    "document_search_calls": "document_search",
    "image_generation_calls": "image_generation",
}


def read_fees(usage: Mapping[str, Any]) -> dict[str, int]:
    """Tool calls that the usage object itself counts, by fee kind."""
    fees: dict[str, int] = {}
    for group in _GROUPS:
        for name, calls in mapping(usage.get(group)).items():
            kind = _SERVER_TOOLS.get(name)
            if kind and (found := count(calls)):
                fees[kind] = max(found, fees.get(kind, 0))
    if sources := count(usage.get("num_sources_used")):
        fees["search_source"] = sources  # xAI's live search, billed for each source.
    if queries := count(usage.get("num_search_queries")):
        fees["search_query"] = queries  # Perplexity's deep research.
    return fees


_COSTS: Final = frozenset(("cost_in_usd_ticks", "cost", "market_cost"))


def read_cost(usage: Any) -> Decimal | None:
    """USD that the provider says the answer cost, to its digits, or None."""
    usage = mapping(usage)
    if _COSTS.isdisjoint(usage):
        return None
    if ticks := count(usage.get("cost_in_usd_ticks")):  # Azure's Grok states 0 for unknown.
        return Decimal(ticks).scaleb(_TICKS_EXPONENT)
    stated = usage.get("cost")
    if isinstance(stated, dict):
        return amount(stated.get("total_cost"))  # Perplexity
    cost = amount(stated)
    if cost is None:
        return amount(usage.get("market_cost"))
    if usage.get("is_byok") is True:
        # The gateway's own fee; the user's key pays the upstream beside it.
        upstream = amount(mapping(usage.get("cost_details")).get("upstream_inference_cost"))
        if upstream is not None:
            return cost + upstream
        return cost or amount(usage.get("market_cost"))
    return cost


def write_usage(
    usage: Usage, *, names: tuple[str, str] = ("prompt", "completion")
) -> dict[str, Any]:
    """Our figures in the shape that OpenAI's clients read."""
    inputs, outputs = names
    return {
        f"{inputs}_tokens": usage.input_tokens,
        f"{outputs}_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        f"{inputs}_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        f"{outputs}_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
