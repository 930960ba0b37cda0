"""The quote: how much a call can cost at most, and how much it likely will, from its request alone.

Cost grows linearly with the output tokens allowed, so a quote is two straight lines (one *sound*,
one *likely*) that answer both questions asked of it: what does this output cap cost, and what output
cap does this money buy? No discount is ever counted on: caches, batches and quiet hours may make the
bill smaller, never larger. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taximeter.money import ATTO_PER_NANO, Amount, round_up
from taximeter.pricing.base import PriceBook, RateCard
from taximeter.providers import Provider
from taximeter.tokens import PromptCount, count_prompt
from taximeter.wire.base import WireRequest

REASONING_FLOOR_TOKENS = 1024
"""Below this a reasoning model may bill everything and show nothing."""


@dataclass(frozen=True, slots=True)
class Line:
    """``base + slope × output tokens``, in atto-units (so that rounding happens once, up)."""

    base: int
    slope: int

    def amount(self, output_tokens: int) -> Amount:
        """What to hold for this many output tokens (of each choice), rounded up."""
        return round_up(self.base + self.slope * output_tokens)

    def affords(self, amount: Amount) -> int:
        """The largest output cap whose :meth:`amount` is at most ``amount``; negative if none."""
        rest = amount * ATTO_PER_NANO - self.base
        if self.slope == 0:
            return UNLIMITED if rest >= 0 else -1
        return rest // self.slope if rest >= 0 else -1


UNLIMITED = 2**53
"""An output cap that no model reaches: where output costs nothing, any is affordable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A request, its provider, its rates, and what follows from them.

    Attributes:
        card: The rates; None: unpriced (and every amount is 0: nothing can be held for it).
        input_expected, input_likely: Best estimate, and its 99.9 % margin, in tokens.
        input_bound: Sound upper bound of the input in tokens; None where it cannot be seen.
        output_asked: Cap that the caller set, per choice; None: the caller set none.
        output_max: The most this call can answer per choice as asked: the cap, else the model's own
            maximum; None where neither is known.
        hidden_output: The model may bill output that no one sees.
        unbounded: Why the cost has no finite bound; None if it has one.
        facts: What else the price depends on: when, where, how large the searches are.
    """

    request: WireRequest
    provider: Provider
    card: RateCard | None
    flags: tuple[str, ...]
    input_expected: int
    input_likely: int
    input_bound: int | None
    output_asked: int | None
    output_max: int | None
    hidden_output: bool
    unbounded: str | None
    facts: Mapping[str, Any]
    book: PriceBook
    lines: dict[bool, Line] = field(default_factory=dict, repr=False)

    def line(self, *, sound: bool) -> Line:
        """The line of ``strict`` (sound) or of ``clamp`` (likely) amounts in USD."""
        line = self.lines.get(sound)
        if line is None:  # Few calls need both, and none needs either twice.
            tokens = self.input_likely
            if sound and self.input_bound is not None:
                tokens = self.input_bound
            line = self.lines[sound] = _line(self.book, self.card, self.request, tokens, self.facts)
        return line

    def floor(self, output_tokens_min: int) -> int:
        """The smallest output cap worth sending: below it, money buys no visible answer."""
        floor = output_tokens_min + (self.request.thinking_budget or 0)
        if self.hidden_output:
            floor = max(floor, REASONING_FLOOR_TOKENS)
        return floor if self.output_asked is None else min(floor, self.output_asked)

    def tokens(self, *, sound: bool) -> Line:
        """The same for limits that count tokens."""
        count = (self.input_bound or self.input_likely) if sound else self.input_likely
        return Line(count * ATTO_PER_NANO, self.request.choices * ATTO_PER_NANO)


CALLS = Line(ATTO_PER_NANO, 0)
"""The line of limits that count calls: one, whatever the output."""


def make(
    request: WireRequest,
    provider: Provider,
    book: PriceBook,
    *,
    at: float,
    ceiling: bool,
    exact_texts: bool = True,
) -> Quote:
    """Quote ``request`` at ``provider``'s rates.

    Args:
        at: When it is sent, in seconds since the epoch: prices have dates.
        ceiling: Price an unknown model at the provider's dearest rates (else it stays unpriced).
        exact_texts: A tokenizer may be used if one is installed (False on an event loop).
    """
    card = book.find(provider.name, request.model)
    if card is None and ceiling and not provider.local:
        card = book.ceiling(provider.name)
    count = count_prompt(request.prompt, model=request.model, exact_texts=exact_texts)
    window = card.context_tokens if card is not None else None
    unbounded = _unbounded(request, count, window)
    bound = _input_bound(count, window)
    likely = count.likely_max if bound is None else min(count.likely_max, bound)
    if count.bound is None and bound is not None and request.prompt.server_state:
        likely = bound  # Earlier turns are billed again and cannot be seen.
    hidden = _hidden_output(request, card)
    asked, output_max = _output(request, card, provider, hidden)
    facts = {
        "at": at,
        "region": provider.region,
        "search_context_size": _search_context_size(request),
    }
    return Quote(
        request=request,
        provider=provider,
        card=card,
        flags=card.flags if card is not None else (() if provider.local else ("unpriced",)),
        input_expected=min(count.expected, likely),
        input_likely=likely,
        input_bound=bound,
        output_asked=asked,
        output_max=output_max,
        hidden_output=hidden,
        unbounded=unbounded or (None if output_max is not None else "no output limit is known"),
        facts=facts,
        book=book,
    )


def _line(
    book: PriceBook,
    card: RateCard | None,
    request: WireRequest,
    tokens: int,
    known: Mapping[str, Any],
) -> Line:
    if card is None:
        return Line(0, 0)
    prompt = request.prompt
    base, slope = book.line(
        card,
        input_tokens=tokens,
        service_tier=request.service_tier,
        cache_write=prompt.cache_write,
        requests=_fees(request) if prompt.hosted_tools else None,
        media=bool(prompt.images or prompt.media_bytes or prompt.references or prompt.server_state),
        **known,
    )
    return Line(base, slope * request.choices)


def _search_context_size(request: WireRequest) -> str | None:
    options = request.body.get("web_search_options")
    size = options.get("search_context_size") if isinstance(options, Mapping) else None
    return size if isinstance(size, str) else None


def _fees(request: WireRequest) -> dict[str, int]:
    fees: dict[str, int] = {}
    shared = request.prompt.hosted_calls_max
    for tool in request.prompt.hosted_tools:
        calls = tool.calls_max if tool.calls_max is not None else shared
        if tool.kind and calls is not None:
            fees[tool.kind] = fees.get(tool.kind, 0) + calls
    return fees


def _unbounded(request: WireRequest, count: PromptCount, window: int | None) -> str | None:
    if "deep-research" in request.model:
        return "a deep-research model searches and reads without a limit"
    if count.turns_max is None:
        return "hosted tools without a call limit (set max_uses or max_tool_calls)"
    return count.why_unbounded if window is None else None


def _input_bound(count: PromptCount, window: int | None) -> int | None:
    if count.turns_max is None:
        return None
    if count.turns_max > 1:  # Every call of a hosted tool sends the grown prompt again.
        return None if window is None else window * count.turns_max
    if count.bound is None:
        return window
    # A byte bound may pass the context window; the provider refuses such a prompt unbilled.
    return count.bound if window is None else min(count.bound, window)


def _hidden_output(request: WireRequest, card: RateCard | None) -> bool:
    if request.thinking_budget == 0:
        return False
    if request.thinking_budget is not None:
        return True
    thinking = request.body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") not in (None, "disabled"):
        return True
    return card is None or card.reasons or "ceiling" in card.flags


def _output(
    request: WireRequest, card: RateCard | None, provider: Provider, hidden: bool
) -> tuple[int | None, int | None]:
    """The caller's own cap, and the most that may be billed per choice."""
    most = None
    if card is not None:
        most = card.output_tokens_max or card.context_tokens
    asked = request.output_cap
    if request.wire == "embeddings":
        return None, 0
    if asked is None:
        return None, most
    if hidden and not provider.cap_covers_reasoning:
        return asked, most  # A cap that is not proven to cover reasoning is no bound.
    return asked, asked
