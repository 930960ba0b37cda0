"""The official OpenAI SDK against the simulated provider."""

from __future__ import annotations

import json

import openai
import pytest

from taximeter.testing import Fault, Reply, ToolCall

ASK = [{"role": "user", "content": "Say something."}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def chat(client, **options):
    return client.chat.completions.create(**{"model": "gpt-4o-mini", "messages": ASK, **options})


def test_a_chat_answer_says_the_text_and_the_usage_that_is_billed(serve, openai_client):
    provider = serve(Reply(text="Hello there, my friend."))
    answer = chat(openai_client(provider))
    assert answer.choices[0].message.content == "Hello there, my friend."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o-mini-2024-07-18"
    (line,) = provider.invoice
    assert line.usage["input_tokens"] == answer.usage.prompt_tokens
    assert line.usage["output_tokens"] == answer.usage.completion_tokens == 6
    assert line.request_id == answer._request_id
    assert line.answer_id == answer.id


def test_a_stream_without_include_usage_says_nothing_of_usage(serve, openai_client):
    provider = serve(Reply(text="a b c"))
    chunks = list(chat(openai_client(provider), stream=True))
    assert [c.choices[0].delta.content for c in chunks] == ["", "a", " b", " c", None]
    assert all("usage" not in c.model_fields_set for c in chunks)


def test_a_stream_with_include_usage_ends_with_a_chunk_without_choices(serve, openai_client):
    provider = serve(Reply(text="a b c"))
    *chunks, last = chat(
        openai_client(provider), stream=True, stream_options={"include_usage": True}
    )
    assert all(c.usage is None and "usage" in c.model_fields_set for c in chunks)
    assert last.choices == []
    assert last.usage.completion_tokens == 3


@pytest.mark.parametrize("place", ["finish", "running"])
def test_usage_may_stand_on_the_chunk_that_finishes(serve, openai_client, place):
    provider = serve(Reply(text="a b c", usage_chunk=place, usage_unasked=True))
    *before, last = chat(openai_client(provider), stream=True)
    assert last.choices[0].finish_reason == "stop"
    assert last.usage.completion_tokens == 3
    counts = [c.usage.completion_tokens for c in before if c.usage]
    assert counts == ([0, 1, 2, 3] if place == "running" else [])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
def test_the_output_cap_is_honoured(serve, openai_client, key, stream):
    provider = serve(Reply(tokens=50))
    answer = chat(openai_client(provider), stream=stream, **{key: 7})
    if stream:
        chunks = list(answer)
        finish = chunks[-1].choices[0].finish_reason
    else:
        finish = answer.choices[0].finish_reason
    assert finish == "length"
    assert provider.invoice[0].usage["output_tokens"] == 7


def test_every_choice_has_the_cap_for_itself_and_one_usage_covers_them(serve, openai_client):
    provider = serve(Reply(text=["one two three four", "five"]))
    chunks = list(
        chat(
            openai_client(provider),
            stream=True,
            n=3,
            max_tokens=3,
            stream_options={"include_usage": True},
        )
    )
    texts = {0: "", 1: "", 2: ""}
    for chunk in chunks[:-1]:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "one two three", 1: "five", 2: "one two three"}
    assert chunks[-1].usage.completion_tokens == 7
    order = [c.choices[0].index for c in chunks[:3]]
    assert order == [0, 1, 2]


def test_hidden_reasoning_counts_inside_the_cap(serve, openai_client):
    provider = serve(Reply(text="yes", reasoning_tokens=100))
    client = openai_client(provider)
    full = chat(client, model="gpt-5-mini", max_completion_tokens=200)
    cut = chat(client, model="gpt-5-mini", max_completion_tokens=40)
    assert full.usage.completion_tokens == 101
    assert full.usage.completion_tokens_details.reasoning_tokens == 100
    assert cut.usage.completion_tokens == 40
    assert cut.choices[0].finish_reason == "length"
    assert cut.choices[0].message.content == ""
    assert [line.hidden_tokens for line in provider.invoice] == [100, 40]


def test_reasoning_models_refuse_max_tokens(serve, openai_client):
    provider = serve()
    with pytest.raises(openai.BadRequestError) as caught:
        chat(openai_client(provider), model="o4-mini", max_tokens=10)
    assert caught.value.code == "unsupported_parameter"
    assert provider.invoice == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "integer below minimum"),
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
        ({"messages": []}, "Missing required parameter: 'messages'"),
        ({"model": ""}, "must provide a model"),
    ],
)
def test_a_bad_request_is_refused_in_the_providers_envelope(serve, openai_client, options, message):
    provider = serve()
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        chat(openai_client(provider), **options)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert provider.invoice == []


def test_a_strict_server_does_not_know_stream_options(serve, openai_client):
    provider = serve(strict_server=True)
    client = openai_client(provider)
    with pytest.raises(openai.BadRequestError, match="Unrecognized request argument"):
        chat(client, stream=True, stream_options={"include_usage": True})
    assert list(chat(client, stream=True))


