"""The oracle: what providers say an answer cost, against what we say, over every recording."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from taximeter.pricing.answers import answer_cost
from taximeter.wire.replay import Replayed, _feed
from tests.recordings import needs_recordings, read

EXCEPTIONS: dict[str, str] = json.loads(
    (Path(__file__).parent / "stated_costs_exceptions.json").read_text()
)
WIRES = ("openai.chat", "openai.responses", "embeddings")
DIGITS_MAX = 12  # Behind these stand thirds (storage for five minutes) and noise of float sums.


def stated(usage: Any) -> Decimal | None:
    """The provider's own figure, read apart from our meters."""
    if not isinstance(usage, dict):
        return None
    if ticks := usage.get("cost_in_usd_ticks"):
        return Decimal(ticks).scaleb(-10)
    cost = usage.get("cost", usage.get("market_cost"))
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    return Decimal(repr(cost)) if cost else None


def agrees(ours: Decimal, theirs: Decimal, *, roundings: int) -> bool:
    """Whether ``ours`` is ``theirs`` to the digits stated; ``roundings``: parts rounded apart."""
    digits = len(theirs.normalize().as_tuple().digits)
    unit = Decimal(1).scaleb(theirs.normalize().adjusted() - min(digits, DIGITS_MAX) + 1)
    if roundings == 0:
        return abs(ours - theirs) <= (unit if digits > DIGITS_MAX else 0)
    return abs(ours - theirs) <= unit * roundings / 2


def replayed(record: dict[str, Any]) -> Replayed:
    return _feed(record, record["wire"], record["response_body"].encode(), None)


@needs_recordings
@pytest.mark.parametrize("wire", WIRES)
def test_our_price_is_the_providers_to_the_digits_stated(wire: str) -> None:
    wrong: list[str] = []
    checked = 0
    for record in read(wire):
        theirs = stated(record["provider_usage"])
        if theirs is None or record["id"][:8] in EXCEPTIONS:
            continue
        checked += 1
        cost = answer_cost(replayed(record))
        ours = None if cost is None else Decimal(cost.atto).scaleb(-18)
        # Perplexity states five decimals, input and output rounded apart; others state all.
        sonar = "sonar" in (record["model"] or "")
        if ours is None or not agrees(ours, theirs, roundings=2 if sonar else 0):
            wrong.append(f"{record['id']} {record['provider']} {record['model']}: {ours} {theirs}")
    assert not wrong, "\n".join(wrong)
    assert checked > 0


@needs_recordings
def test_every_exception_is_a_recording_that_still_disagrees() -> None:
    seen: set[str] = set()
    for wire in WIRES:
        for record in read(wire):
            key = record["id"][:8]
            theirs = stated(record["provider_usage"])
            if key not in EXCEPTIONS or theirs is None:
                continue
            cost = answer_cost(replayed(record))
            assert cost is None or Decimal(cost.atto).scaleb(-18) != theirs, key
            seen.add(key)
    assert seen == set(EXCEPTIONS)


def test_agreement_is_to_the_last_digit_stated() -> None:
    assert agrees(Decimal("0.00123"), Decimal("0.00123"), roundings=0)
    assert not agrees(Decimal("0.001231"), Decimal("0.00123"), roundings=0)
    assert agrees(Decimal("0.005098"), Decimal("0.0051"), roundings=2)
    assert not agrees(Decimal("0.00524"), Decimal("0.00501"), roundings=2)
