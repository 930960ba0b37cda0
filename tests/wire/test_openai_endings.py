"""A stream that we end ourselves is accepted by OpenAI's own client as a normal, short answer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from taximeter.usage import Usage
from taximeter.wire.framing import read_events, split_events
from taximeter.wire.openai_responses import ResponsesMeter
from taximeter.wire.registry import by_name
from tests.recordings import needs_recordings, response_bytes
from tests.wire.openai_cases import streams

openai = pytest.importorskip("openai", reason="NO SDK: endings were not judged by it")
httpx = pytest.importorskip("httpx2", reason="NO SDK: endings were not judged by it")

USAGE = Usage(input_tokens=5, output_tokens=7)


def client(body: bytes) -> Any:
    """An official client whose server answers every request with ``body``."""
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    transport = httpx.MockTransport(lambda _: answer)
    http_client = httpx.Client(transport=transport)
    return openai.OpenAI(api_key="k", base_url="http://host/v1", http_client=http_client)


def cut_streams(wire: str, *, limit: int, asked: bool) -> Iterator[tuple[str, bytes, Any]]:
    """Recordings cut at an event boundary: id, the bytes passed on, and the meter at that point."""
    body = {"model": "m", "stream": True, "stream_options": {"include_usage": asked}}
    request = by_name(wire).read_request("/v1/x", body)
    dice = random.Random(limit)
    for recording in streams(wire, limit=limit):
        events = split_events(response_bytes(recording))
        if len(events) < 4:
            continue
        meter = by_name(wire).meter(request, whole_events=True)
        at = dice.randrange(2, len(events))
        seen = b"".join(meter.receive_data(event) for event in events[:at])
        if not meter.terminal:
            yield recording["id"], seen, meter


@needs_recordings
@pytest.mark.parametrize("asked", [True, False])
def test_cut_chat_ends_with_length_in_every_open_choice(asked: bool) -> None:
    ended = 0
    for name, seen, meter in cut_streams("openai.chat", limit=120, asked=asked):
        reasons: dict[int, list[str]] = {}
        usages = []
        stream = client(seen + meter.ending(USAGE)).chat.completions.create(
            model="m", messages=[], stream=True
        )
        for chunk in stream:
            usages.append(chunk.usage)
            for choice in chunk.choices:
                found = reasons.setdefault(choice.index, [])
                found.extend([choice.finish_reason] if choice.finish_reason else [])
        if meter.finish is None:
            assert {tuple(found) for found in reasons.values()} == {("length",)}, name
            ended += 1
        shown = [usage for usage in usages if usage]
        if not asked and meter.usage is None:
            assert shown == [], name
        if asked and meter.usage is None:
            assert [usage.completion_tokens for usage in shown] == [7], name
    assert ended > 50


@needs_recordings
def test_cut_text_completion_ends_with_length() -> None:
    ended = 0
    for name, seen, meter in cut_streams("openai.completions", limit=20, asked=False):
        stream = client(seen + meter.ending(USAGE)).completions.create(
            model="m", prompt="", stream=True
        )
        reasons = [choice.finish_reason for chunk in stream for choice in chunk.choices]
        assert reasons[-1] == "length", name
        ended += 1
    assert ended > 5


@needs_recordings
def test_cut_response_ends_incomplete_with_all_that_was_streamed() -> None:
    ended = 0
    for name, seen, meter in cut_streams("openai.responses", limit=120, asked=False):
        events = list(
            client(seen + meter.ending(USAGE)).responses.create(model="m", input="", stream=True)
        )
        last = events[-1]
        assert last.type == "response.incomplete", name
        assert last.response.status == "incomplete"
        assert last.response.incomplete_details.reason == "max_output_tokens"
        assert last.response.usage.output_tokens == 7
        opened = [event.output_index for event in events if "item.added" in str(event.type)]
        done = [event.output_index for event in events if "item.done" in str(event.type)]
        assert sorted(opened) == sorted(done), name
        assert len(last.response.output) == len(set(done)), name
        ended += 1
    assert ended > 50


GENUINE = (
    ("response.created", {"response": {"id": "r", "output": [], "status": "in_progress"}}),
    (
        "response.output_item.added",
        {
            "output_index": 0,
            "item": {"id": "m", "type": "message", "content": [], "status": "in_progress"},
        },
    ),
    (
        "response.content_part.added",
        {
            "item_id": "m",
            "output_index": 0,
            "content_index": 0,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
    ),
    (
        "response.output_text.delta",
        {"item_id": "m", "output_index": 0, "content_index": 0, "delta": "Hel"},
    ),
    (
        "response.output_text.delta",
        {"item_id": "m", "output_index": 0, "content_index": 0, "delta": "lo é"},
    ),
)


def responses_stream() -> bytes:
    return b"".join(
        f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': at, **rest})}\n\n".encode()
        for at, (kind, rest) in enumerate(GENUINE)
    )


def test_ending_of_a_response_closes_text_part_and_item_in_order() -> None:
    meter = ResponsesMeter(None, whole_events=True)
    meter.receive_data(responses_stream())
    ending = [json.loads(data) for _, data in read_events(meter.ending())]
    assert [event["type"] for event in ending] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert [event["sequence_number"] for event in ending] == [5, 6, 7, 8]
    assert ending[0]["text"] == ending[1]["part"]["text"] == "Hello é"
    assert ending[2]["item"]["status"] == "incomplete"
    assert ending[3]["response"]["output"] == [ending[2]["item"]]
    assert ending[3]["response"]["usage"] is None


def test_helper_of_the_client_takes_our_ending_like_a_genuine_incomplete_response() -> None:
    meter = ResponsesMeter(None, whole_events=True)
    body = meter.receive_data(responses_stream())
    with client(body + meter.ending(USAGE)).responses.stream(model="m", input="") as stream:
        kinds = [event.type for event in stream]
        assert kinds[-1] == "response.incomplete"
        # It says so for a genuine one too: only completed responses are final for it.
        with pytest.raises(RuntimeError, match=r"response\.completed"):
            stream.get_final_response()


def test_nothing_follows_a_stream_that_has_ended() -> None:
    meter = by_name("openai.chat").meter()
    meter.receive_data(b'data: {"id":"a","choices":[]}\n\ndata: [DONE]\n\n')
    assert meter.ending(USAGE) == b""


def test_ending_before_the_first_event_is_well_formed() -> None:
    for wire in ("openai.chat", "openai.completions"):
        ending = by_name(wire).meter(whole_events=True).ending()
        *chunks, done = [data for _, data in read_events(ending)]
        assert done == b"[DONE]"
        assert [json.loads(chunk)["choices"][0]["finish_reason"] for chunk in chunks] == ["length"]
