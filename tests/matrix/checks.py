"""What must hold with every version of an SDK. Run by ``run.py`` inside that version's environment.

Prints one JSON object for each check: its name, and what went wrong (null: nothing). Bare runs come first,
before taximeter has patched anything in this process. Needs the SDK and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from taximeter import BudgetExceededError, budget
from taximeter.errors import PriceUnknownError
from taximeter.testing import Fault, Reply, SimulatedProvider
from tests.acceptance.equality import difference, kind, seen

MESSAGES = [{"role": "user", "content": "Say something"}]
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": MESSAGES}
RESPONSE: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Say something"}
MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 400, "messages": MESSAGES}
GEMINI: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "Say something"}
BROKE: dict[str, Any] = {"max_usd": "0.000000001", "wait": 0}
Way = Callable[[Any], Any]


class Absent(Exception):
    """This version has no such method."""


def items(stream: Any) -> list[Any]:
    return [kind(stream), *[seen(item) for item in stream]]


async def items_async(stream: Any) -> list[Any]:
    return [kind(stream), *[seen(item) async for item in stream]]


def reach(thing: Any, *names: str) -> Any:
    for name in names:
        if not hasattr(thing, name):
            raise Absent(name)
        thing = getattr(thing, name)
    return thing


# --- openai --------------------------------------------------------------------------------------


def openai_client(provider: SimulatedProvider, *, kind: str = "OpenAI", **options: Any) -> Any:
    import openai

    options = {"api_key": "any", **options}
    if "Azure" in kind:
        options |= {"azure_endpoint": provider.azure_url, "api_version": "2024-10-21"}
    else:
        options["base_url"] = provider.base_url
    return getattr(openai, kind)(**options)


def chat(client: Any) -> list[Any]:
    return [seen(client.chat.completions.create(**CHAT))]


def chat_stream(client: Any) -> list[Any]:
    return items(client.chat.completions.create(**CHAT, stream=True))


def chat_usage(client: Any) -> list[Any]:
    create = client.chat.completions.create
    return items(create(**CHAT, stream=True, stream_options={"include_usage": True}))


def chat_helper(client: Any) -> list[Any]:
    home = client.chat if hasattr(client.chat.completions, "stream") else client.beta.chat
    with reach(home.completions, "stream")(**CHAT) as stream:
        return [*items(stream), seen(stream.get_final_completion())]


def chat_parse(client: Any) -> list[Any]:
    import pydantic

    class Word(pydantic.BaseModel):
        word: str

    home = client.chat if hasattr(client.chat.completions, "parse") else client.beta.chat
    return [seen(reach(home.completions, "parse")(**CHAT, response_format=Word))]


def chat_raw(client: Any) -> list[Any]:
    raw = client.chat.completions.with_raw_response.create(**CHAT, stream=True)
    return [kind(raw), dict(raw.headers), *items(raw.parse())]


def chat_bytes(client: Any) -> list[Any]:
    with client.chat.completions.with_streaming_response.create(**CHAT, stream=True) as response:
        return [dict(response.headers), b"".join(response.iter_bytes())]


def responses_stream(client: Any) -> list[Any]:
    return items(reach(client, "responses", "create")(**RESPONSE, stream=True))


def responses_helper(client: Any) -> list[Any]:
    with reach(client, "responses", "stream")(**RESPONSE) as stream:
        return [*items(stream), seen(stream.get_final_response())]


async def chat_async(client: Any) -> list[Any]:
    return [seen(await client.chat.completions.create(**CHAT))]


async def chat_stream_async(client: Any) -> list[Any]:
    return await items_async(await client.chat.completions.create(**CHAT, stream=True))


# --- anthropic -----------------------------------------------------------------------------------


def anthropic_client(
    provider: SimulatedProvider, *, kind: str = "Anthropic", **options: Any
) -> Any:
    import anthropic

    return getattr(anthropic, kind)(base_url=provider.anthropic_url, api_key="any", **options)


def messages(client: Any) -> list[Any]:
    return [seen(client.messages.create(**MESSAGE))]


def messages_stream(client: Any) -> list[Any]:
    return items(client.messages.create(**MESSAGE, stream=True))


def messages_helper(client: Any) -> list[Any]:
    with client.messages.stream(**MESSAGE) as stream:
        return [*items(stream), seen(stream.get_final_message())]


def messages_text(client: Any) -> list[Any]:
    with client.messages.stream(**MESSAGE) as stream:
        return [list(stream.text_stream), stream.get_final_text()]


def messages_beta(client: Any) -> list[Any]:
    return items(reach(client, "beta", "messages", "create")(**MESSAGE, stream=True))


def messages_raw(client: Any) -> list[Any]:
    raw = client.messages.with_raw_response.create(**MESSAGE)
    return [kind(raw), dict(raw.headers), seen(raw.parse())]


async def messages_async(client: Any) -> list[Any]:
    return [seen(await client.messages.create(**MESSAGE))]


async def messages_stream_async(client: Any) -> list[Any]:
    return await items_async(await client.messages.create(**MESSAGE, stream=True))


# --- google-genai --------------------------------------------------------------------------------


def gemini_client(provider: SimulatedProvider, *, kind: str = "", **options: Any) -> Any:
    from google import genai

    return genai.Client(api_key="any", http_options={"base_url": provider.gemini_url})


def generate(client: Any) -> list[Any]:
    return [seen(client.models.generate_content(**GEMINI))]


def generate_stream(client: Any) -> list[Any]:
    return items(client.models.generate_content_stream(**GEMINI))


def generate_chat(client: Any) -> list[Any]:
    conversation = client.chats.create(model=GEMINI["model"])
    return items(conversation.send_message_stream("Say something"))


async def generate_async(client: Any) -> list[Any]:
    return [seen(await client.aio.models.generate_content(**GEMINI))]


async def generate_stream_async(client: Any) -> list[Any]:
    return await items_async(await client.aio.models.generate_content_stream(**GEMINI))


# --- the checks ----------------------------------------------------------------------------------

WAYS: dict[str, list[tuple[Way, str]]] = {
    "openai": [
        (chat, "OpenAI"), (chat_stream, "OpenAI"), (chat_usage, "OpenAI"), (chat_helper, "OpenAI"),
        (chat_parse, "OpenAI"), (chat_raw, "OpenAI"), (chat_bytes, "OpenAI"),
        (responses_stream, "OpenAI"), (responses_helper, "OpenAI"),
        (chat, "AzureOpenAI"), (chat_stream, "AzureOpenAI"),
        (chat_async, "AsyncOpenAI"), (chat_stream_async, "AsyncOpenAI"),
        (chat_stream_async, "AsyncAzureOpenAI"),
    ],
    "anthropic": [
        (messages, "Anthropic"), (messages_stream, "Anthropic"), (messages_helper, "Anthropic"),
        (messages_text, "Anthropic"), (messages_beta, "Anthropic"), (messages_raw, "Anthropic"),
        (messages_async, "AsyncAnthropic"), (messages_stream_async, "AsyncAnthropic"),
    ],
    "google.genai": [
        (generate, "Client"), (generate_stream, "Client"), (generate_chat, "Client"),
        (generate_async, "Client"), (generate_stream_async, "Client"),
    ],
}  # fmt: skip
CLIENTS = {
    "openai": openai_client,
    "anthropic": anthropic_client,
    "google.genai": gemini_client,
}
STREAMS = {"openai": chat_stream, "anthropic": messages_stream, "google.genai": generate_stream}


def go(way: Way, client: Any) -> Any:
    """Run one way, synchronous or not, and let go of the client."""
    if not asyncio.iscoroutinefunction(way):
        try:
            return way(client)
        finally:
            if hasattr(client, "close"):
                client.close()

    async def run() -> Any:
        try:
            return await way(client)
        finally:
            if hasattr(client, "close") and not hasattr(client, "aio"):
                await client.close()

    return asyncio.run(run())


def reply_to(way: Way) -> Reply:
    return Reply(text='{"word": "taxi"}') if way is chat_parse else Reply(tokens=40)


def run(sdk: str, way: Way, client: str, settings: dict[str, Any] | None) -> tuple[Any, Any, Any]:
    """Facts of one run, the provider, and the budget (None: bare)."""
    with SimulatedProvider(reply_to(way), seed=3) as provider:
        spending = None if settings is None else budget(**settings)
        connected = CLIENTS[sdk](provider, kind=client)
        if spending is None:
            facts = go(way, connected)
        else:
            with spending:
                facts = go(way, connected)
        provider.wait_until_idle()
    return facts, provider, spending


def same_as_bare(sdk: str, way: Way, client: str, bare: Any) -> None:
    for settings in ({}, {"max_usd": 1000}):
        facts, provider, spending = run(sdk, way, client, settings)
        found = difference(bare, facts)
        assert found is None, found
        calls = spending.summary_data()["calls"]
        assert [call["settlement"] for call in calls] == ["exact"], calls
        assert spending.spent == provider.invoice[0].cost_usd, (spending.spent, provider.invoice)
        assert spending.held == 0


def refused_once(sdk: str, way: Way, client: str) -> None:
    with SimulatedProvider() as provider:
        caught = None
        with budget(**BROKE):
            try:
                go(way, CLIENTS[sdk](provider, kind=client))
            except Absent:
                raise
            except Exception as error:
                caught = error
        assert isinstance(caught, BudgetExceededError), repr(caught)
        assert caught.__cause__ is None, repr(caught.__cause__)
        assert provider.requests == [], len(provider.requests)


def price_unknown_once(sdk: str, way: Way, client: str) -> None:
    model, GEMINI["model"], CHAT["model"] = CHAT["model"], "nobody-1", "nobody-1"
    MESSAGE["model"], claude = "nobody-1", MESSAGE["model"]
    try:
        with SimulatedProvider() as provider:
            caught = None
            with budget(max_usd=1, unknown_model="refuse"):
                try:
                    go(way, CLIENTS[sdk](provider, kind=client))
                except Exception as error:
                    caught = error
            assert isinstance(caught, PriceUnknownError), repr(caught)
            assert provider.requests == [], len(provider.requests)
    finally:
        CHAT["model"], MESSAGE["model"], GEMINI["model"] = model, claude, "gemini-2.5-flash"


def stopped(sdk: str, on_limit: str) -> Any:
    """A long answer under a small budget, whose provider keeps no cap."""
    facts: list[Any] = []
    with SimulatedProvider(Reply(tokens=3000), seed=5) as provider:
        limits = {"max_usd": 1, "max_stream_output_tokens": 50, "on_limit": on_limit}
        with budget(**limits) as spending:
            try:
                facts = go(STREAMS[sdk], CLIENTS[sdk](provider))
            except Exception as error:
                facts = [error]
        provider.wait_until_idle()
        assert spending.held == 0
        assert spending.summary_data()["calls_total"] == 1
    return facts


def stop_raises(sdk: str) -> None:
    (error,) = stopped(sdk, "raise")
    assert isinstance(error, BudgetExceededError), repr(error)
    assert error.usage and error.usage["output_tokens"] > 0, error.usage


def stop_truncates(sdk: str) -> None:
    facts = stopped(sdk, "truncate")
    ends = {"openai": "finish_reason='length'", "anthropic": "message_stop"}
    assert ends.get(sdk, "MAX_TOKENS") in repr(facts[-1]), facts[-1]


def api_error_clause(sdk: str) -> None:
    """``except APIError`` around a synchronous call does not catch a refusal."""
    module = importlib.import_module(sdk)
    with SimulatedProvider() as provider, budget(**BROKE):
        try:
            go(STREAMS[sdk], CLIENTS[sdk](provider))
        except module.APIError as error:
            raise AssertionError(f"swallowed: {error!r}") from error
        except BudgetExceededError:
            return
    raise AssertionError("not refused")


def retried(sdk: str) -> None:
    fault = Fault.STATUS(500, times=2)
    with SimulatedProvider(Reply(tokens=9, fault=fault)) as provider:
        with budget(max_usd=1) as spending:
            go(STREAMS[sdk], CLIENTS[sdk](provider, max_retries=2))
        provider.wait_until_idle()
        states = [call["settlement"] for call in spending.summary_data()["calls"]]
        assert states == ["void", "void", "exact"], states
        assert len(provider.invoice) == 1
        assert spending.spent == provider.invoice[0].cost_usd


def wrapped(sdk: str) -> None:
    with SimulatedProvider(Reply(tokens=9)) as provider:
        mine, outer = budget(max_usd=1), budget(max_usd=1)
        with outer:
            go(STREAMS[sdk], mine.wrap(CLIENTS[sdk](provider)))
        provider.wait_until_idle()
        cost = provider.invoice[0].cost_usd
        assert (mine.spent, outer.spent, mine.held, outer.held) == (cost, cost, 0, 0)


def checks(sdk: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every check of one SDK. Made in order: the bare runs are done before anything is returned."""
    bare: dict[tuple[Way, str], Any] = {}
    for way, client in WAYS[sdk]:
        try:
            bare[way, client] = run(sdk, way, client, None)[0]
        except Absent:
            continue
    for (way, client), facts in bare.items():
        name = f"{client}.{way.__name__}"
        yield f"{name}: same", lambda w=way, c=client, f=facts: same_as_bare(sdk, w, c, f)
        yield f"{name}: refused once", lambda w=way, c=client: refused_once(sdk, w, c)
    by_client = {client: way for way, client in bare if "responses" not in way.__name__}
    for client, way in by_client.items():
        yield f"{client}: unpriced", lambda w=way, c=client: price_unknown_once(sdk, w, c)
    yield "stop raises", lambda: stop_raises(sdk)
    yield "stop truncates", lambda: stop_truncates(sdk)
    yield "wrap", lambda: wrapped(sdk)
    if sdk != "google.genai":
        yield "except APIError", lambda: api_error_clause(sdk)
        yield "retries", lambda: retried(sdk)


def main(sdk: str) -> None:
    warnings.simplefilter("ignore")
    for name, check in checks(sdk):
        problem = None
        try:
            check()
        except Exception:
            problem = traceback.format_exc(limit=-3)[-1500:]
        print(json.dumps({"check": name, "problem": problem}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
