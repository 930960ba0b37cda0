"""However a stream ends, its call is booked once: exactly if it was complete, else by the abort rule."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from taximeter import budget
from taximeter.testing import Fault, Reply, SimulatedProvider
from tests.acceptance.wires import (
    ANTHROPIC,
    CHAT,
    GEMINI,
    WIRES,
    Wire,
    line_of,
    nothing_open,
    rows,
    settled_once,
)

# Slow enough that leaving after a few chunks leaves most of the answer ungenerated.
# No faster than what is taken for typical: a slow garbage collection then costs no more than is booked.
STORY = Reply(tokens=2000, tokens_per_second=120)
SHORT = Reply(tokens=40)

every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


@pytest.fixture
def talk() -> Iterator[Callable[..., Any]]:
    """``talk(wire, provider)``: a client of that wire, closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(wire: Wire, provider: SimulatedProvider, **options: Any) -> Any:
            client = wire.client(provider, **options)
            stack.callback(client.close)
            return client

        yield make


def read(stream: Any, events: int) -> None:
    for _ in range(events):
        next(stream)


def works_again(wire: Wire, provider: SimulatedProvider, client: Any) -> None:
    """After whatever happened, a call on the same client is metered exactly."""
    before = provider.invoice_total
    with budget(max_usd=1) as b:
        for _ in wire.call(client, stream=True):
            pass
    (row,) = rows(b)
    assert row["settlement"] == "exact"
    assert b.spent.scaleb(9) == provider.invoice_total - before


