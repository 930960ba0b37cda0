"""Decisions: may this call go, with what output cap, and how much is set aside for it? Pure.

Modes (a table of them is in the README): ``strict`` holds a sound bound and never rewrites; ``clamp`` lowers
the output cap to what is affordable and holds that; ``incremental`` acts as ``clamp`` here; ``warn``
and ``observe`` refuse nothing. With nested budgets the smallest cap that any clamping one affords is
sent, then strict ones compare, then observing ones record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from taximeter.budgets.books import Balance, Charge
from taximeter.quoting import CALLS, UNLIMITED, Line, Quote

Mode = Literal["strict", "clamp", "incremental", "warn", "observe"]
MODES: Final = ("strict", "clamp", "incremental", "warn", "observe")
ENFORCING: Final = frozenset({"strict", "clamp", "incremental"})

READ_AHEAD_TOKENS_MAX: Final = 512
"""Most that a provider is taken to generate between our hanging up and its noticing (2 s of it)."""

_NOTHING: Final = Balance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How one budget acts. Values are checked where the budget is made (``api.budget``)."""

    name: str
    mode: Mode = "clamp"
    on_limit: Literal["raise", "truncate"] = "raise"
    wait: float = 30.0
    min_output_tokens: int = 16
    max_stream_output_tokens: int | None = None
    unknown_model: Literal["ceiling", "refuse"] = "ceiling"
    on_abort: Literal["estimate", "worst_case", "drain"] | None = None
    on_outage: Literal["closed", "open", "degrade"] = "closed"
    warn_at: tuple[float, ...] = (0.8,)
    on_warn: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """One limit that covers a call, in the window that the call begins in."""

    terms: Terms
    key: str
    unit: Literal["usd", "tokens", "calls"] = "usd"
    limit: int | None = None
    window: str = "total"
    window_start: float | None = None
    window_end: float | None = None
    # What the mode means for this limit; asked for a dozen times in every call.
    enforcing: bool = field(init=False)  # it may refuse
    strict: bool = field(init=False)
    clamping: bool = field(init=False)  # it enforces by lowering the cap
    observing: bool = field(init=False)  # it records what it would have done
    cutting: bool = field(init=False)  # a stream may be cut on its account

    def __post_init__(self) -> None:
        mode = self.terms.mode if self.limit is not None else None
        object.__setattr__(self, "enforcing", mode in ENFORCING)
        object.__setattr__(self, "strict", mode == "strict")
        object.__setattr__(self, "clamping", mode in ENFORCING and mode != "strict")
        object.__setattr__(self, "observing", mode == "observe")
        limited = self.terms.max_stream_output_tokens is not None
        object.__setattr__(self, "cutting", mode in ENFORCING or limited)

    def line(self, quote: Quote) -> Line:
        """What the call costs in this limit's unit, by output tokens."""
        if self.unit == "calls":
            return CALLS
        sound = self.terms.mode == "strict"
        return quote.tokens(sound=sound) if self.unit == "tokens" else quote.line(sound=sound)

    def free(self, balances: Mapping[str, Balance]) -> int:
        """What is neither settled nor held."""
        balance = balances.get(self.key, _NOTHING)
        assert self.limit is not None
        return self.limit - balance.settled - balance.held


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """The call may go: hold ``charges``; send ``send_cap`` (None: leave the request's own cap).

    ``output_sent``: most that the provider may now bill per choice (None: not known);
    ``output_held``: what the clamping charges pay for; ``extendable``: less is held than was sent.
    """

    charges: tuple[Charge, ...]
    send_cap: int | None
    output_sent: int | None
    output_held: int
    extendable: bool
    binding: Cover | None = None  # the limit that lowered the cap
    observed: tuple[tuple[Cover, str], ...] = ()  # what observing limits would have done


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The call may not go. ``busy``: only held money is in the way; waiting may help."""

    cover: Cover
    requested: int
    available: int
    settled: int
    busy: bool
    unbounded: str | None = None


def decide(
    quote: Quote,
    covers: Sequence[Cover],
    balances: Mapping[str, Balance],
    *,
    own_held: Callable[[], Mapping[str, int]] = dict,
) -> Admit | Refuse:
    """Decide about one call.

    Args:
        balances: Of every cover's counter, as last seen; a stale view costs a retry, never money.
        own_held: What the same task or thread holds, by key: never waited for. Asked for only
            where a call does not fit.
    """
    wanted = _wanted(quote, covers)
    clamping = [c for c in covers if c.clamping]
    affordable = _affordable(quote, clamping, balances, 1)
    least = 0
    for cover in covers:
        least = max(least, cover.terms.min_output_tokens)
    floor = quote.floor(least)
    if wanted is not None:
        floor = min(floor, wanted)
    sent, held = _share(quote, clamping, balances, wanted, affordable, floor)
    if sent < floor:
        return _refuse(quote, clamping, balances, own_held, floor)
    known = sent if sent < UNLIMITED else None
    strict = [c for c in covers if c.strict]
    if strict and (quote.unbounded is not None or known is None):
        return _unbounded(quote, strict[0], balances)
    short = [c for c in strict if c.line(quote).amount(sent) > c.free(balances)]
    if short:
        return _refuse(quote, short, balances, own_held, sent)
    asked, most = quote.output_asked, quote.output_max
    lowered = known is not None and (
        sent < asked if asked is not None else (most is None or sent < most)
    )
    unclamped = affordable >= (wanted if wanted is not None else UNLIMITED)
    return Admit(
        charges=tuple([_charge(quote, c, known, held) for c in covers]),
        send_cap=sent if lowered else None,
        output_sent=known,
        output_held=held,
        extendable=held < sent and bool(clamping),
        binding=_binding(quote, covers, balances, unclamped=unclamped) if lowered else None,
        observed=_observe(quote, covers, balances, wanted, floor),
    )


def extend(
    quote: Quote,
    covers: Sequence[Cover],
    balances: Mapping[str, Balance],
    *,
    held: int,
    sent: int,
    need: int,
    own: Mapping[str, int],
) -> int | None:
    """How many output tokens to hold from now on; None: not even ``need`` can be had.

    Takes everything that was sent if no one else is in flight, else half of what is free.
    ``own``: amounts this call holds already, by key.
    """
    clamping = [c for c in covers if c.clamping]
    most = sent
    for cover in clamping:
        free = max(cover.free(balances), 0)
        line = cover.line(quote)
        lone = balances.get(cover.key, _NOTHING).held <= own.get(cover.key, 0)
        share = free if lone else free // 2
        reach = line.affords(own.get(cover.key, 0) + share)
        if reach < need:
            reach = min(line.affords(own.get(cover.key, 0) + free), need)
        most = min(most, reach)
    return most if most >= need and most > held else None


def extension_charges(
    quote: Quote, covers: Sequence[Cover], held: int, own: Mapping[str, int]
) -> tuple[Charge, ...]:
    """The charges that lift every clamping (and watching) counter to ``held`` output tokens."""
    charges = []
    for cover in covers:
        more = cover.line(quote).amount(held) - own.get(cover.key, 0)
        if more > 0 and not cover.strict:
            charges.append(Charge(cover.key, more, cover.limit if cover.enforcing else None))
    return tuple(charges)


def _wanted(quote: Quote, covers: Sequence[Cover]) -> int | None:
    """Most output per choice that anyone wants: the call's, and a stream limit of any budget."""
    wanted = quote.output_max
    if quote.request.streamed:
        for cover in covers:
            most = cover.terms.max_stream_output_tokens
            if most is not None:
                wanted = most if wanted is None else min(wanted, most)
    return wanted


