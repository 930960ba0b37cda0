"""Several stores as one: a call's counters may live in more than one of them (nested budgets).

A hold is placed store by store and taken back if a later store refuses: all or nothing. Most calls
touch one store, and then this is a thin pass-through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from inspect import signature
from typing import TYPE_CHECKING, cast

from taximeter.budgets.books import Balance, Charge, HoldAnswer
from taximeter.ledger import Entry
from taximeter.stores.base import BudgetStore

if TYPE_CHECKING:
    from taximeter.stores.base import CombinedStore


@lru_cache(maxsize=64)
def keeps_ledger(kind: type) -> bool:
    """Whether stores of this kind take a ledger entry together with a settlement."""
    settle = getattr(kind, "settle", None)
    return hasattr(kind, "save") and "entry" in signature(settle).parameters if settle else False


class Books:
    """The stores behind a call's counters, by key."""

    __slots__ = ("_by_key", "_stores", "blocking", "ledgers")

    def __init__(self, by_key: Mapping[str, BudgetStore]) -> None:
        self._by_key = by_key
        self._stores = tuple(dict.fromkeys(by_key.values()))
        # A step may wait for a disk, a lock or a network.
        self.blocking: bool = any(store.blocking for store in self._stores)
        # Those of the stores to which :meth:`settle` gives the entry as well.
        self.ledgers = tuple(store for store in self._stores if keeps_ledger(type(store)))

    @property
    def stores(self) -> tuple[BudgetStore, ...]:
        return self._stores

    def read(self, keys: Iterable[str]) -> dict[str, Balance]:
        if len(self._stores) == 1:
            return self._stores[0].read(keys)
        balances: dict[str, Balance] = {}
        for store in self._stores:
            balances |= store.read([key for key in keys if self._by_key[key] is store])
        return balances

    def hold(self, hold_id: str, charges: Sequence[Charge], *, note: str = "") -> HoldAnswer:
        if len(self._stores) == 1:
            return self._stores[0].hold(hold_id, charges, note=note)
        placed: list[BudgetStore] = []
        balances: dict[str, Balance] = {}
        for store in self._stores:
            answer = store.hold(hold_id, self._of(store, charges), note=note)
            balances |= answer.balances
            if not answer.accepted:
                for earlier in placed:
                    earlier.void(hold_id)
                balances |= self.read([c.key for c in charges if c.key not in answer.balances])
                return HoldAnswer(False, balances)
            placed.append(store)
        return HoldAnswer(True, balances)

    def extend(self, hold_id: str, charges: Sequence[Charge], *, step: int) -> HoldAnswer:
        if len(self._stores) == 1:
            return self._stores[0].extend(hold_id, charges, step=step)
        balances: dict[str, Balance] = {}
        for store in self._stores:
            mine = self._of(store, charges)
            if not mine:
                continue
            answer = store.extend(hold_id, mine, step=step)
            balances |= answer.balances
            if not answer.accepted:  # What an earlier store granted stays held: safe, and settled.
                return HoldAnswer(False, balances)
        return HoldAnswer(True, balances)

    def settle(self, hold_id: str, amounts: Mapping[str, int], entry: Entry) -> None:
        """Book ``amounts``. A store that keeps the ledger as well takes ``entry`` in the same step."""
        for store in self._stores:
            mine = amounts
            if len(self._stores) > 1:
                mine = {key: n for key, n in amounts.items() if self._by_key[key] is store}
            if store in self.ledgers:
                cast("CombinedStore", store).settle(hold_id, mine, entry=entry)
            else:
                store.settle(hold_id, mine)

    def void(self, hold_id: str) -> None:
        for store in self._stores:
            store.void(hold_id)

    def _of(self, store: BudgetStore, charges: Sequence[Charge]) -> list[Charge]:
        return [charge for charge in charges if self._by_key[charge.key] is store]
