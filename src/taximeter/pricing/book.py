"""The price book: the embedded snapshot, the user's own prices over it, and the engine behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from taximeter.money import Rate
from taximeter.pricing import engine
from taximeter.pricing.base import Cost, RateCard, Tier
from taximeter.pricing.names import FIRST_PARTIES, candidates, canonical
from taximeter.pricing.rows import Row, card_of
from taximeter.pricing.snapshot import Lines, load
from taximeter.usage import Usage

FOUND_MAX: Final = 4096
"""Lookups remembered: model names come from answers too, so their number must be bounded."""

CEILING: Final = "ceiling"

COVERED: Final = 10
"""Models of a provider in the LiteLLM map from which on it is taken to list all that are sold."""

NOT_PLAUSIBLE: Final = re.compile(r"o1-pro|gpt-4-32k|gpt-4\.5")
"""Withdrawn by their maker at prices up to ten times any current model's, but still listed by some
gateways: as a ceiling they would refuse nearly every call of a new model."""


class Book:
    """A :class:`~taximeter.pricing.base.PriceBook`. Immutable to its users; safe to share.

    Args:
        snapshot_id: Stamped on every ledger entry that is priced with this book.
        lines: Rows by provider and model, see :mod:`taximeter.pricing.snapshot`.
        own: The user's rate cards by model name, bare or as ``provider/model``.
    """

    def __init__(
        self, snapshot_id: str, lines: Lines, own: Mapping[str, RateCard] | None = None
    ) -> None:
        self.snapshot_id = snapshot_id
        self._lines = lines
        self._own = dict(own or {})
        self._known = frozenset(lines)
        self._found: dict[tuple[str, str], RateCard | None] = {}
        self._cards: dict[tuple[str, str, tuple[str, ...]], RateCard] = {}
        self._ceilings: dict[str, RateCard] = {}
        self._folded: dict[str, dict[str, str]] = {}

    def find(self, provider: str, model: str) -> RateCard | None:
        """The card of ``model`` at ``provider``, or None when no price is known.

        The same name spelt otherwise is found (a date, ``-latest``, a region, ``4.1`` for ``4-1``,
        a resource path); a name that merely begins like a known one never is.
        """
        key = (provider, model)
        try:
            return self._found[key]
        except KeyError:
            pass
        card = self._find(canonical(provider), model)
        if len(self._found) >= FOUND_MAX:
            self._found.clear()
        self._found[key] = card
        return card

    def ceiling(self, provider: str) -> RateCard:
        """The dearest rate of each kind among ``provider``'s current text models, flagged ``ceiling``.

        Models that were retired before the snapshot was made do not count, nor those of
        ``NOT_PLAUSIBLE``: a name that nobody knows is a new model, a deployment or a private one,
        not ``gpt-4-32k``. Of an unknown provider: the dearest among first parties. Computed once,
        some milliseconds.
        """
        name = canonical(provider)
        if name not in self._known:
            name = "unknown"
        card = self._ceilings.get(name)
        if card is None:
            providers = FIRST_PARTIES if name == "unknown" else (name,)
            card = _dearest(provider, [*self._current(providers)])
            self._ceilings[name] = card
        return card

    def cost(
        self, card: RateCard, usage: Usage, *, service_tier: str | None = None, **facts: Any
    ) -> Cost:
        """Exact cost of ``usage``; see :func:`taximeter.pricing.engine.cost` for the facts."""
        return engine.cost(card, usage, service_tier=service_tier, **facts)

    def bound(self, card: RateCard, *, input_tokens: int, output_tokens: int, **facts: Any) -> Cost:
        """Most that a call can cost; see :func:`taximeter.pricing.engine.bound` for the facts."""
        return engine.bound(card, input_tokens=input_tokens, output_tokens=output_tokens, **facts)

    def line(self, card: RateCard, *, input_tokens: int, **facts: Any) -> tuple[int, int]:
        """:meth:`bound` as atto-USD without output, and for each output token."""
        return engine.line(card, input_tokens=input_tokens, **facts)

    def with_overrides(self, prices: Mapping[str, Mapping[str, Any]]) -> Book:
        """A book with the user's own prices over this one's.

        Args:
            prices: By model (``"my-model"``, for every provider) or by ``"provider/model"``: keys
                of the LiteLLM map, USD per token as str, Decimal, int or float, for example
                ``{"my-model": {"input_cost_per_token": "0.00001", "output_cost_per_token": 0}}``.
                What is left out keeps the price that is known for the model.

        Raises:
            ConfigurationError: A key or a value is wrong; names the model, the key and the way out.
        """
        from taximeter.pricing import overrides

        own = dict(self._own)
        own.update(overrides.read(prices, self._base_of))
        mark = overrides.fingerprint(prices)
        snapshot_id = self.snapshot_id.partition("+")[0]
        return Book(f"{snapshot_id}+{mark}", self._lines, own)

    def models(self, provider: str | None = None) -> Iterator[RateCard]:
        """Every card of the book, or of one provider: the user's own first, then by name."""
        yield from (
            card
            for card in self._own.values()
            if provider is None or card.provider in (canonical(provider), "")
        )
        names = sorted(self._known) if provider is None else [canonical(provider)]
        for name in names:
            for model in sorted(self._lines.get(name, ())):
                card = self._card(name, model)
                if card is not None:
                    yield card

    # --- lookup -----------------------------------------------------------------------------------

    def _find(self, provider: str, model: str) -> RateCard | None:
        if self._own:
            card = self._own.get(f"{provider}/{model}") or self._own.get(model)
            if card is not None:
                return card
        for name, spelling, flags in candidates(provider, model, self._known):
            if self._own:
                card = self._own.get(f"{name}/{spelling}") or self._own.get(spelling)
                if card is not None:
                    return card
            card = self._card(name, spelling, flags)
            if card is not None:
                return card
        return None

    def _base_of(self, model: str) -> RateCard | None:
        provider, slash, name = model.partition("/")
        if slash and (card := self._find(canonical(provider), name)) is not None:
            return card
        return self._find("unknown", model)

    def _card(self, provider: str, model: str, flags: tuple[str, ...] = ()) -> RateCard | None:
        models = self._lines.get(provider)
        if models is None:
            return None
        name = model if model in models else self._fold(provider).get(model.lower())
        if name is None:
            return None
        key = (provider, name, flags)
        card = self._cards.get(key)
        if card is None:
            row = self._row(provider, name)
            card = card_of(row, provider=provider, model=name, flags=flags)
            self._cards[key] = card
        return card

    def _row(self, provider: str, model: str) -> Row:
        text = self._lines[provider][model]
        while text.startswith("="):
            text = self._lines[provider][text[1:]]
        row: Row = json.loads(text)
        return row

    def _fold(self, provider: str) -> dict[str, str]:
        """Names by their lower case: hosts of open models disagree about capitals."""
        folded = self._folded.get(provider)
        if folded is None:
            folded = {name.lower(): name for name in self._lines[provider]}
            self._folded[provider] = folded
        return folded

    def _current(self, providers: tuple[str, ...]) -> Iterator[Row]:
        made = self.snapshot_id[:10]
        for provider in providers:
            rows = [
                json.loads(text)
                for model, text in self._lines.get(provider, {}).items()
                if text[0] != "=" and model[:3] != "ft:" and not NOT_PLAUSIBLE.search(model)
            ]
            # The LiteLLM map deletes what is retired, genai-prices keeps it; so where the first
            # covers a provider, what only the second has is no longer sold.
            covered = sum(row.get("q") == "litellm" for row in rows) >= COVERED
            for row in rows:
                retired = covered and row.get("q") == "genai-prices"
                if not retired and not row.get("n") and row.get("u", "9") > made:
                    yield row


