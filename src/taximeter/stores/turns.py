"""One operation at a time, also when the garbage collector starts another in the middle of it.

A finalizer may settle a dropped stream on the very thread that is inside the store. A plain lock
would wait for itself for ever; a re-entrant one would let it change what the outer operation has
already read. So operations without an answer are put off to the end of the outer one.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from taximeter.errors import HoldError, StoreError, StoreUnavailableError

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Turns")


class Turns:
    """Base of stores whose operations take turns; see :func:`answering` and :func:`deferrable`."""

    def __init__(self, *, turn_timeout: float = -1) -> None:
        """``turn_timeout``: seconds to wait for the other threads; -1 waits as long as it takes."""
        self._turn_timeout = turn_timeout
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: deque[Callable[[], None]] = deque()
        _stores.add(self)

    def _after_fork(self) -> None:
        """In a forked child: a lock that another thread held at the fork would never be let go."""
        self._lock = threading.RLock()
        self._busy = False
        self._deferred.clear()  # They are the parent's to do.

    def _inside(self, operation: str) -> StoreError:
        return StoreError(f"{operation}() was called from inside the store; it cannot be put off")

    def _no_turn(self) -> StoreError:
        return StoreUnavailableError(
            f"other threads have kept the store busy for {self._turn_timeout:g} s"
        )

    def _catch_up(self) -> None:
        while self._deferred and not self._busy:
            operation = self._deferred.popleft()
            try:
                operation()
            except HoldError:
                continue  # Its caller, a finalizer, is gone; there is nobody to tell.
            except StoreError:
                self._deferred.append(operation)  # Not lost: the next turn tries again.
                return


def answering(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """An operation whose answer is needed at once."""

    @wraps(method)
    def turn(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._lock.acquire(timeout=self._turn_timeout):
            raise self._no_turn()
        try:
            if self._busy:
                raise self._inside(method.__name__)
            self._busy = True
            try:
                return method(self, *args, **kwargs)
            finally:
                self._busy = False
                if self._deferred:
                    self._catch_up()
        finally:
            self._lock.release()

    return turn


def deferrable(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """An operation that may be done at the end of the one it interrupts."""

    @wraps(method)
    def turn(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self._lock.acquire(timeout=self._turn_timeout):
            raise self._no_turn()
        try:
            if self._busy:
                self._deferred.append(lambda: turn(self, *args, **kwargs))
                return
            self._busy = True
            try:
                method(self, *args, **kwargs)
            finally:
                self._busy = False
                if self._deferred:
                    self._catch_up()
        finally:
            self._lock.release()

    return turn


_stores: weakref.WeakSet[Any] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_stores):
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
