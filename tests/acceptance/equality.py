"""What a caller can see of one SDK call, as comparable facts, and how to make the call in each way.

A *way* is one manner of using the SDK (``create``, raw response, streamed bytes, helper ...). Each gives
a list of facts: types, reprs, bytes, headers, exceptions with what hangs on them. Two runs are equal
when their lists are.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Facts = list[tuple[str, Any]]

# Made anew for every request, or telling what was sent rather than what came back.
_UNSTABLE_HEADERS = {"content-length", "idempotency-key", "x-stainless-idempotency-key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call: which method of which SDK, and with what."""

    wire: str
    streamed: bool
    arguments: dict[str, Any] = field(default_factory=dict)

    def having(self, **more: Any) -> Ask:
        """The same call with more arguments."""
        return Ask(wire=self.wire, streamed=self.streamed, arguments={**self.arguments, **more})


# --- facts ---------------------------------------------------------------------------------------


def kind(value: Any) -> str:
    """The full name of a value's type."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def seen(value: Any) -> Any:
    """A value as the caller sees it: its type, all it contains, and the SDK's private request id."""
    if isinstance(value, bytes | str | int | float | bool | None):
        return value
    return kind(value), repr(value), getattr(value, "_request_id", None)


def head(response: Any) -> Any:
    """The head of an HTTP response of either httpx, or of an SDK's own raw response."""
    return (
        kind(response),
        getattr(response, "status_code", None),
        sorted(_pairs(response.headers)),
        str(getattr(response, "url", "")),
    )


def _pairs(headers: Any) -> Any:
    return headers.multi_items() if hasattr(headers, "multi_items") else headers.items()


def request_headers(headers: Any) -> dict[str, str]:
    """Headers of a request that must not differ."""
    items = headers.items() if hasattr(headers, "items") else headers
    return {k.lower(): v for k, v in items if k.lower() not in _UNSTABLE_HEADERS}


def failure(error: BaseException) -> Any:
    """An exception: type, message, attributes, and what caused it."""
    facts: dict[str, Any] = {"type": kind(error), "text": str(error), "args": repr(error.args)}
    for name, value in vars(error).items():
        if name == "response" and hasattr(value, "headers"):
            facts[name] = (head(value), getattr(value, "_content", None))
        elif name == "request":
            facts[name] = (
                kind(value),
                value.method,
                str(value.url),
                request_headers(value.headers),
            )
        else:
            facts[name] = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    cause = error.__cause__
    facts["cause"] = (kind(cause), str(cause)) if cause is not None else None
    return facts


# --- streams and responses -----------------------------------------------------------------------


def drained(stream: Any) -> Iterator[tuple[str, Any]]:
    """The facts of a stream, read to its end."""
    yield "stream", kind(stream)
    if (response := getattr(stream, "response", None)) is not None:
        yield "head", head(response)
    for item in stream:
        yield "item", seen(item)
    if response is not None:
        yield "closed", response.is_closed


async def drained_async(stream: Any) -> AsyncIterator[tuple[str, Any]]:
    """The same of an asynchronous one."""
    yield "stream", kind(stream)
    if (response := getattr(stream, "response", None)) is not None:
        yield "head", head(response)
    async for item in stream:
        yield "item", seen(item)
    if response is not None:
        yield "closed", response.is_closed


def method(client: Any, wire: str, *through: str) -> Any:
    """The SDK's method for a wire, e.g. ``client.chat.completions.with_raw_response.create``."""
    homes = {
        "openai.chat": ("chat", "completions"),
        "openai.responses": ("responses",),
        "openai.completions": ("completions",),
        "embeddings": ("embeddings",),
        "anthropic.messages": ("messages",),
    }
    for name in (*homes[wire], *through):
        client = getattr(client, name)
    return client


# --- ways, sync ----------------------------------------------------------------------------------


def plain(client: Any, ask: Ask) -> Iterator[tuple[str, Any]]:
    """``create(...)``, iterated."""
    result = method(client, ask.wire, "create")(**ask.arguments)
    if ask.streamed:
        yield from drained(result)
    else:
        yield "result", seen(result)


def raw(client: Any, ask: Ask) -> Iterator[tuple[str, Any]]:
    """``with_raw_response.create(...)``, then parsed."""
    response = method(client, ask.wire, "with_raw_response", "create")(**ask.arguments)
    yield "raw", (kind(response), head(response.http_response), response.http_version)
    yield "retries", response.retries_taken
    if ask.streamed:
        yield from drained(response.parse())
    else:
        yield "text", (response.text, response.content)
        yield "result", seen(response.parse())
    yield "elapsed", kind(response.elapsed)


