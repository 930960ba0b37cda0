"""One call's life, from quote to settlement. Pure: bytes, store answers and ``now`` in; steps out.

A shell drives it::

    steps = call.admit()            # a generator of Read, Hold and Wait; its value is Admit or Refuse
    call.receive_data(chunk)        # the answer's bytes; what it returns goes on to the caller
    if call.attention: call.look(now)   # rarely: count text, and say whether to extend or stop
    call.settle(ending, now)        # once; later calls return None

The same object serves sync and async, every port and the gateway: only shells know sockets and clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from taximeter.budgets import policy
from taximeter.budgets.books import Balance, Charge, HoldAnswer
from taximeter.budgets.policy import Admit, Cover, Refuse
from taximeter.ledger import Entry
from taximeter.pricing.base import PriceBook
from taximeter.quoting import Quote
from taximeter.settlement import Ending, Outcome, Progress, amounts, outcome, price
from taximeter.tokens import OutputCounter, family
from taximeter.usage import Usage
from taximeter.wire.base import Meter, Wire

FIRST_LOOK_BYTES: Final = 4096
KEEPS_UP_SHARE: Final = 0.1
HOLD_TRIES_MAX: Final = 64
"""Times a hold may lose a race for the last money before it counts as refused."""


@dataclass(frozen=True, slots=True)
class Read:
    """Step: read these counters. Answer: ``dict[str, Balance]``."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Step: place this hold. Answer: ``HoldAnswer``."""

    charges: tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Step: wait until one of these counters changes. Answer: False when the time is up."""

    keys: tuple[str, ...]
    seconds: float


Step = Read | Hold | Wait


@dataclass(frozen=True, slots=True)
class Stop:
    """The stream must end here. ``reason`` is for the ledger and the error."""

    reason: str
    cover: Cover | None = None


@dataclass(frozen=True, slots=True)
class Extend:
    """The stream needs more of its money set aside: ``charges`` lift the hold to ``held`` tokens."""

    charges: tuple[Charge, ...]
    held: int
    step: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What to book: ``amounts`` by counter in the store, ``entry`` in the ledger."""

    hold_id: str | None
    amounts: dict[str, int]
    entry: Entry
    void: bool


