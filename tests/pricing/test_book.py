"""The book: overrides, ceilings, capabilities, and what the snapshot must always hold."""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.errors import ConfigurationError
from taximeter.pricing.book import embedded
from taximeter.pricing.dated import iso_date
from taximeter.pricing.describe import describe
from taximeter.pricing.rows import rate_of, text_of
from taximeter.usage import Usage
from tests.pricing.prices import BOOK, dollars, found

MILLION = 10**6


def million(card: Any, usage: Usage) -> Decimal:
    return dollars(BOOK.cost(card, usage))


# --- the user's own prices ------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0.00001", Decimal("0.00001"), 0.00001, "$0.00001", "1e-5"])
def test_a_price_is_exact_however_it_is_given(value: Any) -> None:
    book = BOOK.with_overrides(
        {"my-model": {"input_cost_per_token": value, "output_cost_per_token": 0}}
    )
    card = book.find("openai", "my-model")
    assert card is not None
    assert card.rates["input"] == 10**13
    assert card.source == "user"
    assert not card.free
    assert book.find("unknown", "my-model") is card


def test_overrides_leave_the_book_they_came_from_alone() -> None:
    book = BOOK.with_overrides({"gpt-4o": {"input_cost_per_token": "0.000001"}})
    assert BOOK.find("openai", "gpt-4o") != book.find("openai", "gpt-4o")
    assert book.snapshot_id.startswith(BOOK.snapshot_id + "+")
    assert book.snapshot_id != BOOK.with_overrides({}).snapshot_id


def test_an_override_is_laid_over_what_is_known() -> None:
    book = BOOK.with_overrides({"openai/gpt-4o": {"input_cost_per_token": "0.000001"}})
    card = book.find("openai", "gpt-4o")
    assert card is not None
    assert (card.rates["input"], card.rates["output"]) == (10**12, 10**13)
    assert card.output_tokens_max == found("openai", "gpt-4o").output_tokens_max
    assert book.find("azure", "gpt-4o") == BOOK.find("azure", "gpt-4o")


def test_an_override_also_meets_other_spellings() -> None:
    book = BOOK.with_overrides({"gpt-4o": {"input_cost_per_token": "0"}})
    card = book.find("google", "models/gpt-4o")
    assert card is not None
    assert card.source == "user"


