"""Checks of what users type: each error names the setting, the value, and what would be right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from taximeter.errors import ConfigurationError


def one_of(setting: str, value: object, allowed: Sequence[str]) -> str:
    """One of a few words; a near miss is named."""
    if isinstance(value, str) and value in allowed:
        return value
    near = get_close_matches(str(value), allowed, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(f"{setting}={value!r} is not one of {', '.join(allowed)}{hint}")


def optional_one_of(setting: str, value: object, allowed: Sequence[str]) -> str | None:
    """The same, or None."""
    return None if value is None else one_of(setting, value, allowed)


def count(setting: str, value: object, *, least: int = 0) -> int:
    """A whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{setting}={value!r} is not a whole number of at least {least}")
    return value


def optional_count(setting: str, value: object, *, least: int = 0) -> int | None:
    """The same, or None."""
    return None if value is None else count(setting, value, least=least)


def seconds(setting: str, value: object) -> float:
    """A finite number of seconds, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{setting}={value!r} is not a number of seconds")
    if math.isnan(value) or value < 0 or math.isinf(value):
        raise ConfigurationError(f"{setting}={value!r}: use 0 (never) or more seconds, not endless")
    return float(value)


def shares(setting: str, value: object) -> tuple[float, ...]:
    """One share or several, each above 0 and at most 1; sorted."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    for share in values:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ConfigurationError(f"{setting}={value!r}: use shares of the limit, e.g. 0.8")
    return tuple(sorted(float(share) for share in values))


def optional_callable(setting: str, value: Any) -> Callable[..., Any] | None:
    """Something that can be called, or None."""
    if value is not None and not callable(value):
        raise ConfigurationError(f"{setting}={value!r} cannot be called; give a function or None")
    result: Callable[..., Any] | None = value
    return result


def name(value: object) -> str | None:
    """A budget's name, or None."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > 200 or "\0" in value:
        raise ConfigurationError(f"name={value!r}: use a text of 1 to 200 characters")
    return value


def tags(value: object) -> Mapping[str, Any] | None:
    """Names and values, or None."""
    if value is None or (isinstance(value, Mapping) and all(isinstance(k, str) for k in value)):
        return value
    raise ConfigurationError(f"tags={value!r}: use a mapping, e.g. {{'team': 'search'}}")


FALLBACK_KEYS: Final = ("at_pct", "model")


def later(setting: str, value: Any, what: str) -> None:
    """A setting of a coming release: checked, then refused; it must not look as if it protected."""
    if setting == "fallback":
        fallback(value)
    of = f" ({what})" if what != setting else ""
    raise ConfigurationError(
        f"{setting}={value!r}: not in this release yet{of}; leave {setting} out"
    )


def fallback(value: Any) -> None:
    """``{"at_pct": 0.8, "model": "gpt-4o-mini"}``."""
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"fallback={value!r}: use a dict like {{'at_pct': 0.8, 'model': 'gpt-4o-mini'}}"
        )
    for key in value:
        if key not in FALLBACK_KEYS:
            raise ConfigurationError(
                f"fallback has an unknown key {key!r}; it takes {' and '.join(FALLBACK_KEYS)}"
            )
    at = value.get("at_pct")
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 < at <= 1:
        raise ConfigurationError(f"fallback at_pct={at!r}: use a share of the limit, e.g. 0.8")
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise ConfigurationError(f"fallback model={model!r}: name the model to fall back to")
