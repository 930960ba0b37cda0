"""A stream cut by us must look to the official SDK like one that reached ``max_tokens``."""

from __future__ import annotations

import json
import random

import pytest

from taximeter.usage import Usage
from taximeter.wire.anthropic_messages import AnthropicMessagesMeter
from taximeter.wire.framing import split_events
from tests import recordings

anthropic = pytest.importorskip("anthropic", reason="NO SDK: endings were not judged by it")
httpx2 = pytest.importorskip("httpx2", reason="NO SDK: endings were not judged by it")

pytestmark = recordings.needs_recordings

CASES = [
    r
    for r in recordings.read("anthropic.messages")
    if r["streamed"] and r["response_body"].count("event: message_start") == 1
]
OURS = Usage(input_tokens=600, cached_input_tokens=500, cache_write_5m_tokens=40, output_tokens=77)


def client_for(body: bytes) -> anthropic.Anthropic:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    transport = httpx2.MockTransport(answer)
    return anthropic.Anthropic(
        api_key="none", max_retries=0, http_client=httpx2.Client(transport=transport)
    )


def cut(data: bytes, events: int) -> tuple[AnthropicMessagesMeter, bytes]:
    """A meter that has passed on the first ``events`` events, and all bytes with its ending."""
    meter = AnthropicMessagesMeter(whole_events=True)
    head = b"".join(split_events(data)[:events])
    seen = meter.receive_data(head + b"event: content_block_delta\ndata: {")
    assert seen == head
    return meter, head + meter.ending(OURS)


def places(recording: recordings.Recording, count: int = 4) -> list[int]:
    """Event boundaries before the stop reason is given."""
    events = split_events(recordings.response_bytes(recording))
    last = next(i for i, event in enumerate(events) if b"event: message_delta" in event)
    return sorted(random.Random(recording["id"]).sample(range(last + 1), min(count, last + 1)))


@pytest.mark.parametrize("recording", CASES[::4], ids=lambda r: str(r["id"]))
def test_the_sdk_takes_a_cut_stream_for_a_short_answer(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)
    for place in places(recording):
        _, body = cut(data, place)
        client = client_for(body)
        request = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        with client.beta.messages.stream(**request) as stream:
            final = stream.get_final_message()
        assert final.stop_reason == "max_tokens"
        assert final.usage.output_tokens == 77
        events = list(client.messages.create(**request, stream=True))
        assert events[0].type == "message_start"
        assert events[-1].type == "message_stop"
        starts = [e.index for e in events if e.type == "content_block_start"]
        assert starts == [e.index for e in events if e.type == "content_block_stop"]


def test_the_plain_stream_helper_sees_max_tokens() -> None:
    (recording,) = [r for r in CASES if r["framing"] == "raw"][:1]
    _, body = cut(recordings.response_bytes(recording), places(recording)[-1])
    request = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    with client_for(body).messages.stream(**request) as stream:
        "".join(stream.text_stream)
        assert stream.get_final_message().stop_reason == "max_tokens"


@pytest.mark.parametrize("recording", CASES[::5], ids=lambda r: str(r["id"]))
def test_every_boundary_has_an_ending_that_we_read_as_one(recording: recordings.Recording) -> None:
    data = recordings.response_bytes(recording)
    for place in range(0, len(split_events(data)), 3):
        meter, body = cut(data, place)
        again = AnthropicMessagesMeter()
        again.receive_data(body)
        assert again.terminal
        assert again.exc is None
        assert again.finish == (meter.finish or "length")
        assert not again.open_blocks


def test_usage_is_shown_as_anthropic_shows_it() -> None:
    meter, _ = cut(recordings.response_bytes(CASES[0]), 3)
    data = meter.ending(OURS).split(b'data: {"type":"message_delta"')[1].split(b"\n")[0]
    assert json.loads(b'{"type":""' + data)["usage"] == {
        "input_tokens": 60,
        "cache_creation_input_tokens": 40,
        "cache_read_input_tokens": 500,
        "output_tokens": 77,
    }


@pytest.mark.parametrize("recording", CASES[:20], ids=lambda r: str(r["id"]))
def test_a_finished_answer_gets_no_ending(recording: recordings.Recording) -> None:
    meter = AnthropicMessagesMeter()
    meter.receive_data(recordings.response_bytes(recording))
    assert meter.ending(OURS) == b""


def test_a_body_gets_no_ending() -> None:
    meter = AnthropicMessagesMeter()
    meter.receive_data(b'{"type":"message"')
    assert meter.ending(OURS) == b""
