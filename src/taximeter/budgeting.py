"""The budget object: a scope that calls are charged to, and what it shows while they run."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
import time
import uuid
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Token
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from taximeter import context
from taximeter.budgets.books import Balance
from taximeter.budgets.limits import Limit
from taximeter.budgets.policy import Admit, Cover, Refuse, Terms
from taximeter.budgets.windows import Window
from taximeter.context import Scope
from taximeter.errors import BudgetExceededError, ConfigurationError
from taximeter.ledger import Entry
from taximeter.money import dollars, usd
from taximeter.report import call_row, summary_text, tree_text
from taximeter.runtime import RUNTIME, off_loop
from taximeter.stores.base import BudgetStore, Ledger

if TYPE_CHECKING:
    from taximeter.call import Call, Settled

P = ParamSpec("P")
R = TypeVar("R")

CHILDREN_KEPT_MAX: Final = 100
"""Budgets entered inside another that its ``tree()`` remembers; older ones are forgotten."""

CALLS_KEPT_MAX: Final = 10_000
"""Calls that ``summary_data()`` lists; totals go on counting beyond it."""

log: Final = logging.getLogger("taximeter")


@dataclass(frozen=True, slots=True, eq=False)
class _Entered:
    """One entry of a ``with`` block."""

    token: Token[Scope | None]
    previous: Scope | None
    owner: tuple[int, int]
    open_before: frozenset[str]


def warn_clamped(name: str, cap: int) -> None:
    """Warn, but never let a warnings filter turn a finished, paid call into an exception."""
    with suppress(RuntimeWarning):
        frame = _callers_frame()
        warnings.warn_explicit(
            f"budget {name!r} cut an answer at {cap} output tokens, all that was affordable",
            RuntimeWarning,
            filename=frame.f_code.co_filename,
            lineno=frame.f_lineno,
            module=frame.f_globals.get("__name__", "__main__"),
        )


def _callers_frame() -> FrameType:
    """The nearest frame that is neither ours nor the SDK's: the line to warn about."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        "site-packages" in frame.f_code.co_filename
        or str(frame.f_globals.get("__name__", "")).startswith("taximeter.")
    ):
        frame = frame.f_back
    return frame


