"""Four wires behind one face, so that a promise about endings is tested on each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import types

import taximeter
from taximeter.runtime import RUNTIME
from taximeter.testing import InvoiceLine, SimulatedProvider

MESSAGES = [{"role": "user", "content": "Tell me a story about a taxi."}]
TEXT = MESSAGES[0]["content"]
CAP = 3000


def _chat(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, max_tokens=CAP, **options
    )


def _responses(client: Any, **options: Any) -> Any:
    return client.responses.create(
        model="gpt-4o-mini", input=TEXT, max_output_tokens=CAP, **options
    )


def _messages(client: Any, **options: Any) -> Any:
    return client.messages.create(
        model="claude-haiku-4-5", messages=MESSAGES, max_tokens=CAP, **options
    )


def _gemini(client: Any, *, stream: bool = False) -> Any:
    models = client.models
    method = models.generate_content_stream if stream else models.generate_content
    config = types.GenerateContentConfig(max_output_tokens=CAP)
    return method(model="gemini-2.5-flash", contents=TEXT, config=config)


def _openai(provider: SimulatedProvider, **options: Any) -> Any:
    return openai.OpenAI(
        **{"base_url": provider.base_url, "api_key": "any", "max_retries": 0, **options}
    )


def _async_openai(provider: SimulatedProvider, **options: Any) -> Any:
    return openai.AsyncOpenAI(
        **{"base_url": provider.base_url, "api_key": "any", "max_retries": 0, **options}
    )


def _anthropic(provider: SimulatedProvider, **options: Any) -> Any:
    return anthropic.Anthropic(
        **{"base_url": provider.anthropic_url, "api_key": "any", "max_retries": 0, **options}
    )


def _async_anthropic(provider: SimulatedProvider, **options: Any) -> Any:
    return anthropic.AsyncAnthropic(
        **{"base_url": provider.anthropic_url, "api_key": "any", "max_retries": 0, **options}
    )


def _genai(provider: SimulatedProvider, **options: Any) -> Any:
    return genai.Client(api_key="any", http_options={"base_url": provider.gemini_url, **options})


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How one wire is spoken. ``stops``: hanging up ends the bill."""

    name: str
    client: Callable[..., Any]
    async_client: Callable[..., Any] | None
    call: Callable[..., Any]
    stops: bool
    worst: dict[str, Any]  # what ``taximeter.quote`` is asked for the same call

    @property
    def interrupted(self) -> str:
        """The settlement of a stream that someone left."""
        return "estimated" if self.stops else "assumed_full"

    def worst_usd(self) -> Decimal:
        """The sound bound of one such call."""
        worst = taximeter.quote(**self.worst).worst_usd
        assert worst is not None
        return worst


CHAT = Wire(
    name="openai.chat", client=_openai, async_client=_async_openai, call=_chat, stops=True,
    worst={"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": CAP},
)  # fmt: skip
RESPONSES = Wire(
    name="openai.responses", client=_openai, async_client=_async_openai, call=_responses, stops=True,
    worst={"model": "gpt-4o-mini", "input": TEXT, "max_output_tokens": CAP},
)  # fmt: skip
ANTHROPIC = Wire(
    name="anthropic.messages", client=_anthropic, async_client=_async_anthropic, call=_messages,
    stops=True, worst={"model": "claude-haiku-4-5", "messages": MESSAGES, "max_tokens": CAP},
)  # fmt: skip
GEMINI = Wire(
    name="gemini.generate", client=_genai, async_client=None, call=_gemini, stops=False,
    worst={
        "model": "gemini-2.5-flash",
        "contents": [{"role": "user", "parts": [{"text": TEXT}]}],
        "generationConfig": {"maxOutputTokens": CAP},
    },
)  # fmt: skip
WIRES = (CHAT, RESPONSES, ANTHROPIC, GEMINI)
ASYNC_WIRES = (CHAT, RESPONSES, ANTHROPIC)


def usd(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-9)


def rows(budget: Any) -> list[dict[str, Any]]:
    """The ledger rows of a budget's calls, oldest first."""
    return list(budget.summary_data()["calls"])


def line_of(provider: SimulatedProvider, row: dict[str, Any]) -> InvoiceLine:
    (line,) = (line for line in provider.invoice if line.request_id == row["request_id"])
    return line


def nothing_open(budget: Any) -> None:
    """Whatever happened, nothing is held and nobody waits."""
    data = budget.summary_data()
    assert data["calls_open"] == 0
    assert budget.held == 0
    booked = sum((r["cost"] for r in data["calls"]), Decimal(0))
    # ``strict`` keeps the bound in its balance where the truth is not known.
    unsure = data["mode"] == "strict" and data["calls_estimated"]
    assert budget.spent == budget.settled
    assert budget.spent > booked if unsure else budget.spent == booked
    if budget.limit is not None:
        assert budget.remaining == max(budget.limit - budget.spent, Decimal(0))
    assert not [call for call in RUNTIME.open.values() if budget in call.shell.budgets]
    assert len(RUNTIME.queue) == 0


def settled_once(
    budget: Any, provider: SimulatedProvider, wire: Wire, settlement: str
) -> dict[str, Any]:
    """One entry for the one call, of this settlement, not below the invoice, not above the bound."""
    provider.wait_until_idle()
    (row,) = rows(budget)
    nothing_open(budget)
    assert row["settlement"] == settlement
    assert row["wire"] == wire.name
    assert row["cost"] <= wire.worst_usd()
    (line,) = provider.invoice
    if settlement == "exact":
        assert row["cost"] == line.cost_usd
        assert row["usage_source"] == "provider"
        assert row["output_tokens"] == line.usage["output_tokens"]
    else:
        assert row["cost"] >= line.cost_usd
        assert row["usage_source"] in ("counted", "bound")
    return row
