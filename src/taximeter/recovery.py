"""Crash recovery: holds whose process vanished are settled by the store and written to the ledger."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, cast

from taximeter.books import keeps_ledger
from taximeter.budgets.books import ExpiredHold
from taximeter.errors import StoreError
from taximeter.ledger import Entry
from taximeter.stores.base import BudgetStore

if TYPE_CHECKING:
    from taximeter.stores.base import CombinedStore

log: Final = logging.getLogger("taximeter")
_FIELDS: Final = {field.name for field in fields(Entry)}


def sweep(store: BudgetStore) -> list[ExpiredHold]:
    """Settle expired holds; each gets an ``assumed_full`` entry, so that ledger and balance agree."""
    now = store.now()
    try:
        if keeps_ledger(type(store)):
            combined = cast("CombinedStore", store)
            expired = combined.sweep(entry=lambda hold: _entry(hold, now))
        else:
            expired = store.sweep()
    except StoreError:
        log.warning("expired holds could not be swept", exc_info=True)
        return []
    for hold in expired:
        log.warning(
            "hold %s expired: its process vanished; booked at %s", hold.hold_id, hold.amounts
        )
    return expired


def _entry(hold: ExpiredHold, now: float) -> Entry:
    try:
        note: dict[str, Any] = json.loads(hold.note or "{}")
    except ValueError:
        note = {}
    known = {name: value for name, value in note.items() if name in _FIELDS}
    costs = [amount for key, amount in hold.amounts.items() if ":usd:" in key]
    return Entry(
        **{
            "started_at": now,
            **known,
            "id": hold.hold_id,
            "model_asked": known.get("model", ""),
            "cost": max(costs, default=None),
            "usage_source": "bound",
            "settlement": "assumed_full",
            "error": "the process that held it vanished",
            "ended_at": now,
        }
    )
