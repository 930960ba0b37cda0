"""How commands print: JSON, tables; Rich where it is installed and someone looks."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, Final, TextIO

from taximeter.errors import MissingExtraError
from taximeter.money import plain

RIGHT: Final = ">"
LEFT: Final = "<"


def add_command(
    commands: Any, name: str, *, help: str, description: str, examples: str, **options: Any
) -> argparse.ArgumentParser:
    """A subcommand whose help ends with examples."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **options,
    )
    return parser


def to_json(value: Any) -> str:
    """One line of JSON. Amounts are strings with every digit: JavaScript's numbers would lose some."""
    return json.dumps(_jsonable(value), ensure_ascii=False, separators=(", ", ": "))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def wrap(text: str, indent: int) -> str:
    """Broken between words at the terminal's edge; elsewhere one line, which tools can search."""
    if not sys.stdout.isatty():
        return text
    width = max(shutil.get_terminal_size().columns - 1, 2 * indent)
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def rich_missing() -> MissingExtraError | None:
    """What to tell the user when Rich is not installed; None when it is."""
    return None if find_spec("rich") is not None else MissingExtraError("rich", "cli")


def print_table(
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[str]],
    *,
    total: Sequence[str] | None = None,
    file: TextIO | None = None,
) -> None:
    """Print rows under their headings: with Rich on a terminal, else as plain aligned text.

    Args:
        columns: Heading and side (``LEFT`` or ``RIGHT``) of each column.
        total: A last row, set apart.
    """
    out = file or sys.stdout
    body = [tuple(row) for row in rows]
    if out.isatty() and rich_missing() is None:
        _print_rich(columns, body, total, out)
        return
    for line in text_table(columns, body, total=total):
        print(line, file=out)


def text_table(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
    *,
    total: Sequence[str] | None = None,
) -> list[str]:
    """The lines of a plain table: two spaces between columns, a rule above the total."""
    heads = [heading for heading, _ in columns]
    widths = [
        max(len(row[i]) for row in [heads, *rows, *([total] if total else [])])
        for i in range(len(columns))
    ]
    lines = [_line(heads, columns, widths), *(_line(row, columns, widths) for row in rows)]
    if total is not None:
        lines += ["-" * (sum(widths) + 2 * (len(widths) - 1)), _line(total, columns, widths)]
    return lines


def _line(row: Sequence[str], columns: Sequence[tuple[str, str]], widths: Sequence[int]) -> str:
    cells = (f"{cell:{columns[i][1]}{widths[i]}}" for i, cell in enumerate(row))
    return "  ".join(cells).rstrip()


def _print_rich(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
    total: Sequence[str] | None,
    out: TextIO,
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, show_footer=total is not None, pad_edge=False, show_edge=False
    )
    for i, (heading, side) in enumerate(columns):
        table.add_column(
            heading,
            footer=Text(total[i]) if total is not None else "",
            justify="right" if side == RIGHT else "left",
            no_wrap=side == RIGHT,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=out).print(table)