def _dearest(provider: str, rows: list[Row]) -> RateCard:
    """One card with the highest rate of each kind, at each prompt size where any model's changes."""
    cards = [card_of(row, provider=provider, model="") for row in rows]
    sizes = sorted({step.over for card in cards for step in card.tiers})
    priority: dict[str, Rate] = {}
    for card in cards:
        _raise(priority, card.variants.get("priority", {}))
    return RateCard(
        provider=provider,
        model="",
        rates=_highest(cards, 0),
        # Inclusive: some are, and the others then hold one token too early.
        tiers=tuple(Tier(over=size, inclusive=True, rates=_highest(cards, size)) for size in sizes),
        variants={"priority": priority} if priority else {},
        context_tokens=max((card.context_tokens or 0 for card in cards), default=0) or None,
        output_tokens_max=max((card.output_tokens_max or 0 for card in cards), default=0) or None,
        reasons=True,
        flags=(CEILING,),
    )


def _highest(cards: list[RateCard], prompt_tokens: int) -> dict[str, Rate]:
    rates: dict[str, Rate] = {}
    for card in cards:
        _raise(rates, card.rates)
        for step in card.tiers:
            if step.over <= prompt_tokens:
                _raise(rates, step.rates)
    return rates


def _raise(rates: dict[str, Rate], others: Mapping[str, Rate]) -> None:
    for kind, rate in others.items():
        rates[kind] = max(rates.get(kind, 0), rate)


@lru_cache(maxsize=1)
def embedded() -> Book:
    """The book that ships with taximeter. Needs no network; loaded once, on first use."""
    header, lines = load()
    return Book(header["id"], lines)
