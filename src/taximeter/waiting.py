"""Waiting for money that others hold: first come, first served, and cancellable.

A waiter is woken when a counter of its own may have changed and no earlier waiter shares a counter
with it. Other processes do not wake anyone, so waiters also look again every ``POLL_SECONDS``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

POLL_SECONDS: Final = 0.05


class Waiter:
    """One call in the queue. ``wake`` is called from any thread, possibly more than once."""

    __slots__ = ("keys", "wake")

    def __init__(self, keys: frozenset[str], wake: Callable[[], None]) -> None:
        self.keys = keys
        self.wake = wake


class Queue:
    """Waiters in order of arrival."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiters: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Give up the place (served, timed out or cancelled) and let those behind try."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        self.changed(waiter.keys)

    def first(self, waiter: Waiter) -> bool:
        """No earlier waiter wants any of the same counters."""
        with self._lock:
            for other in self._waiters:
                if other is waiter:
                    return True
                if other.keys & waiter.keys:
                    return False
        return True

    def busy(self, keys: Iterable[str]) -> bool:
        """Somebody waits for one of these counters already; a newcomer lines up behind."""
        if not self._waiters:
            return False
        wanted = frozenset(keys)
        with self._lock:
            return any(waiter.keys & wanted for waiter in self._waiters)

    def changed(self, keys: Iterable[str]) -> None:
        """Money may have come free in these counters."""
        if not self._waiters:
            return
        changed = frozenset(keys)
        with self._lock:
            heads = [w for w in self._waiters if w.keys & changed and self.first(w)]
        for waiter in heads:
            waiter.wake()
