"""google-genai against the simulated provider."""

from __future__ import annotations

import http.client
import json

import pytest
from google import genai
from google.genai import errors, types

from taximeter.testing import Reply, ToolCall

MODEL = "gemini-2.5-flash"


def ask(client, stream, **config):
    options = {"model": MODEL, "contents": "Speak.", "config": config or None}
    if not stream:
        return [client.models.generate_content(**options)]
    return list(client.models.generate_content_stream(**options))


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_says_the_usage_that_is_billed(serve, gemini_client, stream):
    provider = serve(Reply(tokens=45, reasoning_tokens=20, input_tokens=100, cached_tokens=30))
    chunks = ask(gemini_client(provider), stream)
    usage = chunks[-1].usage_metadata
    assert usage.prompt_token_count == 100
    assert usage.cached_content_token_count == 30
    assert usage.candidates_token_count == 45
    assert usage.thoughts_token_count == 20
    assert usage.total_token_count == 165
    assert len(chunks) == (5 if stream else 1)
    (line,) = provider.invoice
    assert line.usage["output_tokens"] == 65
    assert line.usage["reasoning_tokens"] == 20
    # 70 x 0.30 + 30 x 0.03 + 65 x 2.50, USD a million, by hand.
    assert line.cost == 21_000 + 900 + 162_500


@pytest.mark.parametrize("stream", [False, True])
def test_the_cap_covers_the_thoughts(serve, gemini_client, stream):
    provider = serve(Reply(tokens=50, reasoning_tokens=38))
    last = ask(gemini_client(provider), stream, max_output_tokens=50)[-1]
    assert last.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert last.usage_metadata.candidates_token_count == 12
    assert last.usage_metadata.thoughts_token_count == 38


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_text_and_calls_are_parts(serve, gemini_client, stream):
    provider = serve(
        Reply(text="Look:", thinking="Hm.", tool_call=ToolCall(name="f", arguments={"a": [1]}))
    )
    parts = [
        part
        for chunk in ask(gemini_client(provider), stream)
        for part in chunk.candidates[0].content.parts
    ]
    assert [bool(part.thought) for part in parts] == [True, False, False]
    assert parts[1].text == "Look:"
    assert parts[2].function_call.args == {"a": [1]}


def test_running_usage_grows_to_the_bill(serve, gemini_client):
    provider = serve(Reply(tokens=45))
    counts = [c.usage_metadata.candidates_token_count for c in ask(gemini_client(provider), True)]
    assert counts == [10, 20, 30, 40, 45]


def test_without_alt_sse_the_stream_is_a_json_array(serve):
    provider = serve(Reply(tokens=25))
    connection = http.client.HTTPConnection(provider.gemini_url.removeprefix("http://"))
    body = json.dumps({"contents": [{"parts": [{"text": "hi"}]}]})
    connection.request("POST", f"/v1beta/models/{MODEL}:streamGenerateContent", body)
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert raw.startswith(b'[{\n  "candidates"')
    assert raw.count(b"\n,\r\n{") == 2
    assert raw.endswith(b"}\n]")
    chunks = json.loads(raw)
    assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] == 25


def test_counting_and_embedding(serve, gemini_client):
    provider = serve()
    client = gemini_client(provider)
    counted = client.models.count_tokens(model=MODEL, contents="one two three")
    assert counted.total_tokens == 4
    assert provider.invoice == []
    vectors = client.models.embed_content(model="gemini-embedding-001", contents=["a b", "c"])
    assert len(vectors.embeddings) == 2
    assert provider.invoice[0].usage["input_tokens"] == 3


def test_a_bad_request_is_refused_in_the_providers_envelope(serve, gemini_client):
    provider = serve()
    with pytest.raises(errors.ClientError, match="maxOutputTokens") as caught:
        ask(gemini_client(provider), False, max_output_tokens=0)
    assert caught.value.status == "INVALID_ARGUMENT"


async def test_the_async_client_streams(serve):
    provider = serve(Reply(tokens=25))
    client = genai.Client(api_key="any", http_options={"base_url": provider.gemini_url})
    try:
        stream = await client.aio.models.generate_content_stream(model=MODEL, contents="x")
        chunks = [chunk async for chunk in stream]
    finally:
        await client.aio.aclose()
        client.close()
    assert chunks[-1].usage_metadata.candidates_token_count == 25
