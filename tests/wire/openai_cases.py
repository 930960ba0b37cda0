"""Recordings of OpenAI's wires for the tests of this folder, and an oracle that knows no meter."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterable
from typing import Any

from taximeter.wire.base import Meter
from tests import recordings

WIRES = ("openai.chat", "mistral.chat", "openai.completions", "openai.responses", "embeddings")


@functools.cache
def answers(wire: str) -> tuple[recordings.Recording, ...]:
    """The recorded 2xx answers of a wire."""
    return tuple(r for r in recordings.read(wire) if r["response_status"] // 100 == 2)


def streams(wire: str, *, limit: int | None = None) -> list[recordings.Recording]:
    """The streamed answers; ``limit`` takes a spread of them, small ones only."""
    found = [r for r in answers(wire) if r["streamed"]]
    if limit is None:
        return found
    small = [r for r in found if len(r["response_body"]) < 60_000]
    return small[:: max(1, len(small) // limit)][:limit]


def feed(meter: Meter, pieces: Iterable[bytes]) -> bytes:
    """All that a caller sees of an answer that came in these pieces."""
    out = b"".join([meter.receive_data(piece) for piece in pieces])
    return out + meter.receive_eof()


def cut(body: bytes, seed: int) -> list[bytes]:
    """``body`` in pieces of random sizes; seeds divisible by 7 give single bytes."""
    if seed % 7 == 0:
        return [body[at : at + 1] for at in range(len(body))]
    dice = random.Random(seed)
    places = sorted(dice.choices(range(len(body) + 1), k=dice.randint(1, 40)))
    edges = [0, *places, len(body)]
    return [body[a:b] for a, b in itertools.pairwise(edges)]


def expected(recording: recordings.Recording) -> dict[str, int] | None:
    """What the provider's last usage says, by the rules of the contract, written down anew."""
    usage = recording["provider_usage"]
    if not isinstance(usage, dict):
        return None
    if "billed_units" in usage:
        billed = usage["billed_units"]
        images = int(billed.get("image_tokens") or 0)
        return {"input_tokens": int(billed["input_tokens"]) + images, "image_input_tokens": images}
    if "promptTokenCount" in usage:
        details = usage.get("promptTokensDetails") or usage.get("promptTokenDetails") or []
        kinds = {d["modality"]: d["tokenCount"] for d in details}
        return {
            "input_tokens": usage["promptTokenCount"],
            "image_input_tokens": kinds.get("IMAGE", 0),
            "audio_input_tokens": kinds.get("AUDIO", 0),
        }
    return _expected_openai(recording, usage)


def _expected_openai(recording: recordings.Recording, usage: dict[str, Any]) -> dict[str, int]:
    inside = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    outside = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    tokens_in = usage.get("prompt_tokens", usage.get("input_tokens"))
    tokens_out = usage.get("completion_tokens", usage.get("output_tokens")) or 0
    total = usage.get("total_tokens")
    tokens_in = total if tokens_in is None else tokens_in
    reasoning = outside.get("reasoning_tokens") or 0
    audio = inside.get("audio_tokens") or 0
    if reasoning > tokens_out:
        tokens_out += reasoning
    elif recording["provider"] == "mistral" and total == tokens_in + audio + tokens_out:
        tokens_in += audio
    elif recording["provider"] == "google" and not outside:
        reasoning = total - tokens_in - tokens_out
        tokens_out = total - tokens_in
    cached = inside.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0
    cached = cached or usage.get("num_cached_tokens") or usage.get("cached_tokens") or 0
    return {
        "input_tokens": tokens_in,
        "cached_input_tokens": min(cached, tokens_in),
        "cache_write_5m_tokens": inside.get("cache_write_tokens")
        or usage.get("cache_creation_input_tokens")
        or 0,
        "audio_input_tokens": audio,
        "image_input_tokens": inside.get("image_tokens") or 0,
        "output_tokens": tokens_out,
        "reasoning_tokens": reasoning,
        "audio_output_tokens": outside.get("audio_tokens") or 0,
    }
