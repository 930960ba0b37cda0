"""What Gemini requests say, and how they are rewritten."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.wire.base import HostedTool, Image
from taximeter.wire.gemini_generate import WIRE

PATH = "/v1beta/models/gemini-2.5-flash:generateContent"


def body(**fields: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}], **fields}


def test_the_plain_facts_are_read() -> None:
    config = {"maxOutputTokens": 50, "candidateCount": 2, "thinkingConfig": {"thinkingBudget": 0}}
    system = {"parts": [{"text": "Be brief."}]}
    request = WIRE.read_request(PATH, body(generationConfig=config, systemInstruction=system))
    assert request.model == "gemini-2.5-flash"
    assert not request.streamed
    assert (request.output_cap, request.choices, request.thinking_budget) == (50, 2, 0)
    assert request.prompt.texts == ("Be brief.", "Hello")
    assert request.prompt.messages == 1


def test_snake_case_says_the_same() -> None:
    config = {"max_output_tokens": 50, "thinking_config": {"thinking_budget": 9}}
    request = WIRE.read_request(
        PATH, body(generation_config=config, system_instruction="Be brief.", cached_content="c/1")
    )
    assert (request.output_cap, request.thinking_budget) == (50, 9)
    assert request.prompt.texts == ("Be brief.", "Hello")
    assert request.prompt.server_state


def test_a_dynamic_thinking_budget_is_none() -> None:
    config = {"thinkingConfig": {"thinkingBudget": -1}}
    assert WIRE.read_request(PATH, body(generationConfig=config)).thinking_budget is None


@pytest.mark.parametrize(
    ("path", "model", "streamed"),
    [
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", "gemini-2.5-flash", True),
        ("/v1/projects/P/locations/us-central1/publishers/google/models/gemini-3-pro:generateContent",
         "gemini-3-pro", False),
        ("/v1beta/tunedModels/mine-1:generateContent", "mine-1", False),
        ("/v1/projects/P/locations/l/endpoints/123:streamGenerateContent", "123", True),
    ],
)  # fmt: skip
def test_the_model_stands_in_the_path(path: str, model: str, streamed: bool) -> None:
    request = WIRE.read_request(path, body())
    assert (request.model, request.streamed) == (model, streamed)
    new_path, _ = WIRE.rewrite(request, model="models/gemini-2.5-flash-lite")
    again = WIRE.read_request(new_path, body())
    assert (again.model, again.streamed) == ("gemini-2.5-flash-lite", streamed)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"generationConfig": {"maxOutputTokens": 7}}),
        ({"generationConfig": {"temperature": 0}},
         {"generationConfig": {"temperature": 0, "maxOutputTokens": 7}}),
        ({"generationConfig": {"maxOutputTokens": 99}}, {"generationConfig": {"maxOutputTokens": 7}}),
        ({"generation_config": {"max_output_tokens": 99}},
         {"generation_config": {"max_output_tokens": 7}}),
        ({"generation_config": {"top_k": 1}},
         {"generation_config": {"top_k": 1, "max_output_tokens": 7}}),
        ({"generationConfig": {"max_output_tokens": 99}},
         {"generationConfig": {"max_output_tokens": 7}}),
    ],
)  # fmt: skip
def test_a_cap_is_written_as_the_request_spells_it(
    fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    asked = body(**fields)
    before = copy.deepcopy(asked)
    path, new = WIRE.rewrite(WIRE.read_request(PATH, asked), output_cap=7)
    assert asked == before
    assert path == PATH
    assert new == {**asked, **expected}


def test_a_model_in_the_body_is_rewritten_too() -> None:
    request = WIRE.read_request(PATH, body(model="models/gemini-2.5-flash"))
    path, new = WIRE.rewrite(request, model="gemini-2.5-flash-lite")
    assert path == "/v1beta/models/gemini-2.5-flash-lite:generateContent"
    assert new["model"] == "models/gemini-2.5-flash-lite"


def test_media_tools_and_schemas_are_collected() -> None:
    parts = [
        {"inlineData": {"mimeType": "image/gif", "data": "R0lGODlhAwAFAAAAAA=="}},
        {"inline_data": {"mime_type": "audio/mp3", "data": "AAAA"}},
        {"fileData": {"fileUri": "gs://x"}},
        {"functionCall": {"name": "f", "args": {"a": 1}}},
        {"functionResponse": {"name": "f", "response": {"b": "two"}}},
        {"text": "t", "thoughtSignature": "sig"},
    ]
    tools = [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}, {"google_search": {}}]
    config = {"responseSchema": {"type": "OBJECT"}, "mediaResolution": "MEDIA_RESOLUTION_LOW"}
    request = WIRE.read_request(
        PATH, {"contents": {"parts": parts}, "tools": tools, "generationConfig": config}
    )
    prompt = request.prompt
    assert prompt.images == (Image(width=3, height=5, detail="MEDIA_RESOLUTION_LOW"),)
    assert (prompt.media_bytes, prompt.references, prompt.tools) == (3, 1, 3)
    assert prompt.hosted_tools == (HostedTool(kind="web_search"),)
    assert '"two"' in "".join(prompt.texts)
    assert prompt.texts[-1] == "t"
    assert "OBJECT" in prompt.tools_json


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("parts", "text", "inlineData", "data", "mimeType", "functionCall", "args")
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
            ("contents", "generationConfig", "tools", "systemInstruction", "model", "serviceTier")
        ),
        ANYTHING,
    )
)
def test_odd_requests_are_read_as_far_as_they_go(fields: dict[str, Any]) -> None:
    request = WIRE.read_request(PATH, fields)
    _, new = WIRE.rewrite(request, output_cap=10)
    assert new["generationConfig"]["maxOutputTokens"] == 10