def _binding(
    quote: Quote, covers: Sequence[Cover], balances: Mapping[str, Balance], *, unclamped: bool
) -> Cover | None:
    """The limit that lowered the cap: the tightest, or one on streams where money was no matter."""
    clamping = [c for c in covers if c.clamping]
    tightest = min(clamping, key=lambda c: c.line(quote).affords(c.free(balances)), default=None)
    if tightest is None or unclamped:
        return _shortest_stream(covers) or tightest
    return tightest


def _shortest_stream(covers: Sequence[Cover]) -> Cover | None:
    limited = [c for c in covers if c.terms.max_stream_output_tokens is not None]
    return min(limited, key=lambda c: c.terms.max_stream_output_tokens or 0, default=None)


def _affordable(
    quote: Quote, clamping: Sequence[Cover], balances: Mapping[str, Balance], parts: int
) -> int:
    """The largest output cap that all clamping limits afford with one of ``parts`` of what is free."""
    reach = UNLIMITED
    for cover in clamping:
        reach = min(reach, cover.line(quote).affords(cover.free(balances) // parts))
    return reach


def _share(
    quote: Quote,
    clamping: Sequence[Cover],
    balances: Mapping[str, Balance],
    wanted: int | None,
    affordable: int,
    floor: int,
) -> tuple[int, int]:
    """Output tokens to send and to hold. A call without a cap must not lock the others out."""
    most = UNLIMITED if wanted is None else wanted
    sent = min(most, affordable)
    capped = quote.output_asked is not None and quote.output_asked == quote.output_max
    if capped or sent < floor or not clamping:
        return sent, sent if sent < UNLIMITED else 0
    visible = quote.request.streamed and not quote.hidden_output
    if visible and quote.provider.stops_on_abort and quote.request.choices == 1:
        # Cutting it saves money, so half is enough for now; small holds are not worth extending.
        return sent, sent // 2 if sent >= 8 * READ_AHEAD_TOKENS_MAX else sent
    lone = all(balances.get(c.key, _NOTHING).held == 0 for c in clamping)
    if not lone:
        half = _affordable(quote, clamping, balances, 2)
        sent = min(sent, max(half, floor))
    return sent, sent


def _charge(quote: Quote, cover: Cover, sent: int | None, held: int) -> Charge:
    line = cover.line(quote)
    worst = line.amount(sent if sent is not None else held)
    amount = worst if cover.strict else line.amount(held)
    limit = cover.limit if cover.enforcing else None
    return Charge(cover.key, amount, limit, worst)


def _refuse(
    quote: Quote,
    covers: Sequence[Cover],
    balances: Mapping[str, Balance],
    own_held: Callable[[], Mapping[str, int]],
    output_tokens: int,
) -> Refuse:
    """Name the limit that refuses: one for which waiting is no use, before one that is only busy."""
    refusals = []
    own = own_held()
    for cover in covers:
        requested = cover.line(quote).amount(output_tokens)
        available = cover.free(balances)
        if requested > available:
            settled = balances.get(cover.key, _NOTHING).settled
            assert cover.limit is not None
            reachable = cover.limit - settled - own.get(cover.key, 0)
            refusals.append(
                Refuse(
                    cover=cover,
                    requested=requested,
                    available=available,
                    settled=settled,
                    busy=requested <= reachable,
                )
            )
    assert refusals, "a refusal needs a limit that refuses"
    return min(refusals, key=lambda refusal: refusal.busy)


def _unbounded(quote: Quote, cover: Cover, balances: Mapping[str, Balance]) -> Refuse:
    return Refuse(
        cover=cover,
        requested=cover.line(quote).amount(quote.output_asked or 0),
        available=cover.free(balances),
        settled=balances.get(cover.key, _NOTHING).settled,
        busy=False,
        unbounded=quote.unbounded or "no output limit is known; set max_tokens",
    )


def _observe(
    quote: Quote,
    covers: Sequence[Cover],
    balances: Mapping[str, Balance],
    wanted: int | None,
    floor: int,
) -> tuple[tuple[Cover, str], ...]:
    """What ``clamp`` would have done at each limit that only observes."""
    seen: tuple[tuple[Cover, str], ...] = ()
    for cover in covers:
        if not cover.observing:
            continue
        reach = cover.line(quote).affords(cover.free(balances))
        if reach < floor:
            seen += ((cover, "refused"),)
        elif wanted is None or reach < wanted:
            seen += ((cover, "clamped"),)
    return seen
