"""Prints the prices of the installed package genai-prices as JSON: run by build.py in its venv.

Only facts leave it: names, windows, prices with their dates, tiers and service tiers.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

from genai_prices.data import providers


def names(match: Any) -> list[str]:
    """Exact names in a match rule. Prefixes are kept as names too, never as prefixes."""
    if match is None:
        return []
    found: list[str] = []
    for clause in getattr(match, "or_", None) or [match]:
        for field in ("equals", "starts_with"):
            value = getattr(clause, field, None)
            if value is not None:
                found.append(value)
    return found


def value(price: Any) -> Any:
    if isinstance(price, Decimal):
        return str(price)
    if hasattr(price, "tiers"):
        return {"base": str(price.base), "tiers": [[t.start, str(t.price)] for t in price.tiers]}
    return None


def prices(price: Any) -> dict[str, Any]:
    units = {key: value(each) for key, each in vars(price).items() if not key.startswith("_")}
    return {key: each for key, each in units.items() if each is not None}


def condition(constraint: Any) -> dict[str, str]:
    if constraint is None:
        return {}
    if hasattr(constraint, "start_date"):
        return {"date": constraint.start_date.isoformat()}
    return {"from": constraint.start_time.isoformat(), "to": constraint.end_time.isoformat()}


def model(info: Any) -> dict[str, Any]:
    dated = info.prices if isinstance(info.prices, list) else None
    return {
        "id": info.id,
        "names": names(info.match),
        "context": info.context_window,
        "deprecated": bool(info.deprecated),
        "prices": [
            {"when": condition(each.constraint), "prices": prices(each.prices)} for each in dated
        ]
        if dated is not None
        else [{"when": {}, "prices": prices(info.prices)}],
        "variants": [
            {
                "when": each.when,
                "condition": condition(each.constraint),
                "prices": prices(each.prices),
            }
            for each in info.price_variants or []
        ],
    }


json.dump({p.id: [model(info) for info in p.models] for p in providers}, sys.stdout)
