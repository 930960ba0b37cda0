"""Who waits for money is served in order, and stands in nobody's way who wants other money."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import openai
import pytest

from taximeter import budget
from taximeter.context import owner
from taximeter.runtime import RUNTIME
from taximeter.testing import Reply, SimulatedProvider
from taximeter.waiting import Place, Queue, Waiter

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
PATIENCE = 60.0


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(Reply(tokens=20), seed=1) as provider:
        yield provider


@pytest.fixture
def client(provider: SimulatedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, tokens: int, *, stream: bool = False) -> Any:
    return client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=tokens, stream=stream
    )


def until(state: Callable[[], bool]) -> None:
    """Return when another thread has brought this about."""
    pause = threading.Event()
    for _ in range(10_000):
        if state():
            return
        pause.wait(0.002)
    raise AssertionError("it never came about")


def sent(provider: SimulatedProvider) -> list[int]:
    return [request.body["max_tokens"] for request in provider.requests]  # type: ignore[index]


def test_a_small_newcomer_does_not_overtake_a_large_call_that_waits(
    provider: SimulatedProvider, client: openai.OpenAI
) -> None:
    with budget(max_usd="0.001", mode="strict", wait=PATIENCE), ThreadPoolExecutor(2) as pool:
        stream = ask(client, 700, stream=True)
        large = pool.submit(ask, client, 1550)
        until(lambda: len(RUNTIME.queue) == 1)
        small = pool.submit(ask, client, 50)  # It would fit beside the stream.
        until(lambda: len(RUNTIME.queue) == 2)
        list(stream)
        large.result(PATIENCE)
        small.result(PATIENCE)
    assert sent(provider) == [700, 1550, 50]


def test_who_holds_money_himself_does_not_line_up_behind_those_who_wait_for_it(
    provider: SimulatedProvider, client: openai.OpenAI
) -> None:
    with budget(max_usd="0.001", mode="strict", wait=PATIENCE), ThreadPoolExecutor(1) as pool:
        stream = ask(client, 700, stream=True)
        large = pool.submit(ask, client, 1200)
        until(lambda: len(RUNTIME.queue) == 1)
        ask(client, 50)
        assert not large.done()
        list(stream)
        large.result(PATIENCE)
    assert sent(provider) == [700, 50, 1200]


def test_a_waiter_does_not_hold_up_those_who_wait_for_another_budgets_money(
    provider: SimulatedProvider, client: openai.OpenAI
) -> None:
    def wait_in(inner: Any) -> Future[Any]:
        waiting = len(RUNTIME.queue)
        with inner:
            future = pool.submit(ask, client, 1200)
        until(lambda: len(RUNTIME.queue) == waiting + 1)
        return future

    settings: Any = {"max_usd": "0.001", "mode": "strict", "wait": PATIENCE}
    with budget(max_usd=1), ThreadPoolExecutor(2) as pool:
        one, two = budget(**settings), budget(**settings)
        streams = []
        for each in (one, two):
            with each:
                scope = each.bind(lambda: ask(client, 1200, stream=True))
            holder: list[Any] = []
            thread = threading.Thread(target=lambda: holder.append(scope()))  # noqa: B023
            thread.start()
            thread.join()
            streams += holder
        first, second = wait_in(one), wait_in(two)
        list(streams[1])
        second.result(PATIENCE)
        assert not first.done()
        list(streams[0])
        first.result(PATIENCE)


def test_nobody_lines_up_who_would_not_wait(client: openai.OpenAI) -> None:
    impatient = budget(max_usd=1, wait=0)
    with (
        budget(max_usd="0.001", mode="strict", wait=PATIENCE, name="patient") as b,
        ThreadPoolExecutor(2) as pool,
    ):
        stream = ask(client, 700, stream=True)
        large = pool.submit(ask, client, 1200)
        until(lambda: len(RUNTIME.queue) == 1)
        with impatient:
            assert pool.submit(ask, client, 50).result(PATIENCE).usage is not None
        assert not large.done()
        list(stream)
        large.result(PATIENCE)
    assert not b.tripped


def test_courtesy_ends_before_patience_does() -> None:
    queue = Queue()
    queue.join(Waiter(frozenset("a"), lambda: None))
    place = Place(queue)
    assert not place.wait_in_thread("a", PATIENCE, lambda: None, most=0.001)
    place.leave()
    assert len(queue) == 1


def test_a_cancelled_waiter_lets_the_next_one_try() -> None:
    async def scenario() -> bool:
        queue = Queue()
        one, two = Place(queue), Place(queue)

        async def wait(place: Place) -> bool:
            try:
                return await place.wait_in_loop("a", PATIENCE, lambda: None)
            finally:
                place.leave()

        queue.join(holder := Waiter(frozenset("a"), lambda: None))
        first = asyncio.create_task(wait(one))
        second = asyncio.create_task(wait(two))
        while len(queue) < 3:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        queue.leave(holder)
        return await asyncio.wait_for(second, PATIENCE)

    assert asyncio.run(scenario())


def test_a_new_thread_waits_for_what_a_thread_that_is_gone_still_holds(
    client: openai.OpenAI,
) -> None:
    """Systems give the number of a thread that has ended to the next one."""
    streams: list[Any] = []
    with budget(max_usd="0.001", mode="strict", wait=PATIENCE) as b:
        holder = threading.Thread(target=lambda: streams.append(ask(client, 1200, stream=True)))
        holder.start()
        holder.join()
        with ThreadPoolExecutor(1) as pool:
            large = pool.submit(ask, client, 1200)
            until(lambda: len(RUNTIME.queue) == 1)
            list(streams[0])
            large.result(PATIENCE)
    assert b.summary_data()["calls_refused"] == 0


def test_a_new_task_owns_nothing_of_one_that_is_gone() -> None:
    async def me() -> tuple[int, int]:
        return owner()

    async def scenario() -> set[tuple[int, int]]:
        return {await asyncio.create_task(me()) for _ in range(100)}

    assert len(asyncio.run(scenario())) == 100
