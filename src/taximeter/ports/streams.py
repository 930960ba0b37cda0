"""The answer's byte stream with a meter in it. Sync and async shells over one set of decisions."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final

from taximeter import context
from taximeter.call import Call, Stop
from taximeter.errors import BudgetExceededError
from taximeter.ports import exchange
from taximeter.ports.codec import Codec
from taximeter.runtime import RUNTIME
from taximeter.settlement import Ending

_THREAD_START: Final = threading.Thread.start
WAITED_SECONDS: Final = 0.001
"""Longer than this, and the next bytes were not there yet."""
DROPPED: Final = "the stream was dropped"


class Metered:
    """What sync and async metered streams share. ``inner``: the client library's own stream."""

    def __init__(self, inner: Any, call: Call, codec: Codec | None) -> None:
        self._inner = inner
        self._chunks: Any = None  # the iterator over ``inner``: a drain goes on where it stands
        self._call = call
        self._codec = codec  # where the bytes are compressed
        self._reader: tuple[int, int] | None = None
        self._closed = False
        self._draining = False  # once: a generator's end and a close may both ask for it
        call.handed_at = call.kept_up_at = time.time()
        call.attention = True  # The first chunk is looked at: it tells when output began.
        call.shell.stream = weakref.ref(self)

    def __getattr__(
        self, name: str
    ) -> Any:  # ``elapsed`` and whatever else the library keeps there
        return getattr(self._inner, name)

    def __del__(self) -> None:
        # Dropped: nobody will read on, so nobody should pay on. A finalizer may run anywhere, even
        # inside a lock of the HTTP client's, so here it is only noted.
        if self.__dict__.get("_closed", True):
            return
        if not self._call.ended and _drains(self._call):
            self._begin_drain()
        else:
            self._let_go()

    def _begin_drain(self) -> None:
        """Read on to the usage event without the caller (``on_abort="drain"``)."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Arrange for the connection to be closed and the call to be settled."""
        raise NotImplementedError

    def left_by(self, me: tuple[int, int]) -> bool:
        """``me`` has begun to read this stream, and is not reading it any more."""
        return self._reader == me and not self._closed and not self._call.ended

    def _first(self) -> None:
        if self._call.first_token_at is None:
            self._call.first_token_at = time.time()

    def _final(self, out: bytes) -> tuple[bytes, BudgetExceededError | None]:
        """After the terminal event has been booked: the last bytes, and an error to raise after them."""
        stop = exchange.clamp_stop(self._call)
        if stop is None:
            return out, None
        return exchange.without_done(out), exchange.stop_error(self._call, stop)

    def _stopped(self, out: bytes, stop: Stop) -> tuple[bytes, BudgetExceededError | None]:
        """After a cut has been booked: bytes for the caller, and an error unless it is truncated."""
        error = exchange.stop_error(self._call, stop)
        if not exchange.truncates(stop):
            return out, error
        meter, entry = self._call.meter, self._call.entry
        assert meter is not None and entry is not None
        return out + meter.ending(entry.usage), None


class SyncMetered(Metered):
    """For ``SyncByteStream``: iterate once, then ``close``."""

    def __iter__(self) -> Iterator[bytes]:
        call, receive, codec = self._call, self._call.receive_data, self._codec
        clock = time.time
        self._reader = context.owner()
        self._chunks = iter(self._inner)
        try:
            asked = clock()
            call.handed_at = None
            for data in self._chunks:
                now = clock()
                if now - asked > WAITED_SECONDS:
                    call.waited(now - asked, now)
                call.handed_at = now
                out = receive(data if codec is None else codec.decode(data))
                if call.attention:
                    out, error, ended = self._attend(out)
                    if codec is not None:
                        out = codec.encode(out, data)
                    if out:
                        yield out
                    if error is not None:
                        raise error
                    if ended:
                        if codec is not None and (tail := codec.finish()):
                            yield tail
                        return
                else:
                    if codec is not None:
                        out = codec.encode(out, data)
                    if out:
                        yield out
                call.handed_at = None
                asked = clock()
                if asked > call.look_by:
                    call.look_soon()
            out = call.receive_eof()
            self._end()
            if codec is not None:
                out = codec.encode(out) + codec.finish()
            if out:
                yield out
        except BudgetExceededError:
            raise
        except GeneratorExit:
            self._leave()
            raise
        except BaseException as error:
            RUNTIME.settle(call, exchange.ending_of(error), error=_text(error))
            raise

    def _attend(self, out: bytes) -> tuple[bytes, BudgetExceededError | None, bool]:
        call = self._call
        call.attention = False
        self._first()
        if call.meter is not None and call.meter.terminal:
            RUNTIME.settle(call, Ending.COMPLETE)
            return (*self._final(out), False)
        stop = RUNTIME.attend(call) if call.due else None
        if stop is None:
            return out, None, False
        call.stopped = stop
        self._inner.close()
        RUNTIME.settle(call, Ending.CUT)
        return (*self._stopped(out, stop), True)

    def _end(self) -> None:
        meter = self._call.meter
        complete = meter is not None and meter.terminal
        RUNTIME.settle(self._call, Ending.COMPLETE if complete else Ending.ENDED_EARLY)

    def _leave(self) -> None:
        if not self._call.ended and _drains(self._call):
            self._begin_drain()
        else:
            RUNTIME.settle(self._call, Ending.LEFT)

    def _begin_drain(self) -> None:
        self._closed = True
        if not self._draining:
            self._draining = True
            _THREAD_START(threading.Thread(target=self._drain, daemon=True))

    def _drain(self) -> None:
        codec = self._codec
        try:
            for data in self._chunks if self._chunks is not None else self._inner:
                self._call.receive_data(data if codec is None else codec.decode(data))
            self._call.receive_eof()
        except Exception:  # noqa: BLE001 (nobody is left to tell)
            RUNTIME.settle(self._call, Ending.LEFT)
        else:
            self._end()
        self._inner.close()

    def close(self) -> None:
        self._closed = True
        if not self._call.ended:
            drains = _drains(self._call)
            self._leave()
            if drains:
                return
        self._inner.close()

    def abandon(self) -> None:
        self.close()

    def _let_go(self) -> None:
        RUNTIME.defer(self._call, Ending.LEFT, DROPPED, hang_up=self._inner.close)


