"""What a budget shows to people: a summary table and a tree, in plain text. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from taximeter.errors import UNNAMED
from taximeter.ledger import Entry
from taximeter.money import dollars, usd

if TYPE_CHECKING:
    from taximeter.budgeting import Budget


def call_row(entry: Entry) -> dict[str, Any]:
    """One call for ``summary_data()``: identity, normalised counts, cost in USD (None: unpriced)."""
    counts = entry.usage.to_dict() if entry.usage is not None else {}
    return {
        "id": entry.id,
        "request_id": entry.request_id,
        "provider": entry.provider,
        "wire": entry.wire,
        "model": entry.model,
        "model_asked": entry.model_asked,
        "streamed": entry.streamed,
        **counts,
        "cost": usd(entry.cost) if entry.cost is not None else None,
        "provider_cost": entry.provider_cost,
        "usage_source": entry.usage_source,
        "settlement": entry.settlement,
        "price_snapshot": entry.price_snapshot,
        "price_flags": list(entry.price_flags),
        "finish": entry.finish,
        "status": entry.status,
        "error": entry.error,
        "clamped_to": entry.clamped_to,
        "started_at": entry.started_at,
        "first_token_at": entry.first_token_at,
        "ended_at": entry.ended_at,
        "latency_ms": entry.latency_ms,
        "tags": dict(entry.tags),
        **{name: getattr(entry, name) for name in _WHO if getattr(entry, name) is not None},
    }


_WHO = ("project", "group", "user_id", "tier", "session_id", "run_id", "prompt_version")


def summary_text(data: Mapping[str, Any]) -> str:
    """See ``Budget.summary``."""
    limit = f" of {dollars(data['limit'])}" if data["limit"] is not None else ""
    name = "" if data["name"] == UNNAMED else f" {data['name']}"
    lines = [f"budget{name} ({data['mode']}): {dollars(data['spent'])}{limit} spent"]
    if data["remaining"] is not None:
        lines[0] += f", {dollars(data['remaining'])} remaining"
    if data["held"]:
        lines[0] += f", {dollars(data['held'])} held"
    models: dict[str, list[Any]] = {}
    for call in data["calls"]:
        row = models.setdefault(call["model"] or "?", [0, 0, 0, Decimal(0)])
        row[0] += 1
        row[1] += call.get("input_tokens", 0)
        row[2] += call.get("output_tokens", 0)
        row[3] += call["cost"] or 0
    if models:
        width = max(len("model"), *(len(name) for name in models))
        lines.append(f"  {'model':<{width}}  {'calls':>6} {'input':>11} {'output':>11}  cost")
        for name, (calls, given, made, cost) in sorted(models.items(), key=lambda m: -m[1][3]):
            lines.append(
                f"  {name:<{width}}  {calls:>6,} {given:>11,} {made:>11,}  {dollars(cost)}"
            )
    elsewhere = _elsewhere(data)
    if elsewhere > 0:
        lines.append(f"  elsewhere: {dollars(elsewhere)}, by other runs that share this budget")
    notes = [
        f"{data[key]} {text}"
        for key, text in (
            ("calls_estimated", "estimated"),
            ("calls_unpriced", "unpriced"),
            ("calls_refused", "refused"),
            ("calls_open", "still open"),
        )
        if data[key]
    ]
    if notes:
        lines.append("  calls: " + ", ".join(notes))
    if data["tripped"]:
        lines.append("  " + data["tripped"])
    return "\n".join(lines)


def _elsewhere(data: Mapping[str, Any]) -> Decimal:
    """What a shared budget has booked beyond the calls listed here; 0 where that cannot be told."""
    calls = data["calls"]
    if data["name"] == UNNAMED or data["mode"] == "strict" or data["calls_total"] > len(calls):
        return Decimal(0)  # ``strict`` may book a bound above the entry's own cost.
    return Decimal(data["settled"] - sum(call["cost"] or 0 for call in calls))


def tree_text(budget: Budget, indent: str = "") -> str:
    """See ``Budget.tree``."""
    limit = f" / {dollars(budget.limit)}" if budget.limit is not None else ""
    lines = [f"{budget.name}: {dollars(budget.spent)}{limit}"]
    children = list(budget.children)
    for number, child in enumerate(children):
        last = number == len(children) - 1
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        head, *rest = tree_text(child).split("\n")
        lines.append(indent + branch + head)
        lines += [indent + below + line for line in rest]
    return "\n".join(lines)
