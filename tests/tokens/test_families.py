"""Which tokenizer and which hidden constants a model's name stands for."""

from __future__ import annotations

import pytest

from taximeter.tokens import family, may_reason_unseen


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o/4.1"),
        ("openai/gpt-4.1-mini", "gpt-4o/4.1"),
        ("gpt-4-0613", "gpt-3.5/4"),
        ("gpt-35-turbo", "gpt-3.5/4"),
        ("gpt-5.4-nano", "gpt-5/o"),
        ("o4-mini", "gpt-5/o"),
        ("openai/o3", "gpt-5/o"),
        ("openai/gpt-oss-120b", "gpt-oss"),
        ("claude-sonnet-4-20250514", "claude<=4.6"),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "claude<=4.6"),
        ("anthropic/claude-4.6-sonnet-20260217", "claude<=4.6"),
        ("anthropic/claude-sonnet-4", "claude<=4.6"),
        ("claude-opus-4@20250514", "claude<=4.6"),
        ("claude-opus-4-7", "claude-new"),
        ("global.anthropic.claude-opus-4-8", "claude-new"),
        ("claude-sonnet-5", "claude-new"),
        ("claude-fable-5", "claude-new"),
        ("google/gemini-2.5-flash", "gemini"),
        ("us.amazon.nova-2-lite-v1:0", "nova"),
        ("magistral-small-latest", "mistral"),
        ("deepseek-r1-distill-llama-70b", "llama"),
        ("deepseek-reasoner", "deepseek"),
        ("cohere.command-r-v1:0", "command"),
        ("x-ai/grok-4", "grok"),
        ("qwen/qwen3-32b", "qwen"),
        ("my-azure-deployment", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_name_on_any_provider_finds_its_family(model: str, name: str) -> None:
    assert family(model).name == name


def test_every_high_factor_is_at_least_its_expected_one() -> None:
    for model in ("gpt-4o", "gpt-4", "gpt-5", "gpt-oss", "claude-3", "claude-5", "gemini", "nova-",
                  "mistral", "llama", "deepseek", "command", "grok", "qwen", "?"):  # fmt: skip
        found = family(model)
        for name in (
            "text",
            "message",
            "prompt",
            "tool_prompt",
            "tools",
            "tool",
            "answer",
            "tool_call",
        ):
            assert getattr(found, name) <= getattr(found, f"{name}_max"), (model, name)
        assert found.schema <= found.tools_max
        assert found.bound_prompt >= found.prompt_max
        assert found.bound_tools >= found.prompt_max + found.tool_prompt_max


@pytest.mark.parametrize(
    ("model", "hidden"),
    [
        ("gpt-4o", False), ("gpt-5-nano", True), ("o3", True), ("claude-sonnet-4-5", False),
        ("claude-opus-4-8", True), ("gemini-2.0-flash", False), ("gemini-2.5-flash", True),
        ("grok-4.3", True), ("grok-4-1-fast-non-reasoning", False), ("my-deployment", True),
    ],
)  # fmt: skip
def test_hidden_reasoning_is_ruled_out_only_by_a_known_name(model: str, hidden: bool) -> None:
    assert may_reason_unseen(model) is hidden
