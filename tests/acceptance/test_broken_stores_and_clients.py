"""A store that is locked at the wrong moment, a client that two budgets wrap, a clock set back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from taximeter import budget, runtime
from taximeter.runtime import RUNTIME

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
URL = "https://api.openai.com/v1"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
COST = 4_500  # nano-USD


def handle(request: Any) -> Any:
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL}
    return httpx2.Response(200, json={**body, "choices": [choice], "usage": USAGE})


@pytest.fixture
def client() -> openai.OpenAI:
    inner = httpx2.Client(transport=httpx2.MockTransport(handle))
    return openai.OpenAI(api_key="x", base_url=URL, max_retries=0, http_client=inner)


def ask(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=50)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the file, and goes on and on."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_what_a_locked_store_could_not_take_is_booked_when_it_is_free_again(
    tmp_path: Path, client: openai.OpenAI
) -> None:
    path = tmp_path / "books.db"
    with budget(max_usd=1, name="locked", store=f"sqlite:///{path}?timeout=0.01") as b:

        def lock_and_answer(request: Any) -> Any:
            lock.__enter__()
            return handle(request)

        lock = locked(path)
        inner = httpx2.Client(transport=httpx2.MockTransport(lock_and_answer))
        assert ask(client.with_options(http_client=inner)).usage.total_tokens == 15
        lock.__exit__(None, None, None)
        assert (b.settled, b.held > 0) == (0, True)
        RUNTIME._book_again()
        assert (b.settled.scaleb(9), b.held) == (COST, 0)
        assert [entry.cost for entry in b.store.entries()] == [COST]  # type: ignore[attr-defined]


def test_entering_a_budget_whose_store_is_locked_does_not_block_the_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "books.db"
    b = budget(max_usd=1, name="locked", store=f"sqlite:///{path}")

    async def scenario() -> None:
        # Only the loop can end the lock, and only if nobody blocks it.
        lock = locked(path)
        lock.__enter__()
        asyncio.get_running_loop().call_later(0.05, lock.__exit__, None, None, None)
        async with b:
            pass

    asyncio.run(scenario())
    assert "could not be swept" not in caplog.text


def test_a_client_that_two_budgets_wrap_is_charged_to_both(client: openai.OpenAI) -> None:
    one, two = budget(max_usd=1, name="one"), budget(max_usd="0.0001", store="memory://")
    with budget() as outer:
        pass
    two.wrap(budget(max_usd=1, store="memory://").wrap(client))
    outer.wrap(client)
    outer.wrap(client)
    ask(client)
    assert one.summary_data()["calls_total"] == 0
    assert two.summary_data()["calls_total"] == outer.summary_data()["calls_total"] == 1
    assert two.spent.scaleb(9) == outer.spent.scaleb(9) == COST


def test_a_budget_remembers_only_so_many_of_those_entered_inside_it() -> None:
    with budget(max_usd=1) as outer:
        for _ in range(300):
            with budget(max_usd=1) as last:
                pass
    assert len(outer.children) < 300
    assert outer.children[-1] is last


def test_a_clock_that_is_set_back_makes_no_negative_latency(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        def __init__(self) -> None:
            self.now = 1_790_000_000.0

        def time(self) -> float:
            self.now -= 3600
            return self.now

    with budget(max_usd=1) as b:
        with monkeypatch.context() as patch:
            patch.setattr(runtime, "time", Clock())
            ask(client)
        (row,) = b.summary_data()["calls"]
    assert (row["latency_ms"], row["settlement"], b.held) == (0.0, "exact", 0)
