"""Gemini's ``usageMetadata``, normalised.

``promptTokenCount`` includes cached content but not ``toolUsePromptTokenCount``;
``candidatesTokenCount`` excludes thoughts. A count that is not there is zero, as long as another one
is: Vertex sends ``{"trafficType": ...}`` alone until the last chunk, and that is no usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taximeter.usage import Usage
from taximeter.wire.body import count, items, mapping

COUNTS: Final = (
    "promptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "totalTokenCount",
)

# Some clients record enumerations by number.
_MODALITIES: Final[Mapping[object, str]] = {2: "IMAGE", 4: "AUDIO"}

_TIERS: Final[Mapping[object, str]] = {
    1: "standard",
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    2: "provisioned",
    "PROVISIONED_THROUGHPUT": "provisioned",
}


def has_counts(metadata: Mapping[str, Any]) -> bool:
    """Whether this says how many tokens were used, or only how the request travelled."""
    return any(count(metadata.get(name)) is not None for name in COUNTS)


def normalise(metadata: Mapping[str, Any], *, searches: int = 0, maps: bool = False) -> Usage:
    """One ``usageMetadata`` with counts, and the fees that stand in ``groundingMetadata``."""
    number = {name: count(metadata.get(name)) or 0 for name in COUNTS}
    prompt, tool = number["promptTokenCount"], number["toolUsePromptTokenCount"]
    thoughts = number["thoughtsTokenCount"]
    input_tokens = prompt + tool
    output = max(
        number["candidatesTokenCount"] + thoughts, number["totalTokenCount"] - input_tokens
    )
    audio = min(
        input_tokens,
        _of(metadata, "promptTokensDetails", "AUDIO")
        + _of(metadata, "toolUsePromptTokensDetails", "AUDIO"),
    )
    image = min(
        input_tokens - audio,
        _of(metadata, "promptTokensDetails", "IMAGE")
        + _of(metadata, "toolUsePromptTokensDetails", "IMAGE"),
    )
    cached = min(input_tokens, count(metadata.get("cachedContentTokenCount")) or 0)
    answer = output - thoughts
    audio_output = min(answer, _of(metadata, "candidatesTokensDetails", "AUDIO"))
    requests = {"web_search": searches, "maps": int(maps)}
    return Usage(
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        audio_input_tokens=audio,
        cached_audio_input_tokens=_cached_audio(metadata, cached, audio, input_tokens),
        image_input_tokens=image,
        output_tokens=output,
        reasoning_tokens=thoughts,
        audio_output_tokens=audio_output,
        image_output_tokens=min(
            answer - audio_output, _of(metadata, "candidatesTokensDetails", "IMAGE")
        ),
        requests={kind: number for kind, number in requests.items() if number},
    )


def total_differs(metadata: Mapping[str, Any]) -> bool:
    """Whether the total, where there is one, is another than the sum of its parts.

    Once, candidates included thoughts. The larger output is booked, and flagged.
    """
    total = count(metadata.get("totalTokenCount"))
    parts = sum(count(metadata.get(name)) or 0 for name in COUNTS[:-1])
    return total is not None and total != parts


def service_tier(metadata: Mapping[str, Any]) -> str | None:
    """How the request travelled, under the names that prices use."""
    tier = metadata.get("serviceTier")
    if isinstance(tier, str) and tier:
        return _TIERS.get(tier, tier.lower())
    traffic = metadata.get("trafficType")
    if isinstance(traffic, int | str) and traffic in _TIERS:
        return _TIERS[traffic]
    return traffic.lower() if isinstance(traffic, str) and traffic else None


def write(usage: Usage) -> dict[str, int]:
    """Our figures as ``usageMetadata``."""
    metadata = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": max(0, usage.output_tokens - usage.reasoning_tokens),
        "totalTokenCount": usage.total_tokens,
    }
    if usage.cached_input_tokens:
        metadata["cachedContentTokenCount"] = usage.cached_input_tokens
    if usage.reasoning_tokens:
        metadata["thoughtsTokenCount"] = usage.reasoning_tokens
    return metadata


def _of(metadata: Mapping[str, Any], details: str, modality: str) -> int:
    """Tokens of one modality in a list of details."""
    return sum(
        count(detail.get("tokenCount")) or 0
        for detail in map(mapping, items(metadata.get(details)))
        if _modality(detail.get("modality")) == modality
    )


def _modality(value: object) -> object:
    return _MODALITIES.get(value, value) if isinstance(value, int | str) else None


def _cached_audio(metadata: Mapping[str, Any], cached: int, audio: int, input_tokens: int) -> int:
    """Audio in the cached part; without details, as little as fits: the dearer reading."""
    if items(metadata.get("cacheTokensDetails")):
        found = _of(metadata, "cacheTokensDetails", "AUDIO")
    else:
        found = cached - (input_tokens - audio)
    return max(0, min(found, cached, audio))
