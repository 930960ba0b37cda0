"""Laws of the engine: exact, additive, monotone, and never above its bound."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taximeter.money import round_half_even
from taximeter.pricing.base import RateCard
from taximeter.usage import Usage
from tests.pricing.prices import BOOK, card

COUNT = st.integers(0, 2_000_000)
SMALL = st.integers(0, 50_000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usage whose parts fit into their wholes."""
    part = st.one_of(st.just(0), SMALL)
    cached, cached_audio, audio = draw(part), draw(part), draw(part)
    short, long, image = draw(part), draw(part), draw(part)
    reasoning, audio_out, image_out = draw(part), draw(part), draw(part)
    return Usage(
        input_tokens=draw(COUNT) + cached + cached_audio + audio + short + long + image,
        cached_input_tokens=cached + cached_audio,
        cached_audio_input_tokens=cached_audio,
        audio_input_tokens=audio + cached_audio,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        image_input_tokens=image,
        output_tokens=draw(COUNT) + reasoning + audio_out + image_out,
        reasoning_tokens=reasoning,
        audio_output_tokens=audio_out,
        image_output_tokens=image_out,
        requests=draw(st.dictionaries(st.sampled_from(["web_search", "maps"]), st.integers(0, 5))),
    )


RATE = st.decimals("0", "900", places=6).map(str)
OTHERS = (
    "cached_input",
    "cache_write_5m",
    "cache_write_1h",
    "audio_input",
    "cached_audio_input",
    "image_input",
    "reasoning",
    "audio_output",
    "image_output",
    "requests.web_search",
    "requests.maps",
)


