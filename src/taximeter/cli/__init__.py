"""The command line: ``taximeter run | demo | stats | estimate | prices | replay``.

One module a command; each brings ``add(commands)`` (its arguments) and ``execute(options) -> int``
(its work and exit status). Commands import what they need when they run, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from taximeter.errors import TaximeterError

COMMANDS: Final = ("run", "demo", "stats", "estimate", "prices", "replay")

FAILED: Final = 2
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141  # What a shell shows for a program that SIGPIPE has ended.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: Arguments without the program's name; None: those of this process.

    Returns:
        0 when all went well; 2 for wrong arguments and every error that taximeter itself raises
        (one line on stderr); 3 when a budget stopped the program of ``run``; 130 after Ctrl-C.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as exit:  # argparse has printed its help or what is wrong.
        return exit.code if isinstance(exit.code, int) else FAILED
    try:
        status: int = options.execute(options)
        sys.stdout.flush()
    except TaximeterError as error:
        print(f"taximeter: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        _forget_stdout()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taximeter",
        description="Meters LLM calls while they run, and never lets a budget be passed.",
        epilog="example:\n  taximeter run --budget 1 --live script.py\n\n"
        "`taximeter COMMAND --help` shows the options of a command, with examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"taximeter.cli.{name}").add(commands)
    return parser


class _Version(argparse.Action):
    """Print the version; the package is asked only when someone wants to know."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from taximeter import __version__

        print(f"taximeter {__version__}")
        parser.exit()


def _forget_stdout() -> None:
    """Whoever read our output has gone: let the interpreter's last flush go nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # A stdout that is no file has no last flush to fail.
        return


__all__ = ("main",)
