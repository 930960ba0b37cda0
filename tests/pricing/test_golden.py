"""Prices that a person has looked at: a source that changes one must be looked at again."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter.pricing.rows import text_of
from tests.pricing.prices import found

ROWS = [
    line.split("\t")
    for line in (Path(__file__).parent / "golden.tsv").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "/".join(row[:2]))
def test_golden_price(row: list[str]) -> None:
    provider, model, *prices = row
    rates = found(provider, model).rates
    for kind, price in zip(
        ("input", "cached_input", "cache_write_5m", "output"), prices, strict=True
    ):
        if price != "-":
            assert text_of(rates[kind]) == price, kind


def test_there_are_enough_of_them() -> None:
    assert len(ROWS) >= 60
