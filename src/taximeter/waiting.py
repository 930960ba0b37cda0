"""Waiting for money that others hold: first come, first served, and cancellable.

A waiter is woken when the counter that it waits for may have changed and no earlier waiter wants the
same one. A newcomer lines up behind those who wait already for a counter of his, though what he needs
may be free: else small calls would keep a large one waiting for ever. Not so if he holds money there
himself (then others may be waiting for him), and not for long: the holder may be waiting for what he
does. Other processes do not wake anyone, so whoever is first also looks again every ``POLL_SECONDS``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from typing import Final

POLL_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 1.0
"""Whoever is not first is woken when he is; this is for the unforeseen."""
COURTESY_SECONDS: Final = 5.0
"""Longest that a newcomer stands behind others while what he needs may be free."""


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

    def move(self, waiter: Waiter, keys: Iterable[str]) -> None:
        """It waits for other counters from now on, in the place that it has."""
        with self._lock:
            waiter.keys = frozenset(keys)

    def wanted(self, keys: Iterable[str]) -> frozenset[str]:
        """Those of these counters that somebody waits for already."""
        found: frozenset[str] = frozenset()
        with self._lock:
            for waiter in self._waiters:
                found |= waiter.keys
        return found & frozenset(keys)

    def changed(self, keys: Iterable[str]) -> None:
        """Money may have come free in these counters."""
        if not self._waiters:
            return
        changed = frozenset(keys)
        with self._lock:
            heads = [w for w in self._waiters if w.keys & changed and self.first(w)]
        for waiter in heads:
            waiter.wake()


class Place:
    """A call's place in the queue: taken at the first wait, kept until it is decided."""

    __slots__ = ("_deadline", "_queue", "_waiter")

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiter: Waiter | None = None
        self._deadline = inf

    def wait_in_thread(
        self, keys: Iterable[str], seconds: float, drain: Callable[[], None], *, most: float = inf
    ) -> bool:
        """Wait to be first for one of ``keys``; False when the time is up.

        ``seconds`` count from the call's first wait on, ``most`` from now on.
        """
        event = threading.Event()
        waiter = self._join(keys, seconds, event.set)
        until = min(self._deadline, time.monotonic() + most)
        while (left := until - time.monotonic()) > 0:
            event.wait(min(left, self._pause(waiter)))
            event.clear()
            drain()
            if self._queue.first(waiter):
                return True
        return False

    async def wait_in_loop(
        self, keys: Iterable[str], seconds: float, drain: Callable[[], None], *, most: float = inf
    ) -> bool:
        """The same in a task."""
        import asyncio

        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # The loop may be gone by now.
                loop.call_soon_threadsafe(event.set)

        waiter = self._join(keys, seconds, wake)
        until = min(self._deadline, time.monotonic() + most)
        while (left := until - time.monotonic()) > 0:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(event.wait(), min(left, self._pause(waiter)))
            event.clear()
            drain()
            if self._queue.first(waiter):
                return True
        return False

    def leave(self) -> None:
        """The call is decided."""
        if self._waiter is not None:
            self._queue.leave(self._waiter)

    def _join(self, keys: Iterable[str], seconds: float, wake: Callable[[], None]) -> Waiter:
        waiter = self._waiter
        if waiter is None:
            self._deadline = time.monotonic() + seconds
            waiter = self._waiter = Waiter(frozenset(keys), wake)
            self._queue.join(waiter)
        else:
            waiter.wake = wake
            self._queue.move(waiter, keys)
        return waiter

    def _pause(self, waiter: Waiter) -> float:
        return POLL_SECONDS if self._queue.first(waiter) else IDLE_SECONDS
