"""The fare as it runs: one budget's figures at a moment, and the streams that make them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from taximeter.money import dollars

if TYPE_CHECKING:
    from taximeter.budgeting import Budget

BAR_WIDTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A call that is running. ``cut_at``: output tokens at which it would be stopped, if any."""

    model: str
    tokens: int
    cut_at: int | None
    fare: Decimal
    seconds: float
    tags: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """USD of a budget at a moment. ``limit`` and ``free`` are None where nothing caps it."""

    spent: Decimal
    held: Decimal
    free: Decimal | None
    limit: Decimal | None
    flights: tuple[Flight, ...]
    calls: int

    def line(self) -> str:
        """The figures in one line of text."""
        of = f" of {dollars(self.limit)}" if self.limit is not None else ""
        free = f" · free {short(self.free)}" if self.free is not None else ""
        running = f" · {len(self.flights)} in flight" if self.flights else ""
        return f"fare {short(self.spent)}{of} · held {short(self.held)}{free} · {self.calls} calls{running}"


def short(amount: Decimal | None) -> str:
    """USD for a display that changes: as many digits at every moment, so that nothing jumps."""
    return "?" if amount is None else f"${amount:,.6f}"


def read(budget: Budget) -> Figures:
    """What ``budget`` shows now."""
    return Figures(
        spent=budget.spent,
        held=budget.held,
        free=budget.remaining,
        limit=budget.limit,
        flights=tuple(_flights(budget)),
        calls=budget.calls_total,
    )


def _flights(budget: Budget) -> Iterable[Flight]:
    from taximeter.money import usd
    from taximeter.runtime import RUNTIME

    now = time.time()
    for call in list(RUNTIME.open.values()):
        if call.ended or budget not in call.shell.budgets:
            continue
        progress = call.progress(now)
        yield Flight(
            model=call.quote.request.model,
            tokens=progress.expected,
            cut_at=call.admitted.output_sent if call.admitted is not None else None,
            fare=usd(call.fare(now)),
            seconds=now - call.started_at,
            tags=dict(call.who.get("tags", {})),
        )


def shares(figures: Figures, width: int = BAR_WIDTH) -> tuple[int, int, int]:
    """Cells of a bar for spent, held and free. What is not nothing gets a cell while there is room."""
    if not figures.limit:
        return (0, 0, width)
    spent = _cells(figures.spent, figures.limit, width)
    held = min(_cells(figures.held, figures.limit, width), width - spent)
    return spent, held, width - spent - held


def _cells(part: Decimal, whole: Decimal, width: int) -> int:
    cells = min(int(part * width / whole), width)
    return max(cells, 1) if part > 0 else cells


def bar_text(figures: Figures, width: int = BAR_WIDTH) -> Any:
    """The bar and its figures as Rich text: spent, held, free."""
    from rich.text import Text

    spent, held, free = shares(figures, width)
    if figures.limit is None:
        return Text.assemble(("fare ", "bold"), (short(figures.spent), "bold green"))
    over = figures.spent > figures.limit
    return Text.assemble(
        ("━" * spent, "red" if over else "green"),
        ("━" * held, "yellow"),
        ("━" * free, "bright_black"),
        "  ",
        (short(figures.spent), "bold red" if over else "bold green"),
        " spent  ",
        (short(figures.held), "yellow"),
        " held  ",
        (short(figures.free), "default"),
        f" free  of {dollars(figures.limit)}",
    )
