"""Anthropic's usage objects, normalised: what is inside what, and what is billed beside it.

Facts this rests on (recordings, and the documentation inside the anthropic SDK's types):

* ``input_tokens`` excludes cache reads and writes; all three together are the input.
* ``message_delta`` is cumulative and wins in every field that it has; ``message_start`` alone has
  the split of cache writes by lifetime. So the two are merged field by field.
* With server tools the prompt is billed once for each internal turn, and the figures are sums.
* ``iterations`` lists the turns. ``message`` turns add up to the top-level figures (1 128 + 1 354 =
  2 482 beside an advisor); ``advisor_message`` (another model) and ``compaction`` are *not* in them
  (top level 612 in, 2 819 out, beside a compaction of 60 385 in, 522 out).
* After a server-side fallback the top level is that of the model that answered; ``message`` turns
  of another model are those of the model that declined (408 in, 0 out, beside 412 in, 264 out).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taximeter.usage import Part, Usage
from taximeter.wire.body import count

ITERATIONS_MAX: Final = 10_000

_COUNTS: Final = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
)
_TABLES: Final = ("cache_creation", "server_tool_use", "output_tokens_details")
_WORDS: Final = ("service_tier", "inference_geo", "speed")

Raw = dict[str, Any]
"""Usage fields of one message, merged and checked, under Anthropic's own names."""


def merge(raw: Raw, usage: object) -> None:
    """Take over every field of ``usage`` that holds a value; keep the others."""
    if not isinstance(usage, dict):
        return
    for name in _COUNTS:
        if (number := count(usage.get(name))) is not None:
            raw[name] = number
    for name in _TABLES:
        table = usage.get(name)
        if isinstance(table, dict):
            known = raw.setdefault(name, {})
            for key, value in table.items():
                if len(key) < 100 and (number := count(value)) is not None:
                    known[key] = number
    for name in _WORDS:
        if isinstance(usage.get(name), str):
            raw[name] = usage[name]
    if isinstance(usage.get("iterations"), list):
        raw["iterations"] = [e for e in usage["iterations"][:ITERATIONS_MAX] if type(e) is dict]


def normalise(raw: Mapping[str, Any], *, lifetime: str = "") -> Usage | None:
    """One message's figures, or None while the input is not known (unknown is not zero).

    ``lifetime``: of cache writes as the request asks (``"5m"``, ``"1h"``), for figures without a
    split.
    """
    uncached = raw.get("input_tokens")
    if uncached is None:
        return None
    read = raw.get("cache_read_input_tokens", 0)
    written_5m, written_1h = _writes(raw, lifetime)
    output = raw.get("output_tokens", 0)
    tools = raw.get("server_tool_use", {})
    requests = {
        name.removesuffix("_requests"): number
        for name, number in tools.items()
        if number and name.endswith("_requests")
    }
    return Usage(
        input_tokens=uncached + read + written_5m + written_1h,
        cached_input_tokens=read,
        cache_write_5m_tokens=written_5m,
        cache_write_1h_tokens=written_1h,
        output_tokens=output,
        reasoning_tokens=min(
            output, raw.get("output_tokens_details", {}).get("thinking_tokens", 0)
        ),
        requests=requests,
    )


def _writes(raw: Mapping[str, Any], lifetime: str) -> tuple[int, int]:
    """Cache writes for 5 minutes and for 1 hour.

    The total wins over the split, which a stream gives only at its start, before server tools
    write more. What the split does not explain was written for as long as the rest of it.
    """
    split = raw.get("cache_creation", {})
    short = split.get("ephemeral_5m_input_tokens", 0)
    long = split.get("ephemeral_1h_input_tokens", 0)
    total = raw.get("cache_creation_input_tokens")
    if total is None or total == short + long:
        return short, long
    if total < short + long:
        long = min(long, total)
    elif short == 0 and (long or lifetime == "1h"):
        long = total
    return total - long, long


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What ``iterations`` adds to the top-level figures."""

    parts: tuple[Part, ...] = ()
    model: str | None = None  # the model that answered
    context_tokens: int | None = None  # the largest single prompt, where the input sums several
    fallback: bool = False


def read_turns(raw: Mapping[str, Any], *, model: str | None, lifetime: str = "") -> Turns:
    """Sort the turns into those that the top-level figures sum, and those billed beside them."""
    entries = [(e, checked) for e in raw.get("iterations", ()) if (checked := _turn(e, lifetime))]
    if not entries:
        return Turns(model=model)
    served = [e["model"] for e, _ in entries if _is(e, "fallback_message") and _named(e)]
    serving = served[-1] if served else model
    inside: list[Usage] = []
    parts: list[Part] = []
    for entry, usage in entries:
        other = bool(served) and _named(entry) and entry["model"] != serving
        if _is(entry, "message", "fallback_message") and not other:
            inside.append(usage)
        else:
            # A declined model is told from the others: it is not billed if it put out nothing.
            kind = "declined" if _is(entry, "message", "fallback_message") else entry["type"]
            name = entry["model"] if _named(entry) else serving
            parts.append(Part(model=name or "", usage=usage, kind=kind))
    top = normalise(raw)
    everything = [usage for _, usage in entries]
    if parts and top and not _adds_up(inside, top) and _adds_up(everything, top):
        parts = []  # The figures say so themselves: nothing is missing from the top level.
    return Turns(
        parts=tuple(parts),
        model=serving,
        context_tokens=max(u.input_tokens for u in inside) if len(inside) > 1 else None,
        fallback=bool(served),
    )


def largest_prompt(total: int, *, first: int, turns: int) -> int:
    """Estimate of the largest of ``turns`` prompts that sum to ``total`` and grow from ``first``.

    Each turn's prompt is the one before and a tool's result. With equal results the last is
    ``2 * total / turns - first``; it cannot be more than what the others leave.
    """
    last = 2 * total // turns - first
    return max(first, min(last, total - first * (turns - 1)))


def _turn(entry: Mapping[str, Any], lifetime: str) -> Usage | None:
    raw: Raw = {}
    merge(raw, {k: v for k, v in entry.items() if k != "iterations"})
    return normalise(raw, lifetime=lifetime) if isinstance(entry.get("type"), str) else None


def _is(entry: Mapping[str, Any], *kinds: str) -> bool:
    return entry["type"] in kinds


def _named(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("model"), str) and bool(entry["model"])


def _adds_up(turns: Iterable[Usage], top: Usage) -> bool:
    turns = list(turns)
    return (
        sum(u.input_tokens for u in turns) == top.input_tokens
        and sum(u.output_tokens for u in turns) == top.output_tokens
    )
