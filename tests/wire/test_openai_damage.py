"""Damaged answers: the caller sees every byte, nothing raises, and what was known is kept."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taximeter.usage import Usage
from taximeter.wire.embeddings import EmbeddingsMeter
from taximeter.wire.openai_chat import ChatMeter
from taximeter.wire.openai_responses import ResponsesMeter
from taximeter.wire.registry import by_name
from tests.recordings import needs_recordings, response_bytes
from tests.wire.openai_cases import WIRES, answers, cut, feed, streams


def event(**body: Any) -> bytes:
    return (
        b"data: "
        + json.dumps({"id": "c", "model": "m", **body}, separators=(",", ":")).encode()
        + b"\n\n"
    )


def delta(text: str, index: int = 0) -> bytes:
    return event(choices=[{"index": index, "delta": {"content": text}, "finish_reason": None}])


USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
DONE = b"data: [DONE]\n\n"


@needs_recordings
@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_flipped_bytes_in_real_answers_pass_unchanged(wire: str, data: st.DataObject) -> None:
    recorded = (
        streams(wire, limit=12) or [r for r in answers(wire) if len(r["response_body"]) < 9000][:12]
    )
    body = bytearray(response_bytes(data.draw(st.sampled_from(recorded))))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    pieces = cut(bytes(body), data.draw(st.integers(1, 6)))
    for options in ({}, {"whole_events": True}):
        meter = by_name(wire).meter(**options)
        assert feed(meter, pieces) == body
        meter.take_visible()
        meter.ending(Usage(output_tokens=1))
    stripping = by_name(wire).meter(strip_usage=True)
    assert len(feed(stripping, pieces)) <= len(body)


DEFECTS = {
    "truncated JSON": b'data: {"id":"c","usage":{"prompt_tok\n\n',
    "deep nesting": b'data: {"id":"c","usage":' + b"[" * 100_000 + b"\n\n",
    "huge number": b'data: {"id":"c","usage":{"prompt_tokens":' + b"9" * 5000 + b"}}\n\n",
    "not an object": b'data: ["usage"]\n\n',
    "not UTF-8": b'data: {"id":"c\xff","usage":{}}\n\n',
}


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_defect_silences_the_meter_and_keeps_what_it_knew(defect: bytes) -> None:
    meter = ChatMeter(whole_events=True)
    body = delta("a") + event(choices=[], usage=USAGE) + defect + delta("b") + DONE
    assert feed(meter, [body[:40], body[40:200], body[200:]]) == body
    assert meter.usage == Usage(input_tokens=3, output_tokens=4)
    assert meter.exc is not None
    assert not meter.terminal


@pytest.mark.parametrize(
    "body",
    [
        {"choices": 7, "usage": 7},
        {"choices": [7, None, {"delta": 7}], "usage": []},
        {
            "choices": [
                {"index": "x", "delta": {"content": {"a": 1}, "tool_calls": [3, {"function": 4}]}}
            ]
        },
        {
            "choices": [{"delta": {"tool_calls": {"a": 1}, "content": [{"thinking": 4}, 5]}}],
            "error": 0,
        },
        {"model": 7, "service_tier": [], "id": {}, "x_groq": 3, "choices": [{"finish_reason": {}}]},
    ],
)
def test_wrong_types_are_read_as_absent(body: dict[str, Any]) -> None:
    meter = ChatMeter()
    raw = delta("a") + event(**body) + event(choices=[], usage=USAGE) + DONE
    assert feed(meter, [raw]) == raw
    assert (meter.exc, meter.usage) == (None, Usage(input_tokens=3, output_tokens=4))
    assert meter.take_visible().text == "a"


@pytest.mark.parametrize("options", [{}, {"whole_events": True}, {"strip_usage": True}])
def test_endless_event_passes_through_from_then_on(options: dict[str, bool]) -> None:
    meter = ChatMeter(buffer_bytes_max=500, **options)
    pieces = [delta("a"), b"data: " + b"x" * 400, b"y" * 400, b"z" * 400, b"\n\n" + delta("b")]
    assert feed(meter, pieces) == b"".join(pieces)
    assert "longer than 500 bytes" in str(meter.exc)


def test_body_beyond_the_limit_is_a_defect_and_passes() -> None:
    meter = ChatMeter(buffer_bytes_max=50)
    body = json.dumps({"choices": [], "usage": USAGE, "pad": "x" * 50}).encode()
    assert feed(meter, [body[:30], body[30:]]) == body
    assert (meter.usage, meter.terminal) == (None, False)
    assert meter.exc is not None


def test_untaken_text_is_kept_decoded_beyond_the_limit() -> None:
    meter = ChatMeter(pending_bytes_max=2000)
    for _ in range(100):
        meter.receive_data(delta("word "))
    assert sum(map(len, meter._pending)) <= 2000 + len(delta("word "))
    assert meter.take_visible().text == "word " * 100


def test_text_that_looks_like_usage_is_never_touched() -> None:
    tricky = 'say ,"usage":null and {"usage":{"prompt_tokens":9}} and [DONE] "error"'
    body = (
        event(choices=[{"index": 0, "delta": {"content": tricky}}], usage=None)
        + event(choices=[{"index": 0, "delta": {"content": tricky}}], usage=None)
        + event(choices=[], usage=USAGE)
        + DONE
    )
    for seed in range(30):
        meter = ChatMeter(strip_usage=True)
        seen = feed(meter, cut(body, seed))
        assert seen == body.replace(b',"usage":null', b"").replace(
            event(choices=[], usage=USAGE), b""
        )
        assert meter.take_visible().text == tricky * 2
        assert meter.usage == Usage(input_tokens=3, output_tokens=4)


@pytest.mark.parametrize("null", [b',"usage":null', b', "usage": null', b',"usage": null'])
def test_null_is_stripped_in_the_spelling_of_the_provider(null: bytes) -> None:
    first = delta("a")
    assert feed(ChatMeter(strip_usage=True), [first[:-3] + null + first[-3:]] * 3) == first * 3


def test_null_that_vllm_writes_unasked_stays() -> None:
    choice = {"index": 0, "text": "a", "finish_reason": None, "stop_reason": None}
    body = event(choices=[choice], usage=None) * 2
    assert feed(by_name("openai.completions").meter(strip_usage=True), [body]) == body


def test_usage_on_a_chunk_with_choices_stays_and_counts() -> None:
    body = delta("a") + event(
        choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE
    )
    meter = ChatMeter(strip_usage=True)
    assert feed(meter, [body + DONE]) == body + DONE
    assert (meter.usage, meter.finish, meter.terminal) == (
        Usage(input_tokens=3, output_tokens=4),
        "stop",
        True,
    )


def test_error_event_inside_a_stream_is_told_and_is_no_end() -> None:
    failed = b'event: error\ndata: {"error":{"message":"no","type":"server_error"}}\n\n'
    for pieces in ([delta("a") + failed], [delta("a"), failed], cut(delta("a") + failed, 7)):
        meter = ChatMeter()
        feed(meter, pieces)
        assert (meter.error, meter.finish, meter.terminal, meter.usage) == (
            "server_error",
            "error",
            False,
            None,
        )


def test_error_on_a_chunk_like_the_others_is_found_at_the_end() -> None:
    failed = event(
        choices=[{"index": 0, "delta": {}, "finish_reason": "error"}], error={"message": "gone"}
    )
    meter = ChatMeter()
    feed(meter, [delta("a"), delta("b"), failed])
    assert (meter.error, meter.finish, meter.terminal) == ("gone", "error", False)


def test_failed_response_ends_without_usage() -> None:
    body = (
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","model":"m"}}\n\n'
        b'event: response.failed\ndata: {"type":"response.failed","response":{"id":"r","status":"failed",'
        b'"error":{"code":"server_error","message":"no"},"usage":null}}\n\n'
    )
    meter = ResponsesMeter()
    feed(meter, [body])
    assert (meter.error, meter.finish, meter.terminal, meter.usage) == (
        "server_error",
        "error",
        True,
        None,
    )


def test_last_service_tier_wins_over_auto() -> None:
    def response(kind: str, tier: str) -> bytes:
        body = {
            "type": kind,
            "response": {"model": "m", "status": "completed", "service_tier": tier},
        }
        return f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode()

    meter = ResponsesMeter()
    feed(meter, [response("response.created", "auto") + response("response.completed", "priority")])
    assert (meter.service_tier, meter.finish, meter.terminal) == ("priority", "stop", True)


def test_background_response_has_not_ended() -> None:
    meter = ResponsesMeter()
    feed(meter, [b'{"id":"r","model":"m","status":"queued","usage":null}'])
    assert (meter.terminal, meter.usage, meter.exc) == (False, None, None)


def test_tokens_of_drawn_images_are_a_part_of_their_own() -> None:
    body = {
        "model": "gpt-5",
        "status": "completed",
        "tools": [{"type": "image_generation", "model": "gpt-image-1-mini"}],
        "output": [{"type": "image_generation_call", "result": "x"}],
        "usage": {"input_tokens": 3, "output_tokens": 4},
        "tool_usage": {"image_gen": {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}},
    }
    meter = ResponsesMeter()
    feed(meter, [json.dumps(body).encode()])
    assert meter.usage == Usage(input_tokens=3, output_tokens=4, requests={"image_generation": 1})
    (part,) = meter.parts
    assert (part.model, part.usage) == ("gpt-image-1-mini", Usage(input_tokens=5, output_tokens=6))


def test_lone_surrogates_do_not_leave_the_meter() -> None:
    meter = ChatMeter()
    meter.receive_data(
        delta("a") + b'data: {"id":"c","choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
    )
    meter.take_visible().text.encode()


def test_blank_keep_alives_before_a_body_or_stream_pass_at_once() -> None:
    for body in (
        json.dumps({"choices": [], "usage": USAGE}).encode(),
        delta("a") + event(choices=[], usage=USAGE) + DONE,
    ):
        for options in ({}, {"whole_events": True}):
            meter = ChatMeter(**options)
            pieces = [b"\n", b"   ", b"\n\n", body]
            assert meter.receive_data(pieces[0]) == b"\n"
            assert feed(meter, pieces[1:]) == b"".join(pieces[1:])
            assert meter.usage == Usage(input_tokens=3, output_tokens=4)


def test_byte_order_mark_in_pieces_is_passed_and_ignored() -> None:
    body = b"\xef\xbb\xbf" + delta("a") + event(choices=[], usage=USAGE) + DONE
    for options in ({}, {"whole_events": True}):
        meter = ChatMeter(**options)
        assert feed(meter, [body[:1], body[1:2], body[2:9], body[9:]]) == body
        assert (meter.usage, meter.take_visible().text) == (
            Usage(input_tokens=3, output_tokens=4),
            "a",
        )


def test_embeddings_beyond_the_kept_ends_are_still_read() -> None:
    vector = [0.123456] * 60_000
    for body in (
        {
            "object": "list",
            "data": [{"embedding": vector}],
            "model": "e",
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        },
        {
            "model": "e",
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
            "data": [{"embedding": vector}],
        },
    ):
        raw = json.dumps(body).encode()
        meter = EmbeddingsMeter()
        assert feed(meter, [raw[at : at + 5000] for at in range(0, len(raw), 5000)]) == raw
        assert (meter.usage, meter.model, meter.terminal) == (Usage(input_tokens=8), "e", True)


def test_text_may_be_taken_in_one_thread_while_another_feeds() -> None:
    meter = ChatMeter(pending_bytes_max=4000)
    taken: list[str] = []
    fed = threading.Event()

    def look() -> None:
        while not fed.is_set():
            taken.append(meter.take_visible().text)

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(3000):
        meter.receive_data(delta(f"{number} "))
    fed.set()
    looker.join()
    taken.append(meter.take_visible().text)
    assert "".join(taken) == "".join(f"{number} " for number in range(3000))
