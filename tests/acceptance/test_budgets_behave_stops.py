"""What a budget does when it must stop: clamp, cut, refuse, and say why; and bad settings."""

from __future__ import annotations

import pickle
from dataclasses import replace
from decimal import Decimal
from typing import Any

import openai
import pytest

import taximeter
from taximeter import BudgetExceededError, ConfigurationError, UnboundedCostError, budget
from taximeter.errors import PriceUnknownError
from taximeter.testing import Reply, SimulatedProvider, script
from tests.acceptance.wires import (
    ANTHROPIC,
    CHAT,
    GEMINI,
    MESSAGES,
    RESPONSES,
    nothing_open,
    rows,
    usd,
)

MINI = "gpt-4o-mini"


def ask(client: Any, *, model: str = MINI, **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=MESSAGES, **options)


def texts(stream: Any) -> list[Any]:
    """Chunks with a choice; what came before an exception is kept in the list given to it."""
    return [chunk for chunk in stream if chunk.choices]


def total(provider: SimulatedProvider) -> Decimal:
    return usd(provider.invoice_total)


# --- clamp ----------------------------------------------------------------------------------------


def test_a_clamped_answer_in_one_piece_returns_short_and_warns(
    serve: Any, openai_client: Any
) -> None:
    provider = serve(Reply(tokens=900))
    client = openai_client(provider)
    with budget(max_usd="0.0001") as b, pytest.warns(RuntimeWarning, match="cut an answer at"):
        answer = ask(client)
    assert answer.choices[0].finish_reason == "length"
    assert b.clamped
    assert not b.tripped
    assert b.spent == total(provider) <= b.limit
    assert rows(b)[0]["clamped_to"] == answer.usage.completion_tokens


def test_a_clamped_stream_raises_after_its_last_chunk(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=900))
    client = openai_client(provider)
    seen: list[Any] = []
    with budget(max_usd="0.0001") as b, pytest.raises(BudgetExceededError) as caught:
        seen.extend(ask(client, stream=True))  # Appends one by one, so what came first is kept.
    assert seen[-1].choices[0].finish_reason == "length"
    assert caught.value.usage == {key: rows(b)[0][key] for key in caught.value.usage or {}}
    assert b.clamped
    assert b.tripped
    assert b.spent == total(provider) <= b.limit
    assert caught.value.spent == b.spent
    nothing_open(b)


def test_a_clamped_stream_just_ends_with_truncate(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=900))
    with budget(max_usd="0.0001", on_limit="truncate") as b:
        chunks = texts(ask(openai_client(provider), stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"
    assert b.clamped
    assert not b.tripped
    assert b.spent == total(provider) <= b.limit


def test_a_call_that_fits_is_not_clamped(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=30))
    with budget(max_usd="0.0001") as b:
        ask(openai_client(provider))
    assert not b.clamped  # The cap was lowered, but the answer did not need it.


def test_a_callers_smaller_cap_is_left_alone(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=900))
    with budget(max_usd="0.001") as b:
        ask(openai_client(provider), max_tokens=50)
    assert provider.requests[0].body["max_tokens"] == 50
    assert not b.clamped


def test_a_reasoning_model_is_refused_below_its_floor(serve: Any, openai_client: Any) -> None:
    provider = serve()
    client = openai_client(provider)
    with (
        budget(max_usd="0.005"),
        pytest.raises(BudgetExceededError, match="at least 1024 are needed"),
    ):
        ask(client, model="gpt-5")
    assert provider.requests == []


def test_min_output_tokens_refuses_rather_than_sends(serve: Any, openai_client: Any) -> None:
    provider = serve()
    client = openai_client(provider)
    with (
        budget(max_usd="0.0001", min_output_tokens=500),
        pytest.raises(BudgetExceededError, match="at least 500 are needed"),
    ):
        ask(client)
    assert provider.requests == []


