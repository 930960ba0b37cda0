"""The same endings where an event loop runs: break, drop, cancellation, time-outs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from taximeter import budget
from taximeter.runtime import RUNTIME
from taximeter.testing import Fault, Reply, SimulatedProvider
from tests.acceptance.wires import (
    ANTHROPIC,
    ASYNC_WIRES,
    CHAT,
    Wire,
    nothing_open,
    rows,
    settled_once,
    usd,
)

# No faster than what is taken for typical: a slow garbage collection then costs no more than is booked.
STORY = Reply(tokens=2000, tokens_per_second=120)
SHORT = Reply(tokens=40)

every_wire = pytest.mark.parametrize("wire", ASYNC_WIRES, ids=lambda wire: wire.name)


@pytest.fixture
async def talk() -> AsyncIterator[Callable[..., Any]]:
    """``talk(wire, provider)``: an asynchronous client of that wire, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def make(wire: Wire, provider: SimulatedProvider, **options: Any) -> Any:
            assert wire.async_client is not None
            client = wire.async_client(provider, **options)
            stack.push_async_callback(client.close)
            return client

        yield make


async def read(stream: Any, events: int) -> None:
    iterator = aiter(stream)
    for _ in range(events):
        await anext(iterator)


async def until(true: Callable[[], bool]) -> None:
    """Let the loop run until something is so; bounded."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never happened")


@every_wire
async def test_a_stream_read_to_its_end_is_exact(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(SHORT)
    async with budget(max_usd=1) as b:
        async for _ in await wire.call(talk(wire, provider), stream=True):
            pass
    settled_once(b, provider, wire, "exact")


@every_wire
async def test_an_answer_in_one_piece_is_exact(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(SHORT)
    with budget(max_usd=1) as b:  # A plain ``with`` serves in asynchronous code, too.
        await wire.call(talk(wire, provider))
    settled_once(b, provider, wire, "exact")


@every_wire
@pytest.mark.parametrize("events", [1, 6])
async def test_break_without_close_is_settled_and_hung_up_when_the_block_ends(
    wire: Wire, events: int, serve: Any, talk: Any
) -> None:
    provider = serve(STORY)
    seen = 0
    async with budget(max_usd=1) as b:
        stream = await wire.call(talk(wire, provider), stream=True)
        async for _ in stream:
            seen += 1
            if seen == events:
                break
    settled_once(b, provider, wire, "estimated")
    assert len(provider.disconnects) == 1


@every_wire
async def test_a_plain_with_block_hangs_up_as_well(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(STORY)
    with budget(max_usd=1) as b:
        stream = await wire.call(talk(wire, provider), stream=True)
        await read(stream, 4)
    assert rows(b)[0]["settlement"] == "estimated"
    await until(lambda: len(provider.disconnects) == 1)
    settled_once(b, provider, wire, "estimated")


@every_wire
async def test_break_and_close_is_settled_at_once(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(STORY)
    async with budget(max_usd=1) as b:
        stream = await wire.call(talk(wire, provider), stream=True)
        await read(stream, 5)
        await stream.close()
        settled_once(b, provider, wire, "estimated")


@every_wire
async def test_an_async_with_stream_is_settled_at_once(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(STORY)
    async with budget(max_usd=1) as b:
        async with await wire.call(talk(wire, provider), stream=True) as stream:
            await read(stream, 5)
        settled_once(b, provider, wire, "estimated")


@every_wire
async def test_a_dropped_unread_stream_is_settled_and_hung_up_at_once(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(STORY)
    async with budget(max_usd=1) as b:
        stream = await wire.call(talk(wire, provider), stream=True)
        del stream
        gc.collect()
        await until(lambda: bool(provider.disconnects))
        settled_once(b, provider, wire, "estimated")


@every_wire
async def test_a_stream_dropped_in_the_middle_is_settled_when_the_block_ends(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(STORY)
    async with budget(max_usd=1) as b:
        stream = await wire.call(talk(wire, provider), stream=True)
        await read(stream, 5)
        del stream
        gc.collect()
    await until(lambda: bool(provider.disconnects))
    settled_once(b, provider, wire, "estimated")


@every_wire
async def test_an_exception_in_the_consumer_settles(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(STORY)
    error = ValueError("mine")
    client = talk(wire, provider)
    b = budget(max_usd=1)

    async def consume() -> None:
        async with b:
            async for _ in await wire.call(client, stream=True):
                raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await consume()
    assert caught.value is error
    settled_once(b, provider, wire, "estimated")


# --- cancellation ---------------------------------------------------------------------------------


@every_wire
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_task_cancelled_while_it_waits_for_headers_is_booked(
    wire: Wire, stream: bool, serve: Any, talk: Any
) -> None:
    fault = Fault.STALL
    provider = (
        serve(Reply(tokens=300, fault=fault))
        if not stream
        else serve(Reply(tokens=300, delay_per_event=30))
    )
    client = talk(wire, provider)
    async with budget(max_usd=1) as b:
        task = asyncio.create_task(_consume(wire, client, stream=stream))
        await until(lambda: len(provider.requests) == 1)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    # A whole answer that was asked for is made and billed, whoever waits for it.
    settled_once(b, provider, wire, "estimated" if stream else "assumed_full")


@every_wire
async def test_a_task_cancelled_in_the_middle_of_a_stream_is_booked(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(Reply(tokens=2000, fault=Fault.STALL(after=8)))
    client = talk(wire, provider)
    seen: list[Any] = []
    async with budget(max_usd=1) as b:
        task = asyncio.create_task(_consume(wire, client, stream=True, seen=seen))
        await until(lambda: len(seen) > 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: bool(provider.disconnects))
        settled_once(b, provider, wire, "estimated")


async def _consume(wire: Wire, client: Any, *, stream: bool, seen: list[Any] | None = None) -> None:
    answer = await wire.call(client, stream=stream)
    if stream:
        async for event in answer:
            if seen is not None:
                seen.append(event)


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
async def test_a_task_cancelled_while_it_waits_for_budget_holds_nothing(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(Reply(tokens=300, fault=Fault.STALL(after=4)))
    client = talk(wire, provider)
    async with budget(max_usd=wire.worst_usd() * 3 / 2, mode="strict", wait=60) as b:
        first = asyncio.create_task(_consume(wire, client, stream=True))
        await until(lambda: len(provider.requests) == 1)
        second = asyncio.create_task(_consume(wire, client, stream=True))
        await until(lambda: len(RUNTIME.queue) == 1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert len(RUNTIME.queue) == 0
        provider.release()
        await first
    settled_once(b, provider, wire, "exact")
    assert len(provider.requests) == 1


@every_wire
async def test_a_timeout_around_a_stream_is_booked(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(Reply(tokens=2000, fault=Fault.STALL(after=8)))
    client = talk(wire, provider)
    with pytest.raises(TimeoutError):
        async with budget(max_usd=1) as b, asyncio.timeout(2):
            await _consume(wire, client, stream=True)
    settled_once(b, provider, wire, "estimated")


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
async def test_a_read_timeout_of_a_whole_answer_is_booked_in_full(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(Reply(tokens=300, fault=Fault.STALL))
    with pytest.raises(Exception, match="timed out"):
        async with budget(max_usd=1) as b:
            await wire.call(talk(wire, provider, timeout=1.0))
    settled_once(b, provider, wire, "assumed_full")


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
async def test_a_connection_that_never_was_is_void(wire: Wire, talk: Any) -> None:
    provider = SimulatedProvider().start()
    client = talk(wire, provider)
    provider.stop()
    with pytest.raises(Exception, match=r"(?i)connection"):
        async with budget(max_usd=1) as b:
            await wire.call(client)
    nothing_open(b)
    (row,) = rows(b)
    assert (row["settlement"], row["cost"]) == ("void", 0)


@every_wire
async def test_a_connection_cut_in_the_middle_is_estimated(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(Reply(tokens=300, fault=Fault.CUT(after=4)))
    with pytest.raises(Exception, match=r"(?i)closed|incomplete|connection|peer"):
        async with budget(max_usd=1) as b:
            await _consume(wire, talk(wire, provider), stream=True)
    settled_once(b, provider, wire, "estimated")


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
async def test_each_attempt_is_a_call_and_failed_ones_cost_nothing(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(SHORT, faults={0: Fault.STATUS(500), 1: Fault.RATE_LIMIT})
    async with budget(max_usd=1) as b:
        await _consume(wire, talk(wire, provider, max_retries=3), stream=True)
    nothing_open(b)
    assert [row["status"] for row in rows(b)] == [500, 429, 200]
    assert [row["settlement"] for row in rows(b)] == ["void", "void", "exact"]
    assert b.spent.scaleb(9) == provider.invoice_total


@every_wire
async def test_on_abort_drain_reads_on_and_settles_exactly(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(Reply(tokens=200))
    async with budget(max_usd=1, on_abort="drain") as b:
        stream = await wire.call(talk(wire, provider), stream=True)
        await read(stream, 2)
        await stream.close()
    await until(lambda: bool(rows(b)))
    settled_once(b, provider, wire, "exact")


# --- a store on disk: the loop must not wait for it, cancellation must not lose it ------------------


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
async def test_cancelled_streams_are_booked_in_a_store_on_disk(
    wire: Wire, serve: Any, talk: Any, tmp_path: Any
) -> None:
    provider = serve(Reply(tokens=2000, fault=Fault.STALL(after=8)))
    client = talk(wire, provider)
    seen: list[Any] = []
    url = f"sqlite:///{tmp_path}/ledger.db"
    async with budget(max_usd=1, name="disk", store=url) as b:
        task = asyncio.create_task(_consume(wire, client, stream=True, seen=seen))
        await until(lambda: len(seen) > 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: bool(rows(b)))
    settled_once(b, provider, wire, "estimated")
    (entry,) = b.store.entries()
    assert usd(entry.cost) == b.spent
