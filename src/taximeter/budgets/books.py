"""The words of the books: what is charged where, and what a balance says. Pure.

A *counter* is one limit in one window: a key, and the sums ``settled`` and ``held``. A call's *hold*
charges several counters at once, all or none. A key names its window (``...:2026-11-22``), so a new
window is a new key and nothing is ever reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class HoldState(Enum):
    """Life of a hold. It leaves ``OPEN`` once; ``EXPIRED`` may still be settled, late."""

    OPEN = "open"
    SETTLED = "settled"
    VOIDED = "voided"
    EXPIRED = "expired"

    __hash__ = object.__hash__  # Members are single: Enum's own, in Python, is felt on every call.


@dataclass(frozen=True, slots=True)
class Charge:
    """An amount against one counter.

    ``amount``: nano-USD (or tokens, calls), at least 0. ``limit``: refuse when settled + held +
    amount would pass it; None charges without asking (tracking, warn and observe limits).
    ``expiry``: what an expired hold is settled at in this counter; None: the amount held.
    """

    key: str
    amount: int
    limit: int | None = None
    expiry: int | None = None


class Balance(NamedTuple):  # Eight are made for a call under four limits: a tuple is the cheapest.
    """What a counter says: ``settled`` is booked for good, ``held`` is set aside by open holds."""

    settled: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class HoldAnswer:
    """A store's answer to hold and extend: whether all of it fitted, and each counter's balance.

    When accepted, the balances include the new hold; when refused, nothing was changed.
    """

    accepted: bool
    balances: Mapping[str, Balance]


@dataclass(frozen=True, slots=True)
class ExpiredHold:
    """A hold whose owner vanished, as the sweep settled it."""

    hold_id: str
    amounts: Mapping[str, int]
    note: str = ""  # what the holder left to be known about it (JSON), e.g. the ledger entry so far
