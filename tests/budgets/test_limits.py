"""Limits as people type them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taximeter.budgets.limits import UNITS, Limit, parse_limit, parse_spec, total
from taximeter.budgets.windows import TOTAL, Window
from taximeter.errors import ConfigurationError
from taximeter.money import AMOUNT_MAX

DAY, HOUR, MONTH = Window(unit="day"), Window(unit="hour"), Window(unit="month")


@pytest.mark.parametrize(
    ("text", "unit", "amount", "window"),
    [
        ("$5", "usd", 5_000_000_000, TOTAL),
        ("$5/day", "usd", 5_000_000_000, DAY),
        ("5/day", "usd", 5_000_000_000, DAY),
        (" $ 0.000000001 per hour ", "usd", 1, HOUR),
        (".5 USD / month", "usd", 500_000_000, MONTH),
        ("$1,234.50/month", "usd", 1_234_500_000_000, MONTH),
        ("$2k/month", "usd", 2_000_000_000_000, MONTH),
        ("100 calls/hour", "calls", 100, HOUR),
        ("100 requests per hour", "calls", 100, HOUR),
        ("2M tokens/month", "tokens", 2_000_000, MONTH),
        ("1.5k tokens", "tokens", 1500, TOTAL),
        ("1_000 tokens", "tokens", 1000, TOTAL),
        ("20 tool calls", "tool_calls", 20, TOTAL),
        ("20 tool_calls/day", "tool_calls", 20, DAY),
        ("0 calls", "calls", 0, TOTAL),
    ],
)
def test_a_limit_reads_as_it_is_typed(text: str, unit: str, amount: int, window: Window) -> None:
    assert parse_limit(text, scope="s") == Limit(unit=unit, amount=amount, window=window, scope="s")


def test_a_spec_joins_limits() -> None:
    assert parse_spec("$5/hour + 100 calls/hour+$9/day") == (
        Limit(unit="usd", amount=5_000_000_000, window=HOUR),
        Limit(unit="calls", amount=100, window=HOUR),
        Limit(unit="usd", amount=9_000_000_000, window=DAY),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "limit '' cannot be read; write e.g."),
        ("$5/day +", "limit ''"),
        ("€5/day", "limit '€5/day'"),
        ("-$5", "limit '-\\$5'"),
        ("nan", "limit 'nan'"),
        ("$5 apples/day", "unit 'apples'"),
        ("$5 calls", "unit 'calls'"),
        ("$5/fortnight", "window='fortnight'"),
        ("$5/24h", "window='24h' is a rolling window"),
        ("$5/", "window=''"),
        ("1.5 calls", "not a whole number of calls"),
        ("$5/day + 3 calls + $6/day", "'\\$6/day' .* usd in the same window twice"),
        ("$99999999999", "above 9.2 billion"),
        ("9" * 30 + " tokens", "tokens is not an int from 0"),
        (5, r"budget\(5\) is not a text.*max_usd=5"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_way_out(text: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_spec(text)


@pytest.mark.parametrize(
    "facts", [{"unit": "cows", "amount": 1}, {"unit": "usd", "amount": 1.5},
              {"unit": "usd", "amount": -1}, {"unit": "calls", "amount": True}]
)  # fmt: skip
def test_what_a_limit_cannot_be_is_named(facts: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"cows|int from 0"):
        Limit(**facts)


def test_a_limit_without_an_amount_only_counts() -> None:
    limit = total("usd", None, "day")
    assert (limit.amount, limit.window, str(limit)) == (None, DAY, "any usd/day")
    assert total("calls", 3).window == TOTAL


def test_the_counter_of_a_limit_is_its_scope_unit_and_window_and_not_its_amount() -> None:
    limits = parse_spec("$5/day + $6 + 7 calls/day", scope="acme")
    at = 1_795_305_600.0
    assert [limit.key(at) for limit in limits] == [
        "acme:usd:day:2026-11-22", "acme:usd:total", "acme:calls:day:2026-11-22",
    ]  # fmt: skip
    assert parse_limit("$50/day", scope="acme").key(at) == limits[0].key(at)


names = st.text(alphabet=":aus@/", max_size=12)
limits = st.builds(
    Limit,
    unit=st.sampled_from(UNITS),
    amount=st.integers(0, AMOUNT_MAX),
    window=st.sampled_from([TOTAL, HOUR, DAY, MONTH, Window(unit="day", zone="Asia/Tokyo")]),
    scope=names,
)


@given(one=limits, other=limits)
def test_no_two_limits_share_a_counter_however_scopes_are_named(one: Limit, other: Limit) -> None:
    same = (one.scope, one.unit, one.window) == (other.scope, other.unit, other.window)
    assert (one.key(1.7e9) == other.key(1.7e9)) is same


@given(limit=limits)
@example(limit=Limit(unit="usd", amount=AMOUNT_MAX))
def test_a_limit_reads_back_as_it_is_shown(limit: Limit) -> None:
    again = parse_limit(str(limit), zone=limit.window.zone, scope=limit.scope)
    assert (again.unit, again.amount, again.window.unit) == (
        limit.unit, limit.amount, limit.window.unit,
    )  # fmt: skip
