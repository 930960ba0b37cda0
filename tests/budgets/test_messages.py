"""What a person reads when a budget refuses, and how amounts are written."""

from __future__ import annotations

from decimal import Decimal

import pytest

from taximeter.errors import BudgetExceededError, PriceUnknownError
from taximeter.money import usd


def test_a_budget_without_a_name_is_not_called_budget_budget() -> None:
    error = BudgetExceededError(scope="budget", limit=Decimal(5), spent=Decimal("1.5"))
    assert str(error) == "the budget allows $5.00, $1.50 of it is spent"


def test_a_window_is_said_in_words_and_when_the_next_begins() -> None:
    error = BudgetExceededError(
        scope="team",
        limit=Decimal(5),
        spent=Decimal("4.9"),
        requested=Decimal("0.25"),
        available=Decimal("0.1"),
        window="day",
        retry_after=7199.5,
        hint="Its input alone may cost more than that",
    )
    assert str(error) == (
        "budget 'team' allows $5.00 a day, $4.90 of it is spent; this call needs $0.25, "
        "$0.10 is free. Its input alone may cost more than that. "
        "The next day begins in about 2 hours"
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 second"), (90, "90 seconds"), (121, "3 minutes"), (200_000, "3 days")],
)
def test_a_wait_is_rounded_up_to_a_span_that_people_use(seconds: float, said: str) -> None:
    error = BudgetExceededError(limit=Decimal(1), spent=Decimal(1), retry_after=seconds)
    assert f"about {said}" in str(error)


def test_one_call_is_one_call() -> None:
    error = BudgetExceededError(
        limit=Decimal(1),
        spent=Decimal(1),
        requested=Decimal(1),
        available=Decimal(0),
        unit="calls",
        window="hour",
    )
    assert (
        str(error) == "the budget allows 1 call an hour, 1 used so far; this call needs 1, 0 left"
    )


def test_large_counts_have_separators() -> None:
    error = BudgetExceededError(limit=Decimal(2_000_000), spent=Decimal(1_999_000), unit="tokens")
    assert str(error) == "the budget allows 2,000,000 tokens, 1,999,000 used so far"


def test_an_unknown_provider_is_not_named_as_one() -> None:
    assert "'unknown'" not in str(PriceUnknownError("unknown", "nope-1"))
    assert "'nope-1' of 'openai'" in str(PriceUnknownError("openai", "nope-1"))


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (500_000_000, "0.50"),
        (5_000_000_000, "5.00"),
        (100_000_000_000, "100.00"),
        (241_950, "0.00024195"),
        (-10_000_000, "-0.01"),
        (1_000_000_001, "1.000000001"),
    ],
)
def test_amounts_in_usd_have_cents_and_no_digit_that_says_nothing(nano: int, text: str) -> None:
    assert str(usd(nano)) == text
    assert usd(nano) * 10**9 == nano
