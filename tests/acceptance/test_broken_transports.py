"""What httpx lets people do between the SDK and the wire: mocks, hooks, resent requests, forks."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import openai
import pytest

from taximeter import budget
from taximeter.testing import Reply, SimulatedProvider

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
BODY = {"model": MODEL, "messages": MESSAGES, "stream": True}
URL = "https://api.openai.com/v1"
both = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def event(**fields: Any) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + json.dumps({**chunk, "choices": [], **fields}).encode() + b"\n\n"


def delta(text: str | None, finish: str | None = None) -> bytes:
    content = {} if text is None else {"content": text}
    return event(choices=[{"index": 0, "delta": content, "finish_reason": finish}])


USAGE = event(usage={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15})
DONE = b"data: [DONE]\n\n"


def answer(request: Any) -> bytes:
    """Three chunks, and usage for whoever asks."""
    asked = json.loads(request.content).get("stream_options", {}).get("include_usage")
    chunks = [delta("he"), delta("llo"), delta(None, "stop")]
    return b"".join([*chunks, *([USAGE] if asked else []), DONE])


def mock(library: ModuleType, **options: Any) -> Any:
    """A client that answers from memory, as users' own tests do."""

    def handle(request: Any) -> Any:
        headers = {"content-type": "text/event-stream"}
        return library.Response(200, content=answer(request), headers=headers)

    return library.Client(transport=library.MockTransport(handle), **options)


def exact(b: Any) -> None:
    (row,) = b.summary_data()["calls"]
    assert (row["settlement"], row["input_tokens"], row["output_tokens"]) == ("exact", 10, 5)
    assert b.held == 0


@both
def test_a_stream_from_a_mocked_transport_is_metered_and_shows_no_chunk_of_ours(
    library: ModuleType,
) -> None:
    client = openai.OpenAI(api_key="x", base_url=URL, max_retries=0, http_client=mock(library))
    with budget(max_usd=1) as b:
        chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
    assert [chunk.usage for chunk in chunks] == [None] * 3
    exact(b)


def test_a_stream_that_a_response_hook_reads_first_is_metered_and_shows_no_chunk_of_ours() -> None:
    class Stream(httpx2.SyncByteStream):
        def __init__(self, data: bytes) -> None:
            self.data = data

        def __iter__(self) -> Iterator[bytes]:
            yield self.data

    class Transport(httpx2.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, stream=Stream(answer(request)), headers=headers)

    hooks = {"response": [lambda response: response.read()]}
    inner = httpx2.Client(transport=Transport(), event_hooks=hooks)  # type: ignore[arg-type]
    client = openai.OpenAI(api_key="x", base_url=URL, max_retries=0, http_client=inner)
    with budget(max_usd=1) as b:
        chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
    assert [chunk.usage for chunk in chunks] == [None] * 3
    exact(b)


@both
def test_a_request_that_is_sent_twice_is_the_callers_own_both_times(library: ModuleType) -> None:
    with mock(library) as client, budget(max_usd=1) as b:
        request = client.build_request("POST", f"{URL}/chat/completions", json=BODY)
        content, headers = request.content, dict(request.headers)
        first, second = client.send(request).content, client.send(request).content
    assert (request.content, dict(request.headers)) == (content, headers)
    assert first == second == delta("he") + delta("llo") + delta(None, "stop") + DONE
    assert [row["settlement"] for row in b.summary_data()["calls"]] == ["exact", "exact"]


@both
def test_a_rewritten_generator_body_is_sent_with_one_length(library: ModuleType) -> None:
    seen: list[Any] = []

    def handle(request: Any) -> Any:
        seen.append(dict(request.headers))
        headers = {"content-type": "text/event-stream"}
        return library.Response(200, content=answer(request), headers=headers)

    client = library.Client(transport=library.MockTransport(handle))
    with budget(max_usd=1) as b:
        body = iter([json.dumps(BODY).encode()])
        client.post(f"{URL}/chat/completions", content=body)
    (headers,) = seen
    assert ("content-length" in headers, "transfer-encoding" in headers) == (True, False)
    exact(b)


@both
def test_a_body_that_is_no_json_after_all_goes_as_it_is(library: ModuleType) -> None:
    body = json.dumps({**BODY, "temperature": float("nan")}).encode()
    with mock(library) as client, budget(max_usd=1) as b:
        out = client.post(f"{URL}/chat/completions", content=body).content
    assert out == delta("he") + delta("llo") + delta(None, "stop") + DONE
    assert b.held == 0
    assert b.summary_data()["calls_total"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_that_drops_a_stream_leaves_it_to_its_parent(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/books.db"
    with (
        SimulatedProvider(Reply(tokens=300), seed=1) as provider,
        openai.OpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client,
        budget(max_usd=1, name="forked", store=store) as b,
    ):
        stream: Any = client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, max_tokens=400
        )
        next(stream)
        child = os.fork()
        if child == 0:
            try:
                del stream
                gc.collect()
                assert b.held > 0  # ``held`` also settles whatever a finalizer has left behind.
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        for _ in stream:
            pass
        assert b.spent.scaleb(9) == provider.invoice_total
        assert b.held == 0


def test_a_hold_that_somebody_else_has_ended_breaks_no_stream(tmp_path: Path) -> None:
    with (
        SimulatedProvider(Reply(tokens=30), seed=1) as provider,
        openai.OpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client,
        budget(max_usd=1, name="meddled", store=f"sqlite:///{tmp_path}/books.db") as b,
    ):
        stream: Any = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        next(stream)
        (call,) = b._open.values()
        b.store.settle(call.id, {f"{b.name}:usd:total": 1})
        rest = list(stream)
        assert rest[-1].choices[0].finish_reason == "stop"
        assert b.summary_data()["calls_open"] == 0


class FailingHook(openai.OpenAI):
    """A client whose own hook fails between building a request and sending it."""

    def _prepare_request(self, request: Any) -> None:
        raise RuntimeError("the hook of a subclass")


def test_a_request_that_was_built_but_never_sent_gives_its_hold_back() -> None:
    client = FailingHook(api_key="x", base_url=URL, max_retries=0, http_client=mock(httpx2))
    with budget(max_usd=1) as b:
        with pytest.raises(RuntimeError, match="the hook of a subclass"):
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=100)
        gc.collect()
        assert (b.held, b.spent) == (0, 0)
    assert b.summary_data()["calls_open"] == 0


class FailingAsyncHook(openai.AsyncOpenAI):
    """Fails after the budgets were asked, before the request is built."""

    async def _prepare_options(self, options: Any) -> Any:
        await super()._prepare_options(options)
        raise RuntimeError("the hook of a subclass")


def test_an_async_request_that_was_never_built_gives_its_hold_back() -> None:
    async def ask() -> None:
        client = FailingAsyncHook(api_key="x", base_url=URL, max_retries=0)
        await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=100)

    with budget(max_usd=1) as b:
        with pytest.raises(RuntimeError, match="the hook of a subclass"):
            asyncio.run(ask())
        gc.collect()
        assert (b.held, b.spent) == (0, 0)
    assert b.summary_data()["calls_open"] == 0
