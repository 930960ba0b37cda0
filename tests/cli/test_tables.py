"""``stats``, ``estimate`` and ``prices``: the same figures for people, spreadsheets and programs."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from taximeter.cli import main
from taximeter.cli.output import text_table, to_json
from taximeter.cli.stats import when
from taximeter.errors import ConfigurationError
from taximeter.ledger import Entry
from taximeter.money import dollars, plain
from taximeter.stores.urls import open_ledger
from taximeter.usage import Usage
from tests.cli.conftest import Taximeter

DAY = 86_400.0
NOON = 1_795_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Three calls: two of x on one day, one of y the day before, unpriced and estimated."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = open_ledger(url)

    def entry(id: str, model: str, cost: int | None, at: float, **more: object) -> Entry:
        usage = Usage(input_tokens=10, output_tokens=5)
        return Entry(id=id, model=model, cost=cost, started_at=at, usage=usage, **more)  # type: ignore[arg-type]

    ledger.save_batch(
        [
            entry("1", "x", 1_500, NOON, project="p", latency_ms=10.0, tags={"team": "a"}),
            entry("2", "x", 2_000_000_000, NOON, status=500),
            entry("3", "y", None, NOON - DAY, settlement="estimated"),
        ]
    )
    ledger.close()
    return url


def test_totals_as_json_carry_every_digit(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--json", "--by", "model,day", "--store", store]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["total_cost_usd"] == "2.0000015"
    assert data["total_requests"] == 3
    assert (data["failed_requests"], data["unpriced_requests"]) == (1, 1)
    assert data["by"] == ["model", "day"]
    assert [(g["model"], g["total_requests"], g["total_cost_usd"]) for g in data["groups"]] == [
        ("x", 2, "2.0000015"),
        ("y", 1, "0"),
    ]


@pytest.mark.parametrize(
    ("filters", "requests"),
    [
        (["--project", "p"], 1),
        (["--model", "x"], 2),
        (["--since", "2026-11-18T11:06:40"], 2),
        (["--until", "2026-11-18T11:06:40+00:00"], 1),
        (["--model", "z"], 0),
    ],
)
def test_filters_and_times_choose_entries(
    filters: list[str], requests: int, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", "--json", "--store", store, *filters]) == 0
    assert json.loads(capsys.readouterr().out)["total_requests"] == requests


def test_csv_has_a_header_and_a_row_for_each_group(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", "--csv", "--by", "tag:team", "--store", store]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["tag:team"], row["total_cost_usd"]) for row in rows] == [
        ("", "2"),
        ("a", "0.0000015"),
    ]


def test_the_table_says_what_the_sum_leaves_out(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", "--by", "model", "--store", store]) == 0
    shown = capsys.readouterr().out
    total = next(line for line in shown.splitlines() if line.startswith("total"))
    assert total.split()[:3] == ["total", "3", "1"]
    assert "$2.0000015" in total
    assert "1 of them have no price" in shown
    assert "1 of them ended early" in shown


def test_an_empty_ledger_says_so(tmp_path: Path, taximeter: Taximeter) -> None:
    done = taximeter("stats")
    assert (done.status, done.err) == (0, "")
    assert "no calls" in done.out


def test_asking_never_makes_a_ledger(tmp_path: Path) -> None:
    assert main(["stats", "--store", f"sqlite:///{tmp_path}/typo.db"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30s", NOON - 30),
        ("90m", NOON - 5400),
        ("24h", NOON - DAY),
        ("7d", NOON - 7 * DAY),
        ("2w", NOON - 14 * DAY),
        ("1970-01-02", DAY),
        ("1970-01-02T01:00", DAY + 3600),
        ("1970-01-02T01:00+01:00", DAY),
        ("1970-01-02T00:00Z", DAY),
    ],
)
def test_times_are_spans_or_dates(text: str, moment: float) -> None:
    assert when("--since", text, NOON) == moment


@pytest.mark.parametrize("text", ["", "d", "7", "-7d", "7 days", "2026-13-01", "soon", "9" * 400])
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--until"):
        when("--until", text, NOON)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash"])
def test_an_estimate_lies_below_its_worst_case(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", model, "--text", "word " * 500, "--max-tokens", "50", "--json"]) == 0
    (data,) = json.loads(capsys.readouterr().out)
    assert data["model"] == model
    assert data["output_tokens"] == 50
    assert 0 < data["input_tokens"] <= data["input_tokens_max"]
    amounts = [Decimal(data[name]) for name in ("input_usd", "expected_usd", "worst_usd")]
    assert amounts == sorted(amounts)
    assert amounts[0] > 0


def test_models_are_compared_in_the_order_given(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "estimate",
        "gpt-4.1",
        "--text",
        "hi",
        "--max-tokens",
        "9",
        "--compare",
        "gpt-4.1-nano, o3",
    ]
    assert main(argv) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert rows == ["gpt-4.1", "gpt-4.1-nano", "o3"]


def test_a_prompt_comes_from_text_file_or_stdin_alike(taximeter: Taximeter, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Tell me about taxis.")
    ask = ("estimate", "gpt-4o-mini", "--max-tokens", "10", "--json")
    given = [
        taximeter(*ask, "--text", "Tell me about taxis."),
        taximeter(*ask, "--file", "prompt.txt"),
        taximeter(*ask, "--file", "-", input="Tell me about taxis."),
        taximeter(*ask, input="Tell me about taxis."),
    ]
    assert [one.status for one in given] == [0] * 4
    assert len({one.out for one in given}) == 1


def test_prices_are_listed_by_provider_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["prices", "list", "--provider", "anthropic", "--search", "Haiku-4-5", "--json"]
    assert main(argv) == 0
    cards = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "claude-haiku-4-5" in {card["model"] for card in cards}
    assert {card["provider"] for card in cards} == {"anthropic"}
    assert all("haiku-4-5" in card["model"] for card in cards)


def test_the_list_counts_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", "list", "--search", "no such model"]) == 0
    assert "\n0 models" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "model", "output"),
    [
        (["gpt-4o-mini"], "gpt-4o-mini", "0.6"),
        (["gpt-4o-mini", "--provider", "azure"], "gpt-4o-mini", "0.6"),
        (["azure/gpt-4o-mini"], "gpt-4o-mini", "0.6"),
        (["claude-haiku-4-5-20251001"], "claude-haiku-4-5-20251001", "5"),
    ],
)
def test_a_card_shows_its_rates_per_million(
    words: list[str], model: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prices", "show", *words, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["model"], card["rates"]["output"]) == (model, output)
    assert card["source"]
    assert card["snapshot"]
    assert main(["prices", "show", *words]) == 0
    shown = capsys.readouterr().out
    assert "USD per million tokens" in shown
    assert card["snapshot"] in shown


def test_every_card_of_the_book_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from taximeter.cli.prices import _print_card
    from taximeter.pricing.book import embedded
    from taximeter.pricing.describe import describe

    for card in embedded().models():
        _print_card({**describe(card), "snapshot": "today"})
    assert "off-peak" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0.00"),
        ("1", "$1.00"),
        ("0.0000001", "$0.0000001"),
        ("1234.5", "$1,234.50"),
        ("-0.25", "-$0.25"),
        ("1E+3", "$1,000.00"),
    ],
)
def test_dollars_have_cents_and_every_digit(amount: str, text: str) -> None:
    assert dollars(Decimal(amount)) == text
    assert Decimal(plain(Decimal(amount))) == Decimal(amount)


def test_json_never_makes_a_float_of_an_amount() -> None:
    assert json.loads(to_json({"a": [Decimal("1E-9")], "b": {3: None}})) == {
        "a": ["0.000000001"],
        "b": {"3": None},
    }


def test_a_plain_table_is_aligned() -> None:
    lines = text_table(
        [("name", "<"), ("n", ">")], [("a", "10"), ("long", "2")], total=("sum", "12")
    )
    assert lines == ["name   n", "a     10", "long   2", "--------", "sum   12"]
