"""What goes wrong on purpose, and what the invoice says of it."""

from __future__ import annotations

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors

from taximeter.errors import ConfigurationError
from taximeter.testing import Fault, Reply, delivery

ASK = [{"role": "user", "content": "Say something."}]


def stream(client, **options):
    options = {"model": "gpt-4o-mini", "messages": ASK, "stream": True, **options}
    return client.chat.completions.create(**options)


def read_until_it_breaks(chunks) -> tuple[str, Exception | None]:
    text = ""
    try:
        for chunk in chunks:
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
    except Exception as exc:
        return text, exc
    return text, None


def test_a_cut_breaks_the_connection_and_bills_what_was_generated(serve, openai_client):
    provider = serve(Reply(text="a b c d e", fault=Fault.CUT(after=3)), read_ahead=1)
    text, exc = read_until_it_breaks(stream(openai_client(provider)))
    assert text == "a b c"
    assert isinstance(exc, openai.APIConnectionError)
    (line,) = provider.invoice
    assert (line.usage["output_tokens"], line.completed, line.tokens_sent) == (4, False, 3)


def test_a_cut_in_the_middle_of_a_body_that_is_not_streamed(serve, openai_client):
    provider = serve(Reply(text="a b c", fault=Fault.CUT))
    with pytest.raises(openai.APIConnectionError):
        openai_client(provider, max_retries=0).chat.completions.create(model="gpt-4o", messages=ASK)
    assert provider.invoice[0].usage["output_tokens"] == 3


