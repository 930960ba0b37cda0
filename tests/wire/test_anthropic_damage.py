"""Damaged real streams: the caller's bytes are untouched, and nothing is ever raised."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.errors import WireError
from taximeter.wire import framing
from taximeter.wire.anthropic_messages import AnthropicMessagesMeter
from taximeter.wire.base import PENDING_BYTES_MAX
from tests import recordings

START = (
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    b'"model":"claude-sonnet-4-6","content":[],"stop_reason":null,"usage":{"input_tokens":10,'
    b'"cache_creation_input_tokens":30,"cache_read_input_tokens":500,"cache_creation":'
    b'{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":2}}}\n\n'
)
BLOCK = (
    b"event: content_block_start\n"
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
)
END = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":7}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def text(words: str) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"%b"}}\n\n' % words.encode()
    )


def streams() -> list[bytes]:
    found = [r for r in recordings.read("anthropic.messages") if r["streamed"]]
    bodies = sorted((recordings.response_bytes(r) for r in found), key=len)[:120]
    return bodies or [START + BLOCK + text("Hello") + END]


STREAMS = streams()


@st.composite
def damaged(draw: st.DrawFn) -> list[bytes]:
    """A real stream with bytes flipped, dropped or put in, in chunks of any size."""
    data = bytearray(draw(st.sampled_from(STREAMS))[:6000])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("flip", "drop", "put", "number", "null", "deep"))):
            case "flip" if data:
                data[place] = draw(st.integers(0, 255))
            case "drop":
                del data[place : place + draw(st.integers(1, 40))]
            case "put":
                data[place:place] = draw(st.binary(max_size=10))
            case "number":
                here = data.find(b'_tokens":', place)
                if here >= 0:
                    data[here + 9 : here + 10] = draw(
                        st.sampled_from((b"-1", b"1e999", b"9" * 5000, b"true", b'"7"', b"1.5"))
                    )
            case "null":
                here = data.find(b":{", place)
                if here >= 0:
                    data[here : here + 2] = draw(st.sampled_from((b":null,{", b":[", b":7,{")))
            case "deep":
                data[place:place] = b"[" * draw(st.sampled_from((10, 5000)))
    chunks = []
    while data:
        size = draw(st.integers(1, 2000))
        chunks.append(bytes(data[:size]))
        del data[:size]
    return chunks


def look(meter: AnthropicMessagesMeter) -> tuple[Any, ...]:
    meter.take_visible()
    return meter.usage, meter.parts, meter.finish, meter.terminal, meter.facts, meter.error


@settings(max_examples=250, deadline=None)
@given(chunks=damaged(), whole_events=st.booleans())
def test_a_damaged_stream_passes_untouched(chunks: list[bytes], whole_events: bool) -> None:
    meter = AnthropicMessagesMeter(whole_events=whole_events)
    seen = b""
    for position, chunk in enumerate(chunks):
        seen += meter.receive_data(chunk)
        if position % 3 == 0:
            look(meter)
            assert isinstance(meter.ending(), bytes)
    seen += meter.receive_eof()
    assert seen == b"".join(chunks)
    assert meter.exc is None or isinstance(meter.exc, WireError)
    if meter.usage is not None:
        assert all(number >= 0 for number in meter.usage.to_dict().values())
    whole = AnthropicMessagesMeter()
    whole.receive_data(b"".join(chunks))
    whole.receive_eof()
    assert look(whole) == look(meter)


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=300))
def test_any_bytes_pass(body: bytes) -> None:
    meter = AnthropicMessagesMeter(whole_events=True)
    assert meter.receive_data(body) + meter.receive_eof() == body
    assert meter.usage is None


def test_figures_survive_what_comes_damaged_after_them() -> None:
    meter = AnthropicMessagesMeter()
    meter.receive_data(START + BLOCK + b'event: message_delta\ndata: {"type":"message_delta",\n\n')
    assert isinstance(meter.exc, WireError)
    assert meter.usage is not None
    assert meter.usage.input_tokens == 540
    meter.receive_data(END)
    assert not meter.terminal


def test_a_damaged_piece_of_text_does_not_end_the_metering() -> None:
    meter = AnthropicMessagesMeter()
    meter.receive_data(START + BLOCK + text('a " b') + text("c") + END)
    assert meter.exc is None
    assert meter.terminal
    assert meter.usage is not None
    assert meter.usage.output_tokens == 7
    assert meter.take_visible().text == "c"


def test_without_a_known_input_there_is_no_usage() -> None:
    meter = AnthropicMessagesMeter()
    meter.receive_data(END)
    assert meter.usage is None


@pytest.mark.parametrize("whole_events", [False, True])
def test_a_line_that_never_ends_is_given_up_and_passed_on(
    monkeypatch: pytest.MonkeyPatch, whole_events: bool
) -> None:
    meter = AnthropicMessagesMeter(whole_events=whole_events)
    meter._splitter = framing.EventSplitter(bytes_max=1000)
    meter._held = meter._splitter.held
    seen = meter.receive_data(START[:-5]) + meter.receive_data(START[-5:] + b"data: " + b"x" * 500)
    seen += meter.receive_data(b"y" * 2000)
    seen += meter.receive_data(b"\n\n" + END)
    seen += meter.receive_eof()
    assert seen == START + b"data: " + b"x" * 500 + b"y" * 2000 + b"\n\n" + END
    assert isinstance(meter.exc, WireError)
    assert meter.usage is not None
    assert not meter.terminal


def test_an_error_inside_a_200_is_told() -> None:
    meter = AnthropicMessagesMeter()
    meter.receive_data(START + BLOCK + text("Hi"))
    meter.receive_data(
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
        b'"message":"Overloaded"}}\n\n'
    )
    assert (meter.error, meter.finish) == ("overloaded_error", "error")
    assert not meter.terminal
    assert meter.ending() == b""


def test_a_ping_changes_nothing() -> None:
    meter = AnthropicMessagesMeter()
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    assert meter.receive_data(ping + START + ping) == ping + START + ping
    assert meter.usage is not None
    assert meter.take_visible().deltas == 0


def test_memory_stays_bounded_and_no_text_is_lost() -> None:
    meter = AnthropicMessagesMeter()
    meter.receive_data(START + BLOCK)
    piece = text("x" * 1000)
    count = 3 * PENDING_BYTES_MAX // len(piece)
    for _ in range(count):
        meter.receive_data(piece)
    assert sum(map(len, meter._blocks)) <= PENDING_BYTES_MAX + len(piece)
    visible = meter.take_visible()
    assert len(visible.text) == 1000 * count
    assert visible.deltas == count


def test_a_look_from_another_thread_loses_nothing_and_doubles_nothing() -> None:
    meter = AnthropicMessagesMeter()
    meter.receive_data(START + BLOCK)
    stop = threading.Event()
    seen: list[str] = []

    def look_on() -> None:
        while not stop.is_set():
            seen.append(meter.take_visible().text)

    watcher = threading.Thread(target=look_on)
    watcher.start()
    words = [f"{number} " for number in range(3000)]
    for word in words:
        meter.receive_data(text(word))
    stop.set()
    watcher.join()
    seen.append(meter.take_visible().text)
    assert "".join(seen) == "".join(words)


def test_the_last_figures_of_a_message_win_and_messages_add_up() -> None:
    other = START.replace(b"msg_1", b"msg_2")
    meter = AnthropicMessagesMeter()
    meter.receive_data(START + START + END)
    assert meter.usage is not None
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (540, 7)
    meter.receive_data(other)
    assert not meter.terminal
    meter.receive_data(END)
    assert meter.terminal
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (1080, 14)
    assert meter.usage.cache_write_1h_tokens == 40


def test_searches_are_counted_before_the_final_figures_come() -> None:
    meter = AnthropicMessagesMeter()
    search = (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,'
        b'"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}\n\n'
    )
    meter.receive_data(START + search % 0 + search % 1)
    assert meter.usage is not None
    assert meter.usage.requests == {"web_search": 2}
