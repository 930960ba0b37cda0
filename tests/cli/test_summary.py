"""The summary that a budget prints."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from taximeter.report import summary_text

CALL: Mapping[str, Any] = {
    "model": "gpt-4o",
    "input_tokens": 1200,
    "output_tokens": 30,
    "cost": Decimal("0.002"),
}


def data(**changes: Any) -> dict[str, Any]:
    """A budget of $1 that one call was made in."""
    facts: dict[str, Any] = {
        "name": "nightly",
        "mode": "clamp",
        "limit": Decimal(1),
        "spent": Decimal("0.002"),
        "settled": Decimal("0.002"),
        "held": Decimal(0),
        "remaining": Decimal("0.998"),
        "tripped": None,
        "calls_total": 1,
        "calls_refused": 0,
        "calls_unpriced": 0,
        "calls_estimated": 0,
        "calls_open": 0,
        "calls": [CALL],
    }
    return facts | changes


def test_a_summary_lists_models_with_their_tokens_and_cost() -> None:
    head, titles, row = summary_text(data()).splitlines()
    assert head == "budget nightly (clamp): $0.002 of $1.00 spent, $0.998 remaining"
    assert titles.split() == ["model", "calls", "input", "output", "cost"]
    assert row.split() == ["gpt-4o", "1", "1,200", "30", "$0.002"]


def test_a_budget_without_a_name_is_just_the_budget() -> None:
    assert summary_text(data(name="budget")).startswith("budget (clamp): ")


def test_what_other_runs_have_spent_of_a_shared_budget_is_said() -> None:
    text = summary_text(data(spent=Decimal("0.5"), settled=Decimal("0.5")))
    assert "elsewhere: $0.498, by other runs" in text


def test_what_cannot_be_told_apart_is_not_put_on_others() -> None:
    more = Decimal("0.5")
    assert "elsewhere" not in summary_text(data(settled=more, mode="strict"))
    assert "elsewhere" not in summary_text(data(settled=more, calls_total=20_000))
    assert "elsewhere" not in summary_text(data(settled=Decimal(0)))  # The call's window is over.
