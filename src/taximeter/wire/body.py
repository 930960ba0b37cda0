"""Small readers of parsed JSON that take whatever comes and never raise."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

COUNT_MAX: Final = 2**53
"""Counts above it are a defect of the answer, not tokens; they are read as absent."""

_NOTHING: Final[Mapping[str, Any]] = {}


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def items(value: Any) -> list[Any]:
    """``value`` if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def string(value: Any) -> str:
    """``value`` if it is a string, else ``""``."""
    return value if isinstance(value, str) else ""


def count(value: Any) -> int | None:
    """``value`` if it is a credible number of tokens or calls, else None."""
    if type(value) is not int:  # Nearly always it is.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return None
    return value if 0 <= value <= COUNT_MAX else None


def amount(value: Any) -> Decimal | None:
    """``value`` as USD to the digits that were stated, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return number if number.is_finite() and 0 <= number < COUNT_MAX else None


def clean(text: str) -> str:
    """``text`` without lone surrogates, which JSON can express and UTF-8 cannot."""
    if text.isascii():  # Known to the string: no look at its characters.
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
