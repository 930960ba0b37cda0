"""``taximeter demo``: the official SDKs under one budget, and the ledger beside the invoice."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from taximeter.cli.output import LEFT, RIGHT, add_command, print_table, to_json, wrap
from taximeter.money import dollars

if TYPE_CHECKING:
    from taximeter.budgeting import Budget
    from taximeter.cli.demo_check import Pair, Verdict
    from taximeter.cli.demo_jobs import Clients, Job
    from taximeter.testing import SimulatedProvider

CAP: Final = "0.05"
SMALL_CAP: Final = "0.0036"
SECONDS_MAX: Final = 60.0
DIFFERS: Final = 1

EXAMPLES: Final = """\
  taximeter demo
  taximeter demo --fast --json

  Nothing leaves this machine: a simulated provider on loopback answers, and keeps an invoice that
  shares nothing with taximeter's own counting.

exit status:
  1 when a completed call differs from its invoice line or the invoice passes the cap, else 0."""


def add(commands: Any) -> None:
    """The arguments of ``demo``."""
    parser = add_command(
        commands,
        "demo",
        help="the official SDKs under one budget, on a simulated provider",
        description="Concurrent streams of the official openai and anthropic SDKs under one "
        "budget. A runaway stream is cut, another is ended like a short answer; then the ledger "
        "is laid beside the provider's invoice.",
        examples=EXAMPLES,
    )
    parser.add_argument("--fast", action="store_true", help="two or three seconds instead of ten")
    parser.add_argument("--plain", action="store_true", help="plain lines, also on a terminal")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run the scene, show it, and judge it."""
    from taximeter.api import budget
    from taximeter.cli import demo_jobs
    from taximeter.cli.demo_check import judge
    from taximeter.cli.demo_view import view
    from taximeter.stores.memory import MemoryStore
    from taximeter.testing import SimulatedProvider

    pace = demo_jobs.FAST if options.fast else demo_jobs.SHOW
    jobs = [*demo_jobs.ordinary(), demo_jobs.history(), demo_jobs.footnote(), demo_jobs.runaway()]
    if not options.json:  # Importing them takes longer than all that follows.
        print("loading the official SDKs ...", flush=True)
    with SimulatedProvider(demo_jobs.replies(pace), seed=7) as provider:
        clients = demo_jobs.Clients(provider)
        store = MemoryStore()  # Fresh, so that the demo can be run again in one process.
        whole = budget(max_usd=CAP, name="demo", store=store)
        small = budget(max_usd=SMALL_CAP, name="history", on_limit="truncate", store=store)
        shown = view(jobs, whole, clients.versions, plain=options.plain, silent=options.json)
        with shown, whole:
            _scene(jobs, clients, provider, small)
        clients.close()
        provider.wait_until_idle()
        verdict = judge(whole.summary_data()["calls"], provider.invoice, jobs, Decimal(CAP))
    if options.json:
        print(to_json(_data(verdict, whole, jobs)))
    else:
        _print(verdict, jobs)
    return 0 if verdict.ok else DIFFERS


def _scene(
    jobs: Sequence[Job], clients: Clients, provider: SimulatedProvider, small: Budget
) -> None:
    """The runaway first, with all the money to itself; then the others, all at once.

    ``history`` has a small budget of its own, of which ``footnote`` then takes a part, so that it
    has to be ended in the middle. Both answers go on when every other call has been made.
    """
    by_name = {job.name: job for job in jobs}
    runaway, history, footnote = by_name["runaway"], by_name["history"], by_name["footnote"]
    threads = [_start(runaway, clients)]
    _wait_for(1, jobs, provider)
    with small:
        threads.append(_start(history, clients))
        _wait_for(2, jobs, provider)
        threads.append(_start(footnote, clients))
    others = [job for job in jobs if job not in (runaway, history, footnote)]
    threads += [_start(job, clients) for job in others]
    _wait_for(len(jobs), jobs, provider)
    provider.release()
    for thread in threads:
        thread.join(SECONDS_MAX)


def _wait_for(requests: int, jobs: Sequence[Job], provider: SimulatedProvider) -> None:
    """Until the provider has been asked so often; jobs that failed will not ask."""
    pause = threading.Event()
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        if len(provider.requests) + sum(job.state == "failed" for job in jobs) >= requests:
            return
        pause.wait(0.005)


def _start(job: Job, clients: Clients) -> threading.Thread:
    from taximeter.api import tags

    with tags(job=job.name):  # A thread belongs to the scope in which it was started.
        thread = threading.Thread(target=job.run, args=(clients,), name=job.name, daemon=True)
        thread.start()
    return thread


def _data(verdict: Verdict, budget: Budget, jobs: Sequence[Job]) -> dict[str, Any]:
    return {
        "ok": verdict.ok,
        "cap": verdict.cap,
        "ledger_total": verdict.ledger,
        "invoice_total": verdict.invoice,
        "settled": budget.settled,
        "problems": verdict.problems,
        "calls": [
            {
                "job": pair.job,
                "model": pair.model,
                "state": next((job.state for job in jobs if job.name == pair.job), "?"),
                "ended": pair.ended,
                "settlement": pair.settlement,
                "completed": pair.completed,
                "ledger": pair.ledger,
                "invoice": pair.invoice,
                "difference": pair.difference,
            }
            for pair in verdict.pairs
        ],
    }


def _print(verdict: Verdict, jobs: Sequence[Job]) -> None:
    print("\nledger beside invoice, USD\n")
    columns = [
        ("call", LEFT),
        ("model", LEFT),
        ("ended", LEFT),
        ("booked", LEFT),
        ("ledger", RIGHT),
        ("invoice", RIGHT),
        ("difference", RIGHT),
    ]
    total = ["total", "", "", "", _nano(verdict.ledger), _nano(verdict.invoice), ""]
    print_table(columns, [_row(pair) for pair in verdict.pairs], total=total)
    done = [pair for pair in verdict.pairs if pair.completed]
    equal = sum(pair.agrees for pair in done)
    print(f"\ncompleted calls    {equal} of {len(done)} equal to the nano-USD")
    if len(done) < len(verdict.pairs):
        print("cut calls          booked with a margin for what was generated but not yet read")
    free = verdict.cap - verdict.invoice
    print(
        f"cap                {dollars(verdict.cap)}; invoice {dollars(verdict.invoice)}, ", end=""
    )
    print(f"{dollars(free)} below it" if free >= 0 else f"{dollars(-free)} ABOVE IT")
    for job in jobs:
        if job.state == "cut":
            print(wrap(f"{job.name:<19}{job.ending}: {job.error}", 19))
        elif job.state == "truncated":
            print(f"{job.name:<19}ended as a normal, short answer: finish_reason={job.ending!r}")
    for problem in verdict.problems:
        print(f"taximeter: {problem}", file=sys.stderr)


def _row(pair: Pair) -> list[str]:
    gap = pair.difference
    shown = "?" if gap is None else "=" if gap == 0 else f"{gap:+.9f}"
    ledger, invoice = _nano(pair.ledger), _nano(pair.invoice)
    return [pair.job, pair.model, pair.ended, pair.settlement, ledger, invoice, shown]


def _nano(amount: Decimal | None) -> str:
    return "-" if amount is None else f"{amount:.9f}"
