"""A stream cut by us must look to the official SDK like one that reached ``MAX_TOKENS``."""

from __future__ import annotations

import json

import pytest

from taximeter.usage import Usage
from taximeter.wire.framing import split_events
from taximeter.wire.gemini_generate import WIRE, GeminiGenerateMeter
from tests import recordings

genai = pytest.importorskip("google.genai", reason="NO SDK: endings were not judged by it")
httpx2 = pytest.importorskip("httpx2", reason="NO SDK: endings were not judged by it")

pytestmark = recordings.needs_recordings

STREAMED = [
    r for r in recordings.read("gemini.generate") if r["streamed"] and r["response_status"] == 200
]
ARRAYS = [r for r in STREAMED if r["response_body"].lstrip().startswith("[")]
EVENTS = [r for r in STREAMED if r not in ARRAYS]
OURS = Usage(input_tokens=600, cached_input_tokens=500, output_tokens=77, reasoning_tokens=7)


def chunks_of(body: bytes) -> list[object]:
    """What google-genai makes of a streamed answer."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    options = genai.types.HttpOptions(
        httpx_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )
    client = genai.Client(api_key="none", http_options=options)
    return list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi"))


@pytest.mark.parametrize("recording", EVENTS[::3], ids=lambda r: str(r["id"]))
def test_the_sdk_takes_a_cut_stream_for_a_short_answer(recording: recordings.Recording) -> None:
    events = split_events(recordings.response_bytes(recording))
    for place in sorted({0, len(events) // 2, len(events) - 1}):
        head = b"".join(events[:place])
        meter = GeminiGenerateMeter(whole_events=True)
        assert meter.receive_data(head + b'data: {"candi') == head
        chunks = chunks_of(head + meter.ending(OURS))
        assert len(chunks) == place + 1
        last = chunks[-1]
        assert last.candidates[0].finish_reason == "MAX_TOKENS"  # type: ignore[attr-defined]
        usage = last.usage_metadata  # type: ignore[attr-defined]
        assert (usage.prompt_token_count, usage.candidates_token_count) == (600, 70)
        assert (usage.thoughts_token_count, usage.cached_content_token_count) == (7, 500)


@pytest.mark.parametrize("recording", ARRAYS, ids=lambda r: str(r["id"]))
def test_a_cut_array_is_closed_with_its_last_element(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)
    whole = json.loads(data)
    for place in range(0, len(data), max(1, len(data) // 50)):
        meter = GeminiGenerateMeter(whole_events=True)
        seen = meter.receive_data(data[:place])
        finished = meter.finish is not None
        elements = json.loads(seen + meter.ending(OURS)) if place else whole
        if finished or not place:
            assert elements == whole[: len(elements)]
        else:
            assert elements[:-1] == whole[: len(elements) - 1]
            assert elements[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"


def test_every_candidate_that_is_open_is_ended() -> None:
    body = {"generationConfig": {"candidateCount": 3}, "contents": []}
    request = WIRE.read_request("/v1beta/models/gemini-2.5-flash:streamGenerateContent", body)
    meter = WIRE.meter(request, whole_events=True)
    meter.receive_data(
        b'data: {"candidates": [{"index": 1,"finishReason": "STOP"}],'
        b'"usageMetadata": {"promptTokenCount": 1}}\r\n\r\n'
    )
    assert not meter.terminal
    last = json.loads(meter.ending(OURS).removeprefix(b"data: "))
    assert [c["index"] for c in last["candidates"]] == [0, 2]


@pytest.mark.parametrize("recording", STREAMED[:30], ids=lambda r: str(r["id"]))
def test_a_finished_answer_gets_no_ending(recording: recordings.Recording) -> None:
    meter = GeminiGenerateMeter()
    meter.receive_data(recordings.response_bytes(recording))
    assert meter.ending(OURS) == b""


def test_a_body_gets_no_ending() -> None:
    meter = GeminiGenerateMeter()
    meter.receive_data(b'{"candidates": [')
    assert meter.ending(OURS) == b""
