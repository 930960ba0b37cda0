"""Reads entries written in the key language of the LiteLLM price map, ours or a user's own. Pure.

Key grammar: ``<base>[_above_1hr|_above_12hr][_above_<N>k_tokens][_<service tier>]``. Whatever is no
price of text tokens or of a fee (pixels, seconds, characters) is left out. USD per unit; floats go
through ``repr``. Source: research notes on pricing, section 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from taximeter.money import rate
from taximeter.pricing.rows import Row, text_of

BASES: Final[Mapping[str, str]] = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "input_cost_per_token_cache_hit": "cached_input",
    "cache_creation_input_token_cost": "cache_write_5m",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "cache_read_input_audio_token_cost": "cached_audio_input",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
    "input_cost_per_request": "request",
    "code_interpreter_cost_per_session": "requests.code_interpreter",
    "google_maps_grounding_cost_per_query": "requests.maps",
    "web_search_cost_per_request": "requests.web_search",
}
"""Price keys and the kinds that they price."""

OTHER_KEYS: Final = frozenset(
    {
        "max_input_tokens",
        "max_output_tokens",
        "max_tokens",
        "supports_reasoning",
        "search_context_cost_per_query",
        "file_search_cost_per_1k_calls",
        "litellm_provider",
        "mode",
        "source",
        "deprecation_date",
    }
)

SERVICE_TIERS: Final = ("batches", "flex", "priority", "balanced", "ultrafast", "decisions")

_KEY: Final = re.compile(
    r"(?P<base>" + "|".join(sorted(BASES, key=len, reverse=True)) + r")"
    r"(?P<lasting>_above_1hr|_above_12hr)?"
    r"(?:_above_(?P<thousands>\d+)k_tokens)?"
    r"(?:_(?P<service>" + "|".join(SERVICE_TIERS) + r"))?"
)
_SIZE: Final = "search_context_size_"


def is_price_key(key: str) -> bool:
    """Whether the grammar knows ``key``."""
    return _KEY.fullmatch(key) is not None


def row_of(entry: Mapping[str, Any], *, inclusive: bool = False, strict: bool = False) -> Row:
    """The row of one entry; its ``r`` is empty if the entry prices nothing that we bill.

    Args:
        entry: Keys and numbers of one model.
        inclusive: Long-context rates hold from the threshold itself (xAI), not from one above it.
        strict: A value that is no price raises ``ConfigurationError``, naming the key; otherwise
            it is left out.
    """
    rates: dict[str, str] = {}
    variants: dict[str, dict[str, str]] = {}
    tiers: dict[int, tuple[dict[str, str], dict[str, dict[str, str]]]] = {}
    for key in sorted(entry):  # "cache_read..." before its synonym "..._cache_hit".
        found = _KEY.fullmatch(key)
        if found is None or entry[key] is None:
            continue
        if not strict and (isinstance(entry[key], bool) or not isinstance(entry[key], int | float)):
            continue
        kind = BASES[found["base"]]
        if found["lasting"]:
            kind = "cache_write_1h"
        target = rates
        by_service = variants
        if found["thousands"]:
            target, by_service = tiers.setdefault(int(found["thousands"]) * 1000, ({}, {}))
        if found["service"]:
            service = "batch" if found["service"] == "batches" else found["service"]
            target = by_service.setdefault(service, {})
        target.setdefault(kind, text_of(rate(entry[key], name=key)))
    _add_fees(entry, rates)
    _add_ranges(entry, rates, tiers)
    row: Row = {"r": rates}
    if tiers:
        row["t"] = [[over, int(inclusive), *tiers[over]] for over in sorted(tiers)]
    if variants:
        row["v"] = variants
    _add_limits(entry, row)
    return row


def _add_fees(entry: Mapping[str, Any], rates: dict[str, str]) -> None:
    if isinstance(files := entry.get("file_search_cost_per_1k_calls"), int | float):
        rates["requests.file_search"] = text_of(rate(files) // 1000)
    sizes = entry.get("search_context_cost_per_query")
    if not isinstance(sizes, Mapping):
        return
    fees = {
        size.removeprefix(_SIZE): text_of(rate(fee))
        for size, fee in sizes.items()
        if isinstance(fee, int | float)
    }
    if not fees:
        return
    # Perplexity charges every request, by the size of the search; others each search that is made.
    kind = "request" if entry.get("litellm_provider") == "perplexity" else "requests.web_search"
    usual = fees.get("low") if kind == "request" else fees.get("medium")
    rates[kind] = usual if usual is not None else next(iter(fees.values()))
    if len(set(fees.values())) > 1:
        rates.update({f"{kind}.{size}": fee for size, fee in fees.items()})


def _add_ranges(
    entry: Mapping[str, Any],
    rates: dict[str, str],
    tiers: dict[int, tuple[dict[str, str], dict[str, dict[str, str]]]],
) -> None:
    """``tiered_pricing``: a list of ``{"range": [from, to], ...prices}``; the whole request moves."""
    steps = entry.get("tiered_pricing")
    if not isinstance(steps, list):
        return
    for step in steps:
        if not isinstance(step, Mapping) or not isinstance(step.get("range"), list):
            continue
        over = int(step["range"][0])
        inner = row_of({key: value for key, value in step.items() if key in BASES})["r"]
        if over <= 0:
            rates.update({kind: text for kind, text in inner.items() if kind not in rates})
        elif over not in tiers:
            tiers[over] = (inner, {})


def _add_limits(entry: Mapping[str, Any], row: Row) -> None:
    context = entry.get("max_input_tokens")
    answer = entry.get("max_output_tokens", entry.get("max_tokens"))
    if isinstance(context, int | float) and context > 0:
        row["c"] = int(context)
    if isinstance(answer, int | float) and answer > 0:
        row["m"] = int(answer)
    if entry.get("supports_reasoning") is True:
        row["x"] = 1
    if isinstance(gone := entry.get("deprecation_date"), str):
        row["u"] = gone
