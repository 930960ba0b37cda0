"""What a replayed answer cost at the price book's rates, found as a live call would find them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taximeter import providers
from taximeter.pricing.book import embedded

if TYPE_CHECKING:
    from taximeter.pricing.base import RateCard
    from taximeter.wire.replay import Replayed


def atto_usd(done: Replayed) -> int | None:
    """The exact cost of the answer and of other models billed inside it; None: no price is known."""
    book, meter = embedded(), done.meter
    if meter.usage is None:
        return None
    who = _who(done)
    card = _card(done, who)
    if card is None:
        return 0 if who.local else None
    facts: dict[str, Any] = dict(getattr(meter, "facts", None) or {})
    context_tokens = getattr(meter, "context_tokens", None)
    if context_tokens is not None:
        facts["context_tokens"] = context_tokens
    tier = meter.service_tier or _asked_tier(done)
    atto = book.cost(card, meter.usage, service_tier=tier, **facts).atto
    for part in meter.parts:
        atto += book.cost(book.find(card.provider, part.model) or card, part.usage).atto
    return atto


def _who(done: Replayed) -> providers.Provider:
    """By the recorded host where it is known, else by what the record says."""
    host, _, port = str(done.record.get("host") or "").partition(":")
    if host:
        number = int(port) if port.isdecimal() else None
        found = providers.identify(host, number, done.wire, done.model_asked)
        if found.known_host or found.local:
            return found
    return providers.named(done.provider)


def _card(done: Replayed, who: providers.Provider) -> RateCard | None:
    """Rates of the model that answered; of the one that was asked where that one is not known."""
    for name in _names(done, who):
        for model in (done.model, done.model_asked):
            card = embedded().find(name, model) if model else None
            if card is not None:
                return card
    return None


def _names(done: Replayed, who: providers.Provider) -> Iterator[str]:
    yield who.name
    if who.name != done.provider:
        yield done.provider
    yield providers.owner(done.model_asked or done.model, done.wire)


def _asked_tier(done: Replayed) -> str | None:
    request = done.record.get("request_json")
    tier = request.get("service_tier") if isinstance(request, dict) else None
    return tier if isinstance(tier, str) else None
