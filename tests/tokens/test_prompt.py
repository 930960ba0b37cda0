"""Input tokens before a request is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.tokens import PromptCount, count_prompt, vocabulary
from taximeter.tokens import prompt as module
from taximeter.wire.base import HostedTool, Image, Prompt


def count(prompt: Prompt, model: str = "gpt-4o", **options: Any) -> PromptCount:
    options.setdefault("exact_texts", False)
    return count_prompt(prompt, model=model, **options)


MODELS = st.sampled_from(
    [
        "gpt-4o",
        "gpt-4",
        "gpt-5",
        "claude-3-haiku",
        "claude-opus-5",
        "gemini-2.5-pro",
        "nova-lite",
        "?",
    ]
)


@given(st.lists(st.text(), max_size=5), st.text(), st.integers(0, 20), MODELS)
def test_expected_is_within_likely_max_and_that_within_the_bound(
    texts: list[str], tools_json: str, tools: int, model: str
) -> None:
    prompt = Prompt(texts=tuple(texts), messages=len(texts), tools=tools, tools_json=tools_json)
    counted = count(prompt, model)
    assert counted.bound is not None
    assert 0 <= counted.expected <= counted.likely_max <= counted.bound
    assert counted.bound >= sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    assert counted.why_unbounded is None
    assert counted.turns_max == 1


@pytest.mark.skipif(not vocabulary.available(), reason="the extra [tokens] is not installed")
def test_a_plain_openai_prompt_is_counted_exactly() -> None:
    prompt = Prompt(texts=("hello world",), messages=1)
    assert count(prompt, exact_texts=True).expected == 3 + 4 + 2


def test_the_vocabulary_is_left_alone_when_told_and_for_large_prompts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def spy(text: str, name: str) -> int:
        asked.append(text)
        return 1

    monkeypatch.setattr(module.vocabulary, "count", spy)
    count(Prompt(texts=("hello",), messages=1), exact_texts=False)
    large = Prompt(texts=("x" * (module.TOKENIZED_BYTES_MAX + 1),), messages=1)
    count(large, exact_texts=True)
    assert asked == []
    count(large, exact_texts=True, tokenized_bytes_max=10**6)
    assert asked != []


def test_normalised_text_is_in_the_bound() -> None:
    plain = count(Prompt(texts=("a" * 100,), messages=1)).bound
    grown = count(Prompt(texts=("\ufdfa" * 100,), messages=1)).bound
    assert plain is not None
    assert grown is not None
    assert grown - plain == 100 * 32


def test_tools_bring_their_hidden_prompt() -> None:
    without = count(Prompt(texts=("hi",), messages=1), "claude-sonnet-4-5")
    tools = Prompt(texts=("hi",), messages=1, tools=1, tools_json='{"name":"f"}')
    offered = count(tools, "claude-sonnet-4-5")
    assert offered.expected - without.expected >= 400
    assert offered.likely_max - without.likely_max >= 530
    assert (offered.bound or 0) - (without.bound or 0) >= 530


@pytest.mark.parametrize(
    ("prompt", "why", "turns_max"),
    [
        (Prompt(references=2), "2 files", 1),
        (Prompt(server_state=True), "kept by the provider", 1),
        (Prompt(media_bytes=10), "inline audio", 1),
        (Prompt(hosted_tools=(HostedTool(kind="web_search"),)), "without a limit", None),
        (Prompt(hosted_tools=(HostedTool(kind="web_search", calls_max=3),)), "web_search", 4),
        (
            Prompt(hosted_tools=(HostedTool(kind="web_search"),), hosted_calls_max=2),
            "any length",
            3,
        ),
    ],
)
def test_what_cannot_be_seen_has_no_bound_and_says_why(
    prompt: Prompt, why: str, turns_max: int | None
) -> None:
    counted = count(prompt)
    assert counted.bound is None
    assert counted.why_unbounded is not None
    assert why in counted.why_unbounded
    assert counted.turns_max == turns_max
    assert counted.likely_max > count(Prompt()).likely_max


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        ("gpt-4o", 1024, 1024, 765),  # 85 + 4 x 170
        ("gpt-4o", 2048, 4096, 1105),  # 85 + 6 x 170
        ("gpt-5.5", 1280, 720, 1112),  # 40 x 23 patches x 1.2, and a margin of 8
        ("claude-sonnet-4-5", 1000, 1000, 1342),  # 36 x 36, or width x height / 750, + 8
        ("gemini-2.5-flash", 300, 300, 258),
    ],
)
def test_images_follow_the_published_formulas(
    model: str, width: int, height: int, tokens: int
) -> None:
    prompt = Prompt(images=(Image(width=width, height=height),))
    assert count(prompt, model).expected - count(Prompt(), model).expected == tokens


def test_an_image_of_unknown_size_is_bounded_by_its_models_cap_or_not_at_all() -> None:
    image = Prompt(images=(Image(),))
    capped = count(image, "gpt-4o")
    assert capped.bound is not None
    assert capped.bound >= 85 + 8 * 170
    assert count(image, "claude-opus-4-8").bound is not None
    uncapped = count(image, "gpt-6")
    assert uncapped.bound is None
    assert "image" in str(uncapped.why_unbounded)
    assert count(Prompt(images=(Image(width=4032, height=3024),)), "gpt-6").bound is not None


def test_a_low_detail_image_costs_its_base() -> None:
    low = count(Prompt(images=(Image(detail="low"),)))
    assert low.expected - count(Prompt()).expected == 85


def test_a_tool_that_the_provider_fills_in_costs_more_than_its_json() -> None:
    plain = Prompt(
        texts=("hi",), messages=1, tools=1, tools_json='[{"type":"custom","name":"bash"}]'
    )
    filled = Prompt(
        texts=("hi",), messages=1, tools=1, tools_json='[{"type":"bash_20250124","name":"bash"}]'
    )
    cheap, dear = count(plain, "claude-opus-4-6"), count(filled, "claude-opus-4-6")
    assert dear.expected - cheap.expected >= 400
    assert dear.likely_max - cheap.likely_max >= 700
    assert (dear.bound or 0) - (cheap.bound or 0) >= 1_000
