"""Money: integers of nano-USD for amounts, integers of atto-USD for rates, rounded once.

An *amount* is an ``int`` of nano-USD (10⁹ = 1 USD): exact to add, int64-safe to 9.2 billion USD.
A *rate* is an ``int`` of atto-USD (10¹⁸ = 1 USD) per unit, fine enough for every published price.
A call's cost is the exact integer sum of ``count × rate`` and is rounded once: half-even when it is
settled, up when it is held. Floats never take part; one given by a user goes through ``repr``.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from taximeter.digits import dollars, plain
from taximeter.errors import ConfigurationError

NANO: Final = 10**9
ATTO: Final = 10**18
ATTO_PER_NANO: Final = ATTO // NANO
AMOUNT_MAX: Final = 2**63 - 1
_USD_MAX: Final = Decimal(AMOUNT_MAX).scaleb(-9)

ZERO: Final = Decimal(0)

Amount = int
Rate = int
USD = str | Decimal | int | float


def decimal(value: USD, *, name: str = "amount") -> Decimal:
    """``value`` as an exact finite Decimal; :class:`ConfigurationError` names anything else."""
    try:
        if isinstance(value, bool) or not isinstance(value, (str, Decimal, int, float)):
            raise TypeError
        number = Decimal(
            repr(value) if isinstance(value, float) else str(value).strip().lstrip("$")
        )
    except (InvalidOperation, TypeError, ValueError):
        raise ConfigurationError(
            f"{name}={value!r} is not an amount of USD; use a str, Decimal, int or float"
        ) from None
    if not number.is_finite():
        raise ConfigurationError(f"{name}={value!r} is not a finite amount of USD")
    return number


def amount(value: USD, *, name: str = "amount") -> Amount:
    """USD as nano-USD, rounded down (a cap is never rounded up).

    Raises:
        ConfigurationError: Not a finite number, negative, or above 9.2 billion USD.
    """
    number = decimal(value, name=name)
    if number < 0:
        raise ConfigurationError(f"{name}={value!r} is negative; use 0 or more")
    if number > _USD_MAX:
        raise ConfigurationError(f"{name}={value!r} is above 9.2 billion USD, the largest amount")
    return int(number.scaleb(9))


def usd(nano: Amount) -> Decimal:
    """Nano-USD as USD, exactly: cents, and as many digits more as it needs (``5.00``, ``0.00012``)."""
    if not nano:
        return ZERO
    cents, rest = divmod(nano, NANO // 100)
    return Decimal(cents).scaleb(-2) if not rest else Decimal(nano).scaleb(-9).normalize()


def rate(value: USD, *, name: str = "rate") -> Rate:
    """USD per unit as atto-USD, half-even at 10⁻¹⁸ (only division artefacts in public maps need it)."""
    number = decimal(value, name=name)
    if number < 0:
        raise ConfigurationError(f"{name}={value!r} is negative; use 0 or more")
    return int(number.scaleb(18).to_integral_value())


def round_half_even(atto: int) -> Amount:
    """Exact cost to an amount, when it is settled."""
    nano, rest = divmod(atto, ATTO_PER_NANO)
    half = ATTO_PER_NANO // 2
    return nano + (rest > half or (rest == half and nano & 1))


def round_up(atto: int) -> Amount:
    """Exact cost to an amount, when it is held."""
    return -(-atto // ATTO_PER_NANO)


__all__ = (
    "AMOUNT_MAX",
    "ATTO",
    "ATTO_PER_NANO",
    "NANO",
    "USD",
    "ZERO",
    "Amount",
    "Rate",
    "amount",
    "decimal",
    "dollars",
    "plain",
    "rate",
    "round_half_even",
    "round_up",
    "usd",
)
