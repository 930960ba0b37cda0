"""Which rates hold at a moment: an earlier or announced card, or the off-peak hours. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from taximeter.pricing.base import RateCard
from taximeter.pricing.plans import overlay

AT_MAX: Final = 253_402_300_800
"""The year 10000: a time that a damaged answer gives is not a reason to fail."""

_DAY: Final = 86_400


def card_at(card: RateCard, at: float) -> RateCard:
    """The card that holds at ``at``: an earlier or announced one, or its off-peak twin."""
    card = dated(card, at)
    if card.off_peak is None:
        return card
    days, second = divmod(int(at), _DAY)
    weekday = (days + 3) % 7 + 1  # 1 January 1970 was a Thursday.
    minute = second // 60
    for weekdays, first, end in card.off_peak.windows:
        if weekday in weekdays and first <= minute < end:
            return _off_peak_card(card)
    return card


def dated(card: RateCard, at: float) -> RateCard:
    """The earlier or announced card that holds on the day of ``at``, else ``card`` itself."""
    if card.history:
        day = iso_date(at)
        for other in card.history:
            if (other.since or "") <= day < (other.until or "9"):
                return other
    return card


def _off_peak_card(card: RateCard) -> RateCard:
    twin: RateCard | None = card.memo.get("off_peak")
    if twin is None:
        assert card.off_peak is not None
        rates = dict(card.rates)
        overlay(rates, card.off_peak.rates)
        twin = replace(card, rates=rates, off_peak=None, history=(), memo={})
        card.memo["off_peak"] = twin
    return twin


def iso_date(at: float) -> str:
    """The UTC date of ``at`` (seconds since the epoch) as ``YYYY-MM-DD``, without a calendar import."""
    days = int(at // _DAY) + 719_468  # Days since 0000-03-01; civil-from-days of H. Hinnant.
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    year = year_of_era + era * 400 + (month <= 2)
    return f"{year:04d}-{month:02d}-{day:02d}"
