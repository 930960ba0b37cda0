"""taximeter meters LLM calls while they run and never lets a budget be passed.

>>> from taximeter import budget
>>> with budget(max_usd=0.50) as b:          # doctest: +SKIP
...     answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
>>> b.spent                                  # doctest: +SKIP
Decimal('0.000123')

The names below are the public contract; each is loaded when it is first used, so that importing
taximeter costs a program next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taximeter.api import (
        budget,
        configure,
        install,
        quote,
        stats,
        tags,
        tracked_call,
        tracked_stream,
        uninstall,
        with_budget,
        wrap,
    )
    from taximeter.budgeting import Budget
    from taximeter.errors import (
        BudgetExceededError,
        ConfigurationError,
        LoopDetectedError,
        PriceUnknownError,
        StoreUnavailableError,
        TaximeterError,
        UnboundedCostError,
        VelocityExceededError,
    )
    from taximeter.estimating import Estimate
    from taximeter.usage import Usage

__version__ = "0.1.0"

_HOMES = {
    "Budget": "budgeting",
    "BudgetExceededError": "errors",
    "ConfigurationError": "errors",
    "Estimate": "estimating",
    "LoopDetectedError": "errors",
    "PriceUnknownError": "errors",
    "StoreUnavailableError": "errors",
    "TaximeterError": "errors",
    "UnboundedCostError": "errors",
    "Usage": "usage",
    "VelocityExceededError": "errors",
}

__all__ = [
    "Budget",
    "BudgetExceededError",
    "ConfigurationError",
    "Estimate",
    "LoopDetectedError",
    "PriceUnknownError",
    "StoreUnavailableError",
    "TaximeterError",
    "UnboundedCostError",
    "Usage",
    "VelocityExceededError",
    "__version__",
    "budget",
    "configure",
    "install",
    "quote",
    "stats",
    "tags",
    "tracked_call",
    "tracked_stream",
    "uninstall",
    "with_budget",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'taximeter' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"taximeter.{_HOMES.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
