"""CPU that a budget adds to the official SDKs: per chunk, per call, and per request of no interest.

The transport is in the process and replays ready bytes, so that only Python code is measured.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai

from bench.paired import Pair, paired
from taximeter import budget
from taximeter.budgeting import Budget

EVENTS = 2000
PROMPT = [{"role": "user", "content": "taximeter " * 100}]  # 1 kB


def _sse(events: list[tuple[str | None, dict[str, Any]]], *, done: bool) -> list[bytes]:
    chunks = []
    for name, data in events:
        head = f"event: {name}\n" if name else ""
        chunks.append(f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode())
    return [*chunks, b"data: [DONE]\n\n"] if done else chunks


def openai_stream(*, asked: bool) -> list[bytes]:
    """As OpenAI sends it; with ``asked``, what ``include_usage`` adds (taximeter asks for it)."""
    base = {
        "id": "chatcmpl-BhOTTRJ3NvYQ8vRvLTdRDyKmxMUqd",
        "object": "chat.completion.chunk",
        "created": 1749728755,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_34a54ae93c",
    }
    nothing = {"usage": None} if asked else {}

    def chunk(delta: dict[str, str], finish: str | None = None) -> tuple[None, dict[str, Any]]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return None, {**base, "choices": [choice], **nothing}

    events: list[tuple[str | None, dict[str, Any]]] = [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": f" word{n % 10}"}) for n in range(EVENTS)),
        chunk({}, "stop"),
    ]
    if asked:
        usage = {"prompt_tokens": 210, "completion_tokens": EVENTS, "total_tokens": 210 + EVENTS}
        events.append((None, {**base, "choices": [], "usage": usage}))
    return _sse(events, done=True)


def anthropic_stream() -> list[bytes]:
    usage = {"input_tokens": 210, "output_tokens": 1}
    message = {
        "id": "msg_01", "type": "message", "role": "assistant", "content": [], "usage": usage,
        "model": "claude-3-5-haiku-20241022", "stop_reason": None, "stop_sequence": None,
    }  # fmt: skip
    events: list[tuple[str | None, dict[str, Any]]] = [
        ("message_start", {"type": "message_start", "message": message}),
        (
            "content_block_start",
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
        ),
    ]
    for n in range(EVENTS):
        delta = {"type": "text_delta", "text": f" some words {n % 10}"}
        events.append(
            ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta})
        )
    events += [
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        (
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 5 * EVENTS},
            },
        ),
        ("message_stop", {"type": "message_stop"}),
    ]
    return _sse(events, done=False)


class _Chunks(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def _transport(chunks: list[bytes], asked: list[bytes] | None = None) -> httpx2.MockTransport:
    """Replays ``asked`` to requests that ask for usage, as OpenAI does, else ``chunks``."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        wants = asked is not None and b"include_usage" in request.content
        body = _Chunks(asked if wants and asked is not None else chunks)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    return httpx2.MockTransport(handler)


def openai_chunks(rounds: int) -> Pair:
    """Per chunk of a chat stream, usage injected and stripped, under an enforcing budget."""
    transport = _transport(openai_stream(asked=False), openai_stream(asked=True))
    client = openai.OpenAI(api_key="any", http_client=httpx2.Client(transport=transport))

    def read() -> int:
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=PROMPT, stream=True, max_tokens=4000
        )
        return sum(1 for _ in stream)

    return paired(read, _inside(read), rounds=rounds)


def openai_chunks_watched(rounds: int) -> Pair:
    """The same while someone reads ``b.spent`` every 100 chunks, so that text is decoded as it comes."""
    transport = _transport(openai_stream(asked=False), openai_stream(asked=True))
    client = openai.OpenAI(api_key="any", http_client=httpx2.Client(transport=transport))

    def read(watched: Budget | None = None) -> int:
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=PROMPT, stream=True, max_tokens=4000
        )
        count = 0
        for count, _ in enumerate(stream, 1):
            if count % 100 == 0 and watched is not None:
                assert watched.spent
        return count

    def metered() -> int:
        with budget(max_usd=10) as b:
            return read(b)

    return paired(read, metered, rounds=rounds)


def openai_chunks_async(rounds: int) -> Pair:
    """The same as :func:`openai_chunks` with the asynchronous client."""
    transport = _transport(openai_stream(asked=False), openai_stream(asked=True))
    client = openai.AsyncOpenAI(api_key="any", http_client=httpx2.AsyncClient(transport=transport))

    async def read() -> int:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=PROMPT, stream=True, max_tokens=4000
        )
        count = 0
        async for _ in stream:
            count += 1
        return count

    async def metered() -> int:
        async with budget(max_usd=10):
            return await read()

    with asyncio.Runner() as runner:
        return paired(lambda: runner.run(read()), lambda: runner.run(metered()), rounds=rounds)


def anthropic_chunks(rounds: int) -> Pair:
    """Per event of a Messages stream, under an enforcing budget."""
    client = anthropic.Anthropic(
        api_key="any", http_client=httpx2.Client(transport=_transport(anthropic_stream()))
    )

    def read() -> int:
        stream = client.messages.create(
            model="claude-sonnet-4-5", messages=PROMPT, stream=True, max_tokens=16_000
        )
        return sum(1 for _ in stream)

    return paired(read, _inside(read), rounds=rounds)


def openai_calls(rounds: int, *, store: str | None = None) -> Pair:
    """Per non-streamed call with a 1 kB prompt: quote, hold, meter, settle, entry.

    ``store``: a URL, for example of a SQLite file; None keeps the books in memory.
    """
    answer = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1749728755,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0, "finish_reason": "stop", "logprobs": None,
                "message": {"role": "assistant", "content": "Yes.", "refusal": None},
            }
        ],
        "usage": {"prompt_tokens": 210, "completion_tokens": 2, "total_tokens": 212},
    }  # fmt: skip
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer))
    client = openai.OpenAI(api_key="any", http_client=httpx2.Client(transport=transport))

    def call(count: int = 100) -> int:
        for _ in range(count):
            client.chat.completions.create(model="gpt-4o-mini", messages=PROMPT, max_tokens=100)
        return count

    return paired(call, _inside(call, store=store), rounds=rounds)


def openai_calls_sqlite(rounds: int) -> Pair:
    """The same with books and ledger in a SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        return openai_calls(rounds, store=f"sqlite:///{Path(folder) / 'bench.db'}")


def other_requests(rounds: int) -> Pair:
    """Per POST that is no LLM call, made inside a budget."""
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200))
    client = httpx2.Client(transport=transport)

    def post(count: int = 300) -> int:
        for _ in range(count):
            client.post("https://example.org/items", content=b"{}")
        return count

    return paired(post, _inside(post), rounds=rounds)


def _inside(work: Any, *, store: str | None = None) -> Any:
    def metered() -> int:
        with budget(max_usd=10, store=store):
            count: int = work()
        return count

    return metered
