"""The demo's verdict: the ledger beside the provider's invoice, call by call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from taximeter.cli.demo_jobs import Job
from taximeter.testing import InvoiceLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One call: what we booked and what the provider billed, USD; None where one side has no row."""

    job: str
    model: str
    ended: str
    settlement: str
    completed: bool
    ledger: Decimal | None
    invoice: Decimal | None

    @property
    def difference(self) -> Decimal | None:
        """Ledger less invoice."""
        if self.ledger is None or self.invoice is None:
            return None
        return self.ledger - self.invoice

    @property
    def agrees(self) -> bool:
        """A completed call must be equal to the nano-USD; an interrupted one must be in both books."""
        return self.difference == 0 if self.completed else self.difference is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All calls, the totals and the cap in USD, and what is wrong (nothing, when all is well)."""

    pairs: Sequence[Pair]
    cap: Decimal
    ledger: Decimal
    invoice: Decimal
    problems: Sequence[str]

    @property
    def ok(self) -> bool:
        return not self.problems


def judge(
    calls: Sequence[Mapping[str, Any]],
    invoice: Sequence[InvoiceLine],
    jobs: Sequence[Job],
    cap: Decimal,
) -> Verdict:
    """Match ledger rows (``summary_data()["calls"]``) with invoice lines by request id.

    Args:
        cap: USD that the invoice may not pass.
    """
    billed = {line.request_id: line for line in invoice}
    states = {job.name: job for job in jobs}
    pairs = [_pair(call, billed.pop(str(call["request_id"]), None), states) for call in calls]
    pairs += [_unbooked(line) for line in billed.values()]
    order = {job.name: number for number, job in enumerate(jobs)}
    pairs.sort(key=lambda pair: order.get(pair.job, len(order)))
    total = sum((line.cost_usd for line in invoice), Decimal(0))
    problems = [_problem(pair) for pair in pairs if not pair.agrees]
    problems += [f"{job.name}: {job.ending}" for job in jobs if job.state == "failed"]
    problems += _unlike_the_plan(jobs)
    if total > cap:
        problems.append(f"the invoice passed the cap: {total} of {cap} USD")
    return Verdict(
        pairs=pairs,
        cap=cap,
        ledger=sum((pair.ledger or Decimal(0) for pair in pairs), Decimal(0)),
        invoice=total,
        problems=problems,
    )


def _pair(call: Mapping[str, Any], line: InvoiceLine | None, jobs: Mapping[str, Job]) -> Pair:
    name = str(call["tags"].get("job", "?"))
    return Pair(
        job=name,
        model=str(call["model_asked"]),
        ended=_ended(jobs.get(name), call),
        settlement=str(call["settlement"]),
        completed=line.completed if line is not None else call["settlement"] == "exact",
        ledger=call["cost"],
        invoice=line.cost_usd if line is not None else None,
    )


def _unbooked(line: InvoiceLine) -> Pair:
    return Pair(
        job="?",
        model=line.model_asked,
        ended="not in the ledger",
        settlement="missing",
        completed=line.completed,
        ledger=None,
        invoice=line.cost_usd,
    )


def _ended(job: Job | None, call: Mapping[str, Any]) -> str:
    if job is None:
        return str(call["finish"])
    if job.state == "cut":
        return "cut, raised"
    return f"cut, {job.ending}" if job.state == "truncated" else job.ending or job.state


def _problem(pair: Pair) -> str:
    return f"{pair.job}: ledger {pair.ledger}, invoice {pair.invoice} USD"


def _unlike_the_plan(jobs: Sequence[Job]) -> list[str]:
    """The demo shows what it says: one stream cut, one truncated, all others complete."""
    wanted = {"runaway": "cut", "history": "truncated"}
    return [
        f"{job.name} is {job.state}, not {wanted.get(job.name, 'done')}"
        for job in jobs
        if job.state not in (wanted.get(job.name, "done"), "failed")
    ]
