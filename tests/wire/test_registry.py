"""A request's wire is told by its path; what only looks like one is left alone."""

from __future__ import annotations

import pytest

from taximeter.wire.registry import NAMES, by_name, find
from taximeter.wire.replay import Replayed, replay

GENERATING = {
    "/v1/chat/completions": "openai.chat",
    "/openai/deployments/gpt-4o/chat/completions": "openai.chat",
    "/api/v1/chat/completions": "openai.chat",
    "/chat/completions": "openai.chat",
    "/v1/completions": "openai.completions",
    "/v1/responses": "openai.responses",
    "/openai/v1/responses": "openai.responses",
    "/v1/embeddings": "embeddings",
    "/v2/embed": "embeddings",
    "/v1beta/models/gemini-embedding-001:batchEmbedContents": "embeddings",
    "/v1/messages": "anthropic.messages",
    "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:streamRawPredict": "anthropic.messages",
    "/v1beta/models/gemini-2.5-pro:generateContent": "gemini.generate",
    "/v1beta/models/gemini-2.5-pro:streamGenerateContent": "gemini.generate",
}
OTHERS = (
    "/v1/chat/completions/chatcmpl-1",
    "/v1/responses/resp_1/cancel",
    "/v1/responses/resp_1",
    "/v1/responses/input_tokens",
    "/v1/responses/compact",
    "/v1/messages/count_tokens",
    "/v1/messages/batches",
    "/v1/threads/thread_1/messages",
    "/v1beta/models/gemini-2.5-pro:countTokens",
    "/v1/audio/transcriptions",
    "/v1/models",
    "/",
    "",
    "/login",
)


@pytest.mark.parametrize(("path", "name"), GENERATING.items())
def test_path_names_its_wire(path: str, name: str) -> None:
    wire = find(path)
    assert wire is not None
    assert wire.name == name


@pytest.mark.parametrize("path", OTHERS)
def test_other_path_is_no_wire(path: str) -> None:
    assert find(path) is None


def test_body_without_the_fields_of_the_wire_is_no_wire() -> None:
    assert find("/v1/messages", {"to": "ann", "text": "hello"}) is None
    assert find("/v1/messages", {"messages": []}) is by_name("anthropic.messages")
    assert find("/survey/responses", {"answers": []}) is None
    assert find("/v1/responses", {"model": "m", "input": "x"}) is by_name("openai.responses")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_its_wire(name: str) -> None:
    assert by_name(name).name == name


def test_unknown_name_tells_which_there_are() -> None:
    with pytest.raises(LookupError, match=r"openai\.chat"):
        by_name("telepathy")


RECORD = {
    "id": "x",
    "wire": "openai.chat",
    "provider": "openai",
    "request_json": {"model": "gpt-4o", "messages": []},
    "response_status": 200,
    "response_body": '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}',
}


def test_replay_prices_with_the_model_that_was_asked_where_the_answer_names_none() -> None:
    asked: list[Replayed] = []

    def price(replayed: Replayed) -> str:
        asked.append(replayed)
        return "0.5"

    line = replay(RECORD, price=price)
    assert (line["model"], line["cost"], line["terminal"]) == ("gpt-4o", "0.5", True)
    assert (asked[0].provider, asked[0].model) == ("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"wire": "openai.realtime"}, "unknown wire"),
        ({"response_body": None}, "unreadable body"),
        ({"response_status": 429}, "status 429"),
        ({"response_body": "{}"}, "no usage in the answer"),
        ({"response_body": "{"}, "not JSON"),
    ],
)
def test_replay_says_why_there_is_no_usage(changes: dict[str, object], reason: str) -> None:
    line = replay({**RECORD, **changes})
    assert (line["usage"], line["cost"], line["usage_source"], line["reason"]) == (
        None,
        None,
        "unknown",
        reason,
    )
