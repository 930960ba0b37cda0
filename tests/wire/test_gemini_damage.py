"""Damaged real streams: the caller's bytes are untouched, and nothing is ever raised."""

from __future__ import annotations

import threading
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.errors import WireError
from taximeter.wire import framing
from taximeter.wire.base import PENDING_BYTES_MAX
from taximeter.wire.gemini_generate import GeminiGenerateMeter
from tests import recordings


def chunk(words: str, counts: str = '"promptTokenCount": 10', finish: str = "") -> bytes:
    reason = f',"finishReason": "{finish}"' if finish else ""
    return (
        f'data: {{"candidates": [{{"content": {{"parts": [{{"text": "{words}"}}],"role": "model"}}'
        f'{reason},"index": 0}}],"usageMetadata": {{{counts}}},"modelVersion": "gemini-2.5-flash"}}'
        "\r\n\r\n"
    ).encode()


FIGURES = '"promptTokenCount": 10,"candidatesTokenCount": 5,"totalTokenCount": 15'
END = chunk("", FIGURES, "STOP")


def streams() -> list[bytes]:
    found = [r for r in recordings.read("gemini.generate") if r["streamed"]]
    bodies = sorted((recordings.response_bytes(r) for r in found), key=len)[:120]
    return bodies or [chunk("Hello") + END, b"[" + chunk("Hello")[6:-4] + b"," + END[6:-4] + b"]"]


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
                here = data.find(b'Count": ', place)
                if here >= 0:
                    data[here + 8 : here + 9] = draw(
                        st.sampled_from((b"-1", b"1e999", b"9" * 5000, b"true", b'"7"', b"1.5"))
                    )
            case "null":
                here = data.find(b": {", place)
                if here >= 0:
                    data[here : here + 3] = draw(st.sampled_from((b":null,{", b":[", b":7,{")))
            case "deep":
                data[place:place] = b"[" * draw(st.sampled_from((10, 5000)))
    chunks = []
    while data:
        size = draw(st.integers(1, 2000))
        chunks.append(bytes(data[:size]))
        del data[:size]
    return chunks


def look(meter: GeminiGenerateMeter) -> tuple[Any, ...]:
    meter.take_visible()
    return meter.usage, meter.model, meter.service_tier, meter.finish, meter.terminal, meter.error


@settings(max_examples=250, deadline=None)
@given(chunks=damaged(), whole_events=st.booleans())
def test_a_damaged_stream_passes_untouched(chunks: list[bytes], whole_events: bool) -> None:
    meter = GeminiGenerateMeter(whole_events=whole_events)
    seen = b""
    for position, piece in enumerate(chunks):
        seen += meter.receive_data(piece)
        if position % 3 == 0:
            look(meter)
            assert isinstance(meter.ending(), bytes)
    seen += meter.receive_eof()
    assert seen == b"".join(chunks)
    assert meter.exc is None or isinstance(meter.exc, WireError)
    if meter.usage is not None:
        assert all(number >= 0 for number in meter.usage.to_dict().values())
    whole = GeminiGenerateMeter()
    whole.receive_data(b"".join(chunks))
    whole.receive_eof()
    assert look(whole) == look(meter)


def test_an_array_that_has_closed_too_early_reads_the_same_however_it_is_cut() -> None:
    figures = b'"usageMetadata": {"promptTokenCount": 32, "candidatesTokenCount": 3}'
    # The first brace is lost: its partner closes the array, and what follows lies outside.
    data = b'[ "candidates": [{"index": 0}], %b}\r\n,{%b}]' % (figures, figures)
    looks = []
    for size in (len(data), 1, 7):
        meter = GeminiGenerateMeter()
        for at in range(0, len(data), size):
            meter.receive_data(data[at : at + size])
        meter.receive_eof()
        assert meter.exc is not None
        looks.append(look(meter))
    assert looks[0] == looks[1] == looks[2]


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=300))
def test_any_bytes_pass(body: bytes) -> None:
    meter = GeminiGenerateMeter(whole_events=True)
    assert meter.receive_data(body) + meter.receive_eof() == body
    assert meter.usage is None


def test_the_last_figures_win_though_they_fall() -> None:
    meter = GeminiGenerateMeter()
    meter.receive_data(chunk("a", '"promptTokenCount": 10,"thoughtsTokenCount": 419'))
    assert meter.usage is not None
    assert meter.usage.output_tokens == 419
    meter.receive_data(chunk("b", '"promptTokenCount": 10,"thoughtsTokenCount": 28'))
    assert meter.usage.output_tokens == 28
    assert not meter.terminal


def test_a_traffic_type_alone_is_no_usage() -> None:
    meter = GeminiGenerateMeter()
    meter.receive_data(chunk("a", '"trafficType": "ON_DEMAND"'))
    assert meter.usage is None
    meter.receive_data(chunk("b", '"trafficType": "ON_DEMAND_FLEX",' + FIGURES, "STOP"))
    assert meter.usage is not None
    assert meter.service_tier == "flex"
    assert meter.terminal


