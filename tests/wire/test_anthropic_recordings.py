"""Every recorded Anthropic answer, whole and cut anywhere, against an oracle made only for here."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from taximeter.usage import TOKEN_KINDS
from taximeter.wire.anthropic_messages import WIRE, AnthropicMessagesMeter
from tests import recordings

pytestmark = recordings.needs_recordings

RECORDINGS = [r for r in recordings.read("anthropic.messages") if r["response_status"] == 200]
STREAMED = [r for r in RECORDINGS if r["streamed"]]


def identify(recording: recordings.Recording) -> str:
    return str(recording["id"])


def feed(chunks: list[bytes], **options: Any) -> tuple[AnthropicMessagesMeter, bytes]:
    meter = AnthropicMessagesMeter(**options)
    seen = b"".join([meter.receive_data(chunk) for chunk in chunks])
    return meter, seen + meter.receive_eof()


def reading(meter: AnthropicMessagesMeter) -> tuple[object, ...]:
    return (
        meter.usage,
        meter.parts,
        meter.model,
        meter.service_tier,
        meter.finish,
        meter.terminal,
        meter.error,
        meter.context_tokens,
        meter.region,
        meter.facts,
        meter.take_visible(),
    )


def random_cuts(data: bytes, seed: int) -> list[bytes]:
    dice = random.Random(seed)
    places = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((1, 5, 60))))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def messages_of(recording: recordings.Recording) -> dict[str, list[dict[str, Any]]]:
    """Every usage object by message id, in order, read the plain way."""
    body = recording["response_body"]
    if not recording["streamed"]:
        return {"": [json.loads(body)["usage"]]}
    found: dict[str, list[dict[str, Any]]] = {}
    identity = ""
    for line in body.splitlines():
        if not line.startswith("data:"):
            continue
        event = json.loads(line[5:])
        message = event.get("message", event)
        if event["type"] in ("message_start", "message"):
            identity = message["id"]
        if "usage" in message:
            found.setdefault(identity, []).append(message["usage"])
    return found


def expected(recording: recordings.Recording) -> dict[str, int]:
    counts: dict[str, int] = {}

    def add(name: str, number: int) -> None:
        counts[name] = counts.get(name, 0) + number

    for usages in messages_of(recording).values():
        last: dict[str, Any] = {}
        for usage in usages:
            last |= {name: value for name, value in usage.items() if value is not None}
        read = last.get("cache_read_input_tokens", 0)
        written = last.get("cache_creation_input_tokens", 0)
        split = last.get("cache_creation", {})
        hour = split.get("ephemeral_1h_input_tokens", 0)
        add("input_tokens", last["input_tokens"] + read + written)
        add("cached_input_tokens", read)
        add("cache_write_5m_tokens", written - hour)
        add("cache_write_1h_tokens", hour)
        add("output_tokens", last["output_tokens"])
        add("reasoning_tokens", last.get("output_tokens_details", {}).get("thinking_tokens", 0))
        for name, number in last.get("server_tool_use", {}).items():
            add(f"requests.{name.removesuffix('_requests')}", number)
    return {name: number for name, number in counts.items() if number}


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_usage_is_what_the_provider_said(recording: recordings.Recording) -> None:
    meter, seen = feed([recordings.response_bytes(recording)])
    assert seen == recordings.response_bytes(recording)
    assert meter.exc is None
    assert meter.terminal
    assert meter.usage is not None
    assert {k: v for k, v in meter.usage.to_dict().items() if v} == expected(recording)
    assert set(meter.usage.to_dict()) >= set(TOKEN_KINDS)


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


@pytest.mark.parametrize("recording", STREAMED[::4], ids=identify)
def test_every_prefix_is_read_without_complaint(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)[:20_000]
    meter = AnthropicMessagesMeter()
    for position in range(len(data)):
        assert meter.receive_data(data[position : position + 1]) == data[position : position + 1]
    assert meter.exc is None
    assert meter.receive_eof() == b""


@pytest.mark.parametrize("recording", STREAMED[::4], ids=identify)
def test_whole_events_are_handed_on_and_nothing_less(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)
    meter = AnthropicMessagesMeter(whole_events=True)
    for chunk in random_cuts(data, 7):
        seen = meter.receive_data(chunk)
        assert not seen or seen.endswith(b"\n\n")


@pytest.mark.parametrize("recording", STREAMED, ids=identify)
def test_the_input_is_known_before_the_output_is_final(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)
    start = data.find(b"event: content_block_start")
    if start < 0:
        pytest.skip("this answer came as one event")
    meter = AnthropicMessagesMeter()
    meter.receive_data(data[:start])
    assert meter.usage is not None
    assert meter.usage.input_tokens > 0
    assert not meter.terminal
    assert "usage_final" not in meter.facts


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_visible_text_is_decoded_in_full(recording: recordings.Recording) -> None:
    meter, _ = feed([recordings.response_bytes(recording)])
    visible = meter.take_visible()
    for kind, text in (
        ("visible_output_text", visible.text),
        ("reasoning_text", visible.reasoning),
    ):
        assert (recording[kind] or "").replace("\n", "") == text.replace("\n", "")


PARTS = {
    "0bd2b9e3cec827f4": [("claude-fable-5", "advisor_message", 2564, 99)],
    "3fd16505fd15e180": [("claude-opus-4-8", "advisor_message", 2529, 38)],
    "17a2d15257c7a489": [("claude-opus-4-6", "compaction", 60385, 522)],
    "3063f9dfdc8e7be4": [("claude-opus-4-6", "compaction", 60385, 592)],
    "3217e3f5adc9ce9f": [("claude-sonnet-4-6", "compaction", 55196, 131)],
    "568bde20a2048700": [("claude-sonnet-4-6", "compaction", 55196, 83)],
    "ca4b7e0292b4329d": [("claude-sonnet-4-6", "compaction", 99195, 81)],
    "d7443bceeeaf71bd": [("claude-fable-5", "declined", 408, 0)],
}


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_other_models_in_the_answer_are_parts(recording: recordings.Recording) -> None:
    meter, _ = feed([recordings.response_bytes(recording)])
    parts = [(p.model, p.kind, p.usage.input_tokens, p.usage.output_tokens) for p in meter.parts]
    assert parts == PARTS.get(recording["id"], [])


def test_after_a_fallback_the_model_is_the_one_that_answered() -> None:
    (recording,) = (r for r in STREAMED if r["id"] == "d7443bceeeaf71bd")
    meter, _ = feed([recordings.response_bytes(recording)])
    assert meter.model == "claude-opus-4-8"
    assert meter.facts["fallback"] is True


@pytest.mark.parametrize(
    "recording", [r for r in RECORDINGS if r["id"] in ("08216767a9270524", "5ab4b69b4cfab23f")]
)
def test_a_refusal_before_output_is_told(recording: recordings.Recording) -> None:
    meter, _ = feed([recordings.response_bytes(recording)])
    assert meter.finish == "filter"
    assert meter.facts["refused_before_output"] is True


def test_the_context_of_an_internal_loop_is_less_than_the_sum() -> None:
    sums = {r["id"]: feed([recordings.response_bytes(r)])[0] for r in RECORDINGS}
    searched = sums["fcce1e278fbf9720"]
    assert searched.usage is not None
    assert searched.usage.input_tokens == 401_468
    assert searched.context_tokens is not None
    assert searched.context_tokens < 200_000
    assert sums["0bd2b9e3cec827f4"].context_tokens == 1354
    plain = [m for m in sums.values() if m.context_tokens is None]
    assert len(plain) > 500


@pytest.mark.parametrize("recording", RECORDINGS, ids=identify)
def test_requests_are_read_without_complaint(recording: recordings.Recording) -> None:
    body = recording["request_json"]
    if not isinstance(body, dict):
        pytest.skip("the source kept no request")
    request = WIRE.read_request(recording["url_path"].partition("?")[0], body)
    assert request.output_cap == body.get("max_tokens")
    assert request.streamed == (body.get("stream") is True)
    assert request.model or (not recording["url_path"] and "model" not in body)
    assert request.prompt.messages == len(body["messages"])
