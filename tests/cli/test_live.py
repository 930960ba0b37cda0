"""The live meter: what it shows, and that a program below it keeps every byte of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from taximeter.cli.figures import Figures, Flight, shares
from taximeter.cli.live import FLIGHTS_SHOWN, pane_lines
from taximeter.testing import SimulatedProvider
from tests.cli.conftest import command, pointed_at

WEIGHT = re.compile(r"\x1b\[[01]m")
"""Bold and plain: not a colour, so NO_COLOR leaves them."""

FLIGHT = Flight(
    model="gpt-4o-mini", tokens=1234, cut_at=9000, fare=Decimal("0.01"), seconds=2.0, tags={}
)


def figures(spent: str, held: str = "0", limit: str | None = "1", flights: int = 0) -> Figures:
    free = (
        None if limit is None else max(Decimal(limit) - Decimal(spent) - Decimal(held), Decimal(0))
    )
    return Figures(
        spent=Decimal(spent),
        held=Decimal(held),
        free=free,
        limit=Decimal(limit) if limit is not None else None,
        flights=(FLIGHT,) * flights,
        calls=3,
    )


@pytest.mark.parametrize(
    ("now", "cells"),
    [
        (figures("0"), (0, 0, 40)),
        (figures("0.5", "0.25"), (20, 10, 10)),
        (figures("0.000001", "0.000001"), (1, 1, 38)),
        (figures("1"), (40, 0, 0)),
        (figures("1.5", "0.1"), (40, 0, 0)),
        (figures("0.2", limit=None), (0, 0, 40)),
        (figures("0", limit="0"), (0, 0, 40)),
    ],
)
def test_the_bar_shows_spent_held_and_free(now: Figures, cells: tuple[int, int, int]) -> None:
    assert shares(now) == cells


def test_a_line_says_it_all() -> None:
    assert figures("0.5", "0.25", flights=2).line() == (
        "fare $0.500000 of $1.00 · held $0.250000 · free $0.250000 · 3 calls · 2 in flight"
    )
    assert figures("0.5", limit=None).line() == "fare $0.500000 · held $0.000000 · 3 calls"


def test_the_pane_names_some_calls_and_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich", reason="NO RICH: the pane was not drawn")
    monkeypatch.setenv("NO_COLOR", "1")
    drawn = pane_lines(figures("0.5", flights=FLIGHTS_SHOWN + 3), 120)
    lines = [WEIGHT.sub("", line) for line in drawn]
    assert len(lines) == FLIGHTS_SHOWN + 2
    assert "1,234 of 9,000 tokens" in lines[1]
    assert "3 more in flight" in lines[-1]
    assert not any("\x1b" in line for line in lines)  # No colour was asked for.


def test_on_a_terminal_the_program_keeps_its_bytes_and_the_screen_is_given_back(
    tmp_path: Path, environment: Mapping[str, str], provider: SimulatedProvider
) -> None:
    pytest.importorskip("rich", reason="NO RICH: the pane was not drawn")
    (tmp_path / "program.py").write_text(
        "for n in range(3):\n"
        "    print('half a line', end='', flush=True)\n"
        "    print('; the rest', n)\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with subprocess.Popen(
        command("run", "--live", "--budget", "1", "program.py"),
        cwd=tmp_path,
        env={**environment, **pointed_at(provider), "TERM": "xterm", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        screen = WEIGHT.sub("", _read_all(ours))
        assert process.stdout is not None
        out = process.stdout.read()
    assert process.returncode == 0
    assert out == "".join(f"half a line; the rest {n}\n" for n in range(3))
    assert "\x1b[1;24r" in screen  # The program scrolls in the rows above the pane,
    assert "$0.000000 spent" in screen
    assert screen.rindex("\x1b[r") > screen.rindex("\x1b[1;24r")  # and in all of them at the end.
    assert "$0.00 of $1.00 spent" in screen[screen.rindex("\x1b[r") :]


def _read_all(terminal: int) -> str:
    parts = []
    try:
        while part := os.read(terminal, 65_536):
            parts.append(part)
    except OSError:  # The other side has gone.
        pass
    os.close(terminal)
    return b"".join(parts).decode("utf-8", "replace")


if sys.platform == "win32":
    pytest.skip("NO TERMINALS of this kind on Windows", allow_module_level=True)
