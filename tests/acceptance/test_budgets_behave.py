"""Budgets keep their promises: nesting, threads and tasks, decorators, waiting, clamping, cutting."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import openai
import pytest

import taximeter
from taximeter import BudgetExceededError, ConfigurationError, budget
from taximeter.runtime import RUNTIME
from taximeter.testing import Fault, Reply, SimulatedProvider
from tests.acceptance.wires import MESSAGES, nothing_open, rows, usd

MINI = "gpt-4o-mini"


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(Reply(tokens=40)) as running:
        yield running


@pytest.fixture
def client(provider: SimulatedProvider, openai_client: Any) -> openai.OpenAI:
    return openai_client(provider)  # type: ignore[no-any-return]


def ask(client: Any, *, cap: int | None = 100, model: str = MINI, **options: Any) -> Any:
    if cap is not None:
        options["max_tokens"] = cap
    return client.chat.completions.create(model=model, messages=MESSAGES, **options)


def worst(cap: int, model: str = MINI) -> Decimal:
    """The sound bound of one such call: what ``strict`` holds."""
    bound = taximeter.quote(model=model, messages=MESSAGES, max_tokens=cap).worst_usd
    assert bound is not None
    return bound


def total(provider: SimulatedProvider) -> Decimal:
    return usd(provider.invoice_total)


# --- nesting --------------------------------------------------------------------------------------


def test_nested_budgets_are_both_charged(client: Any, provider: SimulatedProvider) -> None:
    with budget(max_usd=1, name=None) as outer:
        ask(client)
        first = total(provider)
        with budget(max_usd=1) as inner:
            ask(client)
    assert outer.spent == total(provider)
    assert inner.spent == total(provider) - first
    assert "└─" in outer.tree()


def test_the_smallest_cap_of_nested_budgets_is_sent(
    client: Any, provider: SimulatedProvider
) -> None:
    with budget(max_usd=1), budget(max_usd="0.0001") as small, budget(max_usd="0.5"):
        ask(client, cap=None)
    (request,) = provider.requests
    sent = request.body["max_completion_tokens"]
    assert sent < Decimal("0.0001") / Decimal("0.0000006")
    assert rows(small)[0]["clamped_to"] == sent
    assert total(provider) <= Decimal("0.0001")


def test_the_refusing_budget_is_named(client: Any, provider: SimulatedProvider) -> None:
    outer = budget(max_usd=1, tags={"team": "x"})
    inner = budget(max_usd="0.000001", mode="strict")
    with outer, inner, pytest.raises(BudgetExceededError) as caught:
        ask(client)
    error = caught.value
    assert error.budget is inner  # type: ignore[attr-defined]
    assert inner.tripped
    assert not outer.tripped
    assert error.limit == Decimal("0.000001")
    assert provider.requests == []
    nothing_open(outer)


def test_an_outer_budget_refuses_for_an_inner_one(client: Any, provider: SimulatedProvider) -> None:
    with budget(max_usd="0.000001") as outer, budget(max_usd=1) as inner:
        with pytest.raises(BudgetExceededError):
            ask(client)
        assert outer.tripped
        assert not inner.tripped
    assert provider.requests == []


def test_unlike_modes_nest(client: Any, provider: SimulatedProvider) -> None:
    observer = budget(max_usd="0.000001", mode="observe")
    with observer, budget(max_usd="0.0002", mode="strict") as strict, budget(max_usd="0.00005"):
        ask(client, cap=3000)  # The clamping one lowers the cap, then the strict one affords it.
    assert rows(strict)[0]["clamped_to"] is not None
    assert observer.spent == strict.spent == total(provider)
    assert observer.summary_data()["observed"][0]["would_be"] == "refused"


def test_a_budget_entered_twice_is_charged_once(client: Any, provider: SimulatedProvider) -> None:
    with budget(max_usd=1) as b, b:
        ask(client)
    assert b.spent == total(provider)
    assert len(rows(b)) == 1


# --- threads and tasks ----------------------------------------------------------------------------


def test_a_thread_started_inside_is_charged(client: Any, provider: SimulatedProvider) -> None:
    with budget(max_usd=1) as b:
        thread = threading.Thread(target=ask, args=(client,))
        thread.start()
        thread.join()
    ask(client)
    assert b.spent == usd(provider.invoice[0].cost)


def test_a_thread_that_outlives_the_block_stays_charged(
    client: Any, provider: SimulatedProvider
) -> None:
    go = threading.Event()

    def later() -> None:
        go.wait(10)
        ask(client)

    with budget(max_usd=1) as b:
        thread = threading.Thread(target=later)
        thread.start()
    go.set()
    thread.join()
    assert b.spent == total(provider) > 0


def test_executor_jobs_are_charged_and_its_threads_are_not_kept(
    client: Any, provider: SimulatedProvider
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with budget(max_usd=1) as b:
            pool.submit(ask, client).result()
            list(pool.map(lambda _: ask(client), range(2)))
        inside = total(provider)
        pool.submit(ask, client).result()
    assert b.spent == inside
    assert len(rows(b)) == 3
    assert len(provider.invoice) == 4


async def test_tasks_to_thread_and_executors_of_the_loop_are_charged(
    client: Any, provider: SimulatedProvider
) -> None:
    asynchronous = openai.AsyncOpenAI(base_url=provider.base_url, api_key="any")
    async with asynchronous, budget(max_usd=1) as b:
        await asyncio.create_task(ask(asynchronous))
        await asyncio.gather(ask(asynchronous), ask(asynchronous))
        await asyncio.to_thread(ask, client)
        await asyncio.get_running_loop().run_in_executor(None, ask, client)
    assert len(rows(b)) == 5
    assert b.spent == total(provider)


def test_a_context_of_one_s_own_is_respected(client: Any, provider: SimulatedProvider) -> None:
    outside = contextvars.copy_context()
    with budget(max_usd=1) as b:
        outside.run(ask, client)
    assert b.spent == 0


def test_the_same_object_in_two_threads_at_once(client: Any, provider: SimulatedProvider) -> None:
    b = budget(max_usd=1)
    both = threading.Barrier(2)

    def work() -> None:
        with b:
            both.wait(10)
            ask(client)
            both.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask(client)
    assert len(rows(b)) == 2
    assert b.spent == sum((usd(line.cost) for line in provider.invoice[:2]), Decimal(0))


def test_one_object_accumulates_over_its_blocks(client: Any, provider: SimulatedProvider) -> None:
    b = budget(max_usd=1)
    for _ in range(3):
        with b:
            ask(client)
    assert b.spent == total(provider)
    assert len(rows(b)) == 3


def test_bind_charges_a_function_wherever_it_runs(client: Any, provider: SimulatedProvider) -> None:
    b = budget(max_usd=1)
    bound = b.bind(ask)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(bound, client).result()
    assert b.spent == total(provider) > 0


async def test_bind_takes_coroutine_functions(provider: SimulatedProvider) -> None:
    b = budget(max_usd=1)
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="any") as asynchronous:

        async def work() -> Any:
            return await ask(asynchronous)

        await asyncio.create_task(b.bind(work)())
    assert b.spent == total(provider) > 0


def test_wrap_charges_one_client_and_no_other(
    client: Any, provider: SimulatedProvider, openai_client: Any
) -> None:
    b = budget(max_usd=1)
    assert b.wrap(client) is client
    ask(client)
    for _ in ask(client, stream=True):
        pass
    charged = total(provider)
    ask(openai_client(provider))
    assert b.spent == charged
    assert len(rows(b)) == 2


def test_a_wrapped_client_inside_its_own_budget_is_charged_once(
    client: Any, provider: SimulatedProvider
) -> None:
    b = budget(max_usd=1)
    b.wrap(client)
    with b:
        ask(client)
    assert b.spent == total(provider)
    assert len(rows(b)) == 1


# --- decorators -----------------------------------------------------------------------------------


def test_a_decorator_gives_each_call_a_fresh_budget(
    client: Any, provider: SimulatedProvider
) -> None:
    enough = worst(100) * Decimal("1.5")

    @budget(max_usd=enough, mode="strict")
    def once() -> Any:
        return ask(client)

    @taximeter.with_budget(max_usd=enough, mode="strict")
    def twice() -> None:
        for _ in range(9):
            ask(client)

    for _ in range(5):
        once()
    assert len(provider.invoice) == 5
    with pytest.raises(BudgetExceededError):
        twice()


async def test_a_decorator_takes_coroutine_functions(provider: SimulatedProvider) -> None:
    seen = []
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="any") as asynchronous:

        @budget(max_usd=1)
        async def work() -> Any:
            seen.append(taximeter.context.SCOPE.get())
            return await ask(asynchronous)

        await asyncio.gather(work(), work())
    assert seen[0].budgets != seen[1].budgets
    assert taximeter.context.SCOPE.get() is None


def test_a_decorated_generator_does_not_leak_its_scope(
    client: Any, provider: SimulatedProvider
) -> None:
    kept = []

    @budget(max_usd=1)
    def words() -> Any:
        kept.append(taximeter.context.SCOPE.get().budgets[-1])
        got = None
        for chunk in ask(client, stream=True):
            got = yield chunk
            if got == "enough":
                return "done"

    steps = words()
    next(steps)
    assert taximeter.context.SCOPE.get() is None
    ask(client)  # The consumer's own call is none of the generator's.
    with pytest.raises(StopIteration) as stop:
        steps.send("enough")
    assert stop.value.value == "done"
    provider.wait_until_idle()
    (row,) = rows(kept[0])
    assert row["settlement"] in ("estimated", "exact")
    nothing_open(kept[0])


async def test_a_decorated_async_generator_does_not_leak_its_scope(
    client: Any, provider: SimulatedProvider
) -> None:
    kept = []
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="any") as asynchronous:

        @budget(max_usd=1)
        async def words() -> Any:
            kept.append(taximeter.context.SCOPE.get().budgets[-1])
            async for chunk in await ask(asynchronous, stream=True):
                yield chunk

        steps = words()
        await anext(steps)
        assert taximeter.context.SCOPE.get() is None
        await ask(asynchronous)
        async for _ in steps:
            pass
        again = words()
        await anext(again)
        await again.aclose()
    assert len(kept) == 2
    (row,) = rows(kept[0])
    assert row["settlement"] == "exact"
    assert len(rows(kept[1])) == 1
    nothing_open(kept[1])
    assert taximeter.context.SCOPE.get() is None


# --- identity -------------------------------------------------------------------------------------


def test_tags_are_written_to_every_entry(client: Any, provider: SimulatedProvider) -> None:
    outer = taximeter.tags(project="p", user_id="u1", team="red")
    with budget(max_usd=1, tags={"group": "g"}) as b, outer:
        with taximeter.tags(user_id="u2", shift="night"):
            ask(client)
        ask(client)
    first, second = rows(b)
    assert (first["project"], first["group"], first["user_id"]) == ("p", "g", "u2")
    assert first["tags"] == {"team": "red", "shift": "night"}
    assert (second["user_id"], second["tags"]) == ("u1", {"team": "red"})


# --- modes that refuse nothing ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["warn", "observe"])
def test_watching_modes_refuse_nothing_and_send_the_request_as_it_is(
    mode: str, client: Any, provider: SimulatedProvider
) -> None:
    with budget(max_usd="0.000001", mode=mode) as b:
        ask(client)
        ask(client, cap=None)
        for _ in ask(client, stream=True):
            pass
    assert b.spent == total(provider) > b.limit
    assert b.remaining == 0
    assert "max_completion_tokens" not in provider.requests[1].body
    assert not b.tripped


def test_observe_records_what_clamp_would_have_done(
    client: Any, provider: SimulatedProvider
) -> None:
    with budget(max_usd="0.00005", mode="observe") as b:
        for _ in range(3):
            ask(client, cap=1000)
    assert total(provider) > b.limit
    assert [seen["would_be"] for seen in b.observed] == ["clamped", "clamped", "refused"]


def test_on_warn_is_called_once_for_each_threshold(serve: Any, openai_client: Any) -> None:
    client = openai_client(serve(Reply(tokens=40, input_tokens=20)))
    one = Decimal("0.000027")  # 20 x 0.15 + 40 x 0.6, for a million tokens
    seen: list[tuple[Decimal, Decimal]] = []
    with budget(
        max_usd=one * 10, warn_at=[0.5, 0.8], on_warn=lambda *a: seen.append(a), mode="warn"
    ):
        for _ in range(12):
            ask(client)
    assert seen == [(one * 5, one * 10), (one * 8, one * 10), (one * 10, one * 10)]


def test_a_warning_callback_that_raises_breaks_no_call(
    client: Any, provider: SimulatedProvider
) -> None:
    def broken(spent: Decimal, limit: Decimal) -> None:
        raise RuntimeError("my own mistake")

    with budget(max_usd="0.000001", mode="warn", on_warn=broken) as b:
        assert ask(client).choices[0].message.content
        for _ in ask(client, stream=True):
            pass
    nothing_open(b)
    assert len(rows(b)) == 2


# --- waiting --------------------------------------------------------------------------------------


def test_busy_is_not_broke_a_call_waits_for_another_s_settlement(openai_client: Any) -> None:
    with SimulatedProvider(Reply(tokens=40, fault=Fault.STALL(after=3, times=1))) as provider:
        client = openai_client(provider)
        with budget(max_usd=worst(100) * Decimal("1.5"), mode="strict", wait=60) as b:
            stream = ask(client, stream=True)
            results: list[Any] = []
            thread = threading.Thread(target=lambda: results.append(ask(client)))
            thread.start()
            _until(lambda: len(RUNTIME.queue) == 1)
            assert len(provider.requests) == 1
            provider.release()
            for _ in stream:
                pass
            thread.join()
        assert results[0].choices
        assert b.spent == total(provider)
        nothing_open(b)


def test_wait_0_refuses_at_once_and_says_that_it_is_busy(openai_client: Any) -> None:
    with SimulatedProvider(Reply(tokens=40, fault=Fault.STALL(after=3))) as provider:
        client = openai_client(provider)
        with budget(max_usd=worst(100) * Decimal("1.5"), mode="strict", wait=0) as b:
            stream = ask(client, stream=True)
            caught: list[BaseException] = []

            def other() -> None:
                try:
                    ask(client)
                except BudgetExceededError as error:
                    caught.append(error)

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            stream.close()
        assert "in flight" in str(caught[0])
        assert caught[0].requested > caught[0].available  # type: ignore[attr-defined]
        nothing_open(b)


def test_a_call_never_waits_for_its_own_thread_s_hold(openai_client: Any) -> None:
    with SimulatedProvider(Reply(tokens=40, fault=Fault.STALL(after=3))) as provider:
        client = openai_client(provider)
        with budget(max_usd=worst(100) * Decimal("1.5"), mode="strict", wait=3600) as b:
            stream = ask(client, stream=True)
            with pytest.raises(BudgetExceededError):
                ask(client)
            stream.close()
        nothing_open(b)


async def test_a_task_waits_without_blocking_the_loop_but_never_for_itself() -> None:
    reply = Reply(tokens=40, fault=Fault.STALL(after=3, times=1))
    with SimulatedProvider(reply) as provider:
        client = openai.AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0)
        async with client, budget(max_usd=worst(100) * Decimal("1.5"), mode="strict") as b:
            stream = await ask(client, stream=True)
            with pytest.raises(BudgetExceededError):
                await ask(client)
            waiting = asyncio.create_task(ask(client))
            while not len(RUNTIME.queue):  # The loop runs on.
                await asyncio.sleep(0)
            provider.release()
            async for _ in stream:
                pass
            assert (await waiting).choices
        nothing_open(b)
        assert b.spent == total(provider)


def _until(true: Callable[[], bool]) -> None:
    """Wait for another thread; bounded, and only as long as it takes."""
    pause = threading.Event()
    for _ in range(1000):
        if true():
            return
        pause.wait(0.005)
    raise AssertionError("it never happened")


# --- what it shows --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["strict", "clamp"])
def test_spent_held_and_remaining_make_the_limit_while_streams_run(
    mode: str, openai_client: Any
) -> None:
    with SimulatedProvider(Reply(tokens=300), events_per_write=1) as provider:
        client = openai_client(provider)
        with budget(max_usd="0.01", mode=mode) as b:
            streams = [iter(ask(client, cap=400, stream=True)) for _ in range(3)]
            fares = []
            while streams:
                for stream in list(streams):
                    if next(stream, None) is None:
                        streams.remove(stream)
                # Holds and fares are read one after the other: hold the clock of neither.
                spent, held, remaining = b.spent, b.held, b.remaining
                assert spent + held + remaining == b.limit
                fares.append(spent)
            assert fares[0] < fares[len(fares) // 2] < fares[-1]
        assert b.spent == total(provider)
        nothing_open(b)


def test_leaving_a_budget_that_was_never_entered_says_so() -> None:
    with pytest.raises(ConfigurationError, match="was not entered"):
        budget(max_usd=1).__exit__(None, None, None)
