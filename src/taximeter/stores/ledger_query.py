"""What every ledger's questions have in common: what may be asked, and how totals add up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from math import floor
from typing import Any, Final

from taximeter.errors import ConfigurationError
from taximeter.ledger import ENTRY_FIELDS, Entry, Stats
from taximeter.money import usd

PERIODS: Final = {"hour": "%Y-%m-%dT%H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}
"""Groups by the UTC start time, as ``strftime`` writes them."""

NOT_COMPARABLE: Final = frozenset({"tags", "usage", "provider_cost", "price_flags"})
SCALAR_FIELDS: Final = tuple(name for name in ENTRY_FIELDS if name not in NOT_COMPARABLE)
TAG: Final = "tag:"


def check_by(by: Sequence[str]) -> tuple[str, ...]:
    """``by`` when each name is an entry field, a period or ``tag:<name>``."""
    if isinstance(by, str):
        raise ConfigurationError(f"by={by!r} is one text; use a list, by=[{by!r}]")
    for name in by:
        if name not in SCALAR_FIELDS and name not in PERIODS and not name.startswith(TAG):
            raise ConfigurationError(
                f"by={name!r} is not known{_near(name)}; use {', '.join(PERIODS)}, 'tag:<name>' "
                f"or one of {', '.join(SCALAR_FIELDS)}"
            )
    return tuple(by)


def _near(name: str) -> str:
    near = get_close_matches(name, (*PERIODS, *SCALAR_FIELDS), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def conditions(where: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Filters as the values allowed by name; ``tags={"team": "x"}`` becomes ``tag:team``.

    A list, tuple or set allows any of its values; None matches what is not set.
    """
    allowed: dict[str, tuple[Any, ...]] = {}
    for name, value in where.items():
        if name == "tags" and isinstance(value, Mapping):
            allowed.update({f"{TAG}{tag}": _values(wanted) for tag, wanted in value.items()})
        elif name in SCALAR_FIELDS or name in PERIODS or name.startswith(TAG):
            allowed[name] = _values(value)
        else:
            raise ConfigurationError(
                f"cannot filter entries by {name!r}{_near(name)}; use tags={{...}} or one of "
                f"{', '.join(SCALAR_FIELDS)}"
            )
    return allowed


def value_of(entry: Entry, name: str) -> Any:
    """What ``entry`` shows under a name of :func:`check_by`."""
    if name in PERIODS:
        return datetime.fromtimestamp(floor(entry.started_at), UTC).strftime(PERIODS[name])
    if name.startswith(TAG):
        return entry.tags.get(name[len(TAG) :])
    return getattr(entry, name)


def matches(
    entry: Entry, start: float | None, end: float | None, allowed: Mapping[str, tuple[Any, ...]]
) -> bool:
    """Whether an entry began in [start, end) and passes the filters."""
    return (
        (start is None or entry.started_at >= start)
        and (end is None or entry.started_at < end)
        and all(value_of(entry, name) in values for name, values in allowed.items())
    )


@dataclass(slots=True)
class Totals:
    """Sums that add up over groups. Adjustments change the cost and nothing else."""

    requests: int = 0
    failed: int = 0
    unpriced: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    latency_sum_ms: float = 0.0
    latency_count: int = 0

    def add(self, other: Totals) -> None:
        """Take in the sums of another group."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def stats(self) -> Stats:
        """As the public answer, without groups."""
        mean = self.latency_sum_ms / self.latency_count if self.latency_count else None
        return Stats(
            total_requests=self.requests,
            successful_requests=self.requests - self.failed,
            failed_requests=self.failed,
            unpriced_requests=self.unpriced,
            estimated_requests=self.estimated,
            total_tokens=self.input_tokens + self.output_tokens,
            total_prompt_tokens=self.input_tokens,
            total_completion_tokens=self.output_tokens,
            total_cost_usd=usd(self.cost),
            avg_latency_ms=mean,
        )


def totals_of(entry: Entry) -> Totals:
    """One entry's share."""
    cost = entry.cost or 0
    if entry.kind != "call":
        return Totals(cost=cost)
    return Totals(
        requests=1,
        failed=int(entry.error is not None or (entry.status or 0) >= 400),
        unpriced=int(entry.cost is None),
        estimated=int(entry.settlement in ("estimated", "assumed_full")),
        input_tokens=entry.usage.input_tokens if entry.usage else 0,
        output_tokens=entry.usage.output_tokens if entry.usage else 0,
        cost=cost,
        latency_sum_ms=entry.latency_ms or 0.0,
        latency_count=int(entry.latency_ms is not None),
    )


def grouped(by: Sequence[str], parts: Iterable[tuple[tuple[Any, ...], Totals]]) -> Stats:
    """Totals of all parts, and a group for each distinct value of ``by``, in the values' order."""
    total = Totals()
    groups: dict[tuple[Any, ...], Totals] = {}
    for values, part in parts:
        total.add(part)
        if by:
            groups.setdefault(values, Totals()).add(part)
    ordered = sorted(groups.items(), key=lambda item: [(v is not None, str(v)) for v in item[0]])
    named = tuple((dict(zip(by, values, strict=True)), sums.stats()) for values, sums in ordered)
    return replace(total.stats(), groups=named)


def late_adjustment(entry: Entry, first: Entry) -> Entry:
    """The correction of ``first``, booked when its hold expired, to what ``entry`` says it cost."""
    cost = None if entry.cost is None else entry.cost - (first.cost or 0)
    return replace(entry, id=f"{entry.id}+late", kind="adjustment", corrects=first.id, cost=cost)


def _values(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
