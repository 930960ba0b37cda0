"""What Anthropic requests say, and how they are rewritten."""

from __future__ import annotations

import base64
import copy
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.wire.anthropic_messages import WIRE
from taximeter.wire.base import HostedTool, Image

PATH = "/v1/messages"
VERTEX = "/v1/projects/P/locations/us-east5/publishers/anthropic/models/{}:{}"
PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 640, 480) + b"\x08\x02\x00\x00\x00"
).decode()


def body(**fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "Hello"}
    return {"model": "claude-sonnet-4-6", "max_tokens": 100, "messages": [message], **fields}


def test_the_plain_facts_are_read() -> None:
    request = WIRE.read_request(
        PATH, body(stream=True, system="Be brief.", service_tier="auto", temperature=0)
    )
    assert request.model == "claude-sonnet-4-6"
    assert request.streamed
    assert request.output_cap == 100
    assert request.choices == 1
    assert request.thinking_budget is None
    assert request.service_tier == "auto"
    assert request.prompt.texts == ("Be brief.", "Hello")
    assert request.prompt.messages == 1


def test_every_string_that_the_model_reads_is_collected() -> None:
    content = [
        {"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}},
        {"type": "tool_use", "id": "x", "name": "look", "input": {"at": "two"}},
        {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text", "text": "three"}]},
        {"type": "thinking", "thinking": "four", "signature": "sig"},
        {"type": "document", "title": "five", "source": {"type": "text", "data": "six"}},
        {"type": "document", "source": {"type": "base64", "data": "AAAA"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org"}},
        {"type": "of the future", "words": {"deep": ["seven"]}},
    ]
    prompt = WIRE.read_request(PATH, body(messages=[{"role": "user", "content": content}])).prompt
    assert prompt.texts == (
        "one", "look", '{"at":"two"}', "three", "four", "five", "six", "seven",
    )  # fmt: skip
    assert prompt.images == (Image(width=640, height=480), Image())
    assert prompt.media_bytes == 3
    assert prompt.references == 1
    assert prompt.cache_write == "5m"


def test_the_longest_cache_lifetime_counts() -> None:
    system = [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
    ]
    assert WIRE.read_request(PATH, body(system=system)).prompt.cache_write == "1h"
    assert WIRE.read_request(PATH, body()).prompt.cache_write == ""
    whole = body(cache_control={"type": "ephemeral"})
    assert WIRE.read_request(PATH, whole).prompt.cache_write == "5m"


def test_tools_that_anthropic_runs_are_told_from_the_callers() -> None:
    tools = [
        {"name": "mine", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"type": "web_fetch_20250910", "name": "web_fetch"},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"},
    ]
    prompt = WIRE.read_request(PATH, body(tools=tools)).prompt
    assert prompt.tools == 5
    assert prompt.hosted_tools == (
        HostedTool(kind="web_search", calls_max=3),
        HostedTool(kind="web_fetch"),
        HostedTool(kind="advisor"),
    )
    assert '"input_schema"' in prompt.tools_json


def test_what_reads_the_prompt_again_counts_like_a_hosted_tool() -> None:
    def hosted(**fields: Any) -> tuple[HostedTool, ...]:
        return WIRE.read_request(PATH, body(**fields)).prompt.hosted_tools

    assert hosted(fallbacks=[{"model": "claude-opus-4-8"}]) == (HostedTool(kind="", calls_max=1),)
    assert hosted(fallbacks="default") == (HostedTool(kind="", calls_max=1),)
    assert hosted(context_management={"edits": [{"type": "compact_20260112"}]}) == (
        HostedTool(kind=""),
    )
    assert hosted(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}) == ()
    assert hosted(mcp_servers=[{"type": "url", "url": "https://example.org"}]) == (
        HostedTool(kind=""),
    )


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ({"type": "enabled", "budget_tokens": 2048}, 2048),
        ({"type": "disabled"}, 0),
        ({"type": "adaptive"}, None),
        (None, None),
    ],
)
def test_the_thinking_budget_is_read(thinking: Any, expected: int | None) -> None:
    request = WIRE.read_request(PATH, body(thinking=thinking, max_tokens=5000))
    assert request.thinking_budget == expected


def test_a_rewrite_changes_a_copy() -> None:
    asked = body(metadata={"user_id": "u"})
    before = copy.deepcopy(asked)
    path, new = WIRE.rewrite(WIRE.read_request(PATH, asked), output_cap=7, model="claude-haiku-4-5")
    assert asked == before
    assert path == PATH
    assert new == {**asked, "max_tokens": 7, "model": "claude-haiku-4-5"}


def test_a_cap_that_thinking_does_not_leave_room_for_is_refused() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2048}
    request = WIRE.read_request(PATH, body(thinking=thinking, max_tokens=5000))
    _, new = WIRE.rewrite(request, output_cap=2049)
    assert new["max_tokens"] == 2049
    with pytest.raises(ValueError, match=r"max_tokens=2048 .* budget of 2048"):
        WIRE.rewrite(request, output_cap=2048)


def test_interleaved_thinking_may_exceed_the_cap_as_it_did() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2048}
    request = WIRE.read_request(PATH, body(thinking=thinking, max_tokens=1000))
    _, new = WIRE.rewrite(request, output_cap=500)
    assert new["max_tokens"] == 500


@pytest.mark.parametrize(
    ("path", "model", "streamed"),
    [
        (VERTEX.format("claude-3-7-sonnet@20250219", "rawPredict"), "claude-3-7-sonnet@20250219", False),
        (VERTEX.format("claude-sonnet-4-6", "streamRawPredict"), "claude-sonnet-4-6", True),
        ("/model/anthropic.claude-v2%3A1/invoke", "anthropic.claude-v2:1", False),
        ("/model/us.anthropic.claude-sonnet-4-6/invoke-with-response-stream", "us.anthropic.claude-sonnet-4-6", True),
    ],
)  # fmt: skip
def test_the_model_may_stand_in_the_path(path: str, model: str, streamed: bool) -> None:
    asked = body()
    del asked["model"]
    request = WIRE.read_request(path, asked)
    assert (request.model, request.streamed) == (model, streamed)
    new_path, new = WIRE.rewrite(request, model="claude-haiku-4-5")
    assert "/claude-haiku-4-5" in new_path
    assert WIRE.read_request(new_path, new).model == "claude-haiku-4-5"
    assert "model" not in new


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("type", "content", "source", "data", "text", "input", "cache_control")
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    fields=st.dictionaries(
        st.sampled_from(
            ("model", "max_tokens", "messages", "system", "tools", "thinking", "stream",
             "output_config", "mcp_servers", "context_management", "fallbacks", "service_tier", "cache_control")
        ),
        ANYTHING,
    )
)  # fmt: skip
def test_odd_requests_are_read_as_far_as_they_go(fields: dict[str, Any]) -> None:
    request = WIRE.read_request(PATH, fields)
    _, new = WIRE.rewrite(request, output_cap=10_000_000)
    assert new["max_tokens"] == 10_000_000
