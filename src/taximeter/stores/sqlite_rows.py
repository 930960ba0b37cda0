"""Ledger entries as SQLite rows, and the ledger's questions as SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from taximeter.ledger import ENTRY_FIELDS, Entry
from taximeter.money import AMOUNT_MAX, NANO
from taximeter.stores.ledger_query import PERIODS, TAG, Totals
from taximeter.usage import TOKEN_KINDS, Usage

COLUMNS: Final = (*ENTRY_FIELDS, "input_tokens", "output_tokens")
INTEGERS: Final = frozenset({"cost", "bound", "status", "clamped_to"})

# Names of columns only, all of them from the class Entry.
INSERT: Final = "INSERT INTO entries ({}) VALUES ({}) ON CONFLICT (id) DO NOTHING".format(  # noqa: S608
    ", ".join(f'"{name}"' for name in COLUMNS), ", ".join("?" * len(COLUMNS))
)
SELECT: Final = "SELECT seq, {} FROM entries".format(  # noqa: S608
    ", ".join(f'"{name}"' for name in ENTRY_FIELDS)
)

# SQLite's sum() fails past int64. Sums of whole and of rest do not get there in a billion rows.
SUMS: Final = f"""
    sum(kind = 'call'),
    sum(kind = 'call' AND (error IS NOT NULL OR coalesce(status, 0) >= 400)),
    sum(kind = 'call' AND cost IS NULL),
    sum(kind = 'call' AND settlement IN ('estimated', 'assumed_full')),
    sum((kind = 'call') * coalesce(input_tokens, 0) / {NANO}),
    sum((kind = 'call') * coalesce(input_tokens, 0) % {NANO}),
    sum((kind = 'call') * coalesce(output_tokens, 0) / {NANO}),
    sum((kind = 'call') * coalesce(output_tokens, 0) % {NANO}),
    sum(cost / {NANO}),
    sum(cost % {NANO}),
    sum(CASE WHEN kind = 'call' THEN latency_ms END),
    sum(kind = 'call' AND latency_ms IS NOT NULL)"""


def row_of(entry: Entry) -> list[Any]:
    """The values of :data:`COLUMNS`."""
    row = [_stored(name, getattr(entry, name)) for name in ENTRY_FIELDS]
    usage = entry.usage
    row += (
        (None, None) if usage is None else (_int64(usage.input_tokens), _int64(usage.output_tokens))
    )
    return row


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry of a row of :data:`SELECT`, without its ``seq``."""
    facts = dict(zip(ENTRY_FIELDS, row, strict=True))
    facts["tags"] = json.loads(facts["tags"])
    facts["price_flags"] = tuple(json.loads(facts["price_flags"]))
    facts["streamed"] = bool(facts["streamed"])
    facts["usage"] = None if facts["usage"] is None else _usage(json.loads(facts["usage"]))
    if facts["provider_cost"] is not None:
        facts["provider_cost"] = Decimal(facts["provider_cost"])
    return Entry(**facts)


def where_sql(
    start: float | None, end: float | None, allowed: Mapping[str, tuple[Any, ...]]
) -> tuple[str, list[Any]]:
    """The WHERE clause (without the word) of an interval and of checked filters, with its values."""
    terms = ["1"]
    values: list[Any] = []
    if start is not None:
        terms.append("started_at >= ?")
        values.append(start)
    if end is not None:
        terms.append("started_at < ?")
        values.append(end)
    for name, wanted in allowed.items():
        alternatives = []
        for value in wanted:
            expression, parameters = expression_of(name)
            alternatives.append(f"{expression} IS ?")
            values += [*parameters, clean(value)]
        terms.append(f"({' OR '.join(alternatives) or '0'})")
    return " AND ".join(terms), values


def expression_of(name: str) -> tuple[str, list[Any]]:
    """SQL of a checked name (field, period or tag), with its values."""
    if name in PERIODS:
        # Whole seconds: strftime rounds the last half millisecond of a day into the next one.
        return f"strftime('{PERIODS[name]}', CAST(started_at AS INTEGER), 'unixepoch')", []
    if name.startswith(TAG):
        return "(SELECT value FROM json_each(entries.tags) WHERE key = ?)", [name[len(TAG) :]]
    return f'"{name}"', []


def totals_of_row(row: Sequence[Any]) -> Totals:
    """The sums of :data:`SUMS`."""
    sums = [value or 0 for value in row]
    return Totals(
        requests=sums[0],
        failed=sums[1],
        unpriced=sums[2],
        estimated=sums[3],
        input_tokens=sums[4] * NANO + sums[5],
        output_tokens=sums[6] * NANO + sums[7],
        cost=sums[8] * NANO + sums[9],
        latency_sum_ms=sums[10],
        latency_count=sums[11],
    )


def clean(value: Any) -> Any:
    """Text that UTF-8 can hold: a damaged answer may name its model in half a character."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()
    return value


def _stored(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "tags":
        return json.dumps({str(tag): str(text) for tag, text in value.items()}) if value else "{}"
    if name == "usage":
        return json.dumps({kind: count for kind, count in value.to_dict().items() if count})
    if name == "price_flags":
        return json.dumps(value)
    if name == "provider_cost":
        return str(value)
    return _int64(value) if name in INTEGERS else clean(value)


def _usage(counts: Mapping[str, int]) -> Usage:
    tokens = {kind: counts[kind] for kind in TOKEN_KINDS if kind in counts}
    prefix = "requests."
    requests = {k[len(prefix) :]: n for k, n in counts.items() if k.startswith(prefix)}
    usage = Usage(**tokens)  # type: ignore[arg-type]  # TOKEN_KINDS are all of them ints
    return replace(usage, requests=requests) if requests else usage


def _int64(value: int) -> int:
    return max(-AMOUNT_MAX, min(AMOUNT_MAX, value))
