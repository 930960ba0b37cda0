"""Requests are read in full, and rewritten without touching the caller's objects."""

from __future__ import annotations

import base64
import copy
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.wire.base import HostedTool
from taximeter.wire.images import measure
from taximeter.wire.registry import by_name
from tests.wire.openai_cases import WIRES, answers

CHAT = by_name("openai.chat")
RESPONSES = by_name("openai.responses")
COMPLETIONS = by_name("openai.completions")
EMBEDDINGS = by_name("embeddings")

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08\x02"
GIF = b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(8)
JPEG = (
    b"\xff\xd8\xff\xe0"
    + struct.pack(">H", 16)
    + bytes(14)
    + b"\xff\xc0"
    + struct.pack(">HBHH", 17, 8, 480, 640)
    + bytes(9)
)
WEBP_VP8X = (
    b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
)
WEBP_VP8 = b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 640, 480)
WEBP_VP8L = b"RIFF\0\0\0\0WEBPVP8L" + bytes(5) + struct.pack("<I", 639 | 479 << 14) + bytes(8)


def data_url(image: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@pytest.mark.parametrize("image", [PNG, GIF, JPEG, WEBP_VP8X, WEBP_VP8, WEBP_VP8L])
def test_image_is_measured_from_its_header(image: bytes) -> None:
    assert measure(data_url(image)) == (640, 480)


@pytest.mark.parametrize(
    "url", ["", "https://x/y.png", "data:image/png;base64,%%", data_url(PNG[:20]), "data:,x"]
)
def test_image_that_cannot_be_measured_has_no_size(url: str) -> None:
    assert measure(url) == (None, None)


@given(st.binary(max_size=60), st.sampled_from([PNG, GIF, JPEG, WEBP_VP8X, WEBP_VP8, WEBP_VP8L]))
def test_measuring_never_raises(noise: bytes, image: bytes) -> None:
    for head in (noise, image[: len(noise)] + noise):
        measure(data_url(head))


def test_chat_request_is_read_in_full() -> None:
    body = {
        "model": "gpt-4o",
        "stream": True,
        "stream_options": {"include_usage": False},
        "n": 3,
        "max_tokens": 100,
        "service_tier": "flex",
        "messages": [
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": data_url(PNG), "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"a":1}'}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "result"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
        "prediction": {"type": "content", "content": "draft"},
    }
    read = CHAT.read_request("/v1/chat/completions", body)
    assert (read.model, read.streamed, read.choices, read.output_cap) == ("gpt-4o", True, 3, 100)
    assert (read.include_usage, read.service_tier, read.thinking_budget) == (False, "flex", None)
    prompt = read.prompt
    wanted = {"be brief", "ann", "what is this?", "f", '{"a":1}', "result", "draft"}
    assert wanted <= set(prompt.texts)
    assert (prompt.messages, prompt.tools, prompt.media_bytes, prompt.references) == (4, 2, 3, 2)
    assert [(i.width, i.height, i.detail) for i in prompt.images] == [
        (640, 480, "low"),
        (None, None, None),
    ]
    assert json.loads(prompt.tools_json)[1]["json_schema"]["name"] == "s"


def test_responses_request_is_read_in_full() -> None:
    body = {
        "model": "gpt-5",
        "instructions": "be brief",
        "max_output_tokens": 50,
        "max_tool_calls": 4,
        "previous_response_id": "resp_1",
        "reasoning": {"effort": "none"},
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "42"},
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_image", "image_url": data_url(GIF)}],
            },
        ],
        "tools": [
            {"type": "web_search_2025_08_26"},
            {"type": "function", "name": "f"},
            {"type": "mcp"},
        ],
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {}}},
    }
    read = RESPONSES.read_request("/v1/responses", body)
    assert (read.output_cap, read.thinking_budget, read.choices) == (50, 0, 1)
    prompt = read.prompt
    assert {"be brief", "hello", "f", "{}", "42"} <= set(prompt.texts)
    assert (prompt.server_state, prompt.hosted_calls_max, prompt.tools) == (True, 4, 4)
    assert prompt.hosted_tools == (HostedTool(kind="web_search"), HostedTool(kind=""))
    assert prompt.images[0].width == 640


@pytest.mark.parametrize(
    ("body", "tool"),
    [
        ({"web_search_options": {}}, HostedTool(kind="web_search", calls_max=1)),
        ({"plugins": [{"id": "web"}]}, HostedTool(kind="web_search", calls_max=1)),
        ({"search_parameters": {"mode": "auto"}}, HostedTool(kind="search_source", calls_max=20)),
        ({"tools": [{"type": "openrouter:web_search"}]}, HostedTool(kind="web_search")),
        (
            {"tools": [{"type": "web_search_preview_2025_03_11"}]},
            HostedTool(kind="web_search_preview"),
        ),
        ({"tools": [{"type": "something_new"}]}, HostedTool(kind="")),
    ],
)
def test_search_that_the_provider_runs_is_a_hosted_tool(
    body: dict[str, Any], tool: HostedTool
) -> None:
    assert CHAT.read_request("/v1/chat/completions", body).prompt.hosted_tools == (tool,)


