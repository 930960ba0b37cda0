"""Limits as data: a number in a window for a scope, and the shorthand that people type. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from taximeter.budgets.windows import TOTAL, Window, parse_window
from taximeter.errors import ConfigurationError
from taximeter.money import AMOUNT_MAX, amount, plain, usd

UNITS: Final = ("usd", "tokens", "calls", "tool_calls")
EXAMPLES: Final = "'$5', '$5/day', '100 calls/hour', '2M tokens/month'"
_NAMES: Final = {
    "": "usd", "$": "usd", "usd": "usd", "dollar": "usd", "dollars": "usd",
    "token": "tokens", "tokens": "tokens", "call": "calls", "calls": "calls",
    "request": "calls", "requests": "calls",
    "tool call": "tool_calls", "tool calls": "tool_calls",
    "tool_call": "tool_calls", "tool_calls": "tool_calls",
}  # fmt: skip
_MULTIPLES: Final = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
_PER: Final = re.compile(r"\s*/\s*|\s+per\s+")
_AMOUNT: Final = re.compile(
    r"(?P<sign>\$)?\s*(?P<number>\d[\d_]*(?:,\d{3})*(?:\.\d+)?|\.\d+)"
    r"\s*(?P<multiple>[kKmMbB]\b)?\s*(?P<unit>[a-zA-Z_$][a-zA-Z_ ]*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most ``amount`` of ``unit`` in each ``window``, counted for ``scope``.

    ``amount``: nano-USD for ``usd``, else a count; 0 to 2⁶³-1. None counts without a limit.
    """

    unit: str
    amount: int | None
    window: Window = TOTAL
    scope: str = ""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigurationError(
                f"unit={self.unit!r} cannot be limited; use one of {', '.join(UNITS)}"
            )
        if self.amount is None:
            return
        if type(self.amount) is not int or not 0 <= self.amount <= AMOUNT_MAX:
            raise ConfigurationError(
                f"limit {self.amount!r} of {self.unit} is not an int from 0 to {AMOUNT_MAX}"
            )

    def key(self, at: float) -> str:
        """Key of the counter that this limit reads at an instant: scope, unit, window.

        The amount is no part of it: raising a limit keeps what was spent.
        """
        return f"{self.scope}:{self.unit}:{self.window.key(at)}"

    def __str__(self) -> str:
        words = self.unit.replace("_", " ")
        if self.amount is None:
            what = f"any {words}"
        elif self.unit == "usd":
            what = f"${plain(usd(self.amount))}"
        else:
            what = f"{self.amount} {words}"
        return what if self.window.unit == "total" else f"{what}/{self.window.unit}"


def total(unit: str, amount: int | None, window: str | Window | None = None) -> Limit:
    """A limit from settings: ``amount`` in nano-USD or a count; no ``window`` counts for ever."""
    if window is None:
        window = TOTAL
    return Limit(
        unit=unit,
        amount=amount,
        window=window if isinstance(window, Window) else parse_window(window),
    )


def parse_limit(text: str, *, scope: str = "", zone: str = "UTC", anchor_day: int = 1) -> Limit:
    """One limit, e.g. ``$5/day``; a number without a unit is USD, without a window a total.

    Raises:
        ConfigurationError: Names the piece that cannot be read.
    """
    what, *windows = _PER.split(text.strip(), maxsplit=1)
    match = _AMOUNT.fullmatch(what)
    if match is None:
        raise ConfigurationError(f"limit {text!r} cannot be read; write e.g. {EXAMPLES}")
    name = " ".join((match["unit"] or "").lower().split())
    unit = _NAMES.get(name)
    if unit is None or (match["sign"] and unit != "usd"):
        raise ConfigurationError(
            f"unit {match['unit']!r} in limit {text!r} is not known; write e.g. {EXAMPLES}"
        )
    number = Decimal(re.sub(r"[,_]", "", match["number"]))
    number *= _MULTIPLES[(match["multiple"] or "").lower()]
    if unit == "usd":
        nano = amount(number, name=f"limit {text!r}")
    elif number == number.to_integral_value():
        nano = int(number)
    else:
        raise ConfigurationError(f"limit {text!r} is not a whole number of {unit}")
    window = TOTAL
    if windows:
        window = parse_window(windows[0], zone=zone, anchor_day=anchor_day)
    return Limit(unit=unit, amount=nano, window=window, scope=scope)


def parse_spec(
    text: str, *, scope: str = "", zone: str = "UTC", anchor_day: int = 1
) -> tuple[Limit, ...]:
    """Limits joined by ``+``: ``"$5/hour + 100 calls/hour"``.

    Raises:
        ConfigurationError: Names the piece that cannot be read, or that comes twice.
    """
    if not isinstance(text, str):
        raise ConfigurationError(
            f"budget({text!r}) is not a text; write e.g. {EXAMPLES}, or max_usd={text!r}"
        )
    limits: list[Limit] = []
    for piece in text.split("+"):
        limit = parse_limit(piece, scope=scope, zone=zone, anchor_day=anchor_day)
        if any((limit.unit, limit.window) == (known.unit, known.window) for known in limits):
            raise ConfigurationError(
                f"{piece.strip()!r} in {text!r} limits {limit.unit} in the same window twice"
            )
        limits.append(limit)
    return tuple(limits)
