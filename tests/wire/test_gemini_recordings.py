"""Every recorded Gemini answer, whole and cut anywhere, against an oracle made only for here."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from taximeter.wire.gemini_generate import WIRE, GeminiGenerateMeter
from tests import recordings

pytestmark = recordings.needs_recordings

RECORDINGS = [r for r in recordings.read("gemini.generate") if r["response_status"] == 200]
STREAMED = [r for r in RECORDINGS if r["streamed"]]


def identify(recording: recordings.Recording) -> str:
    return str(recording["id"])


def feed(chunks: list[bytes], **options: Any) -> tuple[GeminiGenerateMeter, bytes]:
    meter = GeminiGenerateMeter(**options)
    seen = b"".join([meter.receive_data(chunk) for chunk in chunks])
    return meter, seen + meter.receive_eof()


def reading(meter: GeminiGenerateMeter) -> tuple[object, ...]:
    return (
        meter.usage,
        meter.model,
        meter.service_tier,
        meter.finish,
        meter.terminal,
        meter.error,
        meter.facts,
        meter.take_visible(),
    )


def random_cuts(data: bytes, seed: int) -> list[bytes]:
    dice = random.Random(seed)
    places = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((1, 5, 60))))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def events_of(recording: recordings.Recording) -> list[dict[str, Any]]:
    body = recording["response_body"]
    if not recording["streamed"]:
        return [json.loads(body)]
    if body.lstrip().startswith("["):
        return list(json.loads(body))
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:")]


def expected(recording: recordings.Recording) -> dict[str, int]:
    usage = recording["provider_usage"]

    def modality(details: str, name: str, number: int) -> int:
        found = usage.get(details, [])
        return sum(d.get("tokenCount", 0) for d in found if d["modality"] in (name, number))

    queries = {
        query
        for event in events_of(recording)
        for candidate in event.get("candidates", [])
        for query in (candidate.get("groundingMetadata") or {}).get("webSearchQueries", [])
        if query
    }
    counts = {
        "input_tokens": usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0),
        "cached_input_tokens": usage.get("cachedContentTokenCount", 0),
        "audio_input_tokens": modality("promptTokensDetails", "AUDIO", 4),
        "cached_audio_input_tokens": modality("cacheTokensDetails", "AUDIO", 4),
        "image_input_tokens": modality("promptTokensDetails", "IMAGE", 2),
        "output_tokens": usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0),
        "reasoning_tokens": usage.get("thoughtsTokenCount", 0),
        "audio_output_tokens": modality("candidatesTokensDetails", "AUDIO", 4),
        "image_output_tokens": modality("candidatesTokensDetails", "IMAGE", 2),
        "requests.web_search": len(queries),
    }
    return {name: number for name, number in counts.items() if number}


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_usage_is_what_the_provider_said(recording: recordings.Recording) -> None:
    meter, seen = feed([recordings.response_bytes(recording)])
    assert seen == recordings.response_bytes(recording)
    assert meter.exc is None
    assert meter.terminal
    assert meter.usage is not None
    assert {k: v for k, v in meter.usage.to_dict().items() if v} == expected(recording)


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_any_cutting_gives_the_same_readings_and_bytes(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)
    whole, _ = feed([data])
    expected_reading = reading(whole)
    for seed in range(3):
        for whole_events in (False, True):
            meter, seen = feed(random_cuts(data, seed), whole_events=whole_events)
            assert seen == data
            assert reading(meter) == expected_reading


@pytest.mark.parametrize("recording", STREAMED, ids=identify)
def test_looking_at_every_chunk_changes_nothing(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)
    whole, _ = feed([data])
    meter = GeminiGenerateMeter()
    text = ""
    for chunk in random_cuts(data, 5):
        meter.receive_data(chunk)
        text += meter.take_visible().text
        assert meter.usage is None or meter.usage.total_tokens >= 0
    meter.receive_eof()
    text += meter.take_visible().text
    *figures, visible = reading(whole)
    assert reading(meter)[:-1] == tuple(figures)
    assert text == visible.text  # type: ignore[attr-defined]


@pytest.mark.parametrize("recording", STREAMED[::4], ids=identify)
def test_every_prefix_is_read_without_complaint(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)[:20_000]
    meter = GeminiGenerateMeter()
    for position in range(len(data)):
        assert meter.receive_data(data[position : position + 1]) == data[position : position + 1]
    assert meter.exc is None
    assert meter.receive_eof() == b""


@pytest.mark.parametrize("recording", STREAMED, ids=identify)
def test_a_stream_is_terminal_with_its_last_event_and_not_before(
    recording: recordings.Recording,
) -> None:
    if recordings.response_bytes(recording).lstrip().startswith(b"["):
        pytest.skip("an array, of which the events are not told apart here")
    *earlier, last = recordings.response_bytes(recording).replace(b"\r\n", b"\n").split(b"\ndata: ")
    meter = GeminiGenerateMeter()
    for position, event in enumerate(earlier):
        meter.receive_data((b"data: " if position else b"") + event + b"\n")
        assert not meter.terminal
    meter.receive_data((b"data: " if earlier else b"") + last + b"\n\n")
    assert meter.terminal


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_visible_text_is_decoded_in_full(recording: recordings.Recording) -> None:
    meter, _ = feed([recordings.response_bytes(recording)])
    visible = meter.take_visible()
    assert (recording["visible_output_text"] or "") == visible.text
    assert (recording["reasoning_text"] or "") == visible.reasoning


TIERS = {
    "standard": "standard",
    "ON_DEMAND": "standard",
    1: "standard",
    "ON_DEMAND_FLEX": "flex",
    "PROVISIONED_THROUGHPUT": "provisioned",
    None: None,
}


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_the_service_tier_is_named_as_prices_name_it(recording: recordings.Recording) -> None:
    usage = recording["provider_usage"]
    meter, _ = feed([recordings.response_bytes(recording)])
    assert meter.service_tier == TIERS[usage.get("serviceTier") or usage.get("trafficType")]


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_requests_are_read_without_complaint(recording: recordings.Recording) -> None:
    body = recording["request_json"]
    if not isinstance(body, dict):
        pytest.skip("the source kept no request")
    path = recording["url_path"].partition("?")[0]
    request = WIRE.read_request(path, body)
    settings = body.get("generationConfig", {})
    assert request.output_cap == settings.get("maxOutputTokens")
    assert request.streamed == path.endswith(":streamGenerateContent")
    assert request.model or not path
    assert request.choices == settings.get("candidateCount", 1)
