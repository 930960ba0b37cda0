"""The mistakes that other meters are known for: research notes on pricing, section 3."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from taximeter.usage import Usage
from tests.pricing.prices import BOOK, card, dollars, price


def usd(text: str) -> Decimal:
    return Decimal(text)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_openai_cached_tokens_are_a_part_of_the_prompt() -> None:
    usage = Usage(input_tokens=1000, cached_input_tokens=600, output_tokens=200)
    assert price("openai", "gpt-4o", usage) == usd("0.003750")


def test_anthropic_cache_write_is_dearer_than_input() -> None:
    usage = Usage(input_tokens=3 + 12304, cache_write_5m_tokens=12304, output_tokens=550)
    assert price("anthropic", "claude-sonnet-4-5", usage) == usd("0.054399")


def test_writes_for_5_minutes_and_1_hour_have_their_own_rates() -> None:
    usage = Usage(
        input_tokens=100 + 1000 + 2000 + 5000,
        cache_write_5m_tokens=1000,
        cache_write_1h_tokens=2000,
        cached_input_tokens=5000,
        output_tokens=200,
        requests={"web_search": 3},
    )
    assert price("anthropic", "claude-sonnet-4-5", usage) == usd("0.05055")


def test_anthropic_behind_an_openai_shape_in_an_eu_profile_of_bedrock() -> None:
    usage = Usage(
        input_tokens=98805,
        cached_input_tokens=66360,
        cache_write_5m_tokens=32435,
        output_tokens=5120,
    )
    model = "eu.anthropic.claude-opus-4-5-20251101-v1:0"
    assert price("bedrock", model, usage) == usd("0.400343625")


def test_gemini_thoughts_are_billed_as_output() -> None:
    usage = Usage(input_tokens=55021, output_tokens=923 + 785, reasoning_tokens=785)
    assert price("google", "gemini-2.5-pro", usage) == usd("0.08585625")


def test_gemini_tool_prompt_is_input() -> None:
    with_tools = price("google", "gemini-2.5-pro", Usage(input_tokens=1050))
    assert with_tools == usd("0.0013125")


def test_audio_beside_cached_text_is_priced_and_never_raises() -> None:
    usage = Usage(input_tokens=1000, audio_input_tokens=400, cached_input_tokens=400)
    assert price("google", "gemini-2.5-flash", usage) == usd("0.000472")


def test_image_input_is_not_lost() -> None:
    usage = Usage(input_tokens=262, image_input_tokens=258)
    assert price("google", "gemini-2.0-flash", usage) == usd("0.0000262")


def test_image_output_has_its_own_rate() -> None:
    rates = card({"input": "2", "output": "12", "image_output": "120"})
    usage = Usage(output_tokens=1345, reasoning_tokens=225, image_output_tokens=1120)
    assert dollars(BOOK.cost(rates, usage)) == usd("0.1371")


def test_openai_audio_is_not_priced_as_text() -> None:
    usage = Usage(
        input_tokens=1000, audio_input_tokens=400, output_tokens=200, audio_output_tokens=150
    )
    assert price("openai", "gpt-4o-audio-preview", usage) == usd("0.0300")


def test_reasoning_inside_the_output_is_billed_once() -> None:
    usage = Usage(input_tokens=1000, output_tokens=500, reasoning_tokens=400)
    assert price("openai", "gpt-5", usage) == usd("0.00625")


def test_xai_reasoning_that_was_beside_the_completion() -> None:
    usage = Usage(
        input_tokens=10120,
        cached_input_tokens=128,
        output_tokens=1499 + 2809,
        reasoning_tokens=2809,
    )
    assert price("xai", "grok-4.3", usage) == usd("0.0232856")


def test_openai_cache_writes_carry_a_premium() -> None:
    usage = Usage(input_tokens=10000, cached_input_tokens=2000, cache_write_5m_tokens=3000)
    assert price("openai", "gpt-6-sol", usage) == usd("0.0179")


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "output", "expected"),
    [
        ("google", "gemini-2.5-pro", 200_000, 10, "0.2501"),
        ("google", "gemini-2.5-pro", 200_001, 10, "0.5001525"),
        ("xai", "grok-4.3", 199_999, 10, "0.25002375"),
        ("xai", "grok-4.3", 200_000, 10, "0.50005"),
        ("openai", "gpt-5.4", 272_000, 100, "0.6815"),
        ("openai", "gpt-5.4", 272_001, 100, "1.362255"),
    ],
)
def test_long_context_moves_the_whole_request(
    provider: str, model: str, tokens: int, output: int, expected: str
) -> None:
    usage = Usage(input_tokens=tokens, output_tokens=output)
    assert price(provider, model, usage) == usd(expected)


def test_cached_tokens_count_towards_the_threshold() -> None:
    usage = Usage(input_tokens=200_001, cached_input_tokens=200_000, output_tokens=10)
    assert price("google", "gemini-2.5-pro", usage) == usd("0.0501525")


def test_a_sum_over_a_tool_loop_is_no_long_context() -> None:
    usage = Usage(input_tokens=950_648, output_tokens=10)
    apart = price("google", "gemini-2.5-pro", usage, context_tokens=60_000)
    assert apart == usd("1.18841")


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (None, "0.004"),
        ("default", "0.004"),
        ("auto", "0.004"),
        ("flex", "0.002"),
        ("batch", "0.002"),
        ("priority", "0.008"),
        ("fast", "0.008"),
    ],
)
def test_the_answered_service_tier_decides(tier: str | None, expected: str) -> None:
    usage = Usage(input_tokens=1000, output_tokens=100)
    assert price("openai", "gpt-5.4", usage, service_tier=tier) == usd(expected)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("global.", "0.0045"),
        ("us.", "0.00495"),
        ("eu.", "0.00495"),
        ("apac.", "0.00495"),
        ("au.", "0.00495"),
        ("jp.", "0.00495"),
        ("", "0.00495"),
    ],
)
def test_bedrock_profiles_and_the_bare_id(prefix: str, expected: str) -> None:
    usage = Usage(input_tokens=1000, output_tokens=100)
    model = f"{prefix}anthropic.claude-sonnet-4-5-20250929-v1:0"
    assert price("bedrock", model, usage) == usd(expected)
    arn = f"arn:aws:bedrock:us-east-1:000000000000:inference-profile/{model}"
    assert price("bedrock", arn, usage) == usd(expected)


def test_a_private_profile_has_no_price() -> None:
    arn = "arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/a1b2c3"
    assert BOOK.find("bedrock", arn) is None
    assert BOOK.find("azure", "my-deployment") is None


def test_azure_data_zone_costs_a_tenth_more() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100)
    assert price("azure", "gpt-5.4", usage) == usd("0.004")
    assert price("azure", "eu/gpt-5.4", usage) == usd("0.0044")
    assert price("azure", "gpt-5.4", usage, region="eu") == usd("0.0044")


def test_fine_tuned_models_have_prices_of_their_own() -> None:
    usage = Usage(input_tokens=1_000_000, cached_input_tokens=500_000, output_tokens=1_000_000)
    tuned = price("openai", "ft:gpt-4o-2024-08-06:org::id", usage)
    assert tuned == usd("1.875") + usd("0.9375") + 15
    assert BOOK.find("openai", "ft:gpt-9:org::id") is None


def test_a_web_search_adds_its_fee() -> None:
    plain = Usage(input_tokens=1000, output_tokens=100)
    searched = Usage(input_tokens=1000, output_tokens=100, requests={"web_search": 1})
    for model in ("gpt-4o-mini", "gpt-5.4", "o4-mini"):
        assert price("openai", model, searched) - price("openai", model, plain) == usd("0.01")


def test_gemini_2_charges_a_grounded_prompt_and_gemini_3_each_query() -> None:
    usage = Usage(requests={"web_search": 3})
    assert price("google", "gemini-2.5-flash", usage) == usd("0.035")
    assert price("google", "gemini-3-flash-preview", usage) == usd("0.042")


def test_a_refusal_before_any_output_is_not_billed() -> None:
    usage = Usage(input_tokens=408)
    cost = BOOK.cost(card({"input": "3", "output": "15"}), usage, refused_before_output=True)
    assert (cost.atto, cost.flags) == (0, ("not_billed",))


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-11-21T02:00:00", "2.64"),  # Saturday
        ("2026-11-23T02:00:00", "5.28"),  # Monday, peak
        ("2026-11-23T00:59:59", "2.64"),
        ("2026-11-23T01:00:00", "5.28"),
        ("2026-11-23T04:00:00", "2.64"),
        ("2026-11-23T23:30:00", "2.64"),
        ("2026-08-01T02:00:00", "1.305"),  # Flat, before there was a peak
    ],
)
def test_deepseek_off_peak_by_hour_and_weekday(when: str, expected: str) -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert price("deepseek", "deepseek-v4-pro", usage, at=at(when)) == usd(expected)


def test_without_a_time_the_peak_is_billed() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert price("deepseek", "deepseek-v4-pro", usage) == usd("5.28")


def test_a_dated_price_holds_on_its_days() -> None:
    usage = Usage(input_tokens=1_000_000)
    assert price("xai", "grok-code-fast-1", usage, at=at("2026-05-14T23:59:59")) == usd("0.2")
    # A million tokens are above the long-context threshold of the price that followed.
    short = Usage(input_tokens=1000)
    assert price("xai", "grok-code-fast-1", short, at=at("2026-05-15T00:00:00")) == usd("0.001")


def test_an_announced_price_waits_for_its_day() -> None:
    usage = Usage(input_tokens=1_000_000)
    assert price("google", "gemini-4-argon", usage) == 2
    assert price("google", "gemini-4-argon", usage, at=at("2026-11-30T12:00:00")) == 2
    assert price("google", "gemini-4-argon", usage, at=at("2026-12-01T00:00:00")) == 4


def test_perplexity_adds_its_request_fee_by_search_size() -> None:
    usage = Usage(input_tokens=1000)
    assert price("perplexity", "sonar", usage) == usd("0.006")
    assert price("perplexity", "sonar", usage, search_context_size="low") == usd("0.006")
    assert price("perplexity", "sonar", usage, search_context_size="high") == usd("0.013")
    assert price("perplexity", "sonar-pro", usage) == usd("0.009")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("bedrock", "us.anthropic.claude-opus-9-v1:0"),
        ("anthropic", "claude-opus-9"),
        ("anthropic", "claude-sonnet-4-5-v9"),
        ("anthropic", "claude-sonnet-4-50"),
        ("bedrock", "anthropic.claude-sonnet-4-5-v9:0"),
        ("openai", "gpt-4o-mini-nano"),
        ("openai", "gpt-5.4-codex-ultra"),
        ("openai", "gpt-4"[:-1]),
        ("google", "gemini-2.5-pro-thinking-max"),
        ("openrouter", "openai/gpt-99"),
        ("openrouter", "openai/gpt-4o:whatever"),
        ("unknown", "llama3"),
        ("unknown", "my/gpt-4o"),
        ("local", "gpt-4o"),
        ("openai", ""),
        ("openai", "x" * 100_000),
        ("groq", "gpt-4o"),
        ("github_copilot", "claude-opus-5-experimental"),
    ],
)
def test_what_only_looks_like_a_known_model_has_no_price(provider: str, model: str) -> None:
    assert BOOK.find(provider, model) is None


def test_codex_is_priced_as_codex() -> None:
    assert found_model("openai", "gpt-5.3-codex") == "gpt-5.3-codex"
    assert found_model("openai", "gpt-5.1-codex-mini") == "gpt-5.1-codex-mini"


def found_model(provider: str, model: str) -> str:
    card = BOOK.find(provider, model)
    assert card is not None
    return card.model


@pytest.mark.parametrize(
    ("provider", "model", "same"),
    [
        ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("openai", "gpt-5.2-20251211", "gpt-5.2"),
        ("anthropic", "claude-opus-4.1", "claude-opus-4-1"),
        ("anthropic", "claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
        ("anthropic", "claude-4-5-haiku", "claude-haiku-4-5"),
        ("google", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("google", "gemini/gemini-2.5-flash", "gemini-2.5-flash"),
        ("google", "gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("vertex", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("vertex", "publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("openrouter", "anthropic/claude-4.5-haiku-20251001", "anthropic/claude-haiku-4.5"),
        ("openrouter", "openai/gpt-4o-mini:nitro", "openai/gpt-4o-mini"),
        ("fireworks", "accounts/fireworks/models/gpt-oss-120b", "gpt-oss-120b"),
        ("xai", "grok-3-mini-high", "grok-3-mini"),
        ("deepseek", "deepseek-reasoner", "deepseek-v4-flash"),
        ("bedrock", "us.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("unknown", "openai/gpt-4o", "gpt-4o"),
        ("gemini", "gemini-2.5-pro", "gemini-2.5-pro"),
    ],
)
def test_other_spellings_of_a_model_cost_the_same(provider: str, model: str, same: str) -> None:
    left, right = BOOK.find(provider, model), BOOK.find(provider, same)
    assert left is not None
    assert right is not None
    assert left.rates == right.rates
