"""What the official SDKs make of recorded answers is the same with and without taximeter.

Bare and metered runs of the same call are compared in everything a caller can see (``equality.py``).
A sample runs always; everything there is runs with ``-m slow``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance import equality
from tests.acceptance.recorded_calls import BUDGETS, WIRES, Bench, ask, problems, sample

SAMPLED = {
    "openai.chat": 30,
    "openai.responses": 14,
    "openai.completions": 8,
    "embeddings": 8,
    "anthropic.messages": 22,
    "gemini.generate": 18,
}
SHARDS = 8


def check(records: list[Any], rotate: bool, **options: Any) -> None:
    """Compare these recordings in every way, or each in one way more than the plain ones."""
    found: list[str] = []
    with Bench(records, **options) as bench:
        for at, recording in enumerate(records):
            for number, (way, settings, call) in enumerate(runs(recording)):
                if not rotate or (number + at) % 5 == 0:
                    found += problems(bench, recording, way, settings, call)
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:12])


def runs(recording: Any) -> Iterator[tuple[Any, str, Any]]:
    """Every way, budget, and whether the caller asks for usage (where the recording did)."""
    calls = [ask(recording)]
    if calls[0].wire in ("openai.chat", "openai.completions") and recording["streamed"]:
        unasked = ask(recording, usage_asked=False)
        calls += [unasked] if unasked != calls[0] else []
    for call in calls:
        for asynchronous in (False, True):
            for way in equality.ways(call, asynchronous=asynchronous):
                for settings in BUDGETS:
                    yield way, settings, call


@pytest.mark.parametrize("wire", WIRES)
def test_a_sample_of_recordings_looks_the_same_metered_and_bare(
    wire: str, recordings: Callable[[str], Iterator[Any]]
) -> None:
    check(sample(list(recordings(wire)), SAMPLED[wire], seed=2), rotate=True)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("wire", WIRES)
def test_every_recording_looks_the_same_metered_and_bare(
    wire: str, shard: int, recordings: Callable[[str], Iterator[Any]]
) -> None:
    chosen = [one for at, one in enumerate(recordings(wire)) if at % SHARDS == shard]
    if not chosen:
        pytest.skip("fewer recordings than shards")
    check(chosen, rotate=True, seed=shard)


@pytest.mark.parametrize("wire", ["openai.chat", "anthropic.messages", "gemini.generate"])
def test_compressed_answers_look_the_same_too(
    wire: str, recordings: Callable[[str], Iterator[Any]]
) -> None:
    streamed = [one for one in recordings(wire) if one["streamed"]]
    check(sample(streamed, 6, seed=3), rotate=True, gzip=True)