def test_a_dropped_connection_bills_nothing(serve, openai_client):
    provider = serve(faults={0: Fault.DROP})
    client = openai_client(provider, max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        stream(client)
    assert list(stream(client))
    assert len(provider.invoice) == 1


def test_openai_chat_fails_inside_a_200(serve, openai_client):
    provider = serve(Reply(text="a b c", fault=Fault.ERROR_EVENT(after=2, message="overload")))
    text, exc = read_until_it_breaks(stream(openai_client(provider)))
    assert text == "a b"
    assert isinstance(exc, openai.APIError)
    assert "overload" in str(exc)
    assert provider.invoice[0].usage["output_tokens"] == 2


def test_openai_responses_fail_inside_a_200(serve, openai_client):
    provider = serve(Reply(text="a b c", fault=Fault.ERROR_EVENT(after=2)))
    events = list(openai_client(provider).responses.create(model="gpt-4o", input="x", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    assert events[-1].response.usage is None
    assert events[-1].sequence_number == len(events) - 1


def test_anthropic_fails_inside_a_200(serve, anthropic_client):
    provider = serve(Reply(tokens=50, fault=Fault.ERROR_EVENT(after=2)))
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        anthropic_client(provider).messages.stream(
            model="claude-sonnet-4-6", max_tokens=99, messages=ASK
        ) as events,
    ):
        events.get_final_message()
    assert provider.invoice[0].usage["output_tokens"] == 10


def test_gemini_fails_inside_a_200_and_bills_the_whole_answer(serve, gemini_client):
    provider = serve(Reply(tokens=50, fault=Fault.ERROR_EVENT(after=2)))
    chunks = gemini_client(provider).models.generate_content_stream(
        model="gemini-2.5-flash", contents="x"
    )
    with pytest.raises(errors.APIError, match="overloaded"):
        list(chunks)
    (line,) = provider.invoice
    assert line.usage["output_tokens"] == 50
    assert not line.completed


@pytest.mark.parametrize("status", [500, 503])
def test_the_sdk_retries_a_status_and_only_the_answer_is_billed(serve, openai_client, status):
    provider = serve(Reply(text="a", fault=Fault.STATUS(status, times=2)))
    text, exc = read_until_it_breaks(stream(openai_client(provider)))
    assert (text, exc) == ("a", None)
    assert len(provider.requests) == 3
    assert len(provider.invoice) == 1


def test_a_rate_limit_says_when_to_come_back(serve, openai_client):
    provider = serve(Reply(fault=Fault.RATE_LIMIT(retry_after=7, message="slow down")))
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        stream(openai_client(provider, max_retries=0))
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "rate_limit_exceeded"


def test_each_provider_has_its_own_error_envelope(serve, anthropic_client, gemini_client):
    provider = serve(Reply(fault=Fault.STATUS(529)))
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        anthropic_client(provider, max_retries=0).messages.create(
            model="claude-sonnet-4-6", max_tokens=9, messages=ASK
        )
    assert overloaded.value.body["error"]["type"] == "overloaded_error"
    provider = serve(Reply(fault=Fault.RATE_LIMIT))
    with pytest.raises(errors.ClientError) as exhausted:
        gemini_client(provider).models.generate_content(model="gemini-2.5-pro", contents="x")
    assert exhausted.value.status == "RESOURCE_EXHAUSTED"


def test_faults_are_chosen_by_order_or_model(serve, openai_client):
    provider = serve(faults={1: Fault.STATUS(500), "gpt-4o": Fault.CUT})
    client = openai_client(provider, max_retries=0)
    assert list(stream(client))
    with pytest.raises(openai.InternalServerError):
        stream(client)
    assert read_until_it_breaks(stream(client, model="gpt-4o"))[1] is not None
    assert read_until_it_breaks(stream(client))[1] is None


@pytest.mark.parametrize("streamed", [False, True])
def test_no_usage_hides_it_from_the_caller_but_not_from_the_invoice(
    serve, openai_client, anthropic_client, gemini_client, streamed
):
    provider = serve(Reply(text="a b", fault=Fault.NO_USAGE))
    client = openai_client(provider)
    options = {"stream_options": {"include_usage": True}} if streamed else {}
    answer = stream(client, **{"stream": streamed, **options})
    assert all(chunk.usage is None for chunk in (answer if streamed else [answer]))
    gemini = gemini_client(provider).models
    options = {"model": "gemini-2.5-flash", "contents": "x"}
    chunks = (
        list(gemini.generate_content_stream(**options))
        if streamed
        else [gemini.generate_content(**options)]
    )
    assert all(chunk.usage_metadata is None for chunk in chunks)
    assert [line.usage["output_tokens"] for line in provider.invoice] == [2, 2]


def test_a_stream_may_end_without_its_end(serve, openai_client):
    provider = serve(Reply(text="a b c", fault=Fault.NO_END(after=3)))
    with openai_client(provider).chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=ASK, stream=True
    ) as answer:
        raw = b"".join(answer.iter_bytes())
    assert b" c" in raw
    assert b'finish_reason":"stop' not in raw
    assert b"[DONE]" not in raw
    assert not provider.invoice[0].completed


def test_garbage_is_one_event_and_the_stream_goes_on(serve):
    provider = serve(Reply(text="a b c", fault=Fault.GARBAGE(after=1)))
    with httpx.stream(
        "POST",
        f"{provider.base_url}/chat/completions",
        json={"model": "gpt-4o", "messages": ASK, "stream": True},
    ) as answer:
        raw = answer.read()
    assert b'{"delta": {"content": \n\n' in raw
    assert raw.endswith(b"data: [DONE]\n\n")
    assert provider.invoice[0].completed


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """What the provider would have slept, in order."""
    taken: list[float] = []

    async def pause(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(delivery, "pause", pause)
    return taken


def test_slow_pauses_once_and_then_goes_on(serve, openai_client, pauses):
    provider = serve(Reply(text="a b c", fault=Fault.SLOW(60, after=1)))
    assert read_until_it_breaks(stream(openai_client(provider))) == ("a b c", None)
    assert pauses == [60]


def test_a_delay_comes_before_every_event(serve, openai_client, pauses):
    provider = serve(Reply(text="a b c", delay_per_event=60))
    assert read_until_it_breaks(stream(openai_client(provider))) == ("a b c", None)
    assert pauses == [60] * 6  # Role, three words, the finish, [DONE].


@pytest.mark.parametrize("streamed", [False, True])
def test_reasoning_takes_its_time_before_the_text(serve, openai_client, pauses, streamed):
    provider = serve(Reply(text="a b", reasoning_tokens=1_000_000), tokens_per_second=1)
    answer = stream(openai_client(provider), stream=streamed)
    assert not streamed or read_until_it_breaks(answer) == ("a b", None)
    assert pauses[0] > 999_000


@pytest.mark.parametrize("read_ahead", [0, 2, 100])
def test_a_client_that_leaves_pays_what_was_generated_and_the_read_ahead(
    serve, openai_client, read_ahead
):
    provider = serve(Reply(text="a b c d e f", fault=Fault.STALL(after=3)), read_ahead=read_ahead)
    chunks = stream(openai_client(provider))
    for _ in range(4):
        next(chunks)
    assert provider.invoice == []
    chunks.close()
    provider.wait_until_idle()
    (line,) = provider.invoice
    assert line.usage["output_tokens"] == min(6, 3 + read_ahead)
    assert not line.completed
    (left,) = provider.disconnects
    assert (left.request_id, left.deltas_sent, left.tokens_generated) == (line.request_id, 3, 3)


@pytest.mark.parametrize("whole", [False, True, None])
def test_who_bills_the_whole_answer_when_a_client_leaves(serve, whole):
    provider = serve(
        Reply(tokens=60, fault=Fault.STALL(after=2)), bills_whole_answer_on_abort=whole
    )
    client = genai.Client(api_key="any", http_options={"base_url": provider.gemini_url})
    chunks = client.models.generate_content_stream(model="gemini-2.5-flash", contents="x")
    next(chunks)
    chunks.close()
    client.close()
    provider.wait_until_idle()
    assert provider.invoice[0].usage["output_tokens"] == (20 if whole is False else 60)


def test_release_lets_a_stalled_answer_go_on(serve, openai_client):
    provider = serve(Reply(text="a b c", fault=Fault.STALL(after=1)))
    chunks = stream(openai_client(provider))
    next(chunks)
    next(chunks)
    provider.release()
    assert read_until_it_breaks(chunks) == (" b c", None)
    assert provider.invoice[0].completed


def test_generation_runs_on_while_nobody_reads(serve, openai_client):
    # A token every millisecond, a hundred seconds in all; the client leaves after eleven chunks.
    provider = serve(Reply(tokens=100_000), tokens_per_second=1000)
    chunks = stream(openai_client(provider))
    for _ in range(11):
        next(chunks)
    chunks.close()
    provider.wait_until_idle()
    (line,) = provider.invoice
    assert 10 <= line.usage["output_tokens"] < 100_000
    assert not line.completed


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault.STATUS(200),
        lambda: Fault.CUT(3),
        lambda: Fault.STATUS("500"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(make):
    with pytest.raises((ConfigurationError, TypeError)):
        make()