def test_long_context_and_service_keys_are_read() -> None:
    book = BOOK.with_overrides(
        {
            "m": {
                "input_cost_per_token": "0.000001",
                "output_cost_per_token": "0.000002",
                "input_cost_per_token_above_200k_tokens": "0.000003",
                "input_cost_per_token_priority": "0.000005",
                "cache_creation_input_token_cost_above_1hr": "0.000007",
                "max_input_tokens": 400_000,
            }
        }
    )
    card = book.find("x", "m")
    assert card is not None
    assert card.context_tokens == 400_000
    assert dollars(book.cost(card, Usage(input_tokens=200_000))) == Decimal("0.2")
    assert dollars(book.cost(card, Usage(input_tokens=200_001))) == Decimal("0.600003")
    fast = book.cost(card, Usage(input_tokens=10), service_tier="priority")
    assert dollars(fast) == Decimal("0.00005")
    kept = Usage(input_tokens=10, cache_write_1h_tokens=10)
    assert dollars(book.cost(card, kept)) == Decimal("0.00007")


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (
            {"m": {"input_cost_per_tokn": "1"}},
            ["'m'", "input_cost_per_tokn", "input_cost_per_token"],
        ),
        ({"m": {"input_cost_per_token": "1"}}, ["'m'", "output_cost_per_token"]),
        ({"m": {"input_cost_per_token": "-1", "output_cost_per_token": 1}}, ["'m'", "-1"]),
        ({"m": {"input_cost_per_token": "cheap", "output_cost_per_token": 1}}, ["'m'", "cheap"]),
        ({"m": {"input_cost_per_token": float("nan"), "output_cost_per_token": 1}}, ["'m'", "nan"]),
        ({"m": {"input_cost_per_token": True, "output_cost_per_token": 1}}, ["'m'", "True"]),
        ({"m": "0.01"}, ["'m'", "0.01"]),
        ({3: {"input_cost_per_token": 1}}, ["3"]),
        ("gpt-4o", ["gpt-4o"]),
    ],
)
def test_a_wrong_price_names_the_model_the_key_and_the_way_out(
    prices: Any, words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BOOK.with_overrides(prices)
    for word in words:
        assert word in str(caught.value)


def test_zero_given_by_the_user_is_a_known_price() -> None:
    book = BOOK.with_overrides({"m": {"input_cost_per_token": 0, "output_cost_per_token": 0}})
    card = book.find("x", "m")
    assert card is not None
    assert card.free


# --- ceilings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "xai", "mistral", "groq"])
def test_the_ceiling_is_no_cheaper_than_any_current_text_model(provider: str) -> None:
    ceiling = BOOK.ceiling(provider)
    assert ceiling.flags == ("ceiling",)
    assert ceiling.reasons
    today = BOOK.snapshot_id[:10]
    for card in BOOK.models(provider):
        current = (card.until or "9") > today and card.source != "genai-prices"
        if current and not card.model.startswith("ft:") and card.output_tokens_max:
            if any(word in card.model for word in ("image", "audio", "tts", "realtime", "live")):
                continue
            assert card.rates["input"] <= ceiling.rates["input"], card.model
            assert card.rates["output"] <= ceiling.rates["output"], card.model


def test_a_ceiling_knows_long_prompts_and_priority() -> None:
    ceiling = BOOK.ceiling("google")
    dear = found("google", "gemini-3-pro-preview")
    for tokens in (200_000, 200_001):
        usage = Usage(input_tokens=tokens, output_tokens=1000)
        assert BOOK.cost(ceiling, usage).atto >= BOOK.cost(dear, usage).atto
    usage = Usage(input_tokens=1000)
    fast = BOOK.cost(BOOK.ceiling("openai"), usage, service_tier="priority")
    known = BOOK.cost(found("openai", "gpt-5.4"), usage, service_tier="priority")
    assert fast.atto >= known.atto


def test_a_gateways_ceiling_covers_the_dearest_that_it_sells() -> None:
    ceiling, dear = BOOK.ceiling("openrouter"), found("openrouter", "openai/gpt-5.5-pro")
    assert ceiling.rates["output"] >= dear.rates["output"]


def test_an_unknown_provider_has_the_dearest_ceiling_of_first_parties() -> None:
    unknown = BOOK.ceiling("never-heard-of")
    for provider in ("openai", "anthropic", "google", "mistral"):
        assert unknown.rates["input"] >= BOOK.ceiling(provider).rates["input"]
    assert unknown.rates["output"] < 601 * 10**12  # Not o1-pro's.
    assert "ceiling" in BOOK.cost(unknown, Usage(input_tokens=1)).flags


# --- what a model can do --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "reasons"),
    [
        ("openai", "gpt-4o", False),
        ("openai", "gpt-4.1-mini", False),
        ("openai", "o3-mini", True),
        ("openai", "o4-mini", True),
        ("openai", "gpt-5", True),
        ("openai", "gpt-5.4", True),
        ("openai", "gpt-6-sol", True),
        ("openai", "gpt-5-chat-latest", False),
        ("anthropic", "claude-sonnet-4-5", False),
        ("anthropic", "claude-opus-4-8", False),
        ("google", "gemini-2.0-flash", False),
        ("google", "gemini-2.5-flash", True),
        ("google", "gemini-3-pro-preview", True),
        ("xai", "grok-3-mini", True),
        ("xai", "grok-4.3", True),
        ("xai", "grok-4-fast-non-reasoning", False),
        ("deepseek", "deepseek-reasoner", True),
        ("deepseek", "deepseek-chat", False),
    ],
)
def test_who_may_bill_output_that_nobody_sees(provider: str, model: str, reasons: bool) -> None:
    assert found(provider, model).reasons is reasons


