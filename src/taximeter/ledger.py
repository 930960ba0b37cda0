"""The ledger's row: one usage entry, and what statistics say about many. Pure.

Entries are appended and never changed; a correction is another entry (``kind="adjustment"``) that
names the one it corrects. Prompts and answers are never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final

from taximeter.usage import Settlement, Usage, UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call that reached a provider, or a correction of one. Times are seconds since the epoch."""

    id: str
    kind: str = "call"  # or "adjustment": cost is then the signed difference
    corrects: str | None = None
    request_id: str | None = None  # the provider's
    project: str | None = None
    group: str | None = None
    user_id: str | None = None
    tier: str | None = None
    session_id: str | None = None
    run_id: str | None = None
    prompt_version: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    budget: str | None = None  # names of the budgets it was charged to, outermost first, "/"-joined
    provider: str = "unknown"
    wire: str = ""
    model: str = ""  # answered, else asked
    model_asked: str = ""
    streamed: bool = False
    usage: Usage | None = None  # None: nobody knows
    cost: int | None = None  # nano-USD; None: unpriced, never 0 for unknown
    bound: int | None = None  # nano-USD charged to strict budgets where it differs from cost
    provider_cost: Decimal | None = None  # USD, as the provider states it
    price_snapshot: str | None = None
    price_flags: tuple[str, ...] = ()  # e.g. "ceiling", "tier_price_missing"
    usage_source: UsageSource = "unknown"
    settlement: Settlement = "exact"
    finish: str | None = None
    status: int | None = None  # HTTP
    error: str | None = None
    clamped_to: int | None = None  # output cap we set, tokens
    started_at: float = 0.0
    first_token_at: float | None = None
    ended_at: float | None = None
    latency_ms: float | None = None


ENTRY_FIELDS: Final = tuple(f.name for f in fields(Entry))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Totals over entries. ``total_cost_usd`` counts priced entries; ``unpriced_requests`` the rest."""

    total_requests: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    unpriced_requests: int = 0
    estimated_requests: int = 0
    total_tokens: int = 0
    total_prompt_tokens: int = 0
    total_completion_tokens: int = 0
    total_cost_usd: Decimal = Decimal(0)
    avg_latency_ms: float | None = None
    groups: tuple[tuple[Mapping[str, Any], Stats], ...] = ()
