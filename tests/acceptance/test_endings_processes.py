"""Endings that take the whole process: Ctrl+C, interpreter exit, a crash. Read from the file left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from taximeter import budget
from taximeter.stores.urls import open_store
from taximeter.testing import Fault, Reply, SimulatedProvider
from tests.acceptance.wires import usd

BEFORE = """
import os, sys, signal, openai
from taximeter import budget
client = openai.OpenAI(api_key="any", max_retries=0)
def ask():
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Tell me a story."}],
        max_tokens=3000, stream=True)
def read(stream, events):
    iterator = iter(stream)
    for _ in range(events):
        next(iterator)
def the_budget():
    return budget(max_usd=1, name="job", store=os.environ["STORE"])
"""


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


def start(program: str, provider: SimulatedProvider, store: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OPENAI_BASE_URL": provider.base_url, "STORE": store}
    return subprocess.Popen(
        [sys.executable, "-c", BEFORE + program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def only_entry(store: str) -> Any:
    (entry,) = open_store(store).entries()  # type: ignore[attr-defined]
    return entry


def balance(store: str) -> tuple[Any, Any]:
    b = budget(max_usd=1, name="job", store=store)
    return b.settled, b.held


@pytest.fixture
def stalled() -> Any:
    with SimulatedProvider(Reply(tokens=2000, fault=Fault.STALL(after=6))) as provider:
        yield provider


def test_ctrl_c_in_the_middle_of_a_stream_is_booked(stalled: SimulatedProvider, store: str) -> None:
    program = """
try:
    with the_budget() as b:
        for seen, chunk in enumerate(ask()):
            if seen == 5:
                print("reading", flush=True)
except KeyboardInterrupt:
    print(b.spent, b.held, flush=True)
"""
    with start(program, stalled, store) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        spent, held = process.stdout.readline().split()
        assert process.wait() == 0
    stalled.wait_until_idle()
    entry = only_entry(store)
    assert entry.settlement == "estimated"
    assert usd(entry.cost) == Decimal(spent)
    assert held == "0"
    assert entry.cost >= stalled.invoice_total
    assert balance(store) == (usd(entry.cost), 0)


def test_ctrl_c_that_nobody_catches_is_booked(stalled: SimulatedProvider, store: str) -> None:
    program = """
with the_budget() as b:
    for seen, chunk in enumerate(ask()):
        if seen == 5:
            print("reading", flush=True)
"""
    with start(program, stalled, store) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT
    stalled.wait_until_idle()
    entry = only_entry(store)
    assert entry.settlement == "estimated"
    assert balance(store) == (usd(entry.cost), 0)


@pytest.mark.parametrize(
    "end",
    [
        "b.__exit__(None, None, None)",  # the block ended, the stream went on
        "pass",
        "sys.exit(0)",
    ],
)
def test_an_open_stream_is_booked_when_the_interpreter_exits(
    end: str, stalled: SimulatedProvider, store: str
) -> None:
    program = f"""
b = the_budget()
b.__enter__()
stream = ask()
read(stream, 5)
{end}
"""
    with start(program, stalled, store) as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert errors == ""
    stalled.wait_until_idle()
    entry = only_entry(store)
    assert entry.settlement == "estimated"
    assert entry.cost >= stalled.invoice_total
    assert balance(store) == (usd(entry.cost), 0)


def test_a_stream_left_open_in_a_generator_is_booked_at_exit(
    stalled: SimulatedProvider, store: str
) -> None:
    program = """
def chunks():
    with the_budget():
        yield from ask()
steps = chunks()
next(steps)
"""
    with start(program, stalled, store) as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert only_entry(store).settlement == "estimated"


def test_a_crashed_process_leaves_its_hold_and_a_later_one_books_it_in_full(
    stalled: SimulatedProvider, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
with the_budget() as b:
    stream = ask()
    read(stream, 5)
    print(b.held + b.spent, flush=True)
    os._exit(9)
"""
    with start(program, stalled, store) as process:
        process.communicate()
        assert process.returncode == 9
    stalled.wait_until_idle()
    settled, held = balance(store)
    assert settled == 0
    assert held > 0  # Not freed: it may have been billed.
    later = time.time() + 7 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    with budget(max_usd=1, name="job", store=store) as b:
        entry = only_entry(store)
        assert entry.settlement == "assumed_full"
        assert entry.model == "gpt-4o-mini"
        assert "vanished" in entry.error
        assert (b.settled, b.held) == (usd(entry.cost), 0)
    assert usd(entry.cost) == held
    assert entry.cost >= stalled.invoice_total
    with budget(max_usd=1, name="job", store=store):
        pass
    assert only_entry(store).id == entry.id  # Once.
