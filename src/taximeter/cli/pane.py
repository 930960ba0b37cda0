"""A few lines at the foot of a terminal, below a program that writes as it likes.

The terminal is told to scroll only above them, so the program's own output is not touched: not one
byte of it passes through here, and half-written lines stay whole. Needs an ANSI terminal.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

SAVE, RESTORE, CLEAR_LINE, CLEAR_BELOW = "\x1b7", "\x1b8", "\x1b[2K", "\x1b[J"
ROWS_LEAST = 10
"""A terminal with fewer rows is left to the program."""


class Pane:
    """``height`` lines at the foot of the terminal that ``file`` is."""

    def __init__(self, file: TextIO, height: int) -> None:
        self._file = file
        self._height = height
        self._size: os.terminal_size | None = None

    @property
    def columns(self) -> int:
        return self._now().columns

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines (already cut to the width); nothing where the terminal is too small."""
        size = self._now()
        if size.lines < max(ROWS_LEAST, self._height + 3):
            return
        parts = [] if size == self._size else [self._reserve(size)]
        first = size.lines - self._height + 1
        parts.append(SAVE)
        for row in range(self._height):
            text = lines[row] if row < len(lines) else ""
            parts.append(f"\x1b[{first + row};1H{CLEAR_LINE}{text}")
        parts.append(RESTORE)
        self._write("".join(parts))

    def close(self) -> None:
        """Give the rows back. Nothing is left on the screen."""
        if self._size is not None:
            first = self._size.lines - self._height + 1
            self._write(f"{SAVE}\x1b[r\x1b[{first};1H{CLEAR_BELOW}{RESTORE}")
            self._size = None

    def _reserve(self, size: os.terminal_size) -> str:
        self._size = size
        make_room = "\n" * self._height + f"\x1b[{self._height}A"
        return f"{make_room}{SAVE}\x1b[1;{size.lines - self._height}r{RESTORE}"

    def _now(self) -> os.terminal_size:
        try:
            return os.get_terminal_size(self._file.fileno())
        except (OSError, ValueError):
            return os.terminal_size((80, 0))

    def _write(self, text: str) -> None:
        """In one piece, so that the program's own writes fall before or after it."""
        try:
            self._file.flush()
            os.write(self._file.fileno(), text.encode("utf-8", "replace"))
        except (OSError, ValueError):  # A terminal that has gone is nobody's error here.
            return
