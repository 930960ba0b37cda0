"""The words of pricing: rate cards, costs, and the book that finds one for a model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from taximeter.money import Amount, Rate, round_half_even, round_up
from taximeter.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Rates of a whole request once its input passes ``over`` tokens (reaches it, if ``inclusive``)."""

    over: int
    rates: Mapping[str, Rate]
    inclusive: bool = False
    variants: Mapping[str, Mapping[str, Rate]] = field(default_factory=dict)  # by service tier


@dataclass(frozen=True, slots=True, kw_only=True)
class OffPeak:
    """Cheaper rates inside weekly windows (UTC). The card's own rates are those of the peak.

    ``windows``: ``(weekdays, first minute of the day, minute after the last)``, Monday is 1.
    """

    rates: Mapping[str, Rate]
    windows: tuple[tuple[tuple[int, ...], int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """What one model costs at one provider. ``rates``: atto-USD per unit by kind.

    Kinds are the fields of Usage without ``_tokens`` (``input``, ``cached_input``, ``output``,
    ``cache_write_5m``, ``reasoning``, ``audio_input``, ...), ``request``, and ``requests.<kind>``.
    A fee that depends on how much is searched adds ``.low``, ``.medium`` or ``.high`` to its kind.

    Rates change: ``history`` has the cards that held earlier, and those that are announced, each
    with ``since`` and ``until`` (ISO dates; the latter is the first day it no longer holds). The
    card itself is the one of the snapshot's day; its own ``until`` is when the model retires.
    """

    provider: str
    model: str
    rates: Mapping[str, Rate]
    tiers: tuple[Tier, ...] = ()
    variants: Mapping[str, Mapping[str, Rate]] = field(default_factory=dict)  # by service tier
    context_tokens: int | None = None  # context window
    output_tokens_max: int | None = None  # most it can answer
    reasons: bool = False  # may bill output tokens that nobody sees
    free: bool = False  # listed as free: a cost of 0 is known, not missing
    flags: tuple[str, ...] = ()  # "ceiling": not this model's own rates
    since: str | None = None
    source: str | None = None
    until: str | None = None
    history: tuple[RateCard, ...] = ()
    off_peak: OffPeak | None = None
    regions: Mapping[str, int] = field(default_factory=dict)  # thousandths; "*": any but global
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)  # the engine's


@dataclass(frozen=True, slots=True)
class Cost:
    """An exact cost in atto-USD, with the lines it is the sum of: ``(kind, units, rate)``."""

    atto: int
    lines: tuple[tuple[str, int, Rate], ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def settled(self) -> Amount:
        """Nano-USD, half-even: what is booked."""
        return round_half_even(self.atto)

    @property
    def held(self) -> Amount:
        """Nano-USD, rounded up: what is set aside."""
        return round_up(self.atto)


class PriceBook(Protocol):
    """Finds the rate card of a model and prices usage with it."""

    snapshot_id: str

    def find(self, provider: str, model: str) -> RateCard | None:
        """The card, or None when no price is known. Never a guess from a mere prefix."""
        ...

    def ceiling(self, provider: str) -> RateCard:
        """The provider's dearest known rate of each kind (of all providers, if it is unknown)."""
        ...

    def cost(
        self, card: RateCard, usage: Usage, *, service_tier: str | None = None, **facts: Any
    ) -> Cost:
        """Exact cost of ``usage``. ``facts``: ``at`` (seconds), ``context_tokens`` (largest single
        prompt, where ``input_tokens`` sums several), ``region``, ``search_context_size``."""
        ...

    def bound(self, card: RateCard, *, input_tokens: int, output_tokens: int, **facts: Any) -> Cost:
        """Most that a call can cost: no discount counted on, the dearest tier it can reach.

        ``facts``: ``service_tier`` as asked, ``cache_write`` (``""``, ``"5m"``, ``"1h"``),
        ``requests`` (fees by kind, at most), ``region``, ``search_context_size``, ``media``
        (False: the prompt is known to be text alone).
        """
        ...

    def line(self, card: RateCard, *, input_tokens: int, **facts: Any) -> tuple[int, int]:
        """:meth:`bound` is linear in the output: atto-USD without any, and for each token of it."""
        ...
