"""The simulated bytes have the shape of recorded ones: the same framing, fields and their order."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from taximeter.testing import Reply, ToolCall

REPLY = Reply(
    text="one two three four five six seven eight nine ten eleven twelve",
    thinking="I think so.",
    reasoning_tokens=32,
    tool_call=ToolCall(name="f", arguments={"a": "b c d"}),
)
MESSAGES = [{"role": "user", "content": "x"}]
ASKED = {"include_usage": True}
CASES = {
    "openai.chat": (
        "/v1/chat/completions",
        {"model": "gpt-4o", "messages": MESSAGES, "stream": True, "stream_options": ASKED},
    ),
    "openai.responses": (
        "/v1/responses",
        {"model": "gpt-5", "input": "x", "stream": True},
    ),
    "anthropic.messages": (
        "/v1/messages",
        {"model": "claude-haiku-4-5", "max_tokens": 99, "messages": MESSAGES, "stream": True},
    ),
    "gemini.generate": (
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "x"}]}]},
    ),
    "openai.completions": (
        "/v1/completions",
        {"model": "babbage-002", "prompt": "x", "stream": True, "stream_options": ASKED},
    ),
}
HOSTS = {"openai", "anthropic", "google"}


def shape(value):
    """Keys in order, all the way down; values gone."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def shapes(body: str) -> set[str]:
    found = set()
    for line in re.split(r"\r?\n", body):
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            text = re.sub(r'"(args|input)": \{[^}]*\}', "", json.dumps(shape(event)))
            text = text.replace(', "serviceTier": null', "")  # Newer models only.
            # Usage stands before or after the choices, with every delta: both are looked at apart.
            delta = re.search(r'"delta": \{.*?\}(?=, "(logprobs|finish_reason)")', text)
            if delta:
                found.add(delta[0])
                text = text.replace(delta[0], "")
            found.add(text)
    return found


def simulated(serve, wire: str) -> str:
    path, body = CASES[wire]
    answer = httpx.post(serve(REPLY).root_url + path, json=body)
    assert answer.status_code == 200
    return answer.text


def real(recordings, wire: str) -> list[str]:
    return [
        item["response_body"]
        for item in recordings(wire)
        if item["framing"] == "raw"
        and item["streamed"]
        and item["response_status"] == 200
        and item["provider"] in HOSTS
    ]


@pytest.mark.parametrize("wire", ["openai.chat", "openai.completions"])
def test_every_simulated_event_has_a_recorded_twin(serve, recordings, wire):
    twins = set().union(*(shapes(body) for body in real(recordings, wire)))
    strange = shapes(simulated(serve, wire)) - twins
    assert not strange


@pytest.mark.parametrize("wire", ["openai.responses", "anthropic.messages", "gemini.generate"])
def test_deltas_have_recorded_twins(serve, recordings, wire):
    """Whole snapshots repeat the request; deltas, the many, must be exact."""
    twins = set().union(*(shapes(body) for body in real(recordings, wire)))
    ours = shapes(simulated(serve, wire))
    snapshots = {item for item in ours if '"response"' in item or '"message"' in item}
    assert len(ours - snapshots) >= (2 if wire == "gemini.generate" else 5)
    strange = ours - snapshots - twins
    assert not strange


@pytest.mark.parametrize("wire", list(CASES))
def test_event_ends_and_names_are_the_providers_own(serve, wire):
    body = simulated(serve, wire)
    end = "\r\n\r\n" if wire == "gemini.generate" else "\n\n"
    *events, rest = body.split(end)
    assert rest == ""
    named = wire in ("openai.responses", "anthropic.messages")
    for event in events:
        assert event.startswith("event: " if named else "data: ")
        if named:
            name, data = event.split("\n")
            assert json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")
    done = wire in ("openai.chat", "openai.completions")
    assert (events[-1] == "data: [DONE]") == done


def test_anthropic_pads_events_and_pings(serve):
    body = simulated(serve, "anthropic.messages")
    assert 'event: ping\ndata: {"type": "ping"}\n\n' in body
    assert re.search(r'" +\}|\} +\}', body)


def test_obfuscation_can_be_declined(serve):
    path, body = CASES["openai.chat"]
    provider = serve(REPLY)
    body = {**body, "stream_options": {"include_obfuscation": False}}
    answer = httpx.post(provider.root_url + path, json=body)
    assert "obfuscation" not in answer.text
    assert '"usage"' not in answer.text


def test_usage_null_may_stand_before_the_choices(serve):
    path, body = CASES["openai.chat"]
    provider = serve(Reply(text="a b", usage_before_choices=True))
    *events, last, done, _ = httpx.post(provider.root_url + path, json=body).text.split("\n\n")
    assert all('"usage":null,"choices":[{' in event for event in events)
    assert '"choices":[],"usage":{"prompt_tokens"' in last
    assert done == "data: [DONE]"
