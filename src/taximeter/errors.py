"""Every error that taximeter raises on purpose, in one tree.

Branches answer "whose fault, and what now?". Facts are attributes; the text is made from them, so
that a program never has to parse a message.
"""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from taximeter.digits import dollars

UNNAMED: Final = "budget"
"""The name of a budget that was given none."""

_SPANS: Final = ((86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds"))


class TaximeterError(Exception):
    """Root of the tree. ``except TaximeterError`` catches all that taximeter itself says."""


class ConfigurationError(TaximeterError, ValueError):
    """A setting is wrong. Names the value and the way out; raised before anything is sent."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional package is needed. ``pip install "taximeter[<extra>]"`` brings it."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is not installed; pip install 'taximeter[{extra}]' brings it")


class BudgetExceededError(TaximeterError):
    """A budget does not allow this call, or has stopped a stream. An answer, not a fault.

    Attributes:
        spent: Settled and running in the scope when it was refused.
        limit: What the refusing limit allows, or None.
        requested: What the call would have had to set aside.
        available: What was still free for it.
        unit: What these four count: ``"usd"``, ``"tokens"`` or ``"calls"``.
        scope: Which budget or limit refused.
        user_id: The user the limit counts, or None.
        window: Name of the limit's window, e.g. ``"day"``; ``"total"`` when it never ends.
        window_start: When that window began (UTC), or None.
        retry_after: Seconds until money may be free again, or None when waiting will not help.
        usage: What a cut stream had used, as a dict of normalised counts; None when refused before.
    """

    code = "BUDGET_EXCEEDED"

    def __init__(
        self,
        message: str | None = None,
        *,
        spent: Decimal | None = None,
        limit: Decimal | None = None,
        requested: Decimal | None = None,
        available: Decimal | None = None,
        scope: str | None = None,
        user_id: str | None = None,
        window: str | None = None,
        window_start: datetime | None = None,
        retry_after: float | None = None,
        usage: dict[str, int] | None = None,
        hint: str | None = None,
        unit: str = "usd",
    ) -> None:
        self.spent = spent
        self.limit = limit
        self.requested = requested
        self.available = available
        self.scope = scope
        self.user_id = user_id
        self.window = window
        self.window_start = window_start
        self.retry_after = retry_after
        self.usage = usage
        self.hint = hint
        self.unit = unit
        super().__init__(message if message is not None else self._text())

    def _text(self) -> str:
        what = f"budget {self.scope!r}" if self.scope not in (None, UNNAMED) else "the budget"
        money = self.unit == "usd"
        spent = self._number(self.spent)
        if self.limit is None:
            text = f"{what} has no limit, {spent} is {'spent' if money else 'used'}"
        else:
            text = f"{what} allows {self._allowance()}, "
            text += f"{spent} of it is spent" if money else f"{spent} used so far"
        if self.requested is not None:
            needed, free = self._number(self.requested), self._number(self.available)
            text += f"; this call needs {needed}, {free} {'is' if money else 'left'}"
            text += " free" if money else ""
        if self.usage is not None:
            text += "; the stream was stopped"
        link = ": " if self.usage is not None else ". "
        text = f"{text}{link}{self.hint}" if self.hint else text
        return text if self.retry_after is None else f"{text}. {self._next_window()}"

    def _allowance(self) -> str:
        """``$5.00 a day``, ``1 call an hour``, ``2,000 tokens``."""
        text = self._number(self.limit)
        if self.unit != "usd":
            text += f" {self.unit.removesuffix('s') if self.limit == 1 else self.unit}"
        if self.window in (None, "total"):
            return text
        return f"{text} {'an' if self.window == 'hour' else 'a'} {self.window}"

    def _next_window(self) -> str:
        left = math.ceil(self.retry_after or 0)
        size, word = next(((s, w) for s, w in _SPANS if left >= 2 * s), _SPANS[-1])
        count = -(-left // size)
        word = word.removesuffix("s") if count == 1 else word
        return f"The next {self.window} begins in about {count} {word}"

    def _number(self, value: Decimal | None) -> str:
        if self.unit == "usd":
            return dollars(value)
        return "?" if value is None else f"{value:,f}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Facts survive pickling (worker pools); the budget itself, with its locks, stays here, and so
        # does the SDK's class that a refusal may have been given to pass through its ``except``.
        kind = next(base for base in type(self).__mro__ if globals().get(base.__name__) is base)
        facts = {name: value for name, value in self.__dict__.items() if name != "budget"}
        return (_rebuild, (kind, str(self), facts))


class LoopDetectedError(BudgetExceededError):
    """The same tool call keeps coming back. ``b.reset()`` allows the run to go on."""

    code = "LOOP_DETECTED"


class VelocityExceededError(BudgetExceededError):
    """Money is spent faster than ``max_velocity`` allows. Slow down or raise it."""

    code = "VELOCITY_EXCEEDED"


class PriceUnknownError(TaximeterError, LookupError):
    """No price is known and the policy is to refuse. Give one with ``prices={...}``."""

    def __init__(self, provider: str, model: str, unit: str = "token") -> None:
        self.provider = provider
        self.model = model
        self.unit = unit
        super().__init__(
            f"no price per {unit} is known for model {model!r}"
            f"{'' if provider == 'unknown' else f' of {provider!r}'}; give one with "
            "taximeter.configure(prices={...}); inside a budget, unknown_model='ceiling' also helps"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (PriceUnknownError, (self.provider, self.model, self.unit))


class UnboundedCostError(BudgetExceededError):
    """A strict budget cannot admit a call whose cost has no bound. ``hint`` says what bounds it."""

    code = "UNBOUNDED_COST"


class HoldError(TaximeterError):
    """A hold was used against its life cycle."""


class HoldNotFoundError(HoldError, LookupError):
    """The store knows no hold of this id."""


class HoldConflictError(HoldError):
    """This id already holds other amounts: a bug of the caller's; do not retry."""


class HoldClosedError(HoldError):
    """The hold has ended; it can neither be extended nor settled with another amount."""


class StoreError(TaximeterError):
    """A store answered wrongly or not at all."""


class StoreUnavailableError(StoreError):
    """The outcome is unknown. Ask again with the same id, or let the outage policy decide."""


class SchemaMismatchError(StoreError):
    """The store was made by another version of taximeter."""


class WireError(TaximeterError):
    """A response that does not follow its protocol. Kept on ``meter.exc``; never reaches the call."""


def _rebuild(cls: type[BudgetExceededError], text: str, facts: dict[str, Any]) -> Exception:
    error = cls(text)
    error.__dict__.update(facts)
    return error