@dataclass(slots=True, kw_only=True, weakref_slot=True, eq=False)
class Call:
    """See the module. ``who``: the ledger's identity fields (project, user_id, tags, ...)."""

    id: str
    quote: Quote
    wire: Wire
    book: PriceBook
    covers: tuple[Cover, ...]
    who: Mapping[str, Any]
    started_at: float
    admitted: Admit | None = None
    meter: Meter | None = None
    attention: bool = False
    ended: bool = False
    status: int | None = None
    request_id: str | None = None
    stopped: Stop | None = None
    entry: Entry | None = None
    first_token_at: float | None = None
    handed_at: float | None = None  # when the caller was given the bytes he has; None: he waits
    kept_up_at: float = 0.0  # when the reader had last read all there was
    look_by: float = inf  # when to look at the latest: a slow reader sees little of what is made
    held: dict[str, int] = field(default_factory=dict)  # amounts by counter
    tokens_held: int = 0
    strips_usage: bool = False
    refused_extension: Cover | None = None
    shell: Any = None  # the shell's own; never looked into here
    guard: AbstractContextManager[Any] = field(
        default_factory=nullcontext
    )  # a lock, where threads look
    _steps: int = 0
    _seen: int = 0
    _kept_up_seen: int = 0
    _waited: float = 0.0
    _look_at: int = FIRST_LOOK_BYTES
    _deltas: int = 0
    _counter: OutputCounter | None = None

    # --- before the call -------------------------------------------------------------------------

    def admit(
        self, *, own_held: Callable[[], Mapping[str, int]]
    ) -> Generator[Step, Any, Admit | Refuse]:
        """Ask the budgets. Waits while money is only held by others; see ``Terms.wait``."""
        keys = tuple([cover.key for cover in self.covers])
        if not keys:
            return policy.decide(self.quote, (), {})
        # A call with a cap of its own usually fits: try it unseen, and look only when refused. Who
        # only observes never refuses, so has to look.
        fresh = self.quote.output_asked is None
        for cover in self.covers:
            fresh = fresh or cover.observing
        balances: Mapping[str, Balance] = (yield Read(keys)) if fresh else {}
        tries = 0
        while True:
            decision = policy.decide(self.quote, self.covers, balances, own_held=own_held)
            if isinstance(decision, Admit):
                answer: HoldAnswer = yield Hold(decision.charges)
                if answer.accepted:
                    self._placed(decision)
                    return decision
                balances, fresh, tries = answer.balances, True, tries + 1
                if tries < HOLD_TRIES_MAX:
                    continue
                decision = policy.decide(self.quote, self.covers, balances, own_held=own_held)
                if isinstance(decision, Admit):  # Money is free, but others are always faster.
                    tries = 0
                    if (yield Wait(keys, self.patience)):
                        balances = yield Read(keys)
                    continue
            elif not fresh:
                balances, fresh = (yield Read(keys)), True
                continue
            patience = self.patience if decision.busy else 0.0
            if patience > 0 and (yield Wait((decision.cover.key,), patience)):
                balances = yield Read(keys)
                continue
            return decision

    @property
    def patience(self) -> float:
        """Seconds to wait for money that others hold; the most impatient budget decides."""
        return min((c.terms.wait for c in self.covers if c.enforcing), default=0.0)

    def _placed(self, admit: Admit) -> None:
        self.admitted = admit
        self.held = {charge.key: charge.amount for charge in admit.charges}
        self.tokens_held = admit.output_held

    @property
    def asks_usage(self) -> bool:
        """The stream carries no usage unless we ask; the caller has not."""
        request = self.quote.request
        return (
            request.streamed
            and request.wire in ("openai.chat", "openai.completions")
            and request.include_usage is not True
            and self.quote.provider.stream_usage != "unasked"
        )

    # --- during the call -------------------------------------------------------------------------

    def answered(self, status: int, content_type: str, request_id: str | None) -> None:
        """The answer's head has arrived; a meter is set up for its body if it is a 2xx."""
        self.status, self.request_id = status, request_id
        if 200 <= status < 300:
            self.meter = self.wire.meter(
                self.quote.request,
                content_type=content_type,
                strip_usage=self.strips_usage,
                whole_events=self.may_be_cut,
            )
            self._schedule()

    @property
    def may_be_cut(self) -> bool:
        """Some limit may stop this call in the middle of its answer."""
        return True in [cover.cutting for cover in self.covers]

    def waited(self, seconds: float, now: float) -> None:
        """The reader had to wait for what has just come. Who waits for a tenth of the time keeps up:
        he has read all that was generated (one wait alone may have been for a processor)."""
        self._waited += seconds
        if self._waited > KEEPS_UP_SHARE * (now - self.kept_up_at):
            self.kept_up_at, self._kept_up_seen, self._waited = now, self._seen, 0.0

    def look_soon(self) -> None:
        """:attr:`look_by` is over: what is held may be used up, though less than that was read."""
        self._look_at, self.look_by = min(self._look_at, self._seen), inf

    def receive_data(self, data: bytes) -> bytes:
        """Take the answer's next bytes; return what the caller should see. Sets :attr:`attention`."""
        meter = self.meter
        if meter is None:
            return data
        out = meter.receive_data(data)
        self._seen += len(data)
        if (meter.terminal and not self.ended) or self._seen >= self._look_at:
            self.attention = True
        return out

    @property
    def due(self) -> bool:
        """Enough has come since the last look for what is held to be used up."""
        return self._seen >= self._look_at

    def receive_eof(self) -> bytes:
        """The body is complete."""
        return self.meter.receive_eof() if self.meter is not None else b""

    def progress(self, now: float) -> Progress:
        """Decode what came since the last look and count it. Any thread may look; one at a time."""
        with self.guard:
            return self._progress(now)

    def _progress(self, now: float) -> Progress:
        if self.meter is not None:
            if self._counter is None:  # Most calls are never counted.
                request = self.quote.request
                self._counter = OutputCounter(family(request.model), request.wire)
            visible = self.meter.take_visible()
            for kind in ("text", "reasoning", "tool"):
                text = getattr(visible, kind)
                if text:
                    self._counter.feed(
                        text, kind=kind, deltas=visible.deltas if kind == "text" else 0
                    )
            self._deltas += visible.deltas
        counter = self._counter
        likely = counter.likely_max if counter is not None else 0
        away = now - self.kept_up_at if self.handed_at is not None else 0.0
        since = self._seen - self._kept_up_seen
        return Progress(
            expected=counter.expected if counter is not None else 0,
            likely=likely,
            first_token_at=self.first_token_at,
            kept_up_at=self.kept_up_at if away else now,
            since=likely * since // max(self._seen, 1) if away else 0,
            away=max(away, 0.0),
        )

    def look(self, now: float) -> Stop | int | None:
        """Compare the fare with what is held: None (go on), a Stop, or output tokens now needed."""
        self.attention = False
        if self.meter is None or self.meter.terminal or self.admitted is None:
            return None
        progress = self.progress(now)
        stop = self._overrun(progress)
        if stop is not None:
            return stop
        self._schedule(progress)
        if not self.admitted.extendable or self.tokens_held >= (self.admitted.output_sent or 0):
            return None
        margin = max(progress.read_ahead(cautious=True), 1)
        if progress.likely + 2 * margin < self.tokens_held and self.refused_extension is None:
            return None
        if progress.likely + margin >= self.tokens_held and self.refused_extension is not None:
            return Stop("the budget is used up", self.refused_extension)
        return progress.likely + 2 * margin

    def extension(self, need: int, balances: Mapping[str, Balance]) -> Extend | None:
        """Charges that lift the hold to at least ``need`` output tokens; None if they do not fit."""
        assert self.admitted is not None and self.admitted.output_sent is not None
        sent = self.admitted.output_sent
        held = policy.extend(
            self.quote,
            self.covers,
            balances,
            held=self.tokens_held,
            sent=sent,
            need=min(need, sent),
            own=self.held,
        )
        if held is None:
            return None
        charges = policy.extension_charges(self.quote, self.covers, held, self.held)
        # Counted whether or not it is granted: one of several stores may have taken it, and asked
        # again for less it must not take that for the same step.
        self._steps += 1
        return Extend(charges, held, self._steps)

    def extended(self, extend: Extend) -> None:
        """The store accepted ``extend``."""
        self.tokens_held = extend.held
        for charge in extend.charges:
            self.held[charge.key] = self.held.get(charge.key, 0) + charge.amount
        self.refused_extension = None
        self._schedule()

    def refuse_extension(self, balances: Mapping[str, Balance]) -> None:
        """No more money: the stream may go on until what it holds is used up."""
        clamping = [c for c in self.covers if c.clamping]
        self.refused_extension = min(clamping, key=lambda cover: cover.free(balances))
        self._schedule()

    def _overrun(self, progress: Progress) -> Stop | None:
        """A provider that runs past the cap it was given (or past a stream limit) is stopped."""
        assert self.admitted is not None
        sent = self.admitted.output_sent
        enforced = [c for c in self.covers if c.cutting]
        if sent is None or not enforced:
            return None
        sent *= self.quote.request.choices
        # Each delta is at least one token; otherwise the best estimate must be well past the cap.
        if self._deltas > sent or progress.expected > sent + sent // 4 + 32:
            return Stop(f"the provider ran past the output cap of {sent} tokens", enforced[0])
        return None

    def _schedule(self, progress: Progress | None = None) -> None:
        """When to look next, in bytes: well before what is held can be used up."""
        self.look_by = inf
        if self.admitted is None or not self.may_be_cut:
            self._look_at = 2**62
            return
        target = self.tokens_held
        used = self._counter.likely_max if self._counter is not None else 0
        if self.admitted.extendable and self.tokens_held < (self.admitted.output_sent or 0):
            self.look_by = 0.0
            if progress is not None:
                used += progress.read_ahead(cautious=True)
                seconds = max(target - used, 0) / progress.rate_max / 2
                self.look_by = progress.kept_up_at + progress.away + seconds
        slack = max(target - used, 0)
        if not used or not self._seen:
            self._look_at = self._seen + min(max(slack, 64), FIRST_LOOK_BYTES)
            return
        # Where the provider itself keeps the cap, this only looks for one that does not. Where we
        # must cut in time, text may become four times denser before anything is missed.
        haste = 4 if self.admitted.extendable else 1.5
        expected = self._counter.expected if self._counter is not None else 0
        bytes_per_token = max(self._seen / max(expected, 1), 1.0)
        self._look_at = self._seen + max(int(slack * bytes_per_token / haste), 256)

    # --- the fare, and the end -------------------------------------------------------------------

    def fare(self, now: float) -> int:
        """Provisional cost so far in nano-USD: input, and the output seen. 0 once settled."""
        if self.ended or self.quote.card is None or self.meter is None:
            return 0
        progress = self.progress(now)
        known = self.meter.usage or Usage()
        usage = Usage(
            input_tokens=known.input_tokens or self.quote.input_expected,
            cached_input_tokens=known.cached_input_tokens,
            cache_write_5m_tokens=known.cache_write_5m_tokens,
            cache_write_1h_tokens=known.cache_write_1h_tokens,
            output_tokens=max(progress.expected, known.output_tokens),
        )
        cost = price(self.book, self.quote.card, self.quote, usage, None)
        return cost.settled if cost is not None else 0

    def settle(self, ending: Ending, now: float, *, error: str | None = None) -> Settled | None:
        """Book the call. The first time only; afterwards None."""
        if self.ended:
            return None
        # The provider's final figures make counting needless: most text is never decoded.
        meter = self.meter
        final = (
            meter is not None and meter.terminal and meter.usage is not None and meter.error is None
        )
        progress = Progress() if final else self.progress(now)
        self.ended = True
        sent = self.admitted.output_sent if self.admitted is not None else self.quote.output_max
        terms = self.covers[-1].terms if self.covers else None
        booked = outcome(
            self.quote,
            self.book,
            self.meter,
            ending,
            progress,
            sent=sent,
            held=self.tokens_held if ending is Ending.CUT else None,
            status=self.status,
            on_abort=terms.on_abort if terms is not None else None,
        )
        self.entry = self._entry(booked, ending, now, error)
        charged = amounts(self.quote, self.covers, booked, sent)
        return Settled(
            hold_id=self.id if self.admitted is not None and self.covers else None,
            amounts=charged,
            entry=self.entry,
            void=booked.settlement == "void",
        )

    def settle_blindly(self, now: float, error: str) -> Settled:
        """Book everything that is held, because a defect of ours keeps us from knowing better."""
        self.ended = True
        usd = [self.held.get(c.key, 0) for c in self.covers if c.unit == "usd"]
        self.entry = Entry(
            id=self.id,
            request_id=self.request_id,
            provider=self.quote.provider.name,
            wire=self.quote.request.wire,
            model=self.quote.request.model,
            model_asked=self.quote.request.model,
            streamed=self.quote.request.streamed,
            cost=max(usd, default=None),
            settlement="assumed_full",
            status=self.status,
            error=error,
            started_at=self.started_at,
            ended_at=now,
            **self.who,
        )
        hold_id = self.id if self.admitted is not None and self.covers else None
        return Settled(hold_id=hold_id, amounts=dict(self.held), entry=self.entry, void=False)

    def _entry(self, booked: Outcome, ending: Ending, now: float, error: str | None) -> Entry:
        meter, request = self.meter, self.quote.request
        admitted = self.admitted
        if error is None and self.stopped is not None:
            error = self.stopped.reason
        if error is None and meter is not None:
            error = meter.error
        if error is None and ending not in (Ending.COMPLETE, Ending.LEFT):
            error = f"HTTP {self.status}" if ending is Ending.REFUSED else ending.value
        flags = self.quote.flags if booked.cost is None else booked.cost.flags
        return Entry(
            id=self.id,
            request_id=self.request_id,
            provider=self.quote.provider.name,
            wire=request.wire,
            model=(meter.model if meter is not None else None) or request.model,
            model_asked=request.model,
            streamed=request.streamed,
            usage=booked.usage,
            cost=booked.cost.settled if booked.cost is not None else None,
            provider_cost=meter.provider_cost if meter is not None else None,
            price_snapshot=self.book.snapshot_id,
            price_flags=tuple(dict.fromkeys(flags)) if flags else (),
            usage_source=booked.usage_source,
            settlement=booked.settlement,
            finish=(meter.finish if meter is not None else None),
            status=self.status,
            error=error,
            clamped_to=admitted.send_cap if admitted is not None else None,
            started_at=self.started_at,
            first_token_at=self.first_token_at,
            ended_at=now,
            latency_ms=max(round((now - self.started_at) * 1000, 3), 0.0),
            **self.who,
        )


def run(steps: Generator[Step, Any, Admit | Refuse], perform: Any) -> Admit | Refuse:
    """Drive ``admit`` with a synchronous ``perform(step) -> answer``."""
    try:
        step = next(steps)
        while True:
            step = steps.send(perform(step))
    except StopIteration as stop:
        decision: Admit | Refuse = stop.value
        return decision


async def run_async(steps: Generator[Step, Any, Admit | Refuse], perform: Any) -> Admit | Refuse:
    """Drive ``admit`` with an asynchronous ``perform``."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await perform(step))
    except StopIteration as stop:
        decision: Admit | Refuse = stop.value
        return decision


__all__: Sequence[str] = (
    "Call",
    "Extend",
    "Hold",
    "Read",
    "Settled",
    "Step",
    "Stop",
    "Wait",
    "run",
    "run_async",
)