class Budget:
    """Made by :func:`taximeter.budget`; see there for what its settings mean.

    Reusable: amounts accumulate over its ``with`` blocks. Amounts are ``Decimal`` USD, live while
    streams run: ``spent`` = ``settled`` + the provisional fare of streams in flight, ``held`` is the
    rest of the open holds, and spent + held + remaining = limit (overruns apart).
    """

    def __init__(
        self,
        terms: Terms,
        limits: tuple[Limit, ...],
        store: BudgetStore,
        *,
        window: Window,
        shared: bool,
        make: Callable[[], Budget] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        self.terms = terms
        self.limits = limits
        # Spend is always counted, with or without a limit; this is what ``spent`` speaks of.
        capped = next((limit for limit in limits if limit.unit == "usd"), None)
        self._window = capped.window if capped is not None else window
        self._cap = capped.amount if capped is not None else None
        self.store = store
        self.shared = shared
        self.clamped = False
        self.trip: BudgetExceededError | None = None
        self.calls_refused = 0
        self.calls_total = 0
        self.calls_unpriced = 0
        self.calls_estimated = 0
        self.observed: deque[dict[str, Any]] = deque(maxlen=CALLS_KEPT_MAX)
        self.children: deque[Budget] = deque(maxlen=CHILDREN_KEPT_MAX)  # entered inside, for tree()
        self._make = make
        self._tags = dict(tags or {})
        self._calls: deque[Entry] = deque(maxlen=CALLS_KEPT_MAX)
        self._open: dict[str, Call] = {}
        self._warned: set[tuple[str, float]] = set()
        self._entered: list[_Entered] = []
        self._lock = threading.RLock()
        self._key = terms.name if shared else f"{terms.name}#{uuid.uuid4().hex[:8]}"
        self._swept = False
        forget = getattr(store, "forget", None)
        if not shared and forget is not None:  # Its counters go when it goes.
            keys = [f"{self._key}:{unit}:total" for unit in ("usd", "tokens", "calls")]
            weakref.finalize(self, forget, keys).atexit = False
        self._covers: tuple[tuple[Cover, ...], float, float, str] = ((), 0.0, 0.0, "")

    # --- what it shows ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.terms.name

    @property
    def limit(self) -> Decimal | None:
        """USD allowed in the window; None: only tracked."""
        amount = self._main.limit
        return usd(amount) if amount is not None else None

    @property
    def settled(self) -> Decimal:
        """USD booked in the ledger for this window."""
        return usd(self._balance().settled)

    @property
    def spent(self) -> Decimal:
        """USD settled plus the provisional fare of streams in flight (may fall when they settle)."""
        fares, _ = self._running()
        return usd(self._balance().settled + fares)

    @property
    def held(self) -> Decimal:
        """USD set aside by open holds, beyond the fare already running."""
        _, covered = self._running()
        return usd(max(self._balance().held - covered, 0))

    @property
    def remaining(self) -> Decimal | None:
        """USD neither spent nor held; None without a limit. Never below 0."""
        main = self._main
        if main.limit is None:
            return None
        balance = self._balance()
        fares, covered = self._running()
        return usd(max(main.limit - balance.settled - fares - max(balance.held - covered, 0), 0))

    @property
    def tripped(self) -> bool:
        """It has refused or stopped a call; :attr:`trip` is the error that said so."""
        return self.trip is not None

    @property
    def exceeded(self) -> BudgetExceededError | None:
        """The last refusal, also where a framework has wrapped the exception; else None."""
        return self.trip

    @property
    def model_switched(self) -> bool:
        """A fallback model has taken over (needs ``fallback=``)."""
        return False

    @property
    def switched_at_usd(self) -> Decimal | None:
        return None

    def summary_data(self) -> dict[str, Any]:
        """Everything :meth:`summary` prints, as data. ``calls``: oldest first, at most 10,000."""
        RUNTIME.drain()
        return {
            "name": self.name,
            "mode": self.terms.mode,
            "limit": self.limit,
            "spent": self.spent,
            "settled": self.settled,
            "held": self.held,
            "remaining": self.remaining,
            "clamped": self.clamped,
            "tripped": str(self.trip) if self.trip is not None else None,
            "calls_total": self.calls_total,
            "calls_refused": self.calls_refused,
            "calls_unpriced": self.calls_unpriced,
            "calls_estimated": self.calls_estimated,
            "calls_open": len(self._open),
            "observed": list(self.observed),
            "calls": [call_row(entry) for entry in list(self._calls)],
        }

    def summary(self) -> str:
        """Spend by model, and why calls were refused or cut, as text for people."""
        return summary_text(self.summary_data())

    def tree(self) -> str:
        """This budget and those entered inside it, drawn as a tree."""
        return tree_text(self)

    def __repr__(self) -> str:
        limit = f" of {dollars(self.limit)}" if self.limit is not None else ""
        return f"<budget {self.name!r}: {dollars(self.spent)}{limit} spent>"

    # --- entering and leaving --------------------------------------------------------------------

    def __enter__(self) -> Self:
        from taximeter.ports import activate

        activate()
        self._recover()
        previous = context.SCOPE.get()
        scope = (previous or Scope()).inside(self)
        if self._tags:
            scope = scope.tagged(**self._tags)
        if previous is not None and previous.budgets and self not in previous.budgets:
            self._join(previous.budgets[-1])
        with self._lock:
            self._entered.append(
                _Entered(context.enter(scope), previous, context.owner(), frozenset(self._open))
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entered = self._leave_block()
        from taximeter.ports import close_abandoned

        close_abandoned(self._opened_since(entered), entered.owner)
        RUNTIME.drain()
        ours = self._unwrapped(error)
        if ours is not None and ours is not error:
            raise ours from None

    def _mine(self) -> _Entered:
        """Our own entry: the same object may be entered in several threads and tasks at once."""
        me = context.owner()
        for entered in reversed(self._entered):
            if entered.owner == me:
                return entered
        if not self._entered:
            raise ConfigurationError(
                f"budget {self.name!r} is left but was not entered; use it in a with statement"
            )
        return self._entered[-1]

    def _leave_block(self) -> _Entered:
        with self._lock:
            entered = self._mine()
            self._entered.remove(entered)
        context.leave(entered.token, entered.previous)
        return entered

    def _opened_since(self, entered: _Entered) -> list[Call]:
        """Calls begun inside this block; a stream of an outer block is none of our business."""
        return [call for id, call in list(self._open.items()) if id not in entered.open_before]

    def left_scope(self) -> Scope | None:
        """The scope that was in force where this budget was entered."""
        return self._mine().previous

    async def __aenter__(self) -> Self:
        if self.store.blocking and not self._swept:
            await off_loop(self._recover)
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from taximeter.ports import close_abandoned_async

        entered = self._mine()
        await close_abandoned_async(self._opened_since(entered), entered.owner)
        self.__exit__(kind, error, trace)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """As a decorator: a fresh budget for each call of ``fn`` (also async and generator functions)."""
        from taximeter.decorating import decorated

        return decorated(fn, self._make or (lambda: self))

    def bind(self, fn: Callable[P, R]) -> Callable[P, R]:
        """``fn`` charged to this budget wherever and whenever it runs (queue workers, callbacks)."""
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def run(*args: Any, **kwargs: Any) -> Any:
                async with self:
                    return await fn(*args, **kwargs)

            return run  # type: ignore[return-value]

        @functools.wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return fn(*args, **kwargs)

        return call

    def wrap(self, client: Any) -> Any:
        """Charge every call of this client to this budget, wherever it is used. Returns the client."""
        from taximeter.ports import wrap_client

        return wrap_client(client, lambda: (context.SCOPE.get() or Scope()).inside(self))

    def reset(self) -> None:
        """Forget the trip (and, for a budget of this process alone, the amounts)."""
        self.trip = None
        self.clamped = False
        self._warned.clear()
        if not self.shared:
            self._key = f"{self.terms.name}#{uuid.uuid4().hex[:8]}"

    # --- what the runtime asks and tells ---------------------------------------------------------

    @property
    def ledger(self) -> Ledger | None:
        """Entries go where the balances are, if that store keeps a ledger."""
        return self.store if hasattr(self.store, "save") else None  # type: ignore[return-value]

    def covers(self, now: float) -> tuple[Cover, ...]:
        """This budget's limits in the windows that ``now`` falls in."""
        covers, since, until, key = self._covers
        if since <= now < until and key == self._key:
            return covers
        covers = self._covers_at(now)
        starts = [c.window_start for c in covers if c.window_start is not None]
        ends = [c.window_end for c in covers if c.window_end is not None]
        self._covers = (covers, max(starts, default=0.0), min(ends, default=inf), self._key)
        return covers

    def _covers_at(self, now: float) -> tuple[Cover, ...]:
        others = (
            self._cover(limit.unit, limit.amount, limit.window, now)
            for limit in self.limits
            if limit.unit != "usd" or limit.window != self._window
        )
        return (self._cover("usd", self._cap, self._window, now), *others)

    def _cover(self, unit: str, amount: int | None, window: Window, now: float) -> Cover:
        return Cover(
            terms=self.terms,
            key=f"{self._key}:{unit}:{window.key(now)}",
            unit=unit,  # type: ignore[arg-type]
            limit=amount,
            window=window.unit,
            window_start=window.start(now),
            window_end=window.end(now),
        )

    def before(self, call: Call) -> None:
        """Called before admission: a tripped run stays tripped (see the loop breaker)."""

    def admitted(self, call: Call, admit: Admit) -> None:
        self._open[call.id] = call
        for cover, what in admit.observed:
            if cover.terms is self.terms:
                request = call.quote.request
                self.observed.append(
                    {
                        "id": call.id,
                        "model": request.model,
                        "would_be": what,
                        "window": cover.window,
                    }
                )

    def refused(self, error: BudgetExceededError, refuse: Refuse) -> None:
        self.calls_refused += 1
        if refuse.cover.terms is self.terms:
            self.trip = error
            error.budget = self  # type: ignore[attr-defined]

    def tripped_by(self, error: BudgetExceededError) -> None:
        if error.scope == self.name:
            self.trip = error

    def settled_call(self, call: Call, settled: Settled) -> None:
        """A call of ours has been booked."""
        self._open.pop(call.id, None)
        entry = settled.entry
        self.calls_total += 1
        self.calls_unpriced += entry.cost is None
        self.calls_estimated += entry.settlement in ("estimated", "assumed_full")
        self._calls.append(entry)
        self._warn_at_thresholds(settled)
        cap = call.admitted.send_cap if call.admitted is not None else None
        if entry.finish == "length" and cap is not None and not self.clamped:
            self.clamped = True
            if not entry.streamed:  # A stream says so itself, see ``on_limit``.
                warn_clamped(self.name, cap)

    def _warn_at_thresholds(self, settled: Settled) -> None:
        if self.terms.on_warn is None and self.terms.mode != "warn":
            return
        for cover in self.covers(settled.entry.started_at):
            if cover.limit is None or cover.key not in settled.amounts:
                continue
            total = self.store.read([cover.key])[cover.key].settled
            for at in (*self.terms.warn_at, 1.0):
                if total >= cover.limit * at and (cover.key, at) not in self._warned:
                    self._warned.add((cover.key, at))
                    self._tell(cover, total, at)

    def _tell(self, cover: Cover, total: int, at: float) -> None:
        spent = usd(total) if cover.unit == "usd" else Decimal(total)
        limit = usd(cover.limit or 0) if cover.unit == "usd" else Decimal(cover.limit or 0)
        if self.terms.on_warn is None:
            money = cover.unit == "usd"
            used, most = (dollars(spent), dollars(limit)) if money else (spent, limit)
            unit = "" if money else f" {cover.unit}"
            log.warning(
                "budget %r has reached %d %%: %s of %s%s",
                self.name,
                round(at * 100),
                used,
                most,
                unit,
            )
            return
        try:
            self.terms.on_warn(spent, limit)
        except Exception:  # An SDK would take it for a failure of its own, and ask again.
            log.warning("on_warn of budget %r failed", self.name, exc_info=True)

    # --- helpers ---------------------------------------------------------------------------------

    @property
    def _main(self) -> Cover:
        """The counter that ``spent`` and ``remaining`` speak of."""
        return self.covers(time.time())[0]

    def _balance(self) -> Balance:
        RUNTIME.drain()
        key = self._main.key
        return self.store.read([key]).get(key, Balance())

    def _running(self) -> tuple[int, int]:
        """Fares of the streams in flight, and how much of their holds those fares take up."""
        now, key = time.time(), self._main.key
        fares = covered = 0
        for call in list(self._open.values()):
            if key in call.held:
                fare = call.fare(now)
                fares += fare
                covered += min(fare, call.held[key])
        return fares, covered

    def _recover(self) -> None:
        """Settle what crashed processes left behind, once, when a shared store is first entered."""
        if self.store.blocking and not self._swept:
            self._swept = True
            from taximeter.recovery import sweep

            sweep(self.store)

    def _join(self, parent: Budget) -> None:
        if self not in parent.children:
            parent.children.append(self)

    def _unwrapped(self, error: BaseException | None) -> BudgetExceededError | None:
        """Our own error inside what a framework (litellm, instructor) made of it."""
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            if isinstance(error, BudgetExceededError) and error is self.trip:
                return error
            seen.add(id(error))
            error = error.__cause__ or error.__context__
        return None
