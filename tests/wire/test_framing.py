"""Bytes cut anywhere come back as the same events, and none is lost."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.errors import WireError
from taximeter.wire.framing import ArraySplitter, BodyBuffer, EventSplitter, read_events, read_json

LINE_ENDS = ("\n", "\r\n", "\r")


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def events_of(pieces: list[bytes]) -> list[tuple[str, bytes]]:
    splitter = EventSplitter()
    found = []
    for piece in pieces:
        found += read_events(splitter.feed(piece))
    return found + list(read_events(splitter.flush()))


@pytest.mark.parametrize("line_end", LINE_ENDS)
@given(cuts=st.lists(st.integers(min_value=0, max_value=200)))
def test_any_cutting_gives_the_same_events(line_end: str, cuts: list[int]) -> None:
    lines = [
        ": comment",
        "",
        "event: a",
        "data: 1",
        "",
        "data:2",
        "data: 3",
        "id: 7",
        "",
        "data: x",
    ]
    data = line_end.join(lines).encode()
    expected = [("a", b"1"), ("", b"2\n3"), ("", b"x")]
    assert events_of(split(data, cuts)) == expected


@given(
    blocks=st.lists(st.text(alphabet="ad:\n\r x", max_size=6)),
    cuts=st.lists(st.integers(min_value=0, max_value=60)),
)
def test_splitting_loses_no_byte_and_mixed_line_ends_do_not_matter(
    blocks: list[str], cuts: list[int]
) -> None:
    data = "".join(blocks).encode()
    splitter = EventSplitter()
    passed = b"".join(splitter.feed(piece) for piece in split(data, cuts)) + splitter.flush()
    assert passed == data
    assert events_of(split(data, cuts)) == events_of([data])


def test_byte_order_mark_and_event_without_space_are_read() -> None:
    assert list(read_events(b"\xef\xbb\xbfevent:e\ndata:{}\n\n")) == [("e", b"{}")]


def test_crlf_is_not_taken_for_a_blank_line() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\r\n") == b""
    assert splitter.feed(b"data: 2\r\n\r") == b""
    assert splitter.feed(b"\nda") == b"data: 1\r\ndata: 2\r\n\r\n"


def test_endless_event_raises_and_every_byte_is_given_back() -> None:
    splitter = EventSplitter(bytes_max=10)
    with pytest.raises(WireError):
        splitter.feed(b"data: 1\n\ndata: 0123456789")
    assert splitter.flush() == b"data: 1\n\ndata: 0123456789"


def test_body_with_blank_keep_alives_is_read() -> None:
    body = BodyBuffer()
    for piece in (b"\n   \n", b'{"a"', b":1}\n"):
        body.feed(piece)
    assert body.read() == {"a": 1}


def test_body_beyond_the_limit_raises() -> None:
    body = BodyBuffer(bytes_max=4)
    with pytest.raises(WireError):
        body.feed(b"12345")


@pytest.mark.parametrize("text", [b"{", b"[" * 200_000, b"\xff", b"1" * 5000, b""])
def test_what_is_not_json_raises_one_error(text: bytes) -> None:
    with pytest.raises(WireError):
        read_json(text)


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{},é\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='k"\\]}'), inner),
)


@given(
    elements=st.lists(st.dictionaries(st.text(alphabet='k"\\{'), JSON), max_size=4),
    indent=st.sampled_from([None, 2]),
    cuts=st.lists(st.integers(min_value=0, max_value=400)),
)
def test_array_stream_gives_its_elements_however_it_is_cut(
    elements: list[dict[str, object]], indent: int | None, cuts: list[int]
) -> None:
    data = json.dumps(elements, indent=indent, ensure_ascii=False).encode() + b"\n"
    splitter = ArraySplitter()
    found, passed = [], b""
    for piece in split(data, cuts):
        whole, completed = splitter.feed(piece)
        passed += whole
        found += [json.loads(element) for element in completed]
    assert found == elements
    assert splitter.closed
    assert passed + splitter.flush() == data


def test_array_prefix_ends_with_its_last_whole_element() -> None:
    splitter = ArraySplitter()
    assert splitter.feed(b'[{"a": "]}"},\n{"b"') == (b'[{"a": "]}"}', [b'{"a": "]}"}'])
    assert splitter.feed(b": 1}\n]") == (b',\n{"b": 1}\n]', [b'{"b": 1}'])


def test_array_with_too_many_closing_brackets_raises() -> None:
    with pytest.raises(WireError):
        ArraySplitter().feed(b"[]]")