def test_a_stop_string_ends_the_text_before_it(serve, openai_client):
    provider = serve(Reply(text="one two. three"))
    answer = chat(openai_client(provider), stop=["."])
    assert answer.choices[0].message.content == "one two"
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_with_its_arguments(serve, openai_client, stream):
    provider = serve(
        Reply(tool_call=[ToolCall(name="weather", arguments={"city": "Porto"}), ToolCall(name="b")])
    )
    answer = chat(openai_client(provider), stream=stream, tools=[TOOL])
    if stream:
        calls = {}
        for chunk in answer:
            for part in chunk.choices[0].delta.tool_calls or ():
                call = calls.setdefault(part.index, ["", ""])
                call[0] += part.function.name or ""
                call[1] += part.function.arguments
            finish = chunk.choices[0].finish_reason
        said = list(calls.values())
    else:
        finish = answer.choices[0].finish_reason
        said = [
            [c.function.name, c.function.arguments] for c in answer.choices[0].message.tool_calls
        ]
    assert finish == "tool_calls"
    assert [name for name, _ in said] == ["weather", "b"]
    assert json.loads(said[0][1]) == {"city": "Porto"}


def test_the_stream_helper_builds_the_same_answer(serve, openai_client):
    provider = serve(Reply(text="héllo 😀 world", tool_call=ToolCall(name="weather")))
    with openai_client(provider).chat.completions.stream(
        model="gpt-4o-mini", messages=ASK, tools=[TOOL]
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "héllo 😀 world"
    assert final.choices[0].message.tool_calls[0].function.name == "weather"


@pytest.mark.parametrize("stream", [False, True])
def test_azure_paths_answer_in_azures_shape(serve, stream):
    provider = serve(Reply(text="a b"))
    with openai.AzureOpenAI(
        azure_endpoint=provider.azure_url, api_key="any", api_version="2024-10-21"
    ) as client:
        answer = chat(
            client,
            model="gpt-4o",
            stream=stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        )
        if stream:
            first, *chunks, last = answer
            assert first.choices == []
            assert first.model_extra["prompt_filter_results"]
            text = "".join(c.choices[0].delta.content or "" for c in chunks)
        else:
            text, last = answer.choices[0].message.content, answer
    assert text == "a b"
    assert last.usage.completion_tokens == 2
    assert provider.requests[0].query == {"api-version": "2024-10-21"}
    assert provider.requests[0].path == "/openai/deployments/gpt-4o/chat/completions"


@pytest.mark.parametrize("stream", [False, True])
def test_responses_answer_with_text_reasoning_and_tools(serve, openai_client, stream):
    provider = serve(
        Reply(
            text="Hello you",
            thinking="Let me see.",
            reasoning_tokens=64,
            cached_tokens=2,
            tool_call=ToolCall(name="weather", arguments={"a": 1}),
        )
    )
    client = openai_client(provider)
    if stream:
        with client.responses.stream(model="gpt-5", input="hi") as events:
            names = [event.type for event in events]
            answer = events.get_final_response()
        assert names[:2] == ["response.created", "response.in_progress"]
        assert names[-1] == "response.completed"
        assert "response.reasoning_summary_text.delta" in names
        assert "response.function_call_arguments.delta" in names
    else:
        answer = client.responses.create(model="gpt-5", input="hi")
    assert answer.output_text == "Hello you"
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]
    usage = answer.usage
    assert usage.output_tokens_details.reasoning_tokens == 64
    assert usage.input_tokens_details.cached_tokens == 2
    (line,) = provider.invoice
    assert line.usage["output_tokens"] == usage.output_tokens
    assert line.usage["input_tokens"] == usage.input_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_responses_end_incomplete_at_the_cap(serve, openai_client, stream):
    provider = serve(Reply(tokens=50))
    answer = openai_client(provider).responses.create(
        model="gpt-4o", input="hi", max_output_tokens=16, stream=stream
    )
    if stream:
        *events, last = answer
        numbers = [event.sequence_number for event in [*events, last]]
        assert numbers == list(range(len(numbers)))
        assert last.type == "response.incomplete"
        answer = last.response
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 16


def test_responses_refuse_a_cap_below_sixteen(serve, openai_client):
    provider = serve()
    with pytest.raises(openai.BadRequestError, match=">= 16"):
        openai_client(provider).responses.create(model="gpt-4o", input="hi", max_output_tokens=5)


@pytest.mark.parametrize("stream", [False, True])
def test_legacy_completions_stop_at_sixteen_tokens(serve, openai_client, stream):
    provider = serve(Reply(tokens=50))
    answer = openai_client(provider).completions.create(
        model="gpt-3.5-turbo-instruct", prompt="Once", stream=stream
    )
    if stream:
        answer = list(answer)[-1]
    assert answer.choices[0].finish_reason == "length"
    assert provider.invoice[0].usage["output_tokens"] == 16
    assert provider.invoice[0].wire == "openai.completions"


@pytest.mark.parametrize("format", ["float", "base64"])
def test_embeddings_bill_their_input(serve, openai_client, format):
    provider = serve()
    answer = openai_client(provider).embeddings.create(
        model="text-embedding-3-small", input=["one", "two words"], encoding_format=format
    )
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens == 3
    assert provider.invoice[0].usage["input_tokens"] == 3
    assert provider.invoice[0].cost == 60


async def test_the_async_client_streams(serve):
    provider = serve(Reply(text="a b c"))
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="any") as client:
        stream = await chat(client, stream=True)
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
        events = await client.responses.create(model="gpt-4o", input="x", stream=True)
        names = [event.type async for event in events]
    assert text == "a b c"
    assert names[-1] == "response.completed"


def test_compressed_answers_read_the_same(serve, openai_client):
    provider = serve(Reply(text="a b c", fault=Fault.SLOW(0, after=1)), gzip=True)
    client = openai_client(provider)
    assert chat(client).choices[0].message.content == "a b c"
    text = "".join(c.choices[0].delta.content or "" for c in chat(client, stream=True))
    assert text == "a b c"
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=ASK)
    assert raw.headers["content-encoding"] == "gzip"