def rate_sets(**needed: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(needed, optional=dict.fromkeys(OTHERS, RATE))


FLAT = rate_sets(input=RATE, output=RATE).map(card)


@st.composite
def tiered(draw: st.DrawFn) -> RateCard:
    tiers = [
        [over, draw(st.integers(0, 1)), draw(rate_sets(input=RATE, output=RATE)), {}]
        for over in sorted(draw(st.sets(st.integers(1, 500_000), max_size=3)))
    ]
    variants = {"priority": draw(rate_sets(input=RATE, output=RATE))}
    return card(draw(rate_sets(input=RATE, output=RATE)), t=tiers, v=variants, g={"eu": 1100})


@given(rates=FLAT, usage=usages())
def test_a_cost_is_the_sum_of_its_lines_and_every_token_is_in_one(
    rates: RateCard, usage: Usage
) -> None:
    cost = BOOK.cost(rates, usage)
    tokens = [line for line in cost.lines if not line[0].startswith("request")]
    assert sum(units for _, units, _ in tokens) == usage.total_tokens
    exact = sum(Fraction(units) * Fraction(rate, 10**18) for _, units, rate in cost.lines)
    assert Fraction(cost.atto, 10**18) == exact
    assert cost.settled == round_half_even(cost.atto)
    assert cost.settled <= cost.held <= cost.settled + 1


@given(rates=FLAT, usage=usages())
def test_each_kind_is_billed_at_its_own_rate_or_at_that_of_its_whole(
    rates: RateCard, usage: Usage
) -> None:
    own = rates.rates
    read = own.get("cached_input", own["input"])
    heard = own.get("audio_input", own["input"])
    five = own.get("cache_write_5m", own["input"])
    text = usage.input_tokens - (
        usage.cached_input_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
        + usage.audio_input_tokens
        - usage.cached_audio_input_tokens
        + usage.image_input_tokens
    )
    answer = usage.output_tokens - (
        usage.reasoning_tokens + usage.audio_output_tokens + usage.image_output_tokens
    )
    expected = (
        text * own["input"]
        + (usage.cached_input_tokens - usage.cached_audio_input_tokens) * read
        + usage.cached_audio_input_tokens * own.get("cached_audio_input", heard)
        + (usage.audio_input_tokens - usage.cached_audio_input_tokens) * heard
        + usage.cache_write_5m_tokens * five
        + usage.cache_write_1h_tokens * own.get("cache_write_1h", five)
        + usage.image_input_tokens * own.get("image_input", own["input"])
        + answer * own["output"]
        + usage.reasoning_tokens * own.get("reasoning", own["output"])
        + usage.audio_output_tokens * own.get("audio_output", own["output"])
        + usage.image_output_tokens * own.get("image_output", own["output"])
        + sum(own.get(f"requests.{kind}", 0) * n for kind, n in usage.requests.items())
    )
    assert BOOK.cost(rates, usage).atto == expected


@given(rates=FLAT, left=usages(), right=usages())
def test_cost_is_additive_without_tiers(rates: RateCard, left: Usage, right: Usage) -> None:
    both = BOOK.cost(rates, left + right).atto
    assert both == BOOK.cost(rates, left).atto + BOOK.cost(rates, right).atto


@given(rates=FLAT, usage=usages(), more=usages())
def test_more_usage_never_costs_less(rates: RateCard, usage: Usage, more: Usage) -> None:
    assert BOOK.cost(rates, usage + more).atto >= BOOK.cost(rates, usage).atto


@given(
    rates=tiered(),
    usage=usages(),
    slack=st.tuples(SMALL, SMALL),
    tier=st.sampled_from([None, "default", "priority"]),
    region=st.sampled_from([None, "eu"]),
)
def test_no_usage_inside_the_bound_costs_more_than_it(
    rates: RateCard, usage: Usage, slack: tuple[int, int], tier: str | None, region: str | None
) -> None:
    bound = BOOK.bound(
        rates,
        input_tokens=usage.input_tokens + slack[0],
        output_tokens=usage.output_tokens + slack[1],
        service_tier="auto",
        cache_write="1h",
        requests=dict(usage.requests),
        region=region,
    )
    assert BOOK.cost(rates, usage, service_tier=tier, region=region).atto <= bound.atto


@given(rates=tiered(), inputs=COUNT, left=SMALL, right=SMALL)
def test_the_bound_is_a_straight_line_in_the_output(
    rates: RateCard, inputs: int, left: int, right: int
) -> None:
    def bound(tokens: int) -> int:
        return BOOK.bound(rates, input_tokens=inputs, output_tokens=tokens).atto

    assert bound(left + right) - bound(left) == bound(right) - bound(0)
    base, slope = BOOK.line(rates, input_tokens=inputs)
    assert base + slope * left == bound(left)


@given(
    rates=tiered(),
    inputs=COUNT,
    outputs=SMALL,
    facts=st.fixed_dictionaries(
        {
            "service_tier": st.sampled_from([None, "auto", "priority"]),
            "cache_write": st.sampled_from(["", "5m", "1h"]),
            "requests": st.dictionaries(st.sampled_from(["web_search", "maps"]), st.integers(0, 5)),
            "region": st.sampled_from([None, "eu"]),
            "media": st.booleans(),
        }
    ),
)
def test_the_line_of_a_quote_is_the_bound(
    rates: RateCard, inputs: int, outputs: int, facts: dict[str, Any]
) -> None:
    base, slope = BOOK.line(rates, input_tokens=inputs, **facts)
    whole = BOOK.bound(rates, input_tokens=inputs, output_tokens=outputs, **facts)
    assert base + slope * outputs == whole.atto


@given(
    numbers=st.lists(st.integers(0, 10**9), min_size=11, max_size=11),
)
def test_parts_that_do_not_fit_never_raise_nor_pay_the_caller(numbers: list[int]) -> None:
    rates = card({"input": "1", "cached_input": "0.1", "output": "4", "cache_write_5m": "0.5"})
    names = [name for name in Usage.__dataclass_fields__ if name != "requests"]
    usage = Usage(**dict(zip(names, numbers, strict=True)))
    cost = BOOK.cost(rates, usage)
    assert all(units > 0 and rate >= 0 for _, units, rate in cost.lines)


def test_a_discount_is_never_counted_on() -> None:
    rates = card(
        {"input": "3", "cached_input": "0.3", "output": "15"},
        v={"flex": {"input": "1", "output": "5"}},
        o={"r": {"input": "1", "output": "1"}, "w": [[[1, 2, 3, 4, 5, 6, 7], 0, 1440]]},
    )
    bound = BOOK.bound(
        rates, input_tokens=10**6, output_tokens=10**6, service_tier="flex", at=1.7e9
    )
    assert bound.atto == 18 * 10**18


def test_claude_pays_for_a_cache_write_only_when_asked_and_others_whenever_it_is_sold() -> None:
    rates = {"input": "4", "output": "1", "cache_write_5m": "5", "cache_write_1h": "8"}
    claude, other = card(rates, model="claude-x"), card(rates, model="gpt-x")

    def dearest(each: RateCard, asked: str) -> int:
        cost = BOOK.bound(each, input_tokens=10**6, output_tokens=0, cache_write=asked)
        return cost.atto // 10**18

    assert [dearest(claude, asked) for asked in ("", "5m", "1h")] == [4, 5, 8]
    assert [dearest(other, asked) for asked in ("", "5m", "1h")] == [5, 5, 8]


def test_a_text_prompt_is_not_held_at_the_price_of_audio() -> None:
    rates = card({"input": "1", "audio_input": "9", "output": "1"})
    assert BOOK.bound(rates, input_tokens=10**6, output_tokens=0).atto == 9 * 10**18
    text = BOOK.bound(rates, input_tokens=10**6, output_tokens=0, media=False)
    assert text.atto == 10**18


def test_a_missing_service_price_is_the_standard_one_and_says_so() -> None:
    rates = card({"input": "1", "output": "2"})
    cost = BOOK.cost(rates, Usage(input_tokens=10), service_tier="priority")
    assert cost.atto == 10 * 10**12
    assert cost.flags == ("tier_price_missing",)
    assert BOOK.cost(rates, Usage(input_tokens=10), service_tier="standard").flags == ()


def test_a_kind_that_cost_what_its_whole_cost_follows_it_into_a_tier() -> None:
    rates = card(
        {"input": "1", "image_input": "1", "audio_input": "3", "output": "2"},
        t=[[100, 0, {"input": "2", "output": "4"}, {}]],
    )
    usage = Usage(input_tokens=101, image_input_tokens=100, audio_input_tokens=1)
    assert BOOK.cost(rates, usage).atto == (100 * 2 + 3) * 10**12


def test_fallbacks_that_may_be_too_cheap_are_flagged() -> None:
    rates = card({"input": "1", "output": "2"})
    usage = Usage(
        input_tokens=10,
        audio_input_tokens=5,
        cache_write_5m_tokens=2,
        output_tokens=5,
        reasoning_tokens=5,
        requests={"seance": 1},
    )
    cost = BOOK.cost(rates, usage)
    assert set(cost.flags) == {
        "audio_price_missing",
        "cache_write_price_missing",
        "fee_price_missing",
    }
    assert cost.atto == 20 * 10**12


def test_tokens_read_and_rewritten_are_billed_once_beside_the_write() -> None:
    rates = card({"input": "3", "cached_input": "1", "cache_write_5m": "4", "output": "1"})
    usage = Usage(input_tokens=10, cached_input_tokens=8, cache_write_5m_tokens=8)
    # 2 written only, 6 read and written: 6 reads too few would be 2 input tokens.
    cost = BOOK.cost(rates, usage)
    assert cost.flags == ("parts_overlap",)
    assert cost.atto == (8 * 1 + 2 * 4 + 6 * (4 - 3)) * 10**12


def test_service_tiers_from_the_wire_do_not_grow_the_card() -> None:
    rates = card({"input": "1", "output": "2"})
    for number in range(1000):
        BOOK.cost(rates, Usage(input_tokens=1), service_tier=f"tier-{number}")
    assert len(rates.memo) <= 64


def test_odd_times_are_priced_at_todays_rates() -> None:
    rates = BOOK.find("deepseek", "deepseek-v4-pro")
    assert rates is not None
    usage = Usage(input_tokens=1000)
    today = BOOK.cost(rates, usage).atto
    for at in (-1.0, 1e300, float("inf"), float("nan")):
        assert BOOK.cost(rates, usage, at=at).atto == today