def test_a_finish_without_figures_waits_for_them() -> None:
    meter = GeminiGenerateMeter()
    meter.receive_data(chunk("a", '"trafficType": "ON_DEMAND"', "STOP"))
    assert not meter.terminal
    meter.receive_data(chunk("", FIGURES))
    assert meter.terminal


def test_figures_are_known_after_their_chunk_was_decoded() -> None:
    meter = GeminiGenerateMeter()
    meter.receive_data(chunk("a", FIGURES))
    assert meter.take_visible().text == "a"
    assert meter.usage is not None
    assert meter.usage.total_tokens == 15


def test_an_error_inside_a_200_is_told() -> None:
    for space in (b"", b" "):
        meter = GeminiGenerateMeter()
        meter.receive_data(chunk("a"))
        meter.receive_data(
            b'data: {%b"error": {"code": 503,"message": "busy","status": "UNAVAILABLE"}}\r\n\r\n'
            % space
        )
        meter.receive_eof()
        assert (meter.error, meter.finish) == ("UNAVAILABLE", "error")
        assert not meter.terminal
        assert meter.ending() == b""


def test_a_blocked_prompt_is_terminal_with_its_figures() -> None:
    meter = GeminiGenerateMeter()
    meter.receive_data(
        b'data: {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},"usageMetadata": '
        b'{"promptTokenCount": 10,"totalTokenCount": 10}}\r\n\r\n'
    )
    assert meter.terminal
    assert meter.finish == "filter"
    assert meter.usage is not None
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (10, 0)


def test_an_output_that_only_the_total_shows_is_booked_and_flagged() -> None:
    meter = GeminiGenerateMeter()
    meter.receive_data(chunk("a", '"promptTokenCount": 10,"totalTokenCount": 100', "STOP"))
    assert meter.usage is not None
    assert meter.usage.output_tokens == 90
    assert meter.facts["total_differs"] is True


def test_cached_audio_without_details_takes_the_dearer_reading() -> None:
    details = (
        '"promptTokensDetails": [{"modality": "TEXT","tokenCount": 600},'
        '{"modality": "AUDIO","tokenCount": 400}]'
    )
    for cached, expected in ((400, 0), (700, 100)):
        meter = GeminiGenerateMeter()
        counts = f'"promptTokenCount": 1000,"cachedContentTokenCount": {cached},{details}'
        meter.receive_data(chunk("a", counts, "STOP"))
        assert meter.usage is not None
        assert meter.usage.cached_input_tokens == cached
        assert meter.usage.audio_input_tokens == 400
        assert meter.usage.cached_audio_input_tokens == expected


def test_unique_searches_that_are_not_empty_are_counted() -> None:
    meter = GeminiGenerateMeter()
    grounded = chunk("a").replace(
        b'"index": 0',
        b'"index": 0,"groundingMetadata": {"webSearchQueries": ["", "x", "y", "x"],'
        b'"groundingChunks": [{"maps": {"uri": "m"}}]}',
    )
    meter.receive_data(grounded)
    meter.receive_data(END)
    assert meter.usage is not None
    assert meter.usage.requests == {"web_search": 2, "maps": 1}
    assert meter.facts["web_search_prompts"] == 1


def test_an_element_that_never_ends_is_given_up_and_passed_on() -> None:
    meter = GeminiGenerateMeter(whole_events=True)
    first = b"[" + chunk("a", FIGURES)[6:-4]
    seen = meter.receive_data(first)
    meter._array = framing.ArraySplitter(bytes_max=1000)
    meter._array.feed(b"[")
    rest = b',{"candidates": "' + b"x" * 2000
    seen += meter.receive_data(rest) + meter.receive_data(b'"}]') + meter.receive_eof()
    assert seen == first + b"[" + rest + b'"}]'
    assert isinstance(meter.exc, WireError)
    assert meter.usage is not None


def test_memory_stays_bounded_and_no_text_is_lost() -> None:
    meter = GeminiGenerateMeter()
    piece = chunk("x" * 1000)
    count = 3 * PENDING_BYTES_MAX // len(piece)
    for _ in range(count):
        meter.receive_data(piece)
    assert sum(map(len, meter._blocks)) <= PENDING_BYTES_MAX + len(piece)
    visible = meter.take_visible()
    assert len(visible.text) == 1000 * count
    assert visible.deltas == count


def test_a_look_from_another_thread_loses_nothing_and_doubles_nothing() -> None:
    meter = GeminiGenerateMeter()
    stop = threading.Event()
    seen: list[str] = []
    totals: list[int] = []

    def look_on() -> None:
        while not stop.is_set():
            seen.append(meter.take_visible().text)
            totals.append(meter.usage.input_tokens if meter.usage is not None else 10)

    watcher = threading.Thread(target=look_on)
    watcher.start()
    words = [f"{number} " for number in range(3000)]
    for word in words:
        meter.receive_data(chunk(word))
    stop.set()
    watcher.join()
    seen.append(meter.take_visible().text)
    assert "".join(seen) == "".join(words)
    assert set(totals) <= {10}