class AsyncMetered(Metered):
    """For ``AsyncByteStream``: iterate once, then ``aclose``."""

    def __init__(self, inner: Any, call: Call, codec: Codec | None) -> None:
        super().__init__(inner, call, codec)
        self._loop = _running_loop()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        call, receive, codec = self._call, self._call.receive_data, self._codec
        clock = time.time
        self._reader = context.owner()
        self._chunks = aiter(self._inner)
        try:
            asked = clock()
            call.handed_at = None
            async for data in self._chunks:
                now = clock()
                if now - asked > WAITED_SECONDS:
                    call.waited(now - asked, now)
                call.handed_at = now
                out = receive(data if codec is None else codec.decode(data))
                if call.attention:
                    out, error, ended = await self._attend(out)
                    if codec is not None:
                        out = codec.encode(out, data)
                    if out:
                        yield out
                    if error is not None:
                        raise error
                    if ended:
                        if codec is not None and (tail := codec.finish()):
                            yield tail
                        return
                else:
                    if codec is not None:
                        out = codec.encode(out, data)
                    if out:
                        yield out
                call.handed_at = None
                asked = clock()
                if asked > call.look_by:
                    call.look_soon()
            out = call.receive_eof()
            await self._end()
            if codec is not None:
                out = codec.encode(out) + codec.finish()
            if out:
                yield out
        except BudgetExceededError:
            raise
        except GeneratorExit:  # Nothing can be awaited while a generator is closed.
            if not call.ended and _drains(call):
                self._begin_drain()
            else:
                RUNTIME.settle(call, Ending.LEFT)
            raise
        except BaseException as error:
            RUNTIME.settle(call, exchange.ending_of(error), error=_text(error))
            raise

    async def _attend(self, out: bytes) -> tuple[bytes, BudgetExceededError | None, bool]:
        call = self._call
        call.attention = False
        self._first()
        if call.meter is not None and call.meter.terminal:
            await RUNTIME.settle_async(call, Ending.COMPLETE)
            return (*self._final(out), False)
        stop = await RUNTIME.attend_async(call) if call.due else None
        if stop is None:
            return out, None, False
        call.stopped = stop
        await self._inner.aclose()
        await RUNTIME.settle_async(call, Ending.CUT)
        return (*self._stopped(out, stop), True)

    async def _end(self) -> None:
        meter = self._call.meter
        complete = meter is not None and meter.terminal
        await RUNTIME.settle_async(self._call, Ending.COMPLETE if complete else Ending.ENDED_EARLY)

    async def aclose(self) -> None:
        self._closed = True
        if not self._call.ended and _drains(self._call):
            self._begin_drain()
            return
        await RUNTIME.settle_async(self._call, Ending.LEFT)
        await self._inner.aclose()

    async def _drain(self) -> None:
        codec = self._codec
        try:
            async for data in self._chunks if self._chunks is not None else self._inner:
                self._call.receive_data(data if codec is None else codec.decode(data))
            self._call.receive_eof()
        except Exception:  # noqa: BLE001 (nobody is left to tell)
            await RUNTIME.settle_async(self._call, Ending.LEFT)
        else:
            await self._end()
        await self._inner.aclose()

    def _begin_drain(self) -> None:
        self._closed = True
        if not self._draining:
            self._draining = True
            self._soon(self._drain)

    def _let_go(self) -> None:
        RUNTIME.defer(self._call, Ending.LEFT, DROPPED)
        self._soon(self._close_dropped)

    async def _close_dropped(self) -> None:
        await self._inner.aclose()
        RUNTIME.drain()

    def _soon(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``work`` on the loop that this stream belongs to, if that still runs."""

        def start() -> None:
            task = self._loop.create_task(work())
            _closing.add(task)
            task.add_done_callback(_closing.discard)

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(start)

    def abandon(self) -> Coroutine[Any, Any, None] | None:
        """Settle now; close as soon as the loop gets to it. Awaitable where the caller can wait."""
        RUNTIME.settle(self._call, Ending.LEFT)
        loop = _running_loop()
        if loop is not None:
            task = loop.create_task(self.aclose())
            _closing.add(task)
            task.add_done_callback(_closing.discard)
            return task  # type: ignore[no-any-return]
        return None


_closing: Final[set[Any]] = set()


def _running_loop() -> Any:
    """The asyncio loop that runs here, or None (then nothing can be awaited)."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio.get_running_loop() if asyncio is not None else None
    except RuntimeError:
        return None


def _drains(call: Call) -> bool:
    return any(cover.terms.on_abort == "drain" for cover in call.covers)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