def byte_stream(client: Any, ask: Ask) -> Iterator[tuple[str, Any]]:
    """``with_streaming_response.create(...)``, its bytes."""
    with method(client, ask.wire, "with_streaming_response", "create")(**ask.arguments) as response:
        yield "raw", (kind(response), head(response.http_response))
        yield "bytes", b"".join(response.iter_bytes())
    yield "closed", response.is_closed


def line_stream(client: Any, ask: Ask) -> Iterator[tuple[str, Any]]:
    """``with_streaming_response.create(...)``, line by line."""
    with method(client, ask.wire, "with_streaming_response", "create")(**ask.arguments) as response:
        yield "lines", list(response.iter_lines())


def parsed_stream(client: Any, ask: Ask) -> Iterator[tuple[str, Any]]:
    """``with_streaming_response.create(...)``, parsed."""
    with method(client, ask.wire, "with_streaming_response", "create")(**ask.arguments) as response:
        result = response.parse()
        if ask.streamed:
            yield from drained(result)
        else:
            yield "result", seen(result)


def helper(client: Any, ask: Ask) -> Iterator[tuple[str, Any]]:
    """``stream(...)``, the SDK's own accumulating helper, and its final object."""
    arguments = {k: v for k, v in ask.arguments.items() if k != "stream"}
    with method(client, ask.wire, "stream")(**arguments) as stream:
        yield "stream", kind(stream)
        for event in stream:
            yield "event", seen(event)
        final = "get_final_message" if ask.wire == "anthropic.messages" else None
        final = final or ("get_final_completion" if ask.wire == "openai.chat" else None)
        yield "final", seen(getattr(stream, final or "get_final_response")())


def gemini(client: Any, ask: Ask) -> Iterator[tuple[str, Any]]:
    """``models.generate_content`` or ``generate_content_stream``."""
    if ask.wire == "embeddings":
        yield "result", seen(client.models.embed_content(**ask.arguments))
    elif ask.streamed:
        yield from drained(client.models.generate_content_stream(**ask.arguments))
    else:
        yield "result", seen(client.models.generate_content(**ask.arguments))


# --- ways, async ---------------------------------------------------------------------------------


async def plain_async(client: Any, ask: Ask) -> AsyncIterator[tuple[str, Any]]:
    """``await create(...)``, iterated."""
    result = await method(client, ask.wire, "create")(**ask.arguments)
    if ask.streamed:
        async for fact in drained_async(result):
            yield fact
    else:
        yield "result", seen(result)


async def raw_async(client: Any, ask: Ask) -> AsyncIterator[tuple[str, Any]]:
    """``await with_raw_response.create(...)``, then parsed."""
    response = await method(client, ask.wire, "with_raw_response", "create")(**ask.arguments)
    yield "raw", (kind(response), head(response.http_response), response.http_version)
    result = response.parse()
    if inspect.isawaitable(result):
        result = await result
    if ask.streamed:
        async for fact in drained_async(result):
            yield fact
    else:
        text, content = response.text, response.content
        if callable(text):  # anthropic
            text, content = await response.text(), await response.read()
        yield "text", (text, content)
        yield "result", seen(result)


async def byte_stream_async(client: Any, ask: Ask) -> AsyncIterator[tuple[str, Any]]:
    """``with_streaming_response`` asynchronously: bytes."""
    manager = method(client, ask.wire, "with_streaming_response", "create")(**ask.arguments)
    async with manager as response:
        yield "raw", (kind(response), head(response.http_response))
        yield "bytes", b"".join([part async for part in response.iter_bytes()])


async def line_stream_async(client: Any, ask: Ask) -> AsyncIterator[tuple[str, Any]]:
    """``with_streaming_response`` asynchronously: lines."""
    manager = method(client, ask.wire, "with_streaming_response", "create")(**ask.arguments)
    async with manager as response:
        yield "lines", [line async for line in response.iter_lines()]


async def helper_async(client: Any, ask: Ask) -> AsyncIterator[tuple[str, Any]]:
    """``stream(...)`` asynchronously."""
    arguments = {k: v for k, v in ask.arguments.items() if k != "stream"}
    async with method(client, ask.wire, "stream")(**arguments) as stream:
        yield "stream", kind(stream)
        async for event in stream:
            yield "event", seen(event)
        final = "get_final_message" if ask.wire == "anthropic.messages" else None
        final = final or ("get_final_completion" if ask.wire == "openai.chat" else None)
        yield "final", seen(await getattr(stream, final or "get_final_response")())


