"""``tracked_call``, ``tracked_stream`` and ``quote``: the provider's own objects, tagged and charged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import openai
import pytest
from google.genai import types

import taximeter
from taximeter import ConfigurationError, budget
from taximeter.errors import PriceUnknownError
from taximeter.runtime import RUNTIME
from taximeter.testing import Reply, SimulatedProvider
from tests.acceptance.wires import (
    ANTHROPIC,
    CHAT,
    GEMINI,
    MESSAGES,
    RESPONSES,
    Wire,
    nothing_open,
    rows,
    usd,
)

PARAMS: dict[str, dict[str, Any]] = {
    "openai.chat": {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 200},
    "openai.responses": {"model": "gpt-4o-mini", "input": "Hi", "max_output_tokens": 200},
    "anthropic.messages": {"model": "claude-haiku-4-5", "messages": MESSAGES, "max_tokens": 200},
    "gemini.generate": {
        "model": "gemini-2.5-flash",
        "contents": "Hi",
        "config": types.GenerateContentConfig(max_output_tokens=2000),
    },
}
every_wire = pytest.mark.parametrize(
    "wire", [CHAT, RESPONSES, ANTHROPIC, GEMINI], ids=lambda wire: wire.name
)


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(Reply(tokens=40)) as running:
        yield running


@pytest.fixture
def talk(provider: SimulatedProvider) -> Iterator[Callable[[Wire], Any]]:
    with ExitStack() as stack:

        def make(wire: Wire) -> Any:
            client = wire.client(provider)
            stack.callback(client.close)
            return client

        yield make


@every_wire
def test_tracked_call_returns_the_providers_own_response(
    wire: Wire, provider: SimulatedProvider, talk: Any
) -> None:
    b = budget(max_usd=1)
    params = dict(PARAMS[wire.name])
    response = taximeter.tracked_call(
        client=talk(wire), params=params, group="summarize", user_id="u1", tier="pro",
        tags={"team": "x"}, budget=b,
    )  # fmt: skip
    assert type(response).__module__.split(".")[0] in ("openai", "anthropic", "google")
    assert params == PARAMS[wire.name]
    (row,) = rows(b)
    assert (row["group"], row["user_id"], row["tier"]) == ("summarize", "u1", "pro")
    assert row["tags"] == {"team": "x"}
    assert row["settlement"] == "exact"
    assert b.spent == usd(provider.invoice_total)
    assert taximeter.context.SCOPE.get() is None


@every_wire
def test_tracked_stream_returns_the_providers_own_stream(
    wire: Wire, provider: SimulatedProvider, talk: Any
) -> None:
    b = budget(max_usd=1)
    stream = taximeter.tracked_stream(
        client=talk(wire), params=PARAMS[wire.name], group="chat", prompt_version="v2", budget=b
    )
    if wire is GEMINI:
        assert inspect.isgenerator(stream)
    else:
        assert type(stream).__module__.split(".")[0] in ("openai", "anthropic")
    for _ in stream:
        assert taximeter.context.SCOPE.get() is None
    (row,) = rows(b)
    assert (row["group"], row["prompt_version"], row["streamed"]) == ("chat", "v2", True)
    assert row["settlement"] == "exact"
    assert b.spent == usd(provider.invoice_total)
    nothing_open(b)


async def test_an_asynchronous_client_gives_an_awaitable(provider: SimulatedProvider) -> None:
    b = budget(max_usd=1)
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="any") as client:
        params = PARAMS["openai.chat"]
        response = await taximeter.tracked_call(client=client, params=params, budget=b, group="a")
        stream = await taximeter.tracked_stream(client=client, params=params, budget=b, group="b")
        async for _ in stream:
            pass
    assert response.choices
    assert isinstance(stream, openai.AsyncStream)
    assert [row["group"] for row in rows(b)] == ["a", "b"]
    assert b.spent == usd(provider.invoice_total)


def test_tracked_calls_are_charged_to_the_budgets_around_them_too(
    provider: SimulatedProvider, talk: Any
) -> None:
    own = budget(max_usd=1)
    with budget(max_usd=1) as around:
        taximeter.tracked_call(client=talk(CHAT), params=PARAMS["openai.chat"], budget=own)
    assert own.spent == around.spent == usd(provider.invoice_total)


def test_a_tracked_call_without_any_budget_is_metered(
    provider: SimulatedProvider, talk: Any
) -> None:
    settled: list[Any] = []
    RUNTIME.on_settled.append(settled.append)
    try:
        taximeter.tracked_call(client=talk(CHAT), params=PARAMS["openai.chat"], user_id="u9")
    finally:
        RUNTIME.on_settled.remove(settled.append)
    (call,) = settled
    assert call.entry.cost == provider.invoice_total
    assert call.entry.user_id == "u9"


def test_on_budget_warning_gets_the_summary(provider: SimulatedProvider, talk: Any) -> None:
    seen: list[Any] = []
    b = budget(max_usd="0.00001", mode="warn")
    taximeter.tracked_call(
        client=talk(CHAT), params=PARAMS["openai.chat"], budget=b, on_budget_warning=seen.append
    )
    assert seen[0]["spent"] == usd(provider.invoice_total)
    assert len(seen) == 2  # At the threshold and at the limit.


def test_a_client_that_is_not_known_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"builtins\.object"):
        taximeter.tracked_call(client=object(), params={})
    with pytest.raises(ConfigurationError, match="'five'"):
        taximeter.tracked_call(client=object(), params={}, budget="five")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"builtins\.object"):
        taximeter.wrap(object())


def test_a_quote_lies_between_what_it_must_and_what_it_can_cost(
    provider: SimulatedProvider, talk: Any
) -> None:
    quoted = taximeter.quote(model="gpt-4o-mini", messages=MESSAGES, max_tokens=100)
    assert quoted.expected_usd is not None
    assert quoted.worst_usd is not None
    assert quoted.input_usd < quoted.expected_usd <= quoted.worst_usd
    assert quoted.output_tokens == 100
    talk(CHAT).chat.completions.create(**PARAMS["openai.chat"])
    (line,) = provider.invoice
    assert quoted.input_tokens_max is not None
    assert line.usage["input_tokens"] <= quoted.input_tokens_max
    assert line.cost_usd <= quoted.worst_usd
    twice = taximeter.quote(model="gpt-4o-mini", messages=MESSAGES, max_tokens=100, n=2)
    assert twice.worst_usd is not None
    assert twice.worst_usd - quoted.worst_usd == Decimal("0.6e-6") * 100


def test_a_quote_without_a_price_or_a_bound_says_so() -> None:
    with pytest.raises(PriceUnknownError, match="gpt-99"):
        taximeter.quote(model="gpt-99", messages=MESSAGES)
    quoted = taximeter.quote(model="gpt-4o", input="x", tools=[{"type": "web_search"}])
    assert quoted.worst_usd is None
    assert "max_tool_calls" in str(quoted.unbounded)
