"""Settling: what a call is booked at, however it ended. Pure; never refuses.

The provider's final figures are exact. Anything else is booked by the provider's abort rule
(docs/decisions/0005): input, what was delivered and a read-ahead margin where hanging up stops the
bill; the whole output cap where reasoning may hide behind it; the worst case where it does not stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from taximeter.budgets.policy import READ_AHEAD_TOKENS_MAX, Cover
from taximeter.pricing.base import Cost, PriceBook, RateCard
from taximeter.quoting import Quote
from taximeter.usage import Settlement, Usage, UsageSource
from taximeter.wire.base import Meter

READ_AHEAD_SECONDS = 2.0
RATE_SECONDS_MIN = 1.0
"""A rate observed for less than this is mostly chance; then it counts as typical at least."""
TOKENS_PER_SECOND_TYPICAL = 150.0
TOKENS_PER_SECOND_FAST = 300.0
"""What a reader who never kept up must fear of a provider whose rate nobody has seen."""


class Ending(Enum):
    """How a call ended, as the shell saw it."""

    COMPLETE = "complete"  # the protocol's last event, or a whole JSON body
    ENDED_EARLY = "ended early"  # the body ended without the protocol's last event
    LEFT = "left"  # break, close, drop, garbage collection, cancel, exception in the consumer
    CUT = "cut"  # stopped by us
    BROKEN = "broken"  # sent, but the connection failed or timed out
    REFUSED = "refused"  # the provider answered 4xx or 5xx
    NOT_SENT = "not sent"  # nothing reached the provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Output counted so far by us, and when it began; times in seconds of one clock.

    ``kept_up_at``: when the reader had last read all there was. ``since``: tokens (of ``likely``)
    read after that; ``away``: seconds after it, in which the answer may have run ahead of him.
    """

    expected: int = 0
    likely: int = 0
    first_token_at: float | None = None
    kept_up_at: float = 0.0
    since: int = 0
    away: float = 0.0

    def read_ahead(self, *, cautious: bool = False) -> int:
        """Tokens the provider may have generated that we have not seen: two seconds at its rate,
        and what it made while the caller was busy with what he had.

        ``cautious``: for cutting in time (bookings expect less of a rate seen only shortly).
        """
        if self.first_token_at is None or not self.likely:
            return READ_AHEAD_TOKENS_MAX + int(self.away * TOKENS_PER_SECOND_TYPICAL)
        rate, elapsed = self._rate()
        if elapsed < RATE_SECONDS_MIN:
            rate = max(rate, TOKENS_PER_SECOND_TYPICAL)
        fastest = rate
        if cautious:
            fastest = self.rate_max
        elif elapsed < RATE_SECONDS_MIN:
            fastest = min(rate, READ_AHEAD_TOKENS_MAX / READ_AHEAD_SECONDS)
        unseen = min(int(rate * READ_AHEAD_SECONDS), READ_AHEAD_TOKENS_MAX)
        return unseen + max(int(fastest * self.away) - self.since, 0)

    @property
    def rate_max(self) -> float:
        """Tokens a second that the provider may well generate."""
        rate, elapsed = self._rate()
        return max(rate, TOKENS_PER_SECOND_FAST * (1 - elapsed / RATE_SECONDS_MIN), 1.0)

    def _rate(self) -> tuple[float, float]:
        """Tokens a second, and for how many seconds they were observed.

        Only while the reader kept up was his rate the provider's.
        """
        elapsed = max(self.kept_up_at - (self.first_token_at or 0.0), 1e-3)
        return (self.likely - self.since) / elapsed, elapsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is booked: counts, cost, and how far both can be trusted."""

    usage: Usage | None
    usage_source: UsageSource
    settlement: Settlement
    cost: Cost | None  # None: unpriced

    @property
    def exact(self) -> bool:
        return self.settlement in ("exact", "void")


def outcome(
    quote: Quote,
    book: PriceBook,
    meter: Meter | None,
    ending: Ending,
    progress: Progress,
    *,
    sent: int | None,
    held: int | None = None,
    status: int | None = None,
    on_abort: str | None = None,
) -> Outcome:
    """What ``ending`` is booked at.

    Args:
        sent: Output cap (per choice) that the provider was given, or its own; None: not known.
        held: Output tokens that were paid for when *we* cut the stream, in time: it cost no more,
            unless what we counted (not its upper estimate) says so.
        on_abort: ``estimate`` or ``worst_case`` instead of the provider's own rule.
    """
    card = _answering_card(quote, book, meter)
    if ending is Ending.NOT_SENT or (
        ending is Ending.REFUSED and not _refusal_billed(quote, status)
    ):
        return Outcome(usage=Usage(), usage_source="provider", settlement="void", cost=Cost(0))
    known = meter.usage if meter is not None else None
    facts = getattr(meter, "facts", None) or {}
    # Anthropic's figures are final one event before the last: a stream left in between is exact.
    final = meter is not None and (meter.terminal or bool(facts.get("usage_final")))
    if meter is not None and final and known is not None and meter.error is None:
        cost = price(book, card, quote, known, meter)
        return Outcome(
            usage=known,
            usage_source="provider",
            settlement="exact",
            cost=cost,
        )
    return _estimate(
        quote,
        book,
        meter,
        ending,
        progress,
        card,
        sent=sent,
        held=held,
        status=status,
        on_abort=on_abort,
    )


def _estimate(
    quote: Quote,
    book: PriceBook,
    meter: Meter | None,
    ending: Ending,
    progress: Progress,
    card: RateCard | None,
    *,
    sent: int | None,
    held: int | None,
    status: int | None,
    on_abort: str | None,
) -> Outcome:
    settlement: Settlement = "estimated"
    source: UsageSource = "counted"
    whole = None if sent is None else sent * quote.request.choices
    known = (meter.usage if meter is not None else None) or Usage()
    answered = meter is not None and meter.terminal and meter.error is None
    stops = quote.provider.stops_on_abort if on_abort is None else on_abort != "worst_case"
    if ending is Ending.REFUSED:  # Azure bills a filtered prompt; a time-out may hide an answer.
        output = whole or 0 if status == 408 else 0
    elif answered:  # Complete, but the provider gave no usage: what was shown is what was made.
        output = progress.likely
        if quote.hidden_output and whole is not None:
            output, source = whole, "bound"
    elif (not stops or not quote.request.streamed) and whole is not None:
        # A whole answer that did not arrive was generated, and billed, all the same.
        output, source, settlement = whole, "bound", "assumed_full"
    elif quote.hidden_output and whole is not None:
        output, source = whole, "bound"
    else:
        output = progress.likely + progress.read_ahead(cautious=held is not None)
        most = whole if held is None else held
        if most is not None:
            output = min(output, max(most, progress.expected))
    output = max(output, known.output_tokens)
    usage = replace(
        known,
        input_tokens=known.input_tokens or quote.input_likely,
        output_tokens=output,
    )
    return Outcome(
        usage=usage,
        usage_source=source,
        settlement=settlement,
        cost=price(book, card, quote, usage, meter),
    )


def price(
    book: PriceBook, card: RateCard | None, quote: Quote, usage: Usage, meter: Meter | None
) -> Cost | None:
    """Cost of ``usage`` and of the other models billed inside the answer; None if unpriced."""
    if card is None:
        return Cost(0) if quote.provider.local else None
    facts = quote.facts
    answered = getattr(meter, "facts", None)
    if answered:
        facts = {**facts, **answered}
    context_tokens = getattr(meter, "context_tokens", None)
    if context_tokens is not None:
        facts = {**facts, "context_tokens": context_tokens}
    tier = meter.service_tier if meter is not None else None
    cost = book.cost(card, usage, service_tier=tier or quote.request.service_tier, **facts)
    if (meter is None or not meter.parts) and cost.flags == card.flags:
        return cost
    atto, lines, flags = cost.atto, cost.lines, cost.flags
    for part in meter.parts if meter is not None else ():
        if part.kind == "declined" and not part.usage.output_tokens:
            continue  # A model that refused before its first token is not billed.
        part_card = book.find(quote.provider.name, part.model) or card
        extra = book.cost(part_card, part.usage, at=quote.facts["at"])
        atto, lines, flags = atto + extra.atto, lines + extra.lines, flags + extra.flags
    return Cost(atto, lines, tuple(dict.fromkeys(flags + card.flags)))


def amounts(
    quote: Quote, covers: Sequence[Cover], booked: Outcome, sent: int | None
) -> dict[str, int]:
    """What each counter is charged. ``strict`` books its bound wherever the truth is not known."""
    result = {}
    for cover in covers:
        if booked.settlement == "void":
            result[cover.key] = 0
        elif cover.unit == "calls":
            result[cover.key] = 1
        elif cover.unit == "tokens":
            result[cover.key] = booked.usage.total_tokens if booked.usage is not None else 0
        else:
            result[cover.key] = booked.cost.settled if booked.cost is not None else 0
        if cover.strict and cover.unit != "calls" and not booked.exact and sent is not None:
            result[cover.key] = max(result[cover.key], cover.line(quote).amount(sent))
    return result


def _answering_card(quote: Quote, book: PriceBook, meter: Meter | None) -> RateCard | None:
    """Rates of the model that answered; of the one that was asked where that one is not known."""
    if meter is not None and meter.model and meter.model != quote.request.model:
        found = book.find(quote.provider.name, meter.model)
        if found is not None:
            return found
    return quote.card


def _refusal_billed(quote: Quote, status: int | None) -> bool:
    """Azure may charge a filtered prompt (400) and a call that it timed out (408)."""
    return quote.provider.name == "azure" and status in (400, 408)
