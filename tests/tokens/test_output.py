"""Output tokens while an answer runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.tokens import OutputCounter, family, vocabulary
from taximeter.tokens.output import PENDING_CHARACTERS_MAX

WORDS = [" about", " which", " their", " would", " there", " other", " while", " after"] * 25


def counter(model: str = "gpt-4o", wire: str = "openai.chat", exact: bool = False) -> OutputCounter:
    return OutputCounter(family(model), wire, exact_texts=exact)


def test_nothing_fed_is_nothing_billed() -> None:
    fresh = counter()
    fresh.feed("", deltas=3)
    assert (fresh.expected, fresh.likely_max, fresh.bound) == (0, 0, 0)


@given(
    st.lists(
        st.tuples(st.text(), st.sampled_from(["text", "reasoning", "tool"]), st.integers(0, 50)),
        max_size=8,
    ),
    st.sampled_from(["gpt-4o", "claude-opus-5", "deepseek-chat", "?"]),
)
def test_figures_are_ordered_and_never_fall(feeds: list[tuple[str, str, int]], model: str) -> None:
    fed = counter(model)
    last_bound = 0
    for text, kind, deltas in feeds:
        fed.feed(text, kind, deltas)  # type: ignore[arg-type]
        assert 0 <= fed.expected <= fed.likely_max <= fed.bound
        assert fed.bound >= last_bound
        last_bound = fed.bound


def test_the_bound_counts_every_byte() -> None:
    fed = counter()
    fed.feed("模型" * 10)
    fed.feed("x" * (2 * PENDING_CHARACTERS_MAX))
    assert fed.bound >= 60 + 2 * PENDING_CHARACTERS_MAX


def test_a_token_a_delta_sharpens_the_estimate_where_the_wire_sends_them_so() -> None:
    sharp, blunt = counter(), counter(wire="anthropic.messages")
    for fed in (sharp, blunt):
        for word in WORDS:
            fed.feed(word)
    assert sharp.expected == pytest.approx(len(WORDS), rel=0.05)
    assert sharp.likely_max < blunt.likely_max


def test_deltas_that_carry_many_tokens_are_not_taken_for_one() -> None:
    batched, whole = counter(), counter()
    for start in range(0, len(WORDS), 50):
        batched.feed("".join(WORDS[start : start + 50]))
    whole.feed("".join(WORDS), deltas=0)
    assert batched.expected == whole.expected


@pytest.mark.skipif(not vocabulary.available(), reason="the extra [tokens] is not installed")
def test_the_vocabulary_counts_exactly_when_asked() -> None:
    fed = counter(exact=True)
    fed.feed("".join(WORDS), deltas=4)
    assert fed.expected == (vocabulary.count("".join(WORDS), "o200k_base") or 0) + 1


def test_a_tool_call_adds_its_framing_once() -> None:
    text, tool = counter("claude-sonnet-4-5"), counter("claude-sonnet-4-5")
    text.feed('get_weather{"city":"Paris"}')
    tool.feed("get_weather", "tool")
    tool.feed('{"city":"Paris"}', "tool")
    assert tool.expected - text.expected == 43
