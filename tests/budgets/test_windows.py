"""Windows: every instant is in exactly one, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.budgets.windows import TOTAL, UNITS, Window, parse_window
from taximeter.errors import ConfigurationError

BERLIN = "Europe/Berlin"
ZONES = [
    "UTC", BERLIN, "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/Sao_Paulo",
    "America/Havana", "Pacific/Apia", "Africa/Cairo", "Pacific/Kiritimati",
]  # fmt: skip


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def utc(seconds: float | None) -> str:
    assert seconds is not None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M")


@pytest.mark.parametrize(
    ("window", "key", "start", "end"),
    [
        (Window(unit="minute"), "minute:2026-11-22T13.45", "2026-11-22T13:45", "2026-11-22T13:46"),
        (Window(unit="hour"), "hour:2026-11-22T13.00", "2026-11-22T13:00", "2026-11-22T14:00"),
        (Window(unit="day"), "day:2026-11-22", "2026-11-22T00:00", "2026-11-23T00:00"),
        (Window(unit="week"), "week:2026-11-16", "2026-11-16T00:00", "2026-11-23T00:00"),
        (Window(unit="month"), "month:2026-11-01", "2026-11-01T00:00", "2026-12-01T00:00"),
        (Window(unit="year"), "year:2026-01-01", "2026-01-01T00:00", "2027-01-01T00:00"),
        (
            Window(unit="week", anchor_day=7),
            "week:2026-11-22", "2026-11-22T00:00", "2026-11-29T00:00",
        ),
        (
            Window(unit="month", anchor_day=23),
            "month:2026-10-23", "2026-10-23T00:00", "2026-11-23T00:00",
        ),
        (
            Window(unit="month", anchor_day=31),
            "month:2026-10-31", "2026-10-31T00:00", "2026-11-30T00:00",
        ),
        (
            Window(unit="year", anchor_month=12, anchor_day=1),
            "year:2025-12-01", "2025-12-01T00:00", "2026-12-01T00:00",
        ),
        (
            Window(unit="day", zone="Asia/Kolkata"),
            "day@Asia/Kolkata:2026-11-22", "2026-11-21T18:30", "2026-11-22T18:30",
        ),
        (
            Window(unit="hour", zone="Asia/Kolkata"),
            "hour@Asia/Kolkata:2026-11-22T13.30", "2026-11-22T13:30", "2026-11-22T14:30",
        ),
    ],
)  # fmt: skip
def test_a_window_has_a_key_and_its_instants(
    window: Window, key: str, start: str, end: str
) -> None:
    now = at("2026-11-22T13:45:30")
    assert window.key(now) == key
    assert (utc(window.start(now)), utc(window.end(now))) == (start, end)


def test_total_never_ends() -> None:
    assert (TOTAL.key(0.0), TOTAL.start(0.0), TOTAL.end(0.0)) == ("total", None, None)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)]
)
def test_a_day_on_which_clocks_change_is_shorter_or_longer(day: str, hours: int) -> None:
    window = Window(unit="day", zone=BERLIN)
    start = at(f"{day}T00:00", BERLIN)
    assert window.start(start) == start
    assert window.end(start) == start + hours * 3600
    assert window.key(start + hours * 3600 - 1) == f"day@{BERLIN}:{day}"
    assert window.key(start + hours * 3600) != window.key(start) != window.key(start - 1)


def test_an_hour_that_the_clocks_repeat_is_two_windows() -> None:
    window = Window(unit="hour", zone=BERLIN)
    first = at("2026-10-25T02:30", BERLIN)
    assert window.key(first) != window.key(first + 3600)
    assert window.end(first) == window.start(first + 3600)


def test_a_day_whose_midnight_does_not_exist_begins_when_the_clocks_change() -> None:
    window = Window(unit="day", zone="America/Sao_Paulo")
    noon = at("2018-11-04T12:00", "America/Sao_Paulo")
    assert utc(window.start(noon)) == "2018-11-04T03:00"
    assert utc(window.end(noon)) == "2018-11-05T02:00"


windows = st.builds(
    lambda unit, zone, day, month: Window(
        unit=unit,
        zone=zone,
        anchor_day=1 + day % {"week": 7, "month": 31, "year": 31}.get(unit, 1),
        anchor_month=1 + month % (12 if unit == "year" else 1),
    ),
    st.sampled_from([unit for unit in UNITS if unit != "total"]),
    st.sampled_from(ZONES),
    st.integers(0, 30),
    st.integers(0, 11),
)
instants = st.floats(at("1990-01-01T00:00"), at("2037-01-01T00:00"))


@given(window=windows, now=instants, share=st.floats(0, 1, exclude_max=True))
def test_two_instants_have_one_key_exactly_when_they_are_in_one_window(
    window: Window, now: float, share: float
) -> None:
    start, end = window.start(now), window.end(now)
    assert start is not None
    assert end is not None
    assert start <= now < end
    inside = min(start + share * (end - start), end - 0.001)
    assert (window.start(inside), window.end(inside)) == (start, end)
    assert window.key(inside) == window.key(start) == window.key(now)
    assert window.key(end) != window.key(now) != window.key(start - 0.001)
    assert window.start(end) == end
    assert window.end(start - 0.001) == start


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("day", "day"), (" Daily ", "day"), ("1 day", "day"), ("days", "day"), ("h", "hour"),
        ("monthly", "month"), ("total", "total"), ("minutes", "minute"), ("yr", "year"),
    ],
)  # fmt: skip
def test_windows_have_the_names_that_people_type(text: str, unit: str) -> None:
    assert parse_window(text) == Window(unit=unit)
    assert parse_window(text, zone=BERLIN).zone == BERLIN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("24h", "rolling window, which is not built yet"),
        ("rolling 7 days", "rolling window, which is not built yet"),
        ("fortnight", "window='fortnight' is not known"),
        ("", "window=''"),
        ("s", "window='s'"),
        (None, "window=None"),
    ],
)
def test_what_is_no_window_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_window(text)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"unit": "decade"}, "decade"),
        ({"unit": "day", "zone": "Mars/Olympus"}, "zone='Mars/Olympus'.*IANA"),
        ({"unit": "day", "zone": "../etc/passwd"}, "zone="),
        ({"unit": "day", "zone": ""}, "zone=''"),
        ({"unit": "day", "anchor_day": 2}, "anchor_day=2"),
        ({"unit": "week", "anchor_day": 8}, "anchor_day=8 .* 1 to 7"),
        ({"unit": "month", "anchor_month": 2}, "anchor_month=2"),
        ({"unit": "year", "anchor_month": 13}, "anchor_month=13"),
    ],
)
def test_what_a_window_cannot_be_is_named(facts: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Window(**facts)  # type: ignore[arg-type]
