"""taximeter meters LLM calls while they run and never lets a budget be passed.

>>> from taximeter import budget
>>> with budget(max_usd=0.50) as b:          # doctest: +SKIP
...     answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
>>> b.spent                                  # doctest: +SKIP
Decimal('0.000123')

The names below are the public contract; everything is documented where it is defined.
"""

from __future__ import annotations

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