def test_windows_and_output_limits_are_known() -> None:
    card = found("openai", "gpt-4o-mini")
    assert (card.context_tokens, card.output_tokens_max) == (128_000, 16_384)


# --- the snapshot ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "least"),
    [
        ("openai", 150),
        ("anthropic", 30),
        ("google", 60),
        ("vertex", 100),
        ("xai", 40),
        ("deepseek", 10),
        ("perplexity", 30),
        ("mistral", 60),
        ("groq", 30),
        ("cohere", 15),
        ("bedrock", 400),
        ("azure", 250),
        ("openrouter", 800),
        ("together", 100),
        ("fireworks", 250),
        ("meta", 6),
    ],
)
def test_the_snapshot_holds_the_models_of(provider: str, least: int) -> None:
    assert sum(1 for _ in BOOK.models(provider)) >= least


def test_every_row_of_the_snapshot_is_sound() -> None:
    for card in BOOK.models():
        for step in (card, *card.history):
            assert {"input", "output"} <= step.rates.keys(), card
            for kind, rate in step.rates.items():
                ceiling = 10**18 if kind.startswith("request") else 10**15
                assert 0 <= rate <= ceiling, (card.provider, card.model, kind)
        zero = card.rates["input"] == card.rates["output"] == 0 and "request" not in card.rates
        assert card.free == zero, (card.provider, card.model)
        overs = [tier.over for tier in card.tiers]
        assert overs == sorted(set(overs)), card.model


def test_the_snapshot_id_is_a_day_and_a_number() -> None:
    day, _, number = BOOK.snapshot_id.partition(".")
    assert datetime.date.fromisoformat(day)
    assert int(number) >= 1
    assert embedded() is BOOK


def test_lookups_of_made_up_names_do_not_grow_without_end() -> None:
    book = BOOK.with_overrides({})
    for number in range(5000):
        assert book.find("openai", f"nothing-{number}") is None
    assert len(book._found) <= 4096
    assert len(book._cards) <= 4096


@given(provider=st.sampled_from(["openai", "bedrock", "google", "openrouter", "x"]), name=st.text())
def test_any_name_at_all_is_looked_up_without_an_error(provider: str, name: str) -> None:
    card = BOOK.find(provider, name)
    assert card is None or card.rates


@given(st.integers(0, 10**21))
def test_rates_survive_their_text(rate: int) -> None:
    assert rate_of(text_of(rate)) == rate


@given(st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(9999, 1, 1)))
def test_dates_are_those_of_the_calendar(moment: datetime.datetime) -> None:
    at = moment.replace(tzinfo=datetime.UTC).timestamp()
    assert iso_date(at) == moment.date().isoformat()


# --- for people -----------------------------------------------------------------------------------


def test_a_card_is_described_in_usd_per_million() -> None:
    facts = describe(found("openai", "gpt-4o-mini"))
    assert facts["rates"] == {"input": "0.15", "cached_input": "0.075", "output": "0.6"}
    assert facts["fees"]["web_search"] == "0.01"
    assert facts["context_tokens"] == 128_000


def test_every_card_can_be_described() -> None:
    assert all(describe(card)["rates"] for card in BOOK.models())


def test_prices_load_nothing_but_the_standard_library() -> None:
    import subprocess

    program = (
        "import sys, types; package = types.ModuleType('taximeter');"
        f"package.__path__ = [{str(sys.modules['taximeter'].__path__[0])!r}];"
        "sys.modules['taximeter'] = package;"
        "from taximeter.pricing.book import embedded; embedded().find('openai', 'gpt-4o');"
        "names = {name.partition('.')[0] for name in sys.modules};"
        "print(sorted(n for n in names - set(sys.stdlib_module_names) - {'taximeter'}"
        " if not n.startswith(('_', 'sitecustomize'))))"
    )
    out = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