# --- limits of streams, and providers that ignore them ----------------------------------------------


def test_max_stream_output_tokens_is_sent_and_said(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=900))
    client = openai_client(provider)
    with (
        budget(max_usd=1, max_stream_output_tokens=50) as b,
        pytest.raises(BudgetExceededError, match="max_stream_output_tokens=50") as caught,
    ):
        texts(ask(client, stream=True))
    assert provider.requests[0].body["max_completion_tokens"] == 50
    assert caught.value.usage is not None
    assert caught.value.usage["output_tokens"] == 50
    assert b.spent == total(provider)


def test_max_stream_output_tokens_can_truncate_without_any_amount(
    serve: Any, openai_client: Any
) -> None:
    provider = serve(Reply(tokens=900))
    client = openai_client(provider)
    with budget(max_stream_output_tokens=50, on_limit="truncate") as b:
        chunks = texts(ask(client, stream=True))
        ask(client)  # No stream: not its business.
    assert chunks[-1].choices[0].finish_reason == "length"
    assert provider.invoice[1].usage["output_tokens"] == 900
    assert b.spent == total(provider)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers take no notice of output caps."""
    plan = script.plan
    monkeypatch.setattr(
        script, "plan", lambda ask, *rest, **options: plan(replace(ask, cap=None), *rest, **options)
    )


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("wire", [CHAT, RESPONSES, ANTHROPIC], ids=lambda w: w.name)
@pytest.mark.parametrize("on_limit", ["raise", "truncate"])
def test_a_provider_that_ignores_its_cap_is_cut(wire: Any, on_limit: str, serve: Any) -> None:
    provider = serve(Reply(text="taxi " * 60_000), events_per_write=1)  # Past any socket buffer.
    client = wire.client(provider)
    events: list[Any] = []
    caught: BudgetExceededError | None = None
    with client, budget(max_usd=1, max_stream_output_tokens=200, on_limit=on_limit) as b:
        try:
            events.extend(wire.call(client, stream=True))
        except BudgetExceededError as error:
            caught = error
    provider.wait_until_idle()
    assert len(provider.disconnects) == 1
    (row,) = rows(b)
    assert row["settlement"] == "estimated"
    assert "ran past the output cap of 200" in row["error"]
    assert (caught is not None) == (on_limit == "raise")
    if caught is not None:
        assert caught.usage == {key: row[key] for key in caught.usage or {}}
    nothing_open(b)


# --- unknown models, unbounded costs ----------------------------------------------------------------


def test_an_unknown_model_costs_the_ceiling_inside_a_budget(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=40))
    with budget(max_usd=5) as b:
        ask(openai_client(provider), model="gpt-99")
    (row,) = rows(b)
    assert row["price_flags"] == ["ceiling"]
    assert row["cost"] >= total(provider)


def test_an_unknown_model_is_unpriced_without_a_cap_and_never_free(
    serve: Any, openai_client: Any
) -> None:
    with budget() as b:
        ask(openai_client(serve(Reply(tokens=40))), model="gpt-99")
    (row,) = rows(b)
    assert row["cost"] is None
    assert row["price_flags"] == ["unpriced"]
    assert row["output_tokens"] == 40
    assert b.summary_data()["calls_unpriced"] == 1
    assert "unpriced" in b.summary()


@pytest.mark.parametrize("wire", [CHAT, ANTHROPIC, GEMINI], ids=lambda w: w.name)
def test_an_unknown_model_can_be_refused(wire: Any, serve: Any) -> None:
    provider = serve()
    client = wire.client(provider)
    calls = {
        "openai.chat": lambda: ask(client, model="gpt-99"),
        "anthropic.messages": lambda: client.messages.create(
            model="claude-99", messages=MESSAGES, max_tokens=9
        ),
        "gemini.generate": lambda: client.models.generate_content(
            model="gemini-99-future", contents="hi"
        ),
    }
    with budget(max_usd=5, unknown_model="refuse"), pytest.raises(PriceUnknownError) as caught:
        calls[wire.name]()
    client.close()
    assert "99" in str(caught.value)
    assert provider.requests == []


def test_strict_refuses_what_has_no_bound_and_says_why(serve: Any, openai_client: Any) -> None:
    provider = serve()
    client = openai_client(provider)
    with budget(max_usd=1, mode="strict") as b:
        with pytest.raises(UnboundedCostError, match="max_tool_calls"):
            client.responses.create(model="gpt-4o", input="x", tools=[{"type": "web_search"}])
        with pytest.raises(UnboundedCostError, match="deep-research"):
            client.responses.create(model="o3-deep-research", input="x")
    assert provider.requests == []
    assert b.summary_data()["calls_refused"] == 2


def test_strict_says_which_cap_would_have_passed(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=2000))
    client = openai_client(provider)
    with budget(max_usd="0.001", mode="strict"):
        with pytest.raises(BudgetExceededError) as caught:
            ask(client, max_tokens=5000)
        error = caught.value
        assert error.hint is not None
        fits = int(error.hint.split("up to ")[1].split(",")[0])
        ask(client, max_tokens=fits)
    assert total(provider) <= Decimal("0.001")


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [CHAT, RESPONSES, ANTHROPIC, GEMINI], ids=lambda w: w.name)
def test_a_refusal_carries_its_numbers_and_survives_pickling(wire: Any, serve: Any) -> None:
    provider = serve()
    client = wire.client(provider)
    b = budget(max_usd="0.000002", name=None)
    with b, taximeter.tags(user_id="u1"), pytest.raises(BudgetExceededError) as caught:
        wire.call(client)
    client.close()
    error = caught.value
    assert provider.requests == []
    assert error.code == "BUDGET_EXCEEDED"
    assert (error.limit, error.spent, error.available) == (b.limit, 0, b.limit)
    assert error.requested is not None
    assert error.requested > error.available
    assert (error.scope, error.user_id) == (b.name, "u1")
    assert (error.window, error.window_start, error.retry_after) == ("total", None, None)
    assert error.usage is None
    assert error.__cause__ is None
    assert error is b.exceeded
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, BudgetExceededError)
    assert str(again) == str(error)
    assert (again.requested, again.scope, again.hint) == (error.requested, error.scope, error.hint)


def test_a_windowed_refusal_says_when_to_come_back(
    serve: Any, openai_client: Any, tmp_path: Any
) -> None:
    client = openai_client(serve())
    with (
        budget("$0.000001/day", store=f"sqlite:///{tmp_path}/l.db"),
        pytest.raises(BudgetExceededError) as caught,
    ):
        ask(client)
    error = caught.value
    assert error.window == "day"
    assert error.window_start is not None
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 24 * 3600


def test_a_refused_call_is_not_retried_by_the_sdk(serve: Any, openai_client: Any) -> None:
    provider = serve()
    client = openai_client(provider, max_retries=5)
    with budget(max_usd="0.000002") as b, pytest.raises(BudgetExceededError):
        ask(client)
    assert b.summary_data()["calls_refused"] == 1
    assert provider.requests == []


@pytest.mark.parametrize(
    "error",
    [
        BudgetExceededError("plain"),
        UnboundedCostError(hint="x", limit=Decimal(1), spent=Decimal(0)),
        PriceUnknownError("openai", "gpt-99"),
        ConfigurationError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_pickle(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


BAD = [
    ({"max_usd": -1}, "-1"),
    ({"max_usd": "-0.5"}, "-0.5"),
    ({"max_usd": float("nan")}, "nan"),
    ({"max_usd": "NaN"}, "NaN"),
    ({"max_usd": float("inf")}, "inf"),
    ({"max_usd": Decimal("Infinity")}, "Infinity"),
    ({"max_usd": True}, "True"),
    ({"max_usd": "ten"}, "ten"),
    ({"max_usd": [1]}, r"\[1\]"),
    ({"max_usd": 10**12}, "1000000000000"),
    ({"mode": "strickt"}, "did you mean 'strict'"),
    ({"mode": None}, "None"),
    ({"on_limit": "stop"}, "stop"),
    ({"warn_at": 80}, "80"),
    ({"warn_at": [0.5, "x"]}, "x"),
    ({"warn_at": True}, "True"),
    ({"on_warn": "print"}, "print"),
    ({"wait": -1}, "-1"),
    ({"wait": float("nan")}, "nan"),
    ({"wait": float("inf")}, "inf"),
    ({"wait": "30"}, "'30'"),
    ({"wait": True}, "True"),
    ({"window": "fortnight"}, "fortnight"),
    ({"max_calls": -1}, "-1"),
    ({"max_calls": 1.5}, "1.5"),
    ({"max_tokens": True}, "True"),
    ({"max_stream_output_tokens": 0}, "0"),
    ({"min_output_tokens": 0}, "0"),
    ({"unknown_model": "free"}, "free"),
    ({"on_abort": "ignore"}, "ignore"),
    ({"on_outage": "panic"}, "panic"),
    ({"name": ""}, "''"),
    ({"name": 7}, "7"),
    ({"store": "oracle://x"}, "oracle"),
    ({"store": 7}, "7"),
    ({"tags": 5}, "5"),
    ({"fallback": {"at_pct": 0.8, "modle": "x"}}, "modle"),
    ({"fallback": {"at_pct": 80, "model": "x"}}, "80"),
    ({"fallback": "gpt-4o-mini"}, "gpt-4o-mini"),
]


@pytest.mark.parametrize(("settings", "named"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_setting_is_named_with_its_value(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        budget(**settings)
    assert next(iter(settings)) in str(caught.value)


@pytest.mark.parametrize("spec", ["", "five dollars", "$-5/day", "$5/eon", "$nan/day", 5])
def test_a_bad_spec_is_named(spec: Any) -> None:
    with pytest.raises(ConfigurationError):
        budget(spec)


@pytest.mark.parametrize("amount", [0, 0.5, "0.5", Decimal("0.5"), 1])
def test_amounts_come_in_as_people_write_them(amount: Any) -> None:
    assert budget(max_usd=amount).limit == Decimal(str(amount))


def test_a_budget_of_nothing_refuses_everything(serve: Any, openai_client: Any) -> None:
    provider = serve()
    client: openai.OpenAI = openai_client(provider)
    with budget(max_usd=0) as b, pytest.raises(BudgetExceededError):
        ask(client)
    assert b.limit == b.spent == b.remaining == 0
    assert provider.requests == []


@pytest.mark.parametrize(
    ("limit", "unit", "says"),
    [
        (
            {"max_calls": 0},
            "calls",
            "allows 0 calls, 0 used so far; this call needs 1, 0 left",
        ),
        ({"max_tokens": 10}, "tokens", "allows 10 tokens, 0 used so far; this call needs "),
    ],
)
def test_a_refusal_speaks_in_the_unit_of_its_limit(
    limit: dict[str, Any], unit: str, says: str, serve: Any, openai_client: Any
) -> None:
    client = openai_client(serve())
    with budget(**limit), pytest.raises(BudgetExceededError, match=says) as caught:
        ask(client)
    assert caught.value.unit == unit
    assert "$" not in str(caught.value)


def test_a_stop_says_its_reason_in_one_sentence(serve: Any, openai_client: Any) -> None:
    client = openai_client(serve(Reply(tokens=900)))
    with budget(max_usd="0.0001"), pytest.raises(BudgetExceededError) as caught:
        texts(ask(client, stream=True))
    assert "the stream was stopped: the answer ended at" in str(caught.value)
    assert caught.value.unit == "usd"