def test_completions_bill_best_of_for_every_prompt() -> None:
    body = {"model": "davinci-002", "prompt": ["a", "b"], "n": 2, "best_of": 5, "max_tokens": 7}
    read = COMPLETIONS.read_request("/v1/completions", body)
    assert (read.choices, read.output_cap, read.prompt.texts) == (10, 7, ("a", "b"))


def test_azure_deployment_names_the_model() -> None:
    path = "/openai/deployments/mine/chat/completions"
    request = CHAT.read_request(path, {"messages": []})
    assert request.model == "mine"
    swapped, body = CHAT.rewrite(request, model="other")
    assert swapped == "/openai/deployments/other/chat/completions"
    assert "model" not in body


def test_google_embeddings_name_the_model_in_the_path() -> None:
    body = {
        "requests": [
            {"content": {"parts": [{"text": "one"}]}},
            {"content": {"parts": [{"text": "two"}]}},
        ]
    }
    read = EMBEDDINGS.read_request("/v1beta/models/gemini-embedding-001:batchEmbedContents", body)
    assert (read.model, read.prompt.texts) == ("gemini-embedding-001", ("one", "two"))
    path, _ = EMBEDDINGS.rewrite(read, model="text-embedding-004")
    assert path == "/v1beta/models/text-embedding-004:batchEmbedContents"


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        ({"model": "gpt-4o", "max_tokens": 9}, {"max_tokens": 5}),
        ({"model": "gpt-4o", "max_completion_tokens": 9}, {"max_completion_tokens": 5}),
        ({"model": "gpt-4o"}, {"max_completion_tokens": 5}),
        ({"model": "openai/o3-mini"}, {"max_completion_tokens": 5}),
        ({"model": "gpt-oss-120b"}, {"max_tokens": 5}),
        ({"model": "llama-3", "max_tokens": None}, {"max_tokens": 5}),
        (
            {"model": "x", "max_tokens": 9, "max_completion_tokens": 9},
            {"max_tokens": 5, "max_completion_tokens": 5},
        ),
    ],
)
def test_output_cap_goes_where_the_request_has_it(
    body: dict[str, Any], changed: dict[str, Any]
) -> None:
    path, rewritten = CHAT.rewrite(CHAT.read_request("/v1/chat/completions", body), output_cap=5)
    assert path == "/v1/chat/completions"
    assert rewritten == {**body, **changed}


def test_caps_of_the_other_wires() -> None:
    assert RESPONSES.rewrite(RESPONSES.read_request("/v1/responses", {}), output_cap=5)[1] == {
        "max_output_tokens": 5
    }
    assert (
        COMPLETIONS.rewrite(
            COMPLETIONS.read_request("/v1/completions", {"model": "gpt-3.5-turbo-instruct"}),
            output_cap=5,
        )[1]["max_tokens"]
        == 5
    )


def test_asking_for_usage_keeps_the_callers_dict_untouched() -> None:
    options = {"include_usage": False, "include_obfuscation": False}
    body = {"model": "gpt-4o", "stream": True, "stream_options": options}
    before = copy.deepcopy(body)
    _, rewritten = CHAT.rewrite(
        CHAT.read_request("/v1/chat/completions", body), include_usage=True, model="gpt-4o-mini"
    )
    assert body == before
    assert rewritten["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert rewritten["model"] == "gpt-4o-mini"


def strings(value: Any, key: str = "content") -> Iterator[str]:
    """Every text that a model would read in messages or input items."""
    if isinstance(value, str):
        if value and key in {"content", "text", "arguments", "output", "input", "name"}:
            yield value
    elif isinstance(value, list):
        for one in value:
            yield from strings(one, key)
    elif isinstance(value, dict) and value.get("type") != "additional_tools":
        for name, one in value.items():
            if name not in {"tools", "file", "annotations", "parameters"}:
                yield from strings(one, name)


def test_every_recorded_request_is_read_and_kept() -> None:
    for wire in WIRES:
        for recording in answers(wire):
            body = recording["request_json"]
            if not isinstance(body, dict):
                continue
            before = json.dumps(body)
            request = by_name(wire).read_request(recording["url_path"], body)
            by_name(wire).rewrite(request, output_cap=1, model="m", include_usage=True)
            assert json.dumps(body) == before, recording["id"]
            missed = set(strings(body.get("messages"))) | set(strings(body.get("input")))
            assert missed <= set(request.prompt.texts), recording["id"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "role",
                    "content",
                    "text",
                    "image_url",
                    "url",
                    "function",
                    "tools",
                    "file",
                    "id",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


FIELDS = (
    "model messages input prompt tools n max_tokens stream stream_options reasoning text "
    "response_format instructions requests texts plugins thinking"
).split()


@pytest.mark.parametrize("wire", WIRES)
@given(
    body=st.dictionaries(
        st.sampled_from(FIELDS),
        ANYTHING,
    )
)
def test_odd_requests_are_read_as_far_as_they_go(wire: str, body: dict[str, Any]) -> None:
    request = by_name(wire).read_request("/v1/x", body)
    assert request.body is body
    by_name(wire).rewrite(request, output_cap=1, model="m", include_usage=True)
