"""``taximeter demo``: the main job. It judges itself, so its judgement is judged here too."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from taximeter.cli.demo_check import judge
from taximeter.cli.demo_jobs import Job
from taximeter.testing import InvoiceLine
from tests.cli.conftest import Taximeter


def test_the_demo_keeps_its_promises(taximeter: Taximeter) -> None:
    pytest.importorskip("openai", reason="NO OPENAI SDK: the demo was not run")
    pytest.importorskip("anthropic", reason="NO ANTHROPIC SDK: the demo was not run")
    done = taximeter("demo", "--fast", "--json")
    assert done.status == 0, done.out + done.err
    data = done.json
    assert data["ok"] is True
    assert Decimal(data["invoice_total"]) <= Decimal(data["cap"])
    states = {call["job"]: call["state"] for call in data["calls"]}
    assert len(states) == 9
    assert (states.pop("runaway"), states.pop("history")) == ("cut", "truncated")
    assert set(states.values()) == {"done"}
    whole = [call for call in data["calls"] if call["completed"]]
    assert {call["difference"] for call in whole} == {"0"}
    assert len(whole) >= 7


def test_without_a_terminal_the_demo_shows_plain_lines(taximeter: Taximeter) -> None:
    pytest.importorskip("openai", reason="NO OPENAI SDK: the demo was not run")
    pytest.importorskip("anthropic", reason="NO ANTHROPIC SDK: the demo was not run")
    done = taximeter("demo", "--fast")
    assert done.status == 0, done.out + done.err
    assert "\x1b" not in done.out
    assert "ledger beside invoice" in done.out
    assert "7 of 7 equal to the nano-USD" in done.out
    assert "BudgetExceededError: budget 'demo'" in done.out
    assert "finish_reason='length'" in done.out


@pytest.mark.parametrize("package", ["openai", "anthropic"])
def test_a_missing_sdk_is_named_with_its_extra(
    package: str, taximeter: Taximeter, tmp_path: Any
) -> None:
    from tests.recordings import ROOT

    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules['{package}'] = None\n")
    done = taximeter("demo", "--fast", PYTHONPATH=f"{tmp_path}:{ROOT / 'src'}")
    assert done.status == 2
    assert f"{package} is not installed" in done.err
    assert "pip install 'taximeter[openai,anthropic,cli]'" in done.err  # Once, not one by one.
    assert "Traceback" not in done.err


# --- the judgement --------------------------------------------------------------------------------

LINE = InvoiceLine(
    request_id="r1",
    answer_id="a1",
    wire="openai.chat",
    model="gpt-4o-mini-2024-07-18",
    model_asked="gpt-4o-mini",
    streamed=True,
    completed=True,
    usage={},
    cost=1_000,
    tokens_sent=1,
    hidden_tokens=0,
)
CAP = Decimal("0.000002")


def row(**more: Any) -> dict[str, Any]:
    return {
        "request_id": "r1",
        "model_asked": "gpt-4o-mini",
        "settlement": "exact",
        "finish": "stop",
        "cost": Decimal("0.000001"),
        "tags": {"job": "chat"},
    } | more


def job(name: str = "chat", state: Any = "done") -> Job:
    return Job(name=name, model="m", note="", work=lambda clients, job: "", state=state)


def test_equal_books_are_in_order() -> None:
    verdict = judge([row()], [LINE], [job()], CAP)
    assert verdict.ok
    assert verdict.ledger == verdict.invoice == Decimal("0.000001")


@pytest.mark.parametrize(
    ("calls", "lines", "said"),
    [
        ([row(cost=Decimal("0.000001001"))], [LINE], "chat: ledger 0.000001001"),
        ([row(cost=None)], [LINE], "chat: ledger None"),
        ([], [LINE], "?: ledger None"),
        ([row()], [], "chat: ledger 0.000001"),
        ([row(settlement="estimated")], [], "chat: ledger 0.000001"),
        (
            [row(cost=Decimal("0.000002001"))],
            [replace(LINE, cost=2_001)],
            "the invoice passed the cap",
        ),
    ],
    ids=["a nano too much", "unpriced", "not booked", "not billed", "cut, not billed", "cap"],
)
def test_what_is_wrong_is_said(
    calls: list[dict[str, Any]], lines: list[InvoiceLine], said: str
) -> None:
    verdict = judge(calls, lines, [job()], CAP)
    assert not verdict.ok
    assert any(said in problem for problem in verdict.problems)


def test_an_interrupted_call_may_differ() -> None:
    calls = [row(settlement="estimated", cost=Decimal("0.0000013"))]
    assert judge(calls, [replace(LINE, completed=False)], [job()], CAP).ok


@pytest.mark.parametrize(
    ("name", "state"),
    [("runaway", "done"), ("history", "cut"), ("chat", "truncated"), ("chat", "running")],
)
def test_a_demo_that_shows_something_else_has_failed(name: str, state: str) -> None:
    verdict = judge([row()], [LINE], [job(name, state)], CAP)
    assert any(name in problem for problem in verdict.problems)
