"""A refusal reaches the caller once and as it is, from every way of calling; nothing is sent."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import anthropic
import openai
import pytest

from taximeter import BudgetExceededError, budget
from taximeter.errors import PriceUnknownError, StoreUnavailableError
from taximeter.stores.memory import MemoryStore
from taximeter.testing import Reply, SimulatedProvider
from tests.acceptance.test_equality_ways import (
    CHAT,
    MESSAGE,
    WAYS,
    Kit,
    azure_chat,
    azure_stream_async,
    chat_create,
    chat_create_async,
    chat_stream,
    chat_stream_async,
    gemini_generate,
    gemini_generate_async,
    httpx_post,
    messages_count_tokens,
    messages_create,
    messages_stream_async,
)

BROKE = {"max_usd": "0.000000001", "wait": 0}


def attempt(way: Callable[[Kit], Any], provider: SimulatedProvider) -> Any:
    """Make the call; what it raises is the caller's to see."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        late = runner.run(_stack())
        try:
            kit = Kit(provider, stack, late)
            if way.__name__.endswith("_async"):
                return runner.run(way(kit), context=contextvars.copy_context())
            return list(way(kit))
        finally:
            runner.run(late.aclose())


async def _stack() -> AsyncExitStack:
    return AsyncExitStack()


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way is not messages_count_tokens], ids=lambda way: way.__name__
)
def test_a_refusal_surfaces_once_and_unwrapped(way: Callable[[Kit], Any]) -> None:
    with SimulatedProvider(Reply(tokens=5)) as provider:
        caught = None
        with budget(**BROKE, name="tiny", store="memory://") as b:
            try:
                attempt(way, provider)
            except Exception as error:  # before the budget's own exit could unwrap it
                caught = error
        assert isinstance(caught, BudgetExceededError), repr(caught)
        assert type(caught).__name__ == "BudgetExceededError"
        assert caught.__cause__ is None
        assert caught.scope == "tiny"
        assert caught.requested is not None
        assert provider.requests == []
        assert b.calls_refused == 1
        assert b.held == 0
        assert b.exceeded is caught


def test_an_sdk_error_clause_does_not_swallow_a_refusal() -> None:
    caught: list[Any] = []
    with SimulatedProvider() as provider, budget(**BROKE):
        with openai.OpenAI(base_url=provider.base_url, api_key="any") as client:
            try:
                client.chat.completions.create(**CHAT)
            except openai.APIError:
                pytest.fail("taken for an error of the API")
            except BudgetExceededError as error:
                caught.append(error)
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="any") as claude:
            try:
                claude.messages.create(**MESSAGE)
            except anthropic.APIError:
                pytest.fail("taken for an error of the API")
            except BudgetExceededError as error:
                caught.append(error)
        assert provider.requests == []
    assert [type(error) for error in caught] == [BudgetExceededError, BudgetExceededError]


CLIENTS = [
    chat_create, chat_stream, chat_create_async, chat_stream_async, azure_chat, azure_stream_async,
    messages_create, messages_stream_async, gemini_generate, gemini_generate_async, httpx_post,
]  # fmt: skip


@pytest.mark.parametrize(
    "way", [way for way in CLIENTS if "gemini" not in way.__name__], ids=lambda way: way.__name__
)
def test_an_unknown_price_surfaces_once_and_unwrapped(
    way: Callable[[Kit], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.acceptance import test_equality_ways as ways

    for fields in ("CHAT", "MESSAGE"):
        monkeypatch.setitem(getattr(ways, fields), "model", "nobody-knows-this-1")
    with SimulatedProvider() as provider, budget(max_usd=1, unknown_model="refuse"):
        with pytest.raises(PriceUnknownError, match="nobody-knows-this-1") as caught:
            attempt(way, provider)
        assert caught.value.__cause__ is None
        assert provider.requests == []


class LostStore(MemoryStore):
    """A store that cannot be reached."""

    def hold(self, *args: Any, **options: Any) -> Any:
        raise StoreUnavailableError("the store is gone")

    read = hold


@pytest.mark.parametrize("way", CLIENTS, ids=lambda way: way.__name__)
def test_a_lost_store_surfaces_once_and_unwrapped(way: Callable[[Kit], Any]) -> None:
    with SimulatedProvider() as provider:
        caught = None
        with budget(max_usd=1, store=LostStore()):
            try:
                attempt(way, provider)
            except Exception as error:
                caught = error
        assert isinstance(caught, StoreUnavailableError), repr(caught)
        assert provider.requests == []


def test_a_refusal_keeps_its_facts_where_it_belongs_to_two_trees() -> None:
    with SimulatedProvider() as provider, budget(**BROKE, name="two"):
        with pytest.raises(BudgetExceededError) as caught:
            attempt(azure_stream_async, provider)
        error = caught.value
    assert error.code == "BUDGET_EXCEEDED"
    assert error.limit is not None
    assert "two" in str(error)