async def gemini_async(client: Any, ask: Ask) -> AsyncIterator[tuple[str, Any]]:
    """``aio.models``."""
    if ask.wire == "embeddings":
        yield "result", seen(await client.aio.models.embed_content(**ask.arguments))
    elif ask.streamed:
        stream = await client.aio.models.generate_content_stream(**ask.arguments)
        async for fact in drained_async(stream):
            yield fact
    else:
        yield "result", seen(await client.aio.models.generate_content(**ask.arguments))


SYNC: tuple[Callable[..., Any], ...] = (plain, raw, byte_stream, line_stream, parsed_stream, helper)
ASYNC: tuple[Callable[..., Any], ...] = (
    plain_async, raw_async, byte_stream_async, line_stream_async, helper_async,
)  # fmt: skip


def ways(ask: Ask, *, asynchronous: bool = False) -> tuple[Callable[..., Any], ...]:
    """The ways in which this call can be made."""
    if ask.wire == "gemini.generate" or "contents" in ask.arguments:
        return (gemini_async,) if asynchronous else (gemini,)
    chosen = ASYNC if asynchronous else SYNC
    if not ask.streamed or ask.wire in ("openai.completions", "embeddings"):
        chosen = tuple(way for way in chosen if not way.__name__.startswith("helper"))
    return chosen


# --- running and comparing -----------------------------------------------------------------------


def collect(way: Callable[..., Any], client: Any, ask: Ask) -> Facts:
    """Everything a caller sees, up to and with an exception."""
    facts: Facts = []
    try:
        facts.extend(way(client, ask))
    except Exception as error:
        facts.append(("raised", failure(error)))
    return facts


async def collect_async(way: Callable[..., Any], client: Any, ask: Ask) -> Facts:
    """The same, asynchronously."""
    facts: Facts = []
    try:
        async for fact in way(client, ask):
            facts.append(fact)
    except Exception as error:
        facts.append(("raised", failure(error)))
    return facts


def difference(bare: Facts, metered: Facts) -> str | None:
    """The first fact that differs, in words; None when there is none."""
    for at, (one, other) in enumerate(zip(bare, metered, strict=False)):
        if one != other:
            return f"fact {at}: {_apart(repr(one), repr(other))}"
    if len(bare) != len(metered):
        more = bare[len(metered) :] or metered[len(bare) :]
        return f"{len(bare)} facts bare, {len(metered)} metered; beyond: {_short(more[0])}"
    return None


def _apart(bare: str, metered: str) -> str:
    """Both texts from just before where they part."""
    pairs = zip(bare, metered, strict=False)
    same = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(bare), len(metered)))
    start = max(0, same - 120)
    return f"bare ...{bare[start : same + 300]} but metered ...{metered[start : same + 300]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 700 else f"{text[:500]} ... {text[-180:]}"


# --- what is changed on purpose ------------------------------------------------------------------

_EVENT_END = re.compile(rb"(\r\n\r\n|\n\n|\r\r)")
_NULL = re.compile(rb'(?:,\s?"usage"\s?:\s?null)|(?<=\{)"usage"\s?:\s?null,\s?')


def without_usage(body: bytes) -> bytes:
    """A chat stream as its provider would have sent it, had nobody asked for usage."""
    parts = _EVENT_END.split(body)
    kept: list[bytes] = []
    for at in range(0, len(parts), 2):
        event, end = parts[at], parts[at + 1] if at + 1 < len(parts) else b""
        data = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
        try:
            chunk = json.loads(data)
        except ValueError:
            chunk = None
        if isinstance(chunk, dict):
            if chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict):
                continue
            if "usage" in chunk and chunk["usage"] is None:
                event = _NULL.sub(b"", event)
        kept += [event, end]
    return b"".join(kept)


_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")


def without_own_changes(bare: Any, metered: Any) -> Any:
    """The metered request's body with what taximeter changes on purpose put back."""
    if not (isinstance(bare, dict) and isinstance(metered, dict)):
        return metered
    body = dict(metered)
    if body.get("stream_options") != bare.get("stream_options"):
        asked = dict(body["stream_options"])
        assert asked.pop("include_usage") is True
        before = dict(bare.get("stream_options") or {})
        before.pop("include_usage", None)
        assert asked == before, (asked, before)
        body.pop("stream_options")
        if "stream_options" in bare:
            body["stream_options"] = bare["stream_options"]
    if "generationConfig" in body:
        inner = without_own_changes(bare.get("generationConfig", {}), body["generationConfig"])
        body["generationConfig"] = inner
        if not inner and "generationConfig" not in bare:
            body.pop("generationConfig")
    for cap in _CAPS:
        if cap in body and body[cap] != bare.get(cap):
            assert bare.get(cap) is None or body[cap] < bare[cap], (cap, body[cap], bare[cap])
            body.pop(cap)
            if cap in bare:
                body[cap] = bare[cap]
    return body
