"""``taximeter stats``: what it cost, by model, day, user or tag."""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from taximeter.cli.output import LEFT, RIGHT, add_command, print_table, to_json
from taximeter.errors import ConfigurationError
from taximeter.money import dollars, plain

if TYPE_CHECKING:
    from taximeter.ledger import Stats

EXAMPLES: Final = """\
  taximeter stats --by model,day --since 7d
  taximeter stats --by tag:team --since 2026-11-01 --until 2026-12-01 --csv > november.csv
  taximeter stats --project search --json --store sqlite:///spend.db

  --since and --until take a span (30m, 24h, 7d, 2w: so long ago) or a date or time (UTC).
  --by takes hour, day, month, tag:<name> or fields of an entry: model, provider, user_id,
  group, project, settlement, budget, ..."""

TOTALS: Final = (
    "total_requests",
    "successful_requests",
    "failed_requests",
    "unpriced_requests",
    "estimated_requests",
    "total_tokens",
    "total_prompt_tokens",
    "total_completion_tokens",
    "total_cost_usd",
    "avg_latency_ms",
)
FILTERS: Final = ("project", "provider", "model", "user_id", "group")
SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def add(commands: Any) -> None:
    """The arguments of ``stats``."""
    parser = add_command(
        commands,
        "stats",
        help="what calls have cost",
        description="Totals of a ledger: requests, tokens and cost, in groups if asked.",
        examples=EXAMPLES,
    )
    parser.add_argument("--by", default="", help="comma-separated, e.g. model,day")
    parser.add_argument("--since", metavar="WHEN", help="from then on (inclusive)")
    parser.add_argument("--until", metavar="WHEN", help="until then (exclusive)")
    parser.add_argument("--project")
    parser.add_argument("--provider")
    parser.add_argument("--model", help="the model that answered")
    parser.add_argument("--user-id", "--user", dest="user_id")
    parser.add_argument("--group")
    parser.add_argument("--store", metavar="URL", help="the ledger (default: your own SQLite file)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object; amounts are strings")
    form.add_argument("--csv", action="store_true", help="a header and a row for each group")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the totals."""
    from taximeter.stores.urls import open_ledger

    by = [name.strip() for name in options.by.split(",") if name.strip()]
    now = time.time()
    start, end = when("--since", options.since, now), when("--until", options.until, now)
    where = {name: value for name in FILTERS if (value := getattr(options, name)) is not None}
    url = options.store or os.environ.get("TAXIMETER_STORE") or "sqlite://"
    _must_exist(url)
    stats = open_ledger(url).stats(start=start, end=end, by=by, **where)
    if options.json:
        print(to_json({"since": _iso(start), "until": _iso(end), "by": by, **as_data(stats)}))
    elif options.csv:
        _print_csv(by, stats)
    else:
        _print_table(by, stats)
    return 0


def as_data(stats: Stats) -> dict[str, Any]:
    """Totals as plain data; each of ``groups`` has its values beside its own totals."""
    data = {name: getattr(stats, name) for name in TOTALS}
    data["groups"] = [
        {**values, **{name: getattr(part, name) for name in TOTALS}}
        for values, part in stats.groups
    ]
    return data


def when(option: str, text: str | None, now: float) -> float | None:
    """``7d`` (so long before ``now``), a date or an ISO time (UTC unless it says otherwise)."""
    if text is None:
        return None
    span = re.fullmatch(r"(\d{1,6})\s*([smhdw])", text.strip())
    if span is not None:
        return now - int(span[1]) * SECONDS[span[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{option} {text!r} is no time; use a span (30m, 24h, 7d, 2w) or a date (2026-11-22)"
        ) from None


def _must_exist(url: str) -> None:
    """Asking what was spent must not make an empty ledger out of a mistyped name."""
    found = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", url)
    if found is not None and not os.path.exists(os.path.expanduser(found[1])):
        raise ConfigurationError(f"there is no ledger at {url!r}")


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


def _print_csv(by: Sequence[str], stats: Stats) -> None:
    rows: Sequence[tuple[Mapping[str, Any], Stats]] = stats.groups if by else [({}, stats)]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*by, *TOTALS])
    for values, part in rows:
        totals = [getattr(part, name) for name in TOTALS]
        totals[TOTALS.index("total_cost_usd")] = plain(part.total_cost_usd)
        writer.writerow([*(values.get(name) for name in by), *totals])


def _print_table(by: Sequence[str], stats: Stats) -> None:
    if not stats.total_requests and not stats.groups:
        print("no calls in this ledger, or none that match")
        return
    columns = [
        *((name, LEFT) for name in by),
        ("requests", RIGHT),
        ("failed", RIGHT),
        ("input", RIGHT),
        ("output", RIGHT),
        ("cost", RIGHT),
        ("latency", RIGHT),
    ]
    rows = [[*(_shown(values.get(name)) for name in by), *_row(s)] for values, s in stats.groups]
    if not by:
        print_table(columns, [_row(stats)])
    else:
        print_table(columns, rows, total=["total", *[""] * (len(by) - 1), *_row(stats)])
    if stats.estimated_requests:
        print(f"{stats.estimated_requests} of them ended early: their cost is an estimate")
    if stats.unpriced_requests:
        print(f"{stats.unpriced_requests} of them have no price: their cost is not in the sum")


def _shown(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def _row(stats: Stats) -> list[str]:
    latency = "-" if stats.avg_latency_ms is None else f"{stats.avg_latency_ms:,.0f} ms"
    return [
        f"{stats.total_requests:,}",
        f"{stats.failed_requests:,}",
        f"{stats.total_prompt_tokens:,}",
        f"{stats.total_completion_tokens:,}",
        dollars(stats.total_cost_usd),
        latency,
    ]
