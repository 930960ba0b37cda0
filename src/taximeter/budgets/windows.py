"""Windows: for how long a limit counts, before a new count begins. Pure.

A window has a key for every instant. Two instants in the same window have the same key, so a new
window is a new counter and nothing is ever reset. Boundaries are computed in the window's zone and
come out as instants: the day on which clocks change has 23 or 25 hours.

Rolling windows ("the last 24 hours") need several counters a limit; they are not built yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from math import floor
from typing import Final

from taximeter.errors import ConfigurationError

UNITS: Final = ("total", "minute", "hour", "day", "week", "month", "year")
_WORDS: Final = ", ".join(UNITS)
SECONDS: Final = {"minute": 60, "hour": 3600}
ANCHORED: Final = {"week": 7, "month": 31, "year": 31}
_ALIASES: Final = {
    "ever": "total", "min": "minute", "m": "minute", "h": "hour", "hr": "hour",
    "d": "day", "w": "week", "mo": "month", "y": "year", "yr": "year",
    "minutely": "minute", "hourly": "hour", "daily": "day", "weekly": "week",
    "monthly": "month", "yearly": "year",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A calendar window in an IANA zone, or ``total``, which never ends.

    Args:
        unit: One of :data:`UNITS`.
        zone: IANA name; where days begin at midnight.
        anchor_day: First day of a week (1 = Monday), of a month, or of a year's first month. A day
            that a month does not have means its last one.
        anchor_month: First month of a year.

    Raises:
        ConfigurationError: An unknown unit or zone, or an anchor that the unit does not have.
    """

    unit: str = "total"
    zone: str = "UTC"
    anchor_day: int = 1
    anchor_month: int = 1

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigurationError(f"window={self.unit!r} is not known; use one of {_WORDS}")
        _zone(self.zone)
        highest = ANCHORED.get(self.unit, 1)
        if type(self.anchor_day) is not int or not 1 <= self.anchor_day <= highest:
            raise ConfigurationError(
                f"anchor_day={self.anchor_day!r} is not a day of a {self.unit}; use 1 to {highest}"
            )
        highest = 12 if self.unit == "year" else 1
        if type(self.anchor_month) is not int or not 1 <= self.anchor_month <= highest:
            raise ConfigurationError(
                f"anchor_month={self.anchor_month!r}: a {self.unit} can begin in 1 to {highest}"
            )

    def key(self, at: float) -> str:
        """Name of the window that holds the instant ``at`` (seconds since the epoch).

        ``day:2026-11-22``, with the zone unless it is UTC: ``day@Europe/Berlin:2026-11-22``.
        """
        name = self.unit if self.zone == "UTC" else f"{self.unit}@{self.zone}"
        if self.unit == "total":
            return "total"
        if self.unit in SECONDS:
            # The instant, in UTC: an hour that the clocks repeat is two hours.
            start = datetime.fromtimestamp(self._floor(at), UTC)
            return f"{name}:{start:%Y-%m-%dT%H.%M}"
        return f"{name}:{self._first_day(at).isoformat()}"

    def start(self, at: float) -> float | None:
        """The instant at which that window began; None for ``total``."""
        if self.unit == "total":
            return None
        if self.unit in SECONDS:
            return self._floor(at)
        return self._midnight(self._first_day(at))

    def end(self, at: float) -> float | None:
        """The instant at which the next one begins; None for ``total``."""
        if self.unit == "total":
            return None
        if self.unit in SECONDS:
            return self._floor(at) + SECONDS[self.unit]
        first = self._first_day(at)
        if self.unit == "day":
            return self._midnight(first + timedelta(days=1))
        if self.unit == "week":
            return self._midnight(first + timedelta(days=7))
        if self.unit == "month":
            return self._midnight(self._anchor(*_following(first.year, first.month)))
        return self._midnight(self._anchor(first.year + 1, self.anchor_month))

    def _floor(self, at: float) -> float:
        """Start of the minute or hour, on clocks that may be half an hour off UTC."""
        size = SECONDS[self.unit]
        local = datetime.fromtimestamp(floor(at), _zone(self.zone))
        offset = local.utcoffset() or timedelta(0)
        into = (floor(at) + offset.total_seconds()) % size
        return floor(at) - into

    def _first_day(self, at: float) -> date:
        today = datetime.fromtimestamp(floor(at), _zone(self.zone)).date()
        if self.unit == "day":
            return today
        if self.unit == "week":
            return today - timedelta(days=(today.isoweekday() - self.anchor_day) % 7)
        if self.unit == "month":
            first = self._anchor(today.year, today.month)
            return first if first <= today else self._anchor(*_previous(today.year, today.month))
        first = self._anchor(today.year, self.anchor_month)
        return first if first <= today else self._anchor(today.year - 1, self.anchor_month)

    def _anchor(self, year: int, month: int) -> date:
        last = date(*_following(year, month), 1) - timedelta(days=1)
        return last.replace(day=min(self.anchor_day, last.day))

    def _midnight(self, day: date) -> float:
        # Where clocks skip midnight, fold=0 gives the very instant of the change: the day's start.
        return datetime(day.year, day.month, day.day, tzinfo=_zone(self.zone)).timestamp()


def parse_window(text: str, *, zone: str = "UTC", anchor_day: int = 1) -> Window:
    """A window by its name: ``day``, ``daily``, ``1 day``, ``month``, ``total``.

    Raises:
        ConfigurationError: Another text, or a rolling window, which is not built yet.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"window={text!r} is not a text; use one of {_WORDS}")
    words = text.strip().lower()
    name = words.removeprefix("1 ").strip()
    if name not in UNITS and name.endswith("s"):
        name = name[:-1]
    name = _ALIASES.get(name, name)
    if name in UNITS and words:
        return Window(unit=name, zone=zone, anchor_day=anchor_day if name in ANCHORED else 1)
    if words.startswith(("rolling", "last")) or words[:1].isdigit():
        raise ConfigurationError(
            f"window={text!r} is a rolling window, which is not built yet; use one of {_WORDS}"
        )
    raise ConfigurationError(f"window={text!r} is not known; use one of {_WORDS}")


def _following(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)


def _previous(year: int, month: int) -> tuple[int, int]:
    return (year - 1, 12) if month == 1 else (year, month - 1)


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # Only for those who leave UTC.

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ConfigurationError(
            f"zone={name!r} is not a known time zone; use an IANA name like 'Europe/Berlin' "
            "(on systems without a time zone database: pip install tzdata)"
        ) from None


TOTAL: Final = Window()
