"""The official Anthropic SDK against the simulated provider."""

from __future__ import annotations

import anthropic
import pytest

from taximeter.testing import Reply, ToolCall

ASK = {"model": "claude-sonnet-4-6", "messages": [{"role": "user", "content": "Speak."}]}
TOOLS = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]


def message(client, stream, **options):
    options = {**ASK, "max_tokens": 100, **options}
    if not stream:
        return client.messages.create(**options)
    with client.messages.stream(**options) as events:
        return events.get_final_message()


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_says_the_usage_that_is_billed(serve, anthropic_client, stream):
    provider = serve(
        Reply(
            text="Hello there, good people of the town.",
            input_tokens=1000,
            cached_tokens=600,
            cache_write_5m_tokens=100,
            cache_write_1h_tokens=50,
        )
    )
    answer = message(anthropic_client(provider), stream)
    assert answer.content[0].text == "Hello there, good people of the town."
    assert answer.stop_reason == "end_turn"
    usage = answer.usage
    assert usage.input_tokens == 250
    assert usage.cache_read_input_tokens == 600
    assert usage.cache_creation_input_tokens == 150
    assert usage.cache_creation.ephemeral_1h_input_tokens == 50
    (line,) = provider.invoice
    assert line.usage["input_tokens"] == 1000
    assert line.usage["output_tokens"] == usage.output_tokens
    assert line.answer_id == answer.id
    # 250 x 3 + 600 x 0.30 + 100 x 3.75 + 50 x 6 + 9 x 15, USD a million, by hand.
    assert usage.output_tokens == 9
    assert line.cost == 750_000 + 180_000 + 375_000 + 300_000 + 135_000


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_text_and_tools_are_blocks_of_their_own(serve, anthropic_client, stream):
    provider = serve(
        Reply(
            text="I look.",
            thinking="The user wants the weather of a place that I do not know yet.",
            tool_call=[ToolCall(name="weather", arguments={"city": "Rome"}), ToolCall(name="two")],
        )
    )
    answer = message(anthropic_client(provider), stream, tools=TOOLS, max_tokens=1000)
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert answer.content[2].input == {"city": "Rome"}
    assert answer.stop_reason == "tool_use"
    assert answer.usage.output_tokens == provider.invoice[0].usage["output_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_hidden_thinking_counts_inside_max_tokens(serve, anthropic_client, stream):
    provider = serve(Reply(tokens=50, reasoning_tokens=90))
    answer = message(anthropic_client(provider), stream)
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 100
    (line,) = provider.invoice
    assert line.hidden_tokens == 90
    assert line.usage["reasoning_tokens"] == 0  # This wire does not tell them apart.


def test_the_first_usage_is_not_the_last(serve, anthropic_client):
    provider = serve(Reply(tokens=60))
    events = list(anthropic_client(provider).messages.create(**ASK, max_tokens=100, stream=True))
    assert events[0].type == "message_start"
    assert 1 <= events[0].message.usage.output_tokens <= 8
    assert events[-2].usage.output_tokens == 60
    assert events[-1].type == "message_stop"


def test_a_stop_sequence_is_named(serve, anthropic_client):
    provider = serve(Reply(text="one two. three"))
    answer = message(anthropic_client(provider), True, stop_sequences=["."])
    assert answer.content[0].text == "one two"
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", ".")


def test_web_searches_are_billed_by_the_request(serve, anthropic_client):
    provider = serve(Reply(text="x", input_tokens=0, web_searches=3))
    answer = message(anthropic_client(provider), True)
    assert answer.usage.server_tool_use.web_search_requests == 3
    assert provider.invoice[0].usage["requests.web_search"] == 3
    assert provider.invoice[0].cost == 30_000_000 + 15_000


def test_counting_tokens_costs_nothing(serve, anthropic_client):
    provider = serve()
    client = anthropic_client(provider)
    counted = client.messages.count_tokens(**ASK).input_tokens
    assert provider.invoice == []
    assert message(client, False).usage.input_tokens == counted


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_tokens": 0}, "max_tokens: Input should be greater"),
        ({"messages": []}, "at least one message"),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "budget_tokens"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1024},
            "must be greater than `thinking.budget_tokens`",
        ),
    ],
)
def test_a_bad_request_is_refused_in_the_providers_envelope(
    serve, anthropic_client, options, error
):
    provider = serve()
    with pytest.raises(anthropic.BadRequestError, match=error) as caught:
        message(anthropic_client(provider), False, **options)
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert caught.value.body["request_id"] == provider.requests[0].request_id


async def test_the_async_client_streams(serve):
    provider = serve(Reply(text="one two three four five six seven"))
    async with (
        anthropic.AsyncAnthropic(base_url=provider.anthropic_url, api_key="any") as client,
        client.messages.stream(**ASK, max_tokens=50) as stream,
    ):
        text = "".join([part async for part in stream.text_stream])
    assert text == "one two three four five six seven"
