"""Dialects of OpenAI-shaped usage, each with the case that shows it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.usage import TOKEN_KINDS, Usage
from taximeter.wire.openai_usage import read_cost, read_usage, write_usage

CASES: list[tuple[str, dict[str, Any], str, dict[str, int]]] = [
    (
        "cached tokens are inside the prompt",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "total_tokens": 1200,
            "prompt_tokens_details": {"cached_tokens": 600},
        },
        "gpt-4o",
        {"input_tokens": 1000, "cached_input_tokens": 600, "output_tokens": 200},
    ),
    (
        "reasoning of OpenAI is inside the completion, also where it is all of it",
        {
            "prompt_tokens": 10,
            "completion_tokens": 64,
            "total_tokens": 74,
            "completion_tokens_details": {"reasoning_tokens": 64},
        },
        "gpt-5",
        {"input_tokens": 10, "output_tokens": 64, "reasoning_tokens": 64},
    ),
    (
        "reasoning of xAI's chat is outside, by the total, also where it is the smaller part",
        {
            "prompt_tokens": 10,
            "completion_tokens": 50,
            "total_tokens": 90,
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        "grok-4",
        {"input_tokens": 10, "output_tokens": 80, "reasoning_tokens": 30},
    ),
    (
        "reasoning larger than the completion is outside, whatever the total says",
        {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "total_tokens": 11,
            "completion_tokens_details": {"reasoning_tokens": 25},
        },
        "any",
        {"input_tokens": 9, "output_tokens": 27, "reasoning_tokens": 25},
    ),
    (
        "Vercel leaves Gemini's reasoning outside even where it is the smaller part",
        {
            "prompt_tokens": 9,
            "completion_tokens": 30,
            "total_tokens": 39,
            "completion_tokens_details": {"reasoning_tokens": 25},
            "market_cost": 0.1,
        },
        "google/gemini-3-pro-preview",
        {"input_tokens": 9, "output_tokens": 55, "reasoning_tokens": 25},
    ),
    (
        "a gap in the total without details is thinking",
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
        "gemini-2.5-pro",
        {"input_tokens": 35, "output_tokens": 74, "reasoning_tokens": 62},
    ),
    (
        "audio of Mistral is outside the prompt",
        {
            "prompt_tokens": 9,
            "completion_tokens": 201,
            "total_tokens": 585,
            "prompt_audio_seconds": 4,
            "prompt_tokens_details": {"audio_tokens": 375},
        },
        "voxtral-small-latest",
        {"input_tokens": 384, "audio_input_tokens": 375, "output_tokens": 201},
    ),
    (
        "audio of Mistral that only the seconds tell of",
        {
            "prompt_tokens": 9,
            "completion_tokens": 248,
            "total_tokens": 632,
            "prompt_audio_seconds": 4,
        },
        "voxtral-small-latest",
        {"input_tokens": 384, "audio_input_tokens": 375, "output_tokens": 248},
    ),
    (
        "DeepSeek's cache hits",
        {"prompt_tokens": 31, "completion_tokens": 6, "prompt_cache_hit_tokens": 30},
        "deepseek-chat",
        {"input_tokens": 31, "cached_input_tokens": 30, "output_tokens": 6},
    ),
    (
        "Databricks' null counts before the end",
        {"prompt_tokens": 32, "completion_tokens": None, "total_tokens": None},
        "",
        {"input_tokens": 32},
    ),
    (
        "Claude's cache outside the prompt, where the total has it",
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 115,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 40,
        },
        "claude",
        {
            "input_tokens": 110,
            "cached_input_tokens": 60,
            "cache_write_5m_tokens": 40,
            "output_tokens": 5,
        },
    ),
    (
        "more cached than prompt tokens (Azure's Grok): a part is never more than its whole",
        {
            "prompt_tokens": 7,
            "completion_tokens": 8,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 161},
        },
        "grok-4-1-fast",
        {"input_tokens": 7, "cached_input_tokens": 7, "output_tokens": 8},
    ),
    ("a total alone (Voyage)", {"total_tokens": 3}, "voyage-4", {"input_tokens": 3}),
]


@pytest.mark.parametrize(
    ("stated", "model", "wanted"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_dialect_is_normalised(stated: dict[str, Any], model: str, wanted: dict[str, int]) -> None:
    usage = read_usage(stated, model=model)
    assert usage is not None
    assert {kind: n for kind in TOKEN_KINDS if (n := getattr(usage, kind))} == wanted


@pytest.mark.parametrize(
    "stated",
    [None, {}, [], "x", 7, {"prompt_tokens": None}, {"prompt_tokens": -1}, {"prompt_tokens": True}],
)
def test_no_count_at_all_is_no_usage(stated: Any) -> None:
    assert read_usage(stated) is None


def test_zeros_that_were_stated_are_a_usage() -> None:
    assert read_usage({"prompt_tokens": 0, "completion_tokens": 0}) == Usage()


def test_incredible_numbers_are_read_as_absent() -> None:
    usage = read_usage({"prompt_tokens": 5, "completion_tokens": 10**400, "total_tokens": 1e308})
    assert usage == Usage(input_tokens=5)


def test_server_tools_are_fees() -> None:
    usage = read_usage(
        {
            "input_tokens": 1,
            "output_tokens": 1,
            "num_sources_used": 4,
            "server_side_tool_usage_details": {"web_search_calls": 2, "x_search_calls": 0},
            "server_tool_use_details": {"web_search_requests": 3},
        }
    )
    assert usage is not None
    assert usage.requests == {"web_search": 3, "search_source": 4}


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ({"cost": 8.41005e-05}, "0.0000841005"),
        (
            {"cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.002}},
            "0.0021",
        ),
        (
            {"cost": 0.002, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.002}},
            "0.002",
        ),
        ({"cost": 0, "market_cost": 0.5, "is_byok": True}, "0.5"),
        ({"cost_in_usd_ticks": 1489500}, "0.00014895"),
        ({"cost": {"total_cost": 0.0051, "request_cost": 0.005}}, "0.0051"),
        ({"market_cost": 0.25}, "0.25"),
        ({"cost": 0}, "0"),
    ],
)
def test_stated_cost_is_exact(stated: dict[str, Any], wanted: str) -> None:
    assert read_cost(stated) == Decimal(wanted)


@pytest.mark.parametrize(
    "stated",
    [
        None,
        {},
        {"cost_in_usd_ticks": 0},
        {"cost": "1"},
        {"cost": float("nan")},
        {"cost": -1},
        {"cost": True},
    ],
)
def test_cost_that_is_not_stated_is_unknown(stated: Any) -> None:
    assert read_cost(stated) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
COUNTS = st.integers(min_value=-5, max_value=10**7) | ANYTHING
DETAILS = (
    st.dictionaries(
        st.sampled_from(
            [
                "cached_tokens",
                "audio_tokens",
                "reasoning_tokens",
                "cache_write_tokens",
                "image_tokens",
            ]
        ),
        COUNTS,
    )
    | ANYTHING
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": COUNTS,
            "completion_tokens": COUNTS,
            "total_tokens": COUNTS,
            "prompt_tokens_details": DETAILS,
            "completion_tokens_details": DETAILS,
            "cache_read_input_tokens": COUNTS,
            "cache_creation_input_tokens": COUNTS,
            "prompt_audio_seconds": COUNTS,
            "market_cost": COUNTS,
            "cost": ANYTHING,
            "server_side_tool_usage_details": ANYTHING,
        },
    ),
    st.sampled_from(["", "google/gemini"]),
)
def test_parts_stay_inside_their_wholes_whatever_comes(stated: dict[str, Any], model: str) -> None:
    read_cost(stated)
    usage = read_usage(stated, model=model)
    if usage is None:
        return
    counts = usage.to_dict()
    assert min(counts.values()) >= 0
    for kind in (
        "cached_input_tokens",
        "cache_write_5m_tokens",
        "audio_input_tokens",
        "image_input_tokens",
    ):
        assert counts[kind] <= usage.input_tokens
    for kind in ("reasoning_tokens", "audio_output_tokens", "image_output_tokens"):
        assert counts[kind] <= usage.output_tokens


def test_our_figures_in_their_shape_are_read_back() -> None:
    usage = Usage(input_tokens=9, cached_input_tokens=4, output_tokens=7, reasoning_tokens=2)
    assert read_usage(write_usage(usage)) == usage
    assert read_usage(write_usage(usage, names=("input", "output"))) == usage
