"""The live meter of ``run --live``: a pane on a terminal, else a plain line when figures change."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from taximeter.cli import figures as live_figures
from taximeter.cli.figures import Figures, Flight, short
from taximeter.cli.output import rich_missing
from taximeter.cli.pane import Pane

if TYPE_CHECKING:
    from taximeter.budgeting import Budget

PANE_SECONDS: Final = 0.15
LINE_SECONDS: Final = 1.0
FLIGHTS_SHOWN: Final = 4


class LiveMeter:
    """Shows a budget on stderr from :meth:`start` to :meth:`stop`, from a thread of its own."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._done = threading.Event()
        self._last = ""
        self._thread = threading.Thread(target=self._run, name="taximeter-live", daemon=True)
        missing = rich_missing()
        self._pane = None
        if missing is not None:
            print(f"taximeter: --live shows plain lines: {missing}", file=sys.stderr)
        elif sys.stderr.isatty():
            self._pane = Pane(sys.stderr, FLIGHTS_SHOWN + 2)

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Take the meter off the screen. May be called again."""
        if not self._done.is_set():
            self._done.set()
            self._thread.join(timeout=2)
            if self._pane is not None:
                self._pane.close()

    def _run(self) -> None:
        from taximeter.errors import StoreError

        seconds = PANE_SECONDS if self._pane is not None else LINE_SECONDS
        while True:  # Drawn at least once, however short the program is.
            with suppress(StoreError):  # A busy store is no reason to stop watching.
                self._show(live_figures.read(self._budget))
            if self._done.wait(seconds):
                return

    def _show(self, now: Figures) -> None:
        if self._pane is not None:
            self._pane.draw(pane_lines(now, self._pane.columns))
            return
        line = f"taximeter: {now.line()}"
        if line != self._last and (now.calls or now.flights):
            print(line, file=sys.stderr, flush=True)
            self._last = line


def pane_lines(now: Figures, columns: int) -> list[str]:
    """The pane's rows: the bar, the calls in flight, and how many more there are."""
    rows: list[Any] = [live_figures.bar_text(now, max(min(columns - 60, 40), 8))]
    rows += [_flight_text(flight) for flight in now.flights[:FLIGHTS_SHOWN]]
    more = len(now.flights) - FLIGHTS_SHOWN
    if more > 0:
        rows.append(f"  … and {more} more in flight")
    return [_rendered(row, columns) for row in rows]


def _flight_text(flight: Flight) -> Any:
    from rich.text import Text

    cut = f" of {flight.cut_at:,}" if flight.cut_at is not None else ""
    return Text.assemble(
        "  ",
        (f"{flight.model:<28.28}", "cyan"),
        f"{flight.tokens:>8,}{cut} tokens  ",
        (short(flight.fare), "green"),
        (f"  {flight.seconds:.1f} s", "bright_black"),
    )


def _rendered(row: Any, columns: int) -> str:
    """One row as the terminal's own bytes, cut to its width; colours as NO_COLOR and TERM allow."""
    from rich.console import Console

    console = Console(file=sys.stderr, width=columns, force_terminal=True, highlight=False)
    with console.capture() as captured:
        console.print(row, end="", no_wrap=True, overflow="ellipsis", crop=True)
    return captured.get()
