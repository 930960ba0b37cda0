"""The invoice's arithmetic, by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from taximeter.testing import Fault, Invoice, Price, Reply


def usage(read: int, wrote: int, **parts: int) -> dict[str, int]:
    return {"input_tokens": read, "output_tokens": wrote, **parts}


@pytest.mark.parametrize(
    ("model", "counts", "nano"),
    [
        ("gpt-4o", usage(1000, 200, cached_input_tokens=600), 3_750_000),
        ("gpt-4o-2024-08-06", usage(1000, 200), 4_500_000),
        ("gpt-5-2025-08-07", usage(1000, 500), 6_250_000),
        ("claude-sonnet-4-5-20250929", usage(10, 1), 45_000),
        ("claude-sonnet-4-6", usage(10, 0, cache_write_1h_tokens=10), 60_000),
        ("gemini-2.5-pro", usage(200_000, 10), 250_100_000),
        ("gemini-2.5-pro", usage(200_001, 10), 500_152_500),
        ("a-model-nobody-knows", usage(1_000_000, 1_000_000), 5_000_000_000),
        ("gpt-4o", usage(0, 0), 0),
    ],
)
def test_a_price_by_hand(model, counts, nano):
    assert Invoice().cost(model, counts) == nano


@pytest.mark.parametrize(
    ("tokens", "nano"),
    [(1, 0), (3, 2), (5, 2), (7, 4), (2, 1)],  # Half a nano-USD each: half to even, once.
)
def test_half_a_nano_is_rounded_to_even_once_a_call(tokens, nano):
    invoice = Invoice({"m": Price(input="0.0005")})
    assert invoice.cost("m", usage(tokens, 0)) == nano


def test_a_price_may_be_a_function_of_model_and_usage():
    invoice = Invoice(lambda model, counts: Fraction(counts["output_tokens"], 3))
    assert invoice.cost("any", usage(0, 1)) == 333_333_333


def test_prices_given_stand_beside_the_built_in_ones(serve, openai_client):
    provider = serve(Reply(text="a b"), prices={"mine": Price(input="0", output="1000000")})
    client = openai_client(provider)
    for model in ("mine", "gpt-4o-mini"):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])
    mine, other = provider.invoice
    assert mine.cost_usd == Decimal(2)
    assert other.cost == other.usage["input_tokens"] * 150 + 2 * 600
    assert provider.invoice_total == mine.cost + other.cost


def test_every_line_is_matched_by_the_request_id_of_the_answer(serve, openai_client):
    provider = serve(seed=3)
    client = openai_client(provider)
    ids = [
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": text}]
        )._request_id
        for text in "abc"
    ]
    assert [line.request_id for line in provider.invoice] == ids
    assert [request.request_id for request in provider.requests] == ids
    assert len(set(ids)) == 3


def test_requests_keep_what_was_received(serve, openai_client):
    provider = serve()
    openai_client(provider).chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "é"}],
        stream=True,
        extra_headers={"X-Team": "blue"},
    ).close()
    (request,) = provider.requests
    assert request.body["messages"] == [{"role": "user", "content": "é"}]
    assert "é".encode() in request.raw
    assert request.headers["x-team"] == "blue"
    assert (request.wire, request.model, request.streamed) == ("openai.chat", "gpt-4o", True)


def test_hidden_input_is_billed_and_said(serve, openai_client):
    provider = serve(Reply(extra_input_tokens=500), seed=0)
    plain = serve(Reply(), seed=0)
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    more = openai_client(provider).chat.completions.create(**ask)
    less = openai_client(plain).chat.completions.create(**ask)
    assert more.usage.prompt_tokens - less.usage.prompt_tokens == 500
    assert provider.invoice[0].usage["input_tokens"] == more.usage.prompt_tokens


def test_the_same_seed_gives_the_same_answers(serve, openai_client):
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    raw = [
        openai_client(serve(seed=seed))
        .chat.completions.with_raw_response.create(**ask, stream=True)
        .http_response.read()
        for seed in (1, 1, 2)
    ]
    assert raw[0] == raw[1] != raw[2]


def test_a_call_is_billed_once_even_when_its_fault_strikes(serve, openai_client):
    provider = serve(Reply(text="a b c", fault=Fault.NO_END(after=1)))
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    list(openai_client(provider).chat.completions.create(**ask, stream=True))
    provider.wait_until_idle()
    assert len(provider.invoice) == 1
    assert provider.disconnects == []
