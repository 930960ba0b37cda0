"""Who a call belongs to: the budgets and tags in force where it is sent.

One context variable carries them through tasks. Threads and executors do not inherit context
variables on their own, so while any scope is active ``Thread.start`` and ``ThreadPoolExecutor.submit``
carry this one variable (and no other) along.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from taximeter.budgeting import Budget

P = ParamSpec("P")
R = TypeVar("R")

FIELDS: Final = ("project", "group", "user_id", "tier", "session_id", "run_id", "prompt_version")


@dataclass(frozen=True, slots=True)
class Scope:
    """Budgets in force, outermost first, and the identity that entries are written with.

    ``metered``: calls are recorded even without a budget (``tracked_call``, ``wrap``).
    """

    budgets: tuple[Budget, ...] = ()
    who: Mapping[str, Any] = field(default_factory=dict)
    metered: bool = False
    memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What others have worked out for this scope; never copied to another."""

    def inside(self, budget: Budget) -> Scope:
        """This scope with one more budget. Entering a budget twice charges it once."""
        if budget in self.budgets:
            return self
        return replace(self, budgets=(*self.budgets, budget))

    def joined(self, other: Scope) -> Scope:
        """This scope and ``other`` inside it."""
        more = tuple(budget for budget in other.budgets if budget not in self.budgets)
        who = {**self.who, **other.who}
        return Scope((*self.budgets, *more), who, metered=self.metered or other.metered)

    def tagged(self, **values: Any) -> Scope:
        """This scope with these fields and tags; None leaves what was there."""
        who = dict(self.who)
        tags = dict(who.get("tags", {}))
        for name, value in values.items():
            if value is None:
                continue
            if name in FIELDS:
                who[name] = str(value)
            else:
                tags[name] = str(value)
        if tags:
            who["tags"] = tags
        return replace(self, who=who)


SCOPE: Final[ContextVar[Scope | None]] = ContextVar("taximeter_scope", default=None)


def enter(scope: Scope) -> Token[Scope | None]:
    """Put ``scope`` in force here, and in threads started from here."""
    carry_into_threads()
    return SCOPE.set(scope)


def leave(token: Token[Scope | None], previous: Scope | None) -> None:
    """Undo :func:`enter`, also from another context (generators, tasks): then set, do not reset."""
    try:
        SCOPE.reset(token)
    except ValueError:
        SCOPE.set(previous)


class _Thread(threading.local):
    """A number for each thread: idents are given out again, and its holds may outlive a thread."""

    def __init__(self) -> None:
        self.number = next(_NUMBERS)


_NUMBERS: Final = count(1)
_THREAD: Final = _Thread()
_TASKS: Final[WeakKeyDictionary[Any, int]] = WeakKeyDictionary()


def owner() -> tuple[int, int]:
    """The thread and task that runs now: a call is never made to wait for its own holds."""
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None:
        # Tells without an exception that no loop runs in this thread; meant for such use.
        loop = asyncio._get_running_loop()
        task = asyncio.current_task(loop) if loop is not None else None
    if task is None:
        return _THREAD.number, 0
    number = _TASKS.get(task)
    if number is None:
        number = _TASKS[task] = next(_NUMBERS)
    return _THREAD.number, number


def bound(fn: Callable[P, R], scope: Scope | None) -> Callable[P, R]:
    """``fn`` that runs in ``scope`` whatever the context of the caller."""

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        previous = SCOPE.get()
        token = SCOPE.set(scope)
        try:
            return fn(*args, **kwargs)
        finally:
            leave(token, previous)

    return run


_THREAD_START: Final = threading.Thread.start
_carrying = False


def carry_into_threads() -> None:
    """Let threads and executor jobs that are started inside a scope belong to it. Idempotent."""
    global _carrying
    if _carrying:
        return
    _carrying = True

    @functools.wraps(_THREAD_START)
    def start(self: threading.Thread) -> None:
        scope = SCOPE.get()
        # Workers of an executor outlive the scope that happened to start them: each job brings its own.
        target = self.__dict__.get("_target")
        worker = getattr(target, "__module__", "") == "concurrent.futures.thread"
        if scope is not None and not worker and "run" not in self.__dict__:
            body = self.run

            def run() -> None:
                # The instance attribute goes first: a subclass sees its own ``run`` again.
                self.__dict__.pop("run", None)
                SCOPE.set(scope)
                body()

            self.run = run  # type: ignore[method-assign]
        _THREAD_START(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    from taximeter.ports.hooks import when_imported

    when_imported("concurrent.futures.thread", _carry_into_executors)


def _carry_into_executors(module: Any) -> None:
    original = module.ThreadPoolExecutor.submit
    if getattr(original, "taximeter", False):
        return

    @functools.wraps(original)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        scope = SCOPE.get()
        if scope is None:
            return original(self, fn, *args, **kwargs)
        return original(self, _Job(fn, scope), *args, **kwargs)

    submit.taximeter = True  # type: ignore[attr-defined]
    module.ThreadPoolExecutor.submit = submit


class _Job:
    """A callable that runs in a scope; shows the wrapped function in reprs and profilers."""

    __slots__ = ("__wrapped__", "_scope")

    def __init__(self, fn: Callable[..., Any], scope: Scope) -> None:
        self.__wrapped__ = fn
        self._scope = scope

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = SCOPE.set(self._scope)
        try:
            return self.__wrapped__(*args, **kwargs)
        finally:
            SCOPE.reset(token)
