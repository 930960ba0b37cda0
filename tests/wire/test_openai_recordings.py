"""Every recorded answer: the provider's usage, whole and cut, and not a byte changed."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from taximeter.usage import TOKEN_KINDS, Usage
from taximeter.wire.framing import read_events, split_events
from taximeter.wire.registry import by_name
from taximeter.wire.replay import replay
from tests.recordings import needs_recordings, response_bytes
from tests.wire.openai_cases import WIRES, answers, cut, expected, feed, streams

pytestmark = needs_recordings
STREAMED = ("openai.chat", "mistral.chat", "openai.completions", "openai.responses")


def tokens(usage: Usage | None) -> dict[str, int] | None:
    """The counts that are not zero."""
    if usage is None:
        return None
    return {kind: getattr(usage, kind) for kind in TOKEN_KINDS if getattr(usage, kind)}


def facts(meter: Any) -> tuple[Any, ...]:
    return (
        meter.usage,
        meter.parts,
        meter.provider_cost,
        meter.model,
        meter.service_tier,
        meter.finish,
        meter.terminal,
        meter.error,
        str(meter.exc),
    )


@pytest.mark.parametrize("wire", WIRES)
def test_usage_of_every_recording_is_the_providers(wire: str) -> None:
    wrong = []
    for recording in answers(wire):
        meter = by_name(wire).meter()
        body = response_bytes(recording)
        assert feed(meter, [body]) == body, recording["id"]
        assert meter.exc is None, recording["id"]
        wanted = expected(recording)
        if wanted is not None:
            wanted = {kind: count for kind, count in wanted.items() if count}
        if tokens(meter.usage) != wanted:
            wrong.append((recording["id"], tokens(meter.usage), wanted))
    assert wrong == []


@pytest.mark.parametrize("wire", WIRES)
def test_model_that_answered_is_the_recorded_one(wire: str) -> None:
    for recording in answers(wire):
        meter = by_name(wire).meter()
        feed(meter, [response_bytes(recording)])
        assert meter.model in {recording["model"], None}, recording["id"]


@pytest.mark.parametrize("wire", WIRES)
def test_any_cutting_gives_the_same_facts_and_the_same_bytes(wire: str) -> None:
    recorded = [r for r in answers(wire) if len(r["response_body"]) < 60_000]
    for seed, recording in enumerate(recorded[:: max(1, len(recorded) // 120)]):
        body = response_bytes(recording)
        whole = by_name(wire).meter()
        feed(whole, [body])
        for options in ({}, {"whole_events": True}, {"strip_usage": True}):
            for cutting in (cut(body, seed), split_events(body)):
                pieces = by_name(wire).meter(**options)
                seen = feed(pieces, cutting)
                assert facts(pieces) == facts(whole), recording["id"]
                if "strip_usage" not in options:
                    assert seen == body, recording["id"]
        assert pieces.take_visible().text == whole.take_visible().text, recording["id"]


@pytest.mark.parametrize("wire", STREAMED)
def test_stripped_bytes_do_not_depend_on_the_cutting(wire: str) -> None:
    for seed, recording in enumerate(streams(wire, limit=60)):
        body = response_bytes(recording)
        whole = feed(by_name(wire).meter(strip_usage=True), [body])
        assert feed(by_name(wire).meter(strip_usage=True), cut(body, seed)) == whole


@pytest.mark.parametrize("wire", STREAMED)
def test_each_prefix_is_read_without_a_defect(wire: str) -> None:
    for recording in streams(wire, limit=25):
        body = response_bytes(recording)
        dice = random.Random(len(body))
        for end in dice.sample(range(len(body)), min(40, len(body))):
            meter = by_name(wire).meter(whole_events=True)
            assert feed(meter, [body[:end]]) == body[:end]
            assert meter.exc is None, (recording["id"], end)


def without_usage(body: bytes) -> bytes:
    """The stream as it would have been if nobody had asked for usage: re-made event by event."""
    kept = []
    for raw in split_events(body):
        payload = next((data for _, data in read_events(raw)), b"[DONE]")
        event = {} if payload == b"[DONE]" else json.loads(payload)
        if isinstance(event.get("usage"), dict) and event["choices"] == []:
            continue
        if "usage" in event and event["usage"] is None:
            raw = re.sub(rb',"usage":null(?=[,}])', b"", raw)
        kept.append(raw)
    return b"".join(kept)


def test_stripping_leaves_what_a_caller_who_did_not_ask_would_have_seen() -> None:
    stripped = Counter[str]()
    for wire in ("openai.chat", "openai.completions"):
        for recording in streams(wire):
            asked = (recording["request_json"] or {}).get("stream_options", {})
            official = recording["provider"] in {"openai", "azure"}
            if not official or recording["framing"] != "raw" or not asked.get("include_usage"):
                continue
            body = response_bytes(recording)
            seen = feed(by_name(wire).meter(strip_usage=True), [body])
            assert seen == without_usage(body), recording["id"]
            stripped[wire] += seen != body
    assert stripped["openai.chat"] > 100
    assert stripped["openai.completions"] > 0


def test_stripping_leaves_streams_alone_that_nobody_asked_for_usage() -> None:
    for recording in streams("openai.chat"):
        if recording["provider"] in {"openai", "azure"} and recording["provider_usage"] is None:
            body = response_bytes(recording)
            assert feed(by_name("openai.chat").meter(strip_usage=True), [body]) == body


def stated(usage: dict[str, Any]) -> Decimal | None:
    cost = usage.get("cost")
    if isinstance(cost, dict):
        return Decimal(str(cost["total_cost"]))
    if usage.get("cost_in_usd_ticks"):
        return Decimal(usage["cost_in_usd_ticks"]) / 10**10
    if usage.get("is_byok"):
        return Decimal(str(cost)) + Decimal(str(usage["cost_details"]["upstream_inference_cost"]))
    return None if cost is None else Decimal(str(cost))


@pytest.mark.parametrize("wire", WIRES)
def test_cost_stated_by_the_provider_is_kept_to_its_digits(wire: str) -> None:
    for recording in answers(wire):
        meter = by_name(wire).meter()
        feed(meter, [response_bytes(recording)])
        assert meter.provider_cost == stated(recording["provider_usage"] or {}), recording["id"]


def test_hosted_tool_calls_of_responses_are_counted_from_their_items() -> None:
    counted = 0
    for recording in answers("openai.responses"):
        meter = by_name("openai.responses").meter()
        feed(meter, [response_bytes(recording)])
        body = recording["response_body"]
        if recording["streamed"] or meter.usage is None:
            continue
        kinds = Counter(item["type"] for item in json.loads(body)["output"])
        for item, fee in (("web_search_call", "web_search"), ("file_search_call", "file_search")):
            assert meter.usage.requests.get(fee, 0) == kinds[item], recording["id"]
            counted += kinds[item]
    assert counted > 40


@pytest.mark.parametrize("wire", STREAMED)
def test_visible_text_is_the_same_whenever_it_is_taken(wire: str) -> None:
    for recording in streams(wire, limit=40):
        body = response_bytes(recording)
        whole, looked = by_name(wire).meter(), by_name(wire).meter()
        feed(whole, [body])
        seen = []
        for piece in split_events(body):
            looked.receive_data(piece)
            seen.append(looked.take_visible())
        once = whole.take_visible()
        assert "".join(v.text for v in seen) == once.text
        assert "".join(v.reasoning for v in seen) == once.reasoning
        assert "".join(v.tool for v in seen) == once.tool
        assert sum(v.deltas for v in seen) == once.deltas
        assert whole.take_visible().deltas == 0


@pytest.mark.parametrize("wire", WIRES)
def test_replay_gives_one_line_for_each_recording_whole_or_split(wire: str) -> None:
    dice = random.Random(5)
    for recording in answers(wire)[:200]:
        line = replay(recording)
        assert line == replay(recording, dice), recording["id"]
        assert (line["usage"] is None) == (expected(recording) is None)
        assert line["usage_source"] == ("unknown" if line["usage"] is None else "provider")
        assert ("reason" in line) == (line["usage"] is None)
