"""The shell around :mod:`taximeter.call`: clocks, ids, stores, waiting, and what happens at the end.

Ports ask it to begin a call, to admit it (sync or async), to attend to a running stream, and to
settle it. There is one runtime for each process; nothing here knows HTTP.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taximeter import context, providers, quoting
from taximeter.books import Books
from taximeter.budgets.books import Balance, HoldAnswer
from taximeter.budgets.policy import Admit, Cover, Refuse
from taximeter.call import Call, Hold, Read, Settled, Step, Stop, Wait, run, run_async
from taximeter.context import Scope
from taximeter.errors import (
    BudgetExceededError,
    PriceUnknownError,
    StoreError,
    StoreUnavailableError,
    TaximeterError,
)
from taximeter.pricing.base import PriceBook
from taximeter.recovery import sweep
from taximeter.refusal import refusal_error
from taximeter.settlement import Ending
from taximeter.stores.base import BudgetStore, Ledger
from taximeter.tokens import vocabulary
from taximeter.waiting import COURTESY_SECONDS, Place, Queue
from taximeter.wire.base import Wire, WireRequest

if TYPE_CHECKING:
    from taximeter.budgeting import Budget

log: Final = logging.getLogger("taximeter")

HEARTBEAT_SECONDS: Final = 20.0
_THREAD_START: Final = threading.Thread.start


class Runtime:
    """State of this process: what is open, what is to be settled, where entries go."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.installed: Scope | None = None  # set by taximeter.install()
        self.ledger: Ledger | None = None  # set by taximeter.configure(store=...)
        self.open: dict[str, Call] = {}
        self.refuses_usage: set[tuple[str, int | None]] = set()
        self.on_settled: list[Callable[[Call], None]] = []
        self._book: PriceBook | None = None
        self._owned: dict[tuple[int, int], dict[str, Call]] = {}
        self._deferred: deque[tuple[Call, Ending, str | None, Callable[[], Any] | None]] = deque()
        self._unbooked: deque[tuple[Call, Settled]] = deque()
        self._sharpening = threading.Lock()
        self._heart: threading.Thread | None = None
        self._pid = os.getpid()
        atexit.register(self.settle_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    # --- settings --------------------------------------------------------------------------------

    @property
    def book(self) -> PriceBook:
        """The price book in force; loaded when first needed."""
        if self._book is None:
            from taximeter.pricing.book import embedded

            self._book = embedded()
        return self._book

    @book.setter
    def book(self, book: PriceBook) -> None:
        self._book = book

    def scope(self) -> Scope | None:
        """Where a call made now belongs, or None when nobody watches."""
        scope = context.SCOPE.get()
        if scope is None:
            return self.installed
        # Tags alone meter nothing.
        return scope if scope.budgets or scope.metered or self.installed is not None else None

    # --- beginning -------------------------------------------------------------------------------

    def begin(
        self,
        wire: Wire,
        request: WireRequest,
        scope: Scope,
        *,
        host: str,
        port: int | None = None,
    ) -> Call:
        """A call that is about to be sent; nothing is held yet."""
        now = time.time()
        self.drain()
        who = providers.identify(host, port, request.wire, request.model)
        if self.refuses_usage and (host, port) in self.refuses_usage:
            who = replace(who, stream_usage="unasked")
        covered = _covered(scope, now)
        enforcing = covered.enforcing
        # By bytes: microseconds. A tokenizer is asked only if that estimate is refused.
        quote = quoting.make(request, who, self.book, at=now, ceiling=enforcing, exact_texts=False)
        if enforcing and "ceiling" in quote.flags:
            for cover in covered.covers:
                if cover.enforcing and cover.terms.unknown_model == "refuse":
                    raise PriceUnknownError(who.name, request.model)
        call = Call(
            id=os.urandom(16).hex(),
            quote=quote,
            wire=wire,
            book=self.book,
            covers=covered.covers,
            who=covered.who,
            started_at=now,
            guard=threading.RLock(),
        )
        call.shell = Shell(scope.budgets, covered.books)
        return call

    def remember_refusal(self, host: str, port: int | None) -> None:
        """This server does not know ``stream_options``; do not ask it again."""
        self.refuses_usage.add((host, port))

    # --- admission -------------------------------------------------------------------------------

    def admit(self, call: Call) -> None:
        """Place the call's hold, waiting if need be; raises the refusal."""
        for budget in call.shell.budgets:
            budget.before(call)
        place = Place(self.queue)
        try:

            def perform(step: Step) -> Any:
                if isinstance(step, Wait):
                    # The money may be held by a process that is gone: settled, not waited for.
                    swept = _swept(call.shell.books)
                    return swept or place.wait_in_thread(step.keys, step.seconds, self.drain)
                return self._ask(call, step)

            if len(self.queue) and (keys := self._before_us(call)):
                place.wait_in_thread(keys, call.patience, self.drain, most=COURTESY_SECONDS)
            decision = run(call.admit(own_held=self._own_held), perform)
            if isinstance(decision, Refuse) and self._sharpen(call):
                decision = run(call.admit(own_held=self._own_held), perform)
        finally:
            place.leave()
        self._decided(call, decision)

    async def admit_async(self, call: Call) -> None:
        """The same without ever blocking the event loop."""
        for budget in call.shell.budgets:
            budget.before(call)
        place = Place(self.queue)
        books: Books | None = call.shell.books
        blocking = books is not None and books.blocking

        async def perform(step: Step) -> Any:
            if isinstance(step, Wait):
                swept = books is not None and blocking and await off_loop(partial(_swept, books))
                return swept or await place.wait_in_loop(step.keys, step.seconds, self.drain)
            if books is None or not blocking:
                return self._ask(call, step)
            return await off_loop(lambda: self._ask(call, step), undo=lambda: books.void(call.id))

        try:
            if len(self.queue) and (keys := self._before_us(call)):
                await place.wait_in_loop(keys, call.patience, self.drain, most=COURTESY_SECONDS)
            decision = await run_async(call.admit(own_held=self._own_held), perform)
            if isinstance(decision, Refuse) and await off_loop(lambda: self._sharpen(call)):
                decision = await run_async(call.admit(own_held=self._own_held), perform)
        finally:
            place.leave()
        self._decided(call, decision)

    def _before_us(self, call: Call) -> frozenset[str]:
        """Counters for which others wait already: the call lines up behind them, where it can wait."""
        wanted = self.queue.wanted([c.key for c in call.covers if c.enforcing])
        if not wanted or call.patience <= 0 or not wanted.isdisjoint(self._own_held()):
            return frozenset()
        return wanted

    def _ask(self, call: Call, step: Read | Hold) -> Any:
        """Ask the store; when it cannot answer, do as the budgets' ``on_outage`` says."""
        books: Books = call.shell.books
        try:
            if isinstance(step, Hold):
                note = _note(call) if books.blocking else ""
                return books.hold(call.id, step.charges, note=note)
            return books.read(step.keys)
        except StoreError:
            if any(c.enforcing and c.terms.on_outage == "closed" for c in call.covers):
                raise
            log.warning("store unavailable; the call goes on unheld", exc_info=True)
            return HoldAnswer(True, {}) if isinstance(step, Hold) else {}

    def _sharpen(self, call: Call) -> bool:
        """Count a refused call's input with a tokenizer, if one is installed: is it any less?"""
        if not vocabulary.available():
            return False
        with self._sharpening:  # The first use loads the vocabulary; once is enough.
            sharper = quoting.make(
                call.quote.request, call.quote.provider, self.book,
                at=call.started_at, ceiling=call.quote.card is not None, exact_texts=True,
            )  # fmt: skip
        if sharper.input_likely >= call.quote.input_likely:
            return False
        call.quote = sharper
        return True

    def _decided(self, call: Call, decision: Admit | Refuse) -> None:
        budgets: tuple[Budget, ...] = call.shell.budgets
        if isinstance(decision, Refuse):
            error = refusal_error(call, decision, self._fares(decision.cover.key), time.time())
            for budget in budgets:
                budget.refused(error, decision)
            raise error
        call.admitted = decision
        self.open[call.id] = call
        call.shell.owner = context.owner()
        self._owned.setdefault(call.shell.owner, {})[call.id] = call
        for budget in budgets:
            budget.admitted(call, decision)
        books = call.shell.books
        if books is not None and books.blocking:
            self._beat()

    def _own_held(self) -> Mapping[str, int]:
        held: dict[str, int] = {}
        for call in list(self._owned.get(context.owner(), {}).values()):
            for key, amount in call.held.items():
                held[key] = held.get(key, 0) + amount
        return held

    # --- while it runs ---------------------------------------------------------------------------

    def attend(self, call: Call) -> Stop | None:
        """Called when ``call.attention`` is set: extend what is held, or say that it must stop."""
        now = time.time()
        need = call.look(now)
        if need is None or isinstance(need, Stop):
            return need
        books: Books = call.shell.books
        keys = [cover.key for cover in call.covers]
        try:
            balances = books.read(keys)
            for _ in range(8):  # Others may take the money first; then ask for less.
                extend = call.extension(need, balances)
                if extend is None:
                    break
                answer = books.extend(call.id, extend.charges, step=extend.step)
                if answer.accepted:
                    call.extended(extend)
                    return None
                balances = {**balances, **answer.balances}
        except TaximeterError:
            log.warning("store unavailable; the stream goes on with what it holds", exc_info=True)
            balances = {}
        call.refuse_extension(balances)
        again = call.look(now)
        return again if isinstance(again, Stop) else None

    async def attend_async(self, call: Call) -> Stop | None:
        books = call.shell.books
        if books is None or not books.blocking:
            return self.attend(call)
        stop: Stop | None = await off_loop(lambda: self.attend(call))
        return stop

    def stop_error(self, call: Call, stop: Stop) -> BudgetExceededError:
        """The error of a stream that was stopped, with what it had used."""
        from taximeter.refusal import stop_error

        error = stop_error(call, stop, self._balances(call), time.time())
        for budget in call.shell.budgets:
            budget.tripped_by(error)
        return error

    # --- the end ---------------------------------------------------------------------------------

    def settle(self, call: Call, ending: Ending, *, error: str | None = None) -> None:
        """Book the call, once. Never raises: what was billed is a fact (see the log if a store fails)."""
        settled = self._settled(call, ending, error)
        if settled is not None:
            self._book_settled(call, settled)

    def _settled(self, call: Call, ending: Ending, error: str | None) -> Settled | None:
        try:
            return call.settle(ending, time.time(), error=error)
        except Exception as defect:
            # A defect of ours must neither break the caller's stream nor lose the money.
            log.exception("call %s could not be priced; all that it held is booked", call.id)
            return call.settle_blindly(time.time(), f"defect in taximeter: {defect!r}")

    async def settle_async(self, call: Call, ending: Ending, *, error: str | None = None) -> None:
        """The same without blocking the loop; a cancelled wait does not cancel the booking."""
        settled = self._settled(call, ending, error)
        if settled is None:
            return
        books = call.shell.books
        if (books is not None and books.blocking) or (self.ledger and self.ledger.blocking):
            await off_loop(lambda: self._book_settled(call, settled))
        else:
            self._book_settled(call, settled)

    def _book_settled(self, call: Call, settled: Settled) -> None:
        books: Books | None = call.shell.books
        budgets: tuple[Budget, ...] = call.shell.budgets
        saved: tuple[Any, ...] = ()
        if books is not None and settled.hold_id is not None:
            try:
                if settled.void:
                    books.void(settled.hold_id)
                else:
                    books.settle(settled.hold_id, settled.amounts, settled.entry)
                    saved = books.ledgers
            except StoreUnavailableError:
                # Tried again by the heart and at exit; else the store settles it when it expires.
                log.error("call %s could not be settled in its store yet", call.id, exc_info=True)
                self._unbooked.append((call, settled))
            except TaximeterError:
                # Somebody else has settled the hold, or the store is of no use. The money is spent:
                # nobody is helped by an exception now.
                log.error("call %s could not be settled in its store", call.id, exc_info=True)
        for ledger in self._ledgers(budgets):
            if ledger in saved:
                continue
            try:
                ledger.save(settled.entry)
            except TaximeterError:
                log.error("entry %s was not saved: %s", call.id, settled.entry, exc_info=True)
        try:
            for budget in budgets:
                budget.settled_call(call, settled)
            for listener in self.on_settled:
                listener(call)
        finally:  # A listener that raises must not leave others waiting for money that is free.
            self._forget(call)
            self.queue.changed(settled.amounts)

    def defer(
        self,
        call: Call,
        ending: Ending,
        error: str | None = None,
        *,
        hang_up: Callable[[], Any] | None = None,
    ) -> None:
        """Hang up and settle soon. For finalizers: they may run anywhere, inside any lock."""
        if not call.ended or hang_up is not None:
            self._deferred.append((call, ending, error, hang_up))

    def drain(self) -> None:
        """Settle what finalizers have left behind."""
        while self._deferred:
            try:
                call, ending, error, hang_up = self._deferred.popleft()
            except IndexError:
                return
            if hang_up is not None:
                _quietly(hang_up)
            self.settle(call, ending, error=error)

    def settle_all(self) -> None:
        """At interpreter exit: what is still open was abandoned."""
        if os.getpid() != self._pid:
            return
        self.drain()
        for call in list(self.open.values()):
            self.settle(call, Ending.LEFT, error="the program ended")
        self._book_again()

    def _book_again(self) -> None:
        """Settle what a store could not take when it was due. Once for each call and time."""
        for _ in range(len(self._unbooked)):
            call, settled = self._unbooked.popleft()
            try:
                if settled.void:
                    call.shell.books.void(settled.hold_id)
                else:
                    call.shell.books.settle(settled.hold_id, settled.amounts, settled.entry)
            except StoreUnavailableError:
                self._unbooked.append((call, settled))
                return
            except TaximeterError:
                log.error("call %s could not be settled in its store", call.id, exc_info=True)
            self.queue.changed(settled.amounts)

    def _forked(self) -> None:
        """In a forked child: what is open belongs to the parent, who will settle it."""
        for call in list(self.open.values()):
            call.ended = True
        self.open, self._owned = {}, {}
        self._deferred.clear()
        self._unbooked.clear()
        self.queue, self._sharpening = Queue(), threading.Lock()
        self._pid = os.getpid()

    def _forget(self, call: Call) -> None:
        self.open.pop(call.id, None)
        mine = self._owned.get(call.shell.owner)
        if mine is not None:
            mine.pop(call.id, None)
            if not mine:
                self._owned.pop(call.shell.owner, None)

    # --- helpers ---------------------------------------------------------------------------------

    def _ledgers(self, budgets: tuple[Budget, ...]) -> list[Ledger]:
        ledgers = [self.ledger] if self.ledger is not None else []
        for budget in budgets:
            ledger = budget.ledger
            if ledger is not None and ledger not in ledgers:
                ledgers.append(ledger)
        return ledgers

    def _balances(self, call: Call) -> dict[str, Balance]:
        books: Books | None = call.shell.books
        if books is not None:
            with suppress(StoreError):
                return books.read([cover.key for cover in call.covers])
        return {}

    def _fares(self, key: str) -> int:
        now = time.time()
        return sum(call.fare(now) for call in list(self.open.values()) if key in call.held)

    def _beat(self) -> None:
        """Keep the holds of open calls alive in stores that other processes share."""
        if self._heart is not None and self._heart.is_alive() and self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._heart = threading.Thread(target=self._heartbeats, name="taximeter-heart", daemon=True)
        _THREAD_START(self._heart)

    def _heartbeats(self) -> None:
        idle = 0
        while idle < 3:  # A minute without open calls ends the thread.
            time.sleep(HEARTBEAT_SECONDS)
            _quietly(self._book_again)
            by_store: dict[BudgetStore, list[str]] = {}
            for call in list(self.open.values()):
                for store in call.shell.books.stores if call.shell.books is not None else ():
                    if store.blocking:
                        by_store.setdefault(store, []).append(call.id)
            idle = 0 if by_store or self._unbooked else idle + 1
            for store, ids in by_store.items():
                _quietly(partial(store.renew, ids))


class _Covered(NamedTuple):
    """What covers the calls of a scope, while none of the windows ends."""

    parts: list[tuple[Cover, ...]]  # as its budgets gave them
    covers: tuple[Cover, ...]
    books: Books | None
    enforcing: bool  # in USD
    who: Mapping[str, Any]


def _covered(scope: Scope, now: float) -> _Covered:
    """Put together once for a scope, and again when a window ends or a budget is reset."""
    parts = [budget.covers(now) for budget in scope.budgets]
    known: _Covered | None = scope.memo.get("covered")
    if known is not None and known.parts == parts:
        return known
    pairs = [(c, b.store) for part, b in zip(parts, scope.budgets, strict=True) for c in part]
    who = dict(scope.who)
    if scope.budgets:
        who["budget"] = "/".join(budget.name for budget in scope.budgets)
    covered = scope.memo["covered"] = _Covered(
        parts=parts,
        covers=tuple(cover for cover, _ in pairs),
        books=Books({cover.key: store for cover, store in pairs}) if pairs else None,
        enforcing=any(cover.enforcing and cover.unit == "usd" for cover, _ in pairs),
        who=who,
    )
    return covered


@dataclass(slots=True)
class Shell:
    """What this process keeps beside a call: its budgets, their stores, and who made it."""

    budgets: tuple[Budget, ...]
    books: Books | None
    owner: tuple[int, int] = (0, 0)
    stream: Any = None  # weak reference to the answer's byte stream


def _swept(books: Books) -> bool:
    """Holds of vanished processes were found and settled."""
    return any(store.blocking and bool(sweep(store)) for store in books.stores)


def _note(call: Call) -> str:
    """What the sweep needs to write a ledger entry for us if this process dies."""
    request = call.quote.request
    return json.dumps(
        {
            "provider": call.quote.provider.name,
            "wire": request.wire,
            "model": request.model,
            "streamed": request.streamed,
            "started_at": call.started_at,
            **call.who,
        }
    )


def _quietly(work: Callable[[], Any]) -> None:
    """For threads of our own: nobody is there to catch, and the program must go on."""
    try:
        work()
    except Exception:
        log.warning("background work of taximeter failed", exc_info=True)


async def off_loop(work: Callable[[], Any], undo: Callable[[], Any] | None = None) -> Any:
    """Run ``work`` in a thread. If the waiting task is cancelled, ``undo`` follows the work."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not _loop_is_asyncio(asyncio):
        import anyio.to_thread

        return await anyio.to_thread.run_sync(work)
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if undo is not None:
            future.add_done_callback(lambda done: _quietly(undo) if not done.exception() else None)
        raise


def _loop_is_asyncio(asyncio: Any) -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


RUNTIME: Final = Runtime()
