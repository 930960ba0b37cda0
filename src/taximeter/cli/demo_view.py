"""The demo on the screen while it runs: Rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from taximeter.cli import figures as live_figures
from taximeter.cli.figures import Figures, short
from taximeter.cli.output import rich_missing
from taximeter.money import dollars

if TYPE_CHECKING:
    from taximeter.budgeting import Budget
    from taximeter.cli.demo_jobs import Job

LIVE_SECONDS: Final = 0.1
LINE_SECONDS: Final = 0.5
COLOURS: Final = {
    "running": "cyan",
    "done": "green",
    "cut": "red",
    "truncated": "yellow",
    "failed": "bold red",
}


def view(
    jobs: Sequence[Job], budget: Budget, versions: str, *, plain: bool, silent: bool
) -> AbstractContextManager[Any]:
    """What shows the demo while the ``with`` block runs."""
    if silent:
        return nullcontext()
    print(f"{versions}; a simulated provider on loopback; one budget of {dollars(budget.limit)}")
    if not plain and sys.stdout.isatty():
        missing = rich_missing()
        if missing is None:
            return Watcher(RichScreen(jobs, budget), budget, LIVE_SECONDS)
        print(f"plain lines, since {missing}")
    return Watcher(PlainLines(jobs), budget, LINE_SECONDS)


class Watcher:
    """Shows a budget's figures from a thread, and once more when the block ends."""

    def __init__(self, screen: PlainLines | RichScreen, budget: Budget, seconds: float) -> None:
        self._screen = screen
        self._budget = budget
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taximeter-demo", daemon=True)

    def __enter__(self) -> Self:
        self._screen.open()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self._screen.show(live_figures.read(self._budget))
        self._screen.close()

    def _run(self) -> None:
        while not self._done.wait(self._seconds):
            self._screen.show(live_figures.read(self._budget))


class PlainLines:
    """A line for the fare, and one when a call ends."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._told: set[str] = set()

    def open(self) -> None:
        """Nothing to prepare."""

    def show(self, now: Figures) -> None:
        """Print what is new."""
        for job in self._jobs:
            if job.over.is_set() and job.name not in self._told:
                self._told.add(job.name)
                print(f"  {job.name:<10} {job.model:<18} {job.state}: {job.ending}")
        print(now.line(), flush=True)

    def close(self) -> None:
        """Nothing to give back."""


class RichScreen:
    """A table of calls with their fares, and the bar of the budget below it."""

    def __init__(self, jobs: Sequence[Job], budget: Budget) -> None:
        from rich.console import Console
        from rich.live import Live

        self._jobs = jobs
        self._budget = budget
        self._rows: dict[str, tuple[int, Decimal]] = {}  # tokens and fare by job
        self._live = Live(console=Console(), auto_refresh=False)

    def open(self) -> None:
        """Take the screen."""
        self._live.start()

    def show(self, now: Figures) -> None:
        """Draw the moment."""
        from rich.console import Group

        self._rows |= {f.tags.get("job", "?"): (f.tokens, f.fare) for f in now.flights}
        for call in self._budget.summary_data()["calls"]:
            fare = call["cost"] or Decimal(0)
            self._rows[call["tags"].get("job", "?")] = (call.get("output_tokens", 0), fare)
        self._live.update(Group("", self._table(), "", live_figures.bar_text(now)), refresh=True)

    def close(self) -> None:
        """Leave the last picture where it is."""
        self._live.stop()

    def _table(self) -> Any:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for heading in ("call", "model", "how"):
            table.add_column(heading, no_wrap=True)
        table.add_column("tokens", justify="right", min_width=7)
        table.add_column("fare", justify="right", min_width=10)
        table.add_column("state", no_wrap=True, min_width=24)
        for job in self._jobs:
            tokens, fare = self._rows.get(job.name, (None, None))
            table.add_row(
                job.name,
                job.model,
                Text(job.note, "bright_black"),
                f"{tokens:,}" if tokens is not None else "",
                Text(short(fare), "green") if fare is not None else "",
                Text(_state(job), COLOURS.get(job.state, "bright_black")),
            )
        return table


def _state(job: Job) -> str:
    return f"{job.state}: {job.ending}" if job.over.is_set() and job.ending else job.state
