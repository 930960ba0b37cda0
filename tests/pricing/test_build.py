"""How the snapshot is made: history is never lost, corrections do what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "prices"))

import merge  # noqa: E402
import sources  # noqa: E402


def row(price: str, **more: Any) -> dict[str, Any]:
    return {"r": {"input": price, "output": price}, **more}


def test_a_changed_rate_leaves_its_predecessor_behind() -> None:
    book = {"p": {"m": row("2")}}
    changes = list(merge.keep_history(book, {"p": {"m": row("1")}}, "2026-12-01", "2026-11-22"))
    assert book["p"]["m"]["s"] == "2026-12-01"
    assert book["p"]["m"]["h"] == [row("1", u="2026-12-01")]
    assert len(changes) == 1


def test_history_grows_at_its_end() -> None:
    old = row("2", h=[row("1", u="2026-01-01")], s="2026-01-01")
    book = {"p": {"m": row("3")}}
    list(merge.keep_history(book, {"p": {"m": old}}, "2026-12-01", "2026-11-22"))
    assert [step["u"] for step in book["p"]["m"]["h"]] == ["2026-01-01", "2026-12-01"]


def test_a_model_that_the_sources_dropped_stays() -> None:
    book: dict[str, dict[str, Any]] = {"p": {}}
    list(merge.keep_history(book, {"p": {"m": row("1")}}, "2026-12-01", "2026-11-22"))
    assert book["p"]["m"] == row("1")


def test_made_again_on_the_same_day_is_a_correction() -> None:
    book = {"p": {"m": row("2")}}
    list(merge.keep_history(book, {"p": {"m": row("1")}}, "2026-11-22", "2026-11-22"))
    assert "h" not in book["p"]["m"]


def test_disagreements_are_reported_and_the_first_source_is_kept() -> None:
    book, report = merge.merge({"p": {"m": row("1")}}, {"p": {"m": row("2"), "n": row("3")}})
    assert book["p"] == {"m": row("1"), "n": row("3")}
    assert report == [
        "p/m input: litellm 1, genai-prices 2",
        "p/m output: litellm 1, genai-prices 2",
    ]


def test_zeros_are_unknown_and_not_free() -> None:
    entry = {"input_cost_per_token": 0, "output_cost_per_token": 0, "mode": "chat"}
    book = sources.read_litellm(
        {
            "somebody/m": {**entry, "litellm_provider": "somebody"},
            "ollama/m": {**entry, "litellm_provider": "ollama"},
        }
    )
    assert "m" not in book.get("somebody", {})
    assert book["local"]["m"]["f"] == 1


def test_the_price_of_a_thousand_tokens_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {
        "input_cost_per_token": 0.0032,
        "output_cost_per_token": 0.0097,
        "mode": "chat",
        "litellm_provider": "somebody",
    }
    assert sources.read_litellm({"somebody/m": entry}) == {}
    assert "left out" in capsys.readouterr().out


def test_every_correction_says_why_and_where_from() -> None:
    corrections = json.loads((ROOT / "prices" / "corrections.json").read_text())
    for fact in corrections:
        assert fact.keys() == {"model", "field", "value", "reason", "source", "date"}
        assert fact["reason"]
        assert fact["source"]