@every_wire
def test_a_stream_read_to_its_end_is_exact(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(SHORT)
    with budget(max_usd=1) as b:
        for _ in wire.call(talk(wire, provider), stream=True):
            pass
    settled_once(b, provider, wire, "exact")


@every_wire
def test_an_answer_in_one_piece_is_exact(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(SHORT)
    with budget(max_usd=1) as b:
        wire.call(talk(wire, provider))
        settled_once(b, provider, wire, "exact")


@every_wire
@pytest.mark.parametrize("events", [1, 6])
def test_break_without_close_is_settled_and_hung_up_when_the_block_ends(
    wire: Wire, events: int, serve: Any, talk: Any
) -> None:
    provider = serve([STORY, SHORT])
    client = talk(wire, provider)
    with budget(max_usd=1) as b:
        stream = wire.call(client, stream=True)
        for seen, _ in enumerate(stream, 1):
            if seen == events:
                break
    settled_once(b, provider, wire, wire.interrupted)
    assert len(provider.disconnects) == 1
    assert provider.disconnects[0].tokens_generated < 2000
    works_again(wire, provider, client)


@every_wire
def test_break_and_close_is_settled_at_once(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(STORY)
    with budget(max_usd=1) as b:
        stream = wire.call(talk(wire, provider), stream=True)
        read(iter(stream), 5)
        stream.close()
        settled_once(b, provider, wire, wire.interrupted)
    assert len(provider.disconnects) == 1


@pytest.mark.parametrize("events", [0, 1, 5])
def test_what_was_generated_while_the_caller_was_busy_is_expected(
    events: int, serve: Any, talk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = serve(STORY)
    with budget(max_usd=1) as b:
        stream = CHAT.call(talk(CHAT, provider), stream=True)
        read(iter(stream), events)
        later = time.time() + 4.0  # He thought about what he had read.
        monkeypatch.setattr(time, "time", lambda: later)
        stream.close()
    (row,) = rows(b)
    assert row["settlement"] == "estimated"
    assert 4 * 150 < row["output_tokens"] < 3000


@pytest.mark.parametrize("wire", [w for w in WIRES if w is not GEMINI], ids=lambda w: w.name)
def test_leaving_a_with_stream_is_settled_at_once(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(STORY)
    with budget(max_usd=1) as b:
        with wire.call(talk(wire, provider), stream=True) as stream:
            read(iter(stream), 5)
        settled_once(b, provider, wire, "estimated")


@every_wire
def test_next_once_and_no_more_is_settled_when_the_block_ends(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(STORY)
    with budget(max_usd=1) as b:
        stream = wire.call(talk(wire, provider), stream=True)
        assert next(iter(stream)) is not None
        assert rows(b) == []
    row = settled_once(b, provider, wire, wire.interrupted)
    assert row["cost"] > 0


@every_wire
def test_a_dropped_stream_is_settled_by_the_garbage_collector(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(STORY)
    with budget(max_usd=1) as b:
        stream = wire.call(talk(wire, provider), stream=True)
        read(iter(stream), 5)
        del stream
        gc.collect()
        settled_once(b, provider, wire, wire.interrupted)


eager_wire = pytest.mark.parametrize(
    "wire", [wire for wire in WIRES if wire is not GEMINI], ids=lambda wire: wire.name
)
"""Wires whose SDK sends the request at once; google-genai sends it when the first chunk is asked for."""


@eager_wire
def test_a_stream_that_is_never_iterated_is_settled_and_hung_up(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(STORY)
    with budget(max_usd=1) as b:
        stream = wire.call(talk(wire, provider), stream=True)
        assert b.spent > 0
        assert b.held > 0
        del stream
        gc.collect()
    settled_once(b, provider, wire, "estimated")
    assert len(provider.disconnects) == 1


def test_a_gemini_stream_that_is_never_iterated_is_never_sent(serve: Any, talk: Any) -> None:
    provider = serve(STORY)
    with budget(max_usd=1) as b:
        stream = GEMINI.call(talk(GEMINI, provider), stream=True)
        del stream
    nothing_open(b)
    assert rows(b) == []
    assert provider.requests == []


@eager_wire
def test_a_stream_handed_out_of_the_block_unread_stays_charged(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(SHORT)
    with budget(max_usd=1) as b:
        stream = wire.call(talk(wire, provider), stream=True)
    assert b.held > 0
    for _ in stream:
        pass
    settled_once(b, provider, wire, "exact")


@every_wire
def test_an_exception_in_the_consumer_settles_and_is_not_changed(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(STORY)
    error = ValueError("mine")
    client = talk(wire, provider)
    b = budget(max_usd=1)

    def consume() -> None:
        with b:
            for _ in wire.call(client, stream=True):
                raise error

    with pytest.raises(ValueError, match="mine") as caught:
        consume()
    assert caught.value is error
    settled_once(b, provider, wire, wire.interrupted)
    assert len(provider.disconnects) == 1


# --- what goes wrong on the way -------------------------------------------------------------------


@every_wire
def test_a_connection_cut_in_the_middle_raises_the_sdks_error_and_is_estimated(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve([Reply(tokens=300, fault=Fault.CUT(after=4)), SHORT])
    client = talk(wire, provider)
    with budget(max_usd=1) as b:
        stream = wire.call(client, stream=True)
        with pytest.raises(Exception, match=r"(?i)closed|incomplete|connection|peer"):
            for _ in stream:
                pass
    row = settled_once(b, provider, wire, wire.interrupted)
    assert row["error"]
    works_again(wire, provider, client)


@every_wire
def test_a_stream_that_ends_without_its_last_event_is_estimated(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(Reply(tokens=300, fault=Fault.NO_END(after=4)))
    with budget(max_usd=1) as b:
        for _ in wire.call(talk(wire, provider), stream=True):
            pass
    settled_once(b, provider, wire, wire.interrupted)


@pytest.mark.parametrize("wire", [w for w in WIRES if w is not GEMINI], ids=lambda w: w.name)
def test_an_error_event_inside_a_200_is_the_sdks_own_and_settles(
    wire: Wire, serve: Any, talk: Any
) -> None:
    fault = Fault.ERROR_EVENT(after=4, message="overloaded, sorry")
    provider = serve([Reply(tokens=300, fault=fault), SHORT])
    client = talk(wire, provider)
    # The Responses API hands the event on; the others make an exception of it.
    with budget(max_usd=1) as b, contextlib.suppress(openai.APIError, anthropic.APIError):
        for _ in wire.call(client, stream=True):
            pass
    row = settled_once(b, provider, wire, "estimated")
    assert row["error"]
    works_again(wire, provider, client)


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_each_attempt_is_a_call_and_failed_ones_cost_nothing(
    wire: Wire, stream: bool, serve: Any, talk: Any
) -> None:
    provider = serve(SHORT, faults={0: Fault.STATUS(500), 1: Fault.RATE_LIMIT})
    with budget(max_usd=1) as b:
        answer = wire.call(talk(wire, provider, max_retries=3), stream=stream)
        if stream:
            for _ in answer:
                pass
    nothing_open(b)
    first, second, last = rows(b)
    assert [row["status"] for row in (first, second, last)] == [500, 429, 200]
    assert [row["settlement"] for row in (first, second, last)] == ["void", "void", "exact"]
    assert first["cost"] == second["cost"] == 0
    assert "500" in first["error"]
    assert last["cost"] == b.spent == line_of(provider, last).cost_usd
    assert len({row["id"] for row in (first, second, last)}) == 3


@every_wire
def test_a_refusal_by_the_provider_is_void_and_its_error_unchanged(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(SHORT, faults={0: Fault.RATE_LIMIT(message="slow down")})
    client = talk(wire, provider)
    with budget(max_usd=1) as b, pytest.raises(Exception, match="slow down"):
        wire.call(client, stream=False)
    (row,) = rows(b)
    assert (row["settlement"], row["cost"], row["status"]) == ("void", 0, 429)
    nothing_open(b)
    works_again(wire, provider, client)


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
def test_a_read_timeout_of_a_whole_answer_is_booked_in_full(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve([Reply(tokens=300, fault=Fault.STALL), SHORT])
    client = talk(wire, provider, timeout=1.0)
    with budget(max_usd=1) as b, pytest.raises(Exception, match="timed out"):
        wire.call(client)
    row = settled_once(b, provider, wire, "assumed_full")
    assert row["output_tokens"] == 3000
    assert "imeout" in row["error"]


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
def test_a_read_timeout_in_the_middle_of_a_stream_is_estimated(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(Reply(tokens=300, fault=Fault.STALL(after=20)))
    client = talk(wire, provider, timeout=1.0)
    with budget(max_usd=1) as b, pytest.raises(Exception, match=r"(?i)timed out"):
        for _ in wire.call(client, stream=True):
            pass
    settled_once(b, provider, wire, "estimated")


@pytest.mark.parametrize("wire", WIRES, ids=lambda w: w.name)
def test_a_connection_that_never_was_is_void(wire: Wire, talk: Any) -> None:
    provider = SimulatedProvider()
    provider.start()
    client = talk(wire, provider)
    provider.stop()
    with budget(max_usd=1) as b, pytest.raises(Exception, match=r"(?i)connect"):
        wire.call(client)
    nothing_open(b)
    (row,) = rows(b)
    assert (row["settlement"], row["cost"]) == ("void", 0)


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
def test_a_request_that_was_sent_and_never_answered_is_booked_in_full(
    wire: Wire, serve: Any, talk: Any
) -> None:
    provider = serve(SHORT, faults={0: Fault.DROP})
    with budget(max_usd=1) as b, pytest.raises(Exception, match=r"(?i)connection"):
        wire.call(talk(wire, provider))
    provider.wait_until_idle()
    nothing_open(b)
    (row,) = rows(b)
    assert row["settlement"] == "assumed_full"
    assert 0 < row["cost"] <= wire.worst_usd()


# --- the user's own rule for interrupted streams ---------------------------------------------------


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC], ids=lambda w: w.name)
def test_on_abort_worst_case_books_the_whole_cap(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(STORY)
    with budget(max_usd=1, on_abort="worst_case") as b:
        stream = wire.call(talk(wire, provider), stream=True)
        read(iter(stream), 5)
        stream.close()
    row = settled_once(b, provider, wire, "assumed_full")
    assert row["output_tokens"] == 3000


def test_on_abort_estimate_overrides_a_provider_that_bills_the_whole(serve: Any, talk: Any) -> None:
    provider = serve(STORY, bills_whole_answer_on_abort=False)
    with budget(max_usd=1, on_abort="estimate") as b:
        stream = GEMINI.call(talk(GEMINI, provider), stream=True)
        read(stream, 2)
        stream.close()
    (row,) = rows(b)
    assert row["settlement"] == "estimated"
    nothing_open(b)
    del stream
    gc.collect()


@every_wire
def test_on_abort_drain_reads_on_and_settles_exactly(wire: Wire, serve: Any, talk: Any) -> None:
    provider = serve(Reply(tokens=200))
    with budget(max_usd=1, on_abort="drain") as b:
        stream = wire.call(talk(wire, provider), stream=True)
        read(iter(stream), 2)
        stream.close()
    provider.wait_until_idle()
    _until(lambda: bool(rows(b)))
    settled_once(b, provider, wire, "exact")


def test_a_drain_begins_once_however_often_the_stream_is_closed(serve: Any, talk: Any) -> None:
    provider = serve(Reply(tokens=200, tokens_per_second=2000))
    with budget(max_usd=1, on_abort="drain") as b:
        stream = WIRES[0].call(talk(WIRES[0], provider), stream=True)
        read(iter(stream), 2)
        (call,) = b._open.values()
        body = call.shell.stream()
        body._begin_drain()
        body._begin_drain()
        body.close()
    provider.wait_until_idle()
    _until(lambda: bool(rows(b)))
    settled_once(b, provider, WIRES[0], "exact")


def _until(true: Callable[[], bool]) -> None:
    """Wait for another thread; bounded, and only as long as it takes."""
    pause = threading.Event()
    for _ in range(500):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError("it never happened")
