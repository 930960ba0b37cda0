"""Recorded answers come back byte for byte, however they are cut."""

from __future__ import annotations

import base64
import gzip
import json

import httpx
import openai
import pytest

from taximeter.errors import ConfigurationError
from taximeter.testing import ReplayServer, read_recordings

CHAT = "data: " + json.dumps(
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
)


def record(id: str, body: str | bytes, **more) -> dict:
    binary = isinstance(body, bytes)
    return {
        "id": id,
        "url_path": "/v1/chat/completions",
        "response_status": 200,
        "response_headers": {"content-type": "text/event-stream"},
        "response_encoding": "base64" if binary else "text",
        "response_body": base64.b64encode(body).decode() if binary else body,
        "streamed": True,
        **more,
    }


def fetch(server, path="/v1/chat/completions", id=None, **headers):
    if id is not None:
        headers["x-taximeter-recording"] = id
    return httpx.post(server.root_url + path, json={}, headers=headers)


@pytest.mark.parametrize("size", [1, 7, 2048, None])
@pytest.mark.parametrize("compress", [False, True])
def test_bodies_come_back_byte_for_byte(size, compress):
    text = "data: é\r\n\r\ndata: [DONE]\n\n"
    raw = bytes(range(256))
    records = [
        record("text", text),
        record("bytes", raw),
        record("empty", ""),
        record("json", '{"a": 1}', streamed=False, response_status=404),
    ]
    with ReplayServer(records, chunk_bytes_max=size, gzip=compress) as server:
        assert fetch(server, id="text").content == text.encode()
        assert fetch(server, id="bytes").content == raw
        assert fetch(server, id="empty").content == b""
        answer = fetch(server, id="json")
        assert (answer.status_code, answer.content) == (404, b'{"a": 1}')
        assert answer.headers.get("content-encoding") == ("gzip" if compress else None)
        assert server.served == ["text", "bytes", "empty", "json"]


def test_without_a_header_the_next_record_of_the_path_is_served():
    records = [
        record("a", "1", url_path="/one?x=1"),
        record("b", "2", url_path="/two"),
        record("c", "3", url_path="/one"),
    ]
    with ReplayServer(records) as server:
        got = [fetch(server, path).text for path in ("/two", "/one?y=2", "/one", "/one", "/other")]
    assert got == ["2", "1", "3", "1", "2"]


def test_an_unknown_recording_is_a_404_that_names_it():
    with ReplayServer([record("a", "1")]) as server:
        answer = fetch(server, id="zzz")
    assert answer.status_code == 404
    assert "zzz" in answer.text


def test_no_records_is_a_mistake():
    with pytest.raises(ConfigurationError, match="empty"):
        ReplayServer([])


def test_recordings_are_read_from_lines_gzipped_or_not(tmp_path):
    lines = "".join(json.dumps(record(id, "x")) + "\n\n" for id in "ab")
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_text(lines)
    packed.write_bytes(gzip.compress(lines.encode()))
    for path in (plain, packed):
        assert [item["id"] for item in read_recordings(path)] == ["a", "b"]


def test_the_sdk_reads_a_recording():
    body = CHAT + "\n\ndata: [DONE]\n\n"
    with (
        ReplayServer([record("a", body)], seed=4, chunk_bytes_max=9) as server,
        openai.OpenAI(base_url=server.base_url, api_key="any") as client,
    ):
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        assert [chunk.id for chunk in stream] == ["c"]


@pytest.mark.parametrize(
    "wire", ["openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"]
)
def test_real_recordings_come_back_byte_for_byte(recordings, wire):
    records = [item for _, item in zip(range(60), recordings(wire), strict=False)]
    with (
        ReplayServer(records, seed=1) as server,
        httpx.Client(base_url=server.root_url) as client,
    ):
        for item in records:
            answer = client.post("/any", headers={"x-taximeter-recording": item["id"]}, json={})
            assert answer.content == item["response_body"].encode()
            assert answer.status_code == item["response_status"]
