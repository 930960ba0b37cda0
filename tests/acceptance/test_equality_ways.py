"""Every way of calling the SDKs gives what it gives without taximeter, and one call in the ledger.

Two providers of one seed answer alike, so the bare run and the metered one can be compared whole.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pydantic
import pytest
from anthropic import Anthropic
from google import genai
from openai import AzureOpenAI, OpenAI

from taximeter import budget
from taximeter.testing import Fault, Reply, SimulatedProvider
from tests.acceptance.equality import difference, failure, kind, request_headers, seen
from tests.acceptance.recorded_calls import uninstrumented

MESSAGES = [{"role": "user", "content": "Say something"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
RESPONSE = {"model": "gpt-4o-mini", "input": "Say something"}
MESSAGE = {"model": "claude-haiku-4-5", "max_tokens": 300, "messages": MESSAGES}
STORY = Reply(tokens=40)
WORD = Reply(text='{"word": "taxi"}')


class Word(pydantic.BaseModel):
    word: str


class Kit:
    """Clients of one provider, closed at the end."""

    def __init__(self, provider: SimulatedProvider, stack: ExitStack, late: AsyncExitStack) -> None:
        self.provider = provider
        self._stack = stack
        self._late = late

    def openai(self, client_type: Any = None, **options: Any) -> Any:
        options = {"base_url": self.provider.base_url, "api_key": "any", **options}
        return self._closing((client_type or OpenAI)(**options))

    def azure(self, client_type: Any = None, **options: Any) -> Any:
        return self._closing(
            (client_type or AzureOpenAI)(
                azure_endpoint=self.provider.azure_url,
                api_key="any",
                api_version="2024-10-21",
                **options,
            )
        )

    def anthropic(self, client_type: Any = None, **options: Any) -> Any:
        options = {"base_url": self.provider.anthropic_url, "api_key": "any", **options}
        return self._closing((client_type or Anthropic)(**options))

    def gemini(self, **options: Any) -> Any:
        url = {"base_url": self.provider.gemini_url, **options}
        client = genai.Client(api_key="any", http_options=url)
        self._stack.callback(client.close)
        self._late.push_async_callback(client.aio.aclose)
        return client

    def http(self, client_type: Any, **options: Any) -> Any:
        return self._closing(client_type(**options))

    def _closing(self, client: Any) -> Any:
        if hasattr(client, "__aenter__"):
            close = client.close if hasattr(client, "close") else client.aclose
            self._late.push_async_callback(close)
        else:
            self._stack.enter_context(client)
        return client


# --- the ways ------------------------------------------------------------------------------------
# Each takes a kit and yields facts. Named by what a user would write.


def items(stream: Any) -> Iterator[Any]:
    yield kind(stream)
    for item in stream:
        yield seen(item)


async def items_async(stream: Any) -> list[Any]:
    return [kind(stream), *[seen(item) async for item in stream]]


def chat_create(kit: Kit) -> Iterator[Any]:
    yield seen(kit.openai().chat.completions.create(**CHAT))


def chat_stream(kit: Kit) -> Iterator[Any]:
    stream = kit.openai().chat.completions.create(**CHAT, stream=True)
    yield from items(stream)
    yield stream.response.is_closed, kind(stream.response.elapsed)


def chat_stream_two_choices(kit: Kit) -> Iterator[Any]:
    yield from items(kit.openai().chat.completions.create(**CHAT, n=2, stream=True))


def chat_stream_usage_asked(kit: Kit) -> Iterator[Any]:
    options = {"include_usage": True}
    stream = kit.openai().chat.completions.create(**CHAT, stream=True, stream_options=options)
    facts = list(items(stream))
    assert "CompletionUsage(" in str(facts[-1])
    yield from facts
    yield options


def chat_stream_usage_declined(kit: Kit) -> Iterator[Any]:
    options = {"include_usage": False}
    stream = kit.openai().chat.completions.create(**CHAT, stream=True, stream_options=options)
    facts = list(items(stream))
    assert not any("CompletionUsage(" in str(fact) for fact in facts)
    yield from facts
    assert options == {"include_usage": False}


def chat_stream_as_context(kit: Kit) -> Iterator[Any]:
    with kit.openai().chat.completions.create(**CHAT, stream=True) as stream:
        yield from items(stream)


def chat_stream_by_next(kit: Kit) -> Iterator[Any]:
    stream = kit.openai().chat.completions.create(**CHAT, stream=True)
    yield seen(next(stream))
    yield from items(stream)


def chat_helper(kit: Kit) -> Iterator[Any]:
    with kit.openai().chat.completions.stream(**CHAT) as stream:
        yield from items(stream)
        yield seen(stream.get_final_completion())


def chat_helper_until_done(kit: Kit) -> Iterator[Any]:
    with kit.openai().chat.completions.stream(**CHAT) as stream:
        yield seen(stream.until_done().get_final_completion())


def chat_helper_beta(kit: Kit) -> Iterator[Any]:
    with kit.openai().beta.chat.completions.stream(**CHAT) as stream:
        yield from items(stream)


def chat_parse(kit: Kit) -> Iterator[Any]:
    yield seen(kit.openai().chat.completions.parse(**CHAT, response_format=Word))


def chat_helper_parsed(kit: Kit) -> Iterator[Any]:
    with kit.openai().chat.completions.stream(**CHAT, response_format=Word) as stream:
        yield seen(stream.get_final_completion().choices[0].message.parsed)


def chat_raw(kit: Kit) -> Iterator[Any]:
    response = kit.openai().chat.completions.with_raw_response.create(**CHAT)
    yield kind(response), sorted(response.headers), response.text, response.status_code
    yield seen(response.parse())


def chat_raw_stream(kit: Kit) -> Iterator[Any]:
    raw = kit.openai().chat.completions.with_raw_response.create(**CHAT, stream=True)
    yield kind(raw), dict(raw.headers)
    yield from items(raw.parse())


def chat_streamed_bytes(kit: Kit) -> Iterator[Any]:
    create = kit.openai().chat.completions.with_streaming_response.create
    with create(**CHAT, stream=True) as response:
        yield kind(response), dict(response.headers)
        yield b"".join(response.iter_bytes())


def chat_streamed_text(kit: Kit) -> Iterator[Any]:
    create = kit.openai().chat.completions.with_streaming_response.create
    with create(**CHAT, stream=True) as response:
        yield "".join(response.iter_text())


def chat_streamed_whole(kit: Kit) -> Iterator[Any]:
    with kit.openai().chat.completions.with_streaming_response.create(**CHAT) as response:
        yield response.read(), response.json()


def chat_with_options(kit: Kit) -> Iterator[Any]:
    client = kit.openai().with_options(max_retries=1, timeout=20.0)
    yield from items(client.chat.completions.create(**CHAT, stream=True))


def chat_legacy_http_client(kit: Kit) -> Iterator[Any]:
    client = kit.openai(http_client=kit.http(httpx.Client))
    yield from items(client.chat.completions.create(**CHAT, stream=True))


def chat_own_http_client(kit: Kit) -> Iterator[Any]:
    client = kit.openai(http_client=kit.http(httpx2.Client, headers={"x-mine": "1"}))
    yield from items(client.chat.completions.create(**CHAT, stream=True))


def chat_own_transport(kit: Kit) -> Iterator[Any]:
    class Mine(httpx2.HTTPTransport):
        pass

    client = kit.openai(http_client=kit.http(httpx2.Client, transport=Mine()))
    yield from items(client.chat.completions.create(**CHAT, stream=True))


def chat_generic_post(kit: Kit) -> Iterator[Any]:
    answer = kit.openai().post("/chat/completions", cast_to=httpx2.Response, body=dict(CHAT))
    yield answer.json()


def chat_extra_body(kit: Kit) -> Iterator[Any]:
    extra = {"top_k": 3, "stream_options": {"include_obfuscation": False}}
    create = kit.openai().chat.completions.create
    yield from items(create(**CHAT, stream=True, extra_body=extra))
    assert extra == {"top_k": 3, "stream_options": {"include_obfuscation": False}}


def azure_chat(kit: Kit) -> Iterator[Any]:
    yield seen(kit.azure().chat.completions.create(**CHAT))


def azure_stream(kit: Kit) -> Iterator[Any]:
    yield from items(kit.azure().chat.completions.create(**CHAT, stream=True))


def azure_stream_deployment(kit: Kit) -> Iterator[Any]:
    client = kit.azure(azure_deployment="gpt-4o-mini")
    yield from items(client.chat.completions.create(**CHAT, stream=True))


def responses_create(kit: Kit) -> Iterator[Any]:
    yield seen(kit.openai().responses.create(**RESPONSE))


def responses_stream(kit: Kit) -> Iterator[Any]:
    yield from items(kit.openai().responses.create(**RESPONSE, stream=True))


def responses_helper(kit: Kit) -> Iterator[Any]:
    with kit.openai().responses.stream(**RESPONSE) as stream:
        yield from items(stream)
        yield seen(stream.get_final_response())


def responses_parse(kit: Kit) -> Iterator[Any]:
    yield seen(kit.openai().responses.parse(**RESPONSE, text_format=Word))


def responses_raw(kit: Kit) -> Iterator[Any]:
    response = kit.openai().responses.with_raw_response.create(**RESPONSE)
    yield response.text, seen(response.parse())


def completions_stream(kit: Kit) -> Iterator[Any]:
    create = kit.openai().completions.create
    yield from items(create(model="gpt-3.5-turbo-instruct", prompt="Say", stream=True))


def embeddings_create(kit: Kit) -> Iterator[Any]:
    yield seen(kit.openai().embeddings.create(model="text-embedding-3-small", input="Say"))


def messages_create(kit: Kit) -> Iterator[Any]:
    yield seen(kit.anthropic().messages.create(**MESSAGE))


def messages_stream(kit: Kit) -> Iterator[Any]:
    yield from items(kit.anthropic().messages.create(**MESSAGE, stream=True))


def messages_helper(kit: Kit) -> Iterator[Any]:
    with kit.anthropic().messages.stream(**MESSAGE) as stream:
        yield from items(stream)
        yield seen(stream.get_final_message()), stream.get_final_text()


def messages_text_stream(kit: Kit) -> Iterator[Any]:
    with kit.anthropic().messages.stream(**MESSAGE) as stream:
        yield list(stream.text_stream)
        yield seen(stream.current_message_snapshot)


def messages_final_message(kit: Kit) -> Iterator[Any]:
    with kit.anthropic().messages.stream(**MESSAGE) as stream:
        yield seen(stream.get_final_message())


def messages_beta(kit: Kit) -> Iterator[Any]:
    yield seen(kit.anthropic().beta.messages.create(**MESSAGE))


def messages_beta_helper(kit: Kit) -> Iterator[Any]:
    with kit.anthropic().beta.messages.stream(**MESSAGE) as stream:
        yield from items(stream)


def messages_raw(kit: Kit) -> Iterator[Any]:
    response = kit.anthropic().messages.with_raw_response.create(**MESSAGE)
    yield kind(response), dict(response.headers), response.text()
    yield seen(response.parse())


def messages_streamed_lines(kit: Kit) -> Iterator[Any]:
    create = kit.anthropic().messages.with_streaming_response.create
    with create(**MESSAGE, stream=True) as response:
        yield list(response.iter_lines())


def messages_count_tokens(kit: Kit) -> Iterator[Any]:
    count = kit.anthropic().messages.count_tokens
    yield seen(count(model=MESSAGE["model"], messages=MESSAGES))


def gemini_generate(kit: Kit) -> Iterator[Any]:
    yield seen(kit.gemini().models.generate_content(model="gemini-2.5-flash", contents="Say"))


def gemini_stream(kit: Kit) -> Iterator[Any]:
    models = kit.gemini().models
    yield from items(models.generate_content_stream(model="gemini-2.5-flash", contents="Say"))


def gemini_chat(kit: Kit) -> Iterator[Any]:
    chat = kit.gemini().chats.create(model="gemini-2.5-flash")
    yield from items(chat.send_message_stream("Say"))
    yield seen(chat.get_history())


def gemini_legacy_http_client(kit: Kit) -> Iterator[Any]:
    client = kit.gemini(httpx_client=kit.http(httpx.Client))
    yield from items(
        client.models.generate_content_stream(model="gemini-2.5-flash", contents="Say")
    )


def httpx_post(kit: Kit) -> Iterator[Any]:
    answer = httpx.post(f"{kit.provider.base_url}/chat/completions", json=CHAT)
    yield answer.json(), dict(answer.headers), kind(answer), answer.num_bytes_downloaded


def httpx2_stream(kit: Kit) -> Iterator[Any]:
    url = f"{kit.provider.base_url}/chat/completions"
    with httpx2.stream("POST", url, json={**CHAT, "stream": True}) as answer:
        yield kind(answer), dict(answer.headers), list(answer.iter_lines())


def httpx_raw_stream(kit: Kit) -> Iterator[Any]:
    url = f"{kit.provider.root_url}/v1/messages"
    with httpx.stream("POST", url, json={**MESSAGE, "stream": True}) as answer:
        yield b"".join(answer.iter_raw())


# --- asynchronous --------------------------------------------------------------------------------


async def chat_create_async(kit: Kit) -> list[Any]:
    return [seen(await kit.openai(openai.AsyncOpenAI).chat.completions.create(**CHAT))]


async def chat_stream_async(kit: Kit) -> list[Any]:
    client = kit.openai(openai.AsyncOpenAI)
    return await items_async(await client.chat.completions.create(**CHAT, stream=True))


async def chat_helper_async(kit: Kit) -> list[Any]:
    async with kit.openai(openai.AsyncOpenAI).chat.completions.stream(**CHAT) as stream:
        return [*await items_async(stream), seen(await stream.get_final_completion())]


async def chat_parse_async(kit: Kit) -> list[Any]:
    client = kit.openai(openai.AsyncOpenAI)
    return [seen(await client.chat.completions.parse(**CHAT, response_format=Word))]


async def chat_raw_async(kit: Kit) -> list[Any]:
    create = kit.openai(openai.AsyncOpenAI).chat.completions.with_raw_response.create
    response = await create(**CHAT, stream=True)
    return [dict(response.headers), *await items_async(response.parse())]


async def chat_streamed_bytes_async(kit: Kit) -> list[Any]:
    create = kit.openai(openai.AsyncOpenAI).chat.completions.with_streaming_response.create
    async with create(**CHAT, stream=True) as response:
        return [b"".join([part async for part in response.iter_bytes()])]


async def chat_legacy_http_client_async(kit: Kit) -> list[Any]:
    client = kit.openai(openai.AsyncOpenAI, http_client=kit.http(httpx.AsyncClient))
    return await items_async(await client.chat.completions.create(**CHAT, stream=True))


async def chat_gathered_async(kit: Kit) -> list[Any]:
    return (await asyncio.gather(chat_stream_async(kit)))[0]


async def azure_stream_async(kit: Kit) -> list[Any]:
    client = kit.azure(openai.AsyncAzureOpenAI)
    return await items_async(await client.chat.completions.create(**CHAT, stream=True))


async def responses_stream_async(kit: Kit) -> list[Any]:
    client = kit.openai(openai.AsyncOpenAI)
    return await items_async(await client.responses.create(**RESPONSE, stream=True))


async def responses_helper_async(kit: Kit) -> list[Any]:
    async with kit.openai(openai.AsyncOpenAI).responses.stream(**RESPONSE) as stream:
        return [*await items_async(stream), seen(await stream.get_final_response())]


async def messages_create_async(kit: Kit) -> list[Any]:
    return [seen(await kit.anthropic(anthropic.AsyncAnthropic).messages.create(**MESSAGE))]


async def messages_stream_async(kit: Kit) -> list[Any]:
    client = kit.anthropic(anthropic.AsyncAnthropic)
    return await items_async(await client.messages.create(**MESSAGE, stream=True))


async def messages_text_stream_async(kit: Kit) -> list[Any]:
    async with kit.anthropic(anthropic.AsyncAnthropic).messages.stream(**MESSAGE) as stream:
        texts = [text async for text in stream.text_stream]
        return [texts, seen(await stream.get_final_message())]


async def gemini_generate_async(kit: Kit) -> list[Any]:
    models = kit.gemini().aio.models
    return [seen(await models.generate_content(model="gemini-2.5-flash", contents="Say"))]


async def gemini_stream_async(kit: Kit) -> list[Any]:
    models = kit.gemini().aio.models
    return await items_async(
        await models.generate_content_stream(model="gemini-2.5-flash", contents="Say")
    )


WAYS: tuple[Callable[[Kit], Any], ...] = (
    chat_create, chat_stream, chat_stream_two_choices, chat_stream_usage_asked,
    chat_stream_usage_declined, chat_stream_as_context, chat_stream_by_next, chat_helper,
    chat_helper_until_done, chat_helper_beta, chat_parse, chat_helper_parsed, chat_raw,
    chat_raw_stream, chat_streamed_bytes, chat_streamed_text, chat_streamed_whole,
    chat_with_options, chat_legacy_http_client, chat_own_http_client, chat_own_transport,
    chat_generic_post, chat_extra_body, azure_chat, azure_stream, azure_stream_deployment,
    responses_create, responses_stream, responses_helper, responses_parse, responses_raw,
    completions_stream, embeddings_create, messages_create, messages_stream, messages_helper,
    messages_text_stream, messages_final_message, messages_beta, messages_beta_helper,
    messages_raw, messages_streamed_lines, messages_count_tokens, gemini_generate, gemini_stream,
    gemini_chat, gemini_legacy_http_client, httpx_post, httpx2_stream, httpx_raw_stream,
    chat_create_async, chat_stream_async, chat_helper_async, chat_parse_async, chat_raw_async,
    chat_streamed_bytes_async, chat_legacy_http_client_async, chat_gathered_async,
    azure_stream_async, responses_stream_async, responses_helper_async, messages_create_async,
    messages_stream_async, messages_text_stream_async, gemini_generate_async, gemini_stream_async,
)  # fmt: skip
BUDGETS = {
    "tracked": {},
    "clamped": {"max_usd": 1000},
    "strict": {"max_usd": 1000, "mode": "strict"},
}


def run(
    way: Callable[[Kit], Any], reply: Reply, settings: dict[str, Any] | None, **more: Any
) -> Any:
    """Facts, requests and the budget of one run on a provider of its own."""
    with SimulatedProvider(reply, seed=7, **more) as provider:
        spending = None if settings is None else budget(**settings)
        facts: list[Any] = []

        def attempt() -> None:
            with ExitStack() as stack, asyncio.Runner() as runner:
                late = runner.run(_entered())
                kit = Kit(provider, stack, late)
                try:
                    if way.__name__.endswith("_async"):
                        facts.extend(runner.run(way(kit), context=contextvars.copy_context()))
                    else:
                        facts.extend(way(kit))
                except Exception as error:
                    facts.append(failure(error))
                finally:
                    runner.run(late.aclose())

        if spending is None:
            with uninstrumented():
                attempt()
        else:
            with spending:
                attempt()
        provider.wait_until_idle()
        port = provider.root_url.rpartition(":")[2]
        return _portless(facts, port), provider.requests, provider.invoice, spending


async def _entered() -> AsyncExitStack:
    return AsyncExitStack()


def _portless(facts: list[Any], port: str) -> list[Any]:
    return json.loads(json.dumps(facts, default=_text).replace(f":{port}", ":PORT"))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else repr(value)


def reply_for(way: Callable[[Kit], Any]) -> Reply:
    return WORD if "parse" in way.__name__ else STORY


def pairs() -> Iterator[Any]:
    """Every way clamped, which changes most; the rest is long, but for one in five."""
    for at, way in enumerate(WAYS):
        for settings in BUDGETS:
            usual = settings == "clamped" or (at + len(settings)) % 5 == 0
            marks = () if usual else pytest.mark.slow
            yield pytest.param(way, settings, id=f"{way.__name__}-{settings}", marks=marks)


@pytest.mark.parametrize(("way", "settings"), list(pairs()))
def test_a_way_of_calling_is_the_same_under_a_budget(
    way: Callable[[Kit], Any], settings: str
) -> None:
    bare, bare_requests, _, _ = run(way, reply_for(way), None)
    metered, requests, invoice, spending = run(way, reply_for(way), BUDGETS[settings])
    assert spending is not None
    assert (found := difference(bare, metered)) is None, found
    assert not any(isinstance(fact, dict) and "cause" in fact for fact in metered), metered[-1]
    assert len(requests) == len(bare_requests) == 1
    assert _heads(requests) == _heads(bare_requests)
    calls = spending.summary_data()["calls"]
    if way is messages_count_tokens:
        assert calls == []
        return
    assert [call["settlement"] for call in calls] == ["exact"]
    assert [line.usage["output_tokens"] for line in invoice] == [calls[0]["output_tokens"]]
    assert calls[0]["streamed"] is requests[0].streamed


def _heads(requests: Any) -> list[Any]:
    heads = []
    for request in requests:
        headers = request_headers(request.headers)
        headers.pop("host", None)
        heads.append((request.method, request.path, request.query, headers))
    return heads


@pytest.mark.parametrize(
    "way",
    [chat_stream, chat_create, messages_stream, gemini_stream, responses_stream, chat_raw_stream,
     httpx2_stream, chat_stream_async, messages_stream_async, azure_stream_async],
    ids=lambda way: way.__name__,
)  # fmt: skip
@pytest.mark.parametrize("settings", ["tracked", "clamped"])
def test_compressed_answers_are_the_same(way: Callable[[Kit], Any], settings: str) -> None:
    bare, *_ = run(way, STORY, None, gzip=True)
    metered, _, invoice, spending = run(way, STORY, BUDGETS[settings], gzip=True)
    assert (found := difference(bare, metered)) is None, found
    call = spending.summary_data()["calls"][0]
    assert (call["settlement"], call["output_tokens"]) == (
        "exact",
        invoice[0].usage["output_tokens"],
    )


@pytest.mark.parametrize(
    "status", [400, 500, *(pytest.param(one, marks=pytest.mark.slow) for one in (401, 404, 429))]
)
@pytest.mark.parametrize(
    "way",
    [chat_create, chat_stream, chat_helper, responses_stream, messages_create, messages_helper,
     gemini_stream, azure_chat, chat_stream_async, messages_stream_async, gemini_generate_async],
    ids=lambda way: way.__name__,
)  # fmt: skip
def test_errors_of_the_provider_are_the_same(way: Callable[[Kit], Any], status: int) -> None:
    reply = Reply(tokens=5, fault=Fault.STATUS(status))
    bare, bare_requests, *_ = run(way, reply, None)
    metered, requests, _, spending = run(way, reply, BUDGETS["clamped"])
    assert (found := difference(bare, metered)) is None, found
    assert len(requests) == len(bare_requests)
    assert spending.spent == 0
    assert spending.held == 0


@pytest.mark.parametrize("fault", [Fault.ERROR_EVENT(after=3), Fault.CUT(after=3),
                                   Fault.GARBAGE(after=3), Fault.NO_END(after=3)],
                         ids=lambda fault: fault.kind)  # fmt: skip
@pytest.mark.parametrize(
    "way",
    [chat_stream, responses_stream, messages_stream, messages_helper, gemini_stream,
     chat_stream_async, messages_stream_async],
    ids=lambda way: way.__name__,
)  # fmt: skip
@pytest.mark.parametrize("settings", ["tracked", "clamped"])
def test_damaged_streams_are_the_same(
    way: Callable[[Kit], Any], fault: Fault, settings: str
) -> None:
    reply = Reply(tokens=40, fault=fault)
    # One event in one packet: what a break leaves behind does not depend on how packets fell.
    bare, *_ = run(way, reply, None, events_per_write=1)
    metered, *_, spending = run(way, reply, BUDGETS[settings], events_per_write=1)
    assert (found := difference(bare, metered)) is None, found
    assert spending.summary_data()["calls_total"] == 1
    assert spending.held == 0
