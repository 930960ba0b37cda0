"""The simulated provider's bill: exact fractions, its own price list, one rounding a call.

Nothing of taximeter's own counting or pricing is used here, so that a ledger which agrees with it
agrees with something else than itself.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD for a million tokens, as text (``"0.15"``); ``web_search`` is USD for a thousand searches.

    A kind without a price of its own costs what input costs. From ``above[0]`` input tokens on,
    exclusive, the whole call is billed at ``above[1]``.
    """

    input: str
    output: str = "0"
    cached_input: str | None = None
    cache_write_5m: str | None = None
    cache_write_1h: str | None = None
    web_search: str = "10"
    above: tuple[int, Price] | None = None

    def cost(self, usage: Mapping[str, int]) -> Fraction:
        """USD of one call, exactly."""
        if self.above is not None and usage["input_tokens"] > self.above[0]:
            return self.above[1].cost(usage)
        parts = (
            (usage.get("cached_input_tokens", 0), self.cached_input),
            (usage.get("cache_write_5m_tokens", 0), self.cache_write_5m),
            (usage.get("cache_write_1h_tokens", 0), self.cache_write_1h),
        )
        plain = usage["input_tokens"] - sum(count for count, _ in parts)
        total = plain * Fraction(self.input) + usage["output_tokens"] * Fraction(self.output)
        total += sum((count * Fraction(rate or self.input) for count, rate in parts), Fraction(0))
        searches = usage.get("requests.web_search", 0) * Fraction(self.web_search) / 1000
        return total / 1_000_000 + searches


def _claude(input: str, output: str, read: str, write_5m: str, write_1h: str) -> Price:
    return Price(
        input=input,
        output=output,
        cached_input=read,
        cache_write_5m=write_5m,
        cache_write_1h=write_1h,
    )


def _openai(input: str, output: str, cached: str | None = None) -> Price:
    return Price(input=input, output=output, cached_input=cached)


PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        "gpt-4o": _openai("2.5", "10", "1.25"),
        "gpt-4o-mini": _openai("0.15", "0.6", "0.075"),
        "gpt-4.1": _openai("2", "8", "0.5"),
        "gpt-4.1-mini": _openai("0.4", "1.6", "0.1"),
        "gpt-4.1-nano": _openai("0.1", "0.4", "0.025"),
        "gpt-5": _openai("1.25", "10", "0.125"),
        "gpt-5-mini": _openai("0.25", "2", "0.025"),
        "gpt-5-nano": _openai("0.05", "0.4", "0.005"),
        "gpt-5.1": _openai("1.25", "10", "0.125"),
        "o3": _openai("2", "8", "0.5"),
        "o4-mini": _openai("1.1", "4.4", "0.275"),
        "gpt-3.5-turbo": _openai("0.5", "1.5"),
        "gpt-3.5-turbo-instruct": _openai("1.5", "2"),
        "text-embedding-3-small": Price(input="0.02"),
        "text-embedding-3-large": Price(input="0.13"),
        "claude-opus-4-1": _claude("15", "75", "1.5", "18.75", "30"),
        "claude-opus-4-5": _claude("5", "25", "0.5", "6.25", "10"),
        "claude-sonnet-4": _claude("3", "15", "0.3", "3.75", "6"),
        "claude-sonnet-4-5": _claude("3", "15", "0.3", "3.75", "6"),
        "claude-sonnet-4-6": _claude("3", "15", "0.3", "3.75", "6"),
        "claude-opus-4-6": _claude("5", "25", "0.5", "6.25", "10"),
        "claude-haiku-4-5": _claude("1", "5", "0.1", "1.25", "2"),
        "gemini-2.5-pro": Price(
            input="1.25",
            output="10",
            cached_input="0.125",
            above=(200_000, Price(input="2.5", output="15", cached_input="0.25")),
        ),
        "gemini-2.5-flash": _openai("0.3", "2.5", "0.03"),
        "gemini-2.5-flash-lite": _openai("0.1", "0.4", "0.01"),
        "gemini-embedding-001": Price(input="0.15"),
    }
)
"""Public list prices, checked 2026-11 against the two data sets that taximeter's own book uses."""

DATED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gpt-4o": "gpt-4o-2024-08-06",
        "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
        "gpt-4.1": "gpt-4.1-2025-04-14",
        "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
        "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
        "gpt-5": "gpt-5-2025-08-07",
        "gpt-5-mini": "gpt-5-mini-2025-08-07",
        "gpt-5-nano": "gpt-5-nano-2025-08-07",
        "gpt-5.1": "gpt-5.1-2025-11-13",
        "o3": "o3-2025-04-16",
        "o4-mini": "o4-mini-2025-04-16",
        "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
        "gpt-3.5-turbo-instruct": "gpt-3.5-turbo-instruct:20230824-v2",
        "claude-opus-4-1": "claude-opus-4-1-20250805",
        "claude-opus-4-5": "claude-opus-4-5-20251101",
        "claude-sonnet-4-0": "claude-sonnet-4-20250514",
        "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
        "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    }
)
"""The name under which the real provider answers for the short name asked."""

UNKNOWN_PRICE: Final = Price(input="1", output="4")
"""What a model costs that is not on the list."""

Prices = Mapping[str, Price] | Callable[[str, Mapping[str, int]], Fraction | Decimal | int]
"""A price list by model, or a function of model and normalised usage that gives USD exactly."""

_DATE: Final = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{8}|-\d{4}|:.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One call as billed.

    Attributes:
        request_id: The answer's ``x-request-id`` and ``request-id``.
        answer_id: The answer's own id, e.g. ``chatcmpl-…``.
        model: The model that answered; ``model_asked`` is what the request said.
        usage: Counts under taximeter's normalised names, fees as ``requests.<kind>``.
        cost: Nano-USD, rounded half-even once. :attr:`cost_usd` is the same as Decimal.
        completed: The whole answer was written before the client left.
        tokens_sent: Output tokens generated by the last event that was written.
        hidden_tokens: Output tokens that showed in no text, on any wire.
    """

    request_id: str
    answer_id: str
    wire: str
    model: str
    model_asked: str
    streamed: bool
    completed: bool
    usage: Mapping[str, int]
    cost: int
    tokens_sent: int
    hidden_tokens: int

    @property
    def cost_usd(self) -> Decimal:
        """The cost in USD."""
        return Decimal(self.cost).scaleb(-9)


class Invoice:
    """All lines so far, in the order in which they were billed. Safe to use from any thread."""

    def __init__(self, prices: Prices = PRICES) -> None:
        self._prices = prices
        self._lock = threading.Lock()
        self._lines: list[InvoiceLine] = []

    def cost(self, model: str, usage: Mapping[str, int]) -> int:
        """Nano-USD of ``usage``; the exact sum rounded half-even, once."""
        if callable(self._prices):
            exact = Fraction(self._prices(model, usage))
        else:
            price = self._prices.get(model)
            if price is None:
                price = self._prices.get(_DATE.sub("", model), UNKNOWN_PRICE)
            exact = price.cost(usage)
        return round(exact * 10**9)  # Python rounds a Fraction half to even.

    def add(self, line: InvoiceLine) -> None:
        """Bill one more call."""
        with self._lock:
            self._lines.append(line)

    @property
    def lines(self) -> list[InvoiceLine]:
        """A copy of the lines."""
        with self._lock:
            return list(self._lines)

    @property
    def total(self) -> int:
        """Nano-USD of all lines."""
        return sum(line.cost for line in self.lines)
