"""The quick reader of ordinary deltas finds what the JSON parser finds, in good and in damaged streams."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taximeter.wire import anthropic_messages, openai_chat
from tests import recordings

Pieces = list[tuple[str, str, str]]
Reader = Callable[[bytes], tuple[Any, ...]]


def streams(wire: str) -> Iterator[bytes]:
    for recording in recordings.read(wire):
        body = recordings.response_bytes(recording)
        if b"data:" in body and not body.startswith((b"{", b"[")):
            yield body


def chat(block: bytes, *, quick: bool) -> tuple[Any, ...]:
    meter = openai_chat.ChatMeter()
    pieces = list(meter._decode_block(block) if quick else meter._parse_block(block))
    return pieces, meter._choices, meter.finish


def anthropic(block: bytes, *, quick: bool) -> tuple[Any, ...]:
    meter = anthropic_messages.AnthropicMessagesMeter()
    return (list(meter._decode(block) if quick else anthropic_messages._parse(block)),)


READERS = {"openai.chat": chat, "anthropic.messages": anthropic}
PATTERNS = {"openai.chat": openai_chat._DELTA, "anthropic.messages": anthropic_messages._PIECE}


def damaged(body: bytes, chance: random.Random) -> bytes:
    """``body`` with some bytes changed, doubled or lost, mostly those that mean something in JSON."""
    data = bytearray(body)
    for _ in range(1 + len(body) // 2000):
        at = chance.randrange(len(data))
        marks = [n for n in range(at, min(at + 200, len(data))) if data[n] in b'"\\{}[],:\n']
        at = chance.choice(marks) if marks else at
        new = chance.choice([b"", b'"', b"\\", b"}", b"\n", b"\xff", b"\x00", b"0", b",", b"\\u12"])
        data[at : at + chance.randrange(2)] = new
    return bytes(data)


@recordings.needs_recordings
@pytest.mark.parametrize("wire", READERS)
def test_quick_and_thorough_readers_agree_on_every_recording(wire: str) -> None:
    read, known = READERS[wire], 0
    for body in streams(wire):
        assert read(body, quick=True) == read(body, quick=False)
        known += sum(1 for _ in PATTERNS[wire].finditer(body))
    assert known > 5000  # Otherwise this would compare the parser with itself.


@recordings.needs_recordings
@pytest.mark.parametrize("wire", READERS)
def test_quick_and_thorough_readers_agree_on_damaged_streams(wire: str) -> None:
    chance, read = random.Random(wire), READERS[wire]
    for body in streams(wire):
        block = damaged(body[:20_000], chance)
        assert read(block, quick=True) == read(block, quick=False), block


HEAD = b'data: {"id":"x","choices":[{"index":0,"delta":{'
TAIL = b'},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize(
    "delta",
    [
        b'"content":"a \\u00e9 \\ud83d\\ude00 \\n"',
        b'"content":"\xc3\xa9"',
        b'"content":"\xff"',  # not UTF-8: damaged
        b'"content":"\\x"',  # no escape of JSON: damaged
        b'"content":"two\nlines"',
        b'"content":""',
        b'"role":"assistant","content":"Hi","refusal":null',
        b'"content":null,"reasoning_content":"Hm"',
        b'"reasoning":"Hm","reasoning_content":"Hm"',
        b'"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]',
        b'"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]',
        b'"content":"a","content":null',
        b'"refusal":"No"',
    ],
)
def test_quick_and_thorough_readers_agree_on_odd_deltas(delta: bytes) -> None:
    block = HEAD + delta + TAIL
    again = block + HEAD + b'"content":"b"' + TAIL
    assert chat(again, quick=True) == chat(again, quick=False)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"choices":null}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"},"index":1}]}\n\n',
        b'data: {"n":01,"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\ndata: x\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\r\n\r\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}',
        b'data: x\ndata: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n',
    ],
)
def test_quick_and_thorough_readers_agree_on_odd_events(event: bytes) -> None:
    assert chat(event, quick=True) == chat(event, quick=False)
