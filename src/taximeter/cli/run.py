"""``taximeter run``: any Python program under a budget, unchanged and in this process."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from taximeter.cli import program
from taximeter.cli.output import add_command, to_json
from taximeter.errors import BudgetExceededError, ConfigurationError, TaximeterError
from taximeter.money import amount, usd

if TYPE_CHECKING:
    from taximeter.budgeting import Budget

STOPPED: Final = 3
INTERRUPTED: Final = 130

EXAMPLES: Final = """\
  taximeter run --budget 1 script.py --its-own option
  taximeter run --budget 0.50 --live -m package.module
  taximeter run --budget 20 --name nightly batch.py    # shared by all that use this name
  taximeter run --mode strict --budget 1 --on-limit truncate script.py
  taximeter run --json --tags team=search,env=dev script.py 2>spend.json

exit status:
  3 when the budget stopped the program (it did not catch BudgetExceededError), else the
  program's own. The summary goes to stderr; stdout is the program's alone."""


def add(commands: Any) -> None:
    """The arguments of ``run``."""
    parser = add_command(
        commands,
        "run",
        help="run a Python program under a budget",
        description="Run any Python program, unchanged, under a budget (or only metered, without "
        "--budget). Its calls go to your own ledger: see `taximeter stats`.",
        examples=EXAMPLES,
        usage="taximeter run [options] (script.py | -m module) [arguments of the program ...]",
    )
    parser.add_argument(
        "--budget", metavar="USD", help="most it may cost, e.g. 1 or 0.25, or '$5/day'"
    )
    parser.add_argument("--name", help="share the budget with every process that uses this name")
    parser.add_argument(
        "--mode", default="clamp", help="strict, clamp (default), warn or observe: how it acts"
    )
    parser.add_argument(
        "--on-limit",
        default="raise",
        metavar="ACTION",
        help="a stream at its limit: raise (default), or truncate: end as a short answer",
    )
    parser.add_argument("--live", action="store_true", help="show the fare running, on stderr")
    parser.add_argument("--json", action="store_true", help="the summary as one line of JSON")
    parser.add_argument(
        "--store", metavar="URL", help="where the ledger is (default: your own SQLite file)"
    )
    parser.add_argument(
        "--tags", action="append", default=[], metavar="K=V", help="written on every ledger entry"
    )
    parser.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, help="a module, as `python -m` takes it"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run the program; see the module's help for what the status means."""
    body = _program(options)
    budget = _budget(options)
    meter = None
    if options.live:
        from taximeter.cli.live import LiveMeter

        meter = LiveMeter(budget).start()
    run = Run(budget, as_json=options.json, stop_meter=meter.stop if meter is not None else None)
    return run(body)


class Run:
    """One run: its status, why it was stopped, and the summary that is printed once at its end."""

    def __init__(
        self, budget: Budget, *, as_json: bool, stop_meter: Callable[[], None] | None
    ) -> None:
        self.budget = budget
        self.as_json = as_json
        self.status = 0
        self.stopped: BudgetExceededError | None = None
        self._stop_meter = stop_meter
        self._finished = False

    def __call__(self, body: Callable[[], None]) -> int:
        before = threading.excepthook
        threading.excepthook = self._thread_died(before)
        try:
            with self.budget:
                self.status = self._status_of(body)
        finally:
            if _outlived():
                # Threads that go on are still charged: the last word comes when they have ended.
                atexit.register(self.finish)
            else:
                threading.excepthook = before
                self.finish()
        return self.status

    def _status_of(self, body: Callable[[], None]) -> int:
        try:
            body()
        except SystemExit as exit:
            return self._or_stopped(_exit_status(exit))
        except KeyboardInterrupt:
            return INTERRUPTED
        except ConfigurationError as error:
            if program.tail(error) is None:  # Ours, not the program's: there is nothing to run.
                self._finished = True
                raise
            return self._died(error)
        except BaseException as error:  # noqa: BLE001  (told as python tells it, then exit)
            return self._died(error)
        return self._or_stopped(0)

    def _died(self, error: BaseException) -> int:
        stop = stop_behind(error)
        if stop is None:
            trace = program.tail(error)
            sys.excepthook(type(error), error.with_traceback(trace), trace)
            return 1
        self._stop(stop, program.tail(error))
        return STOPPED

    def _or_stopped(self, status: int) -> int:
        """A program that went on after the budget had ended one of its threads was stopped too."""
        return STOPPED if status == 0 and self.stopped is not None else status

    def _thread_died(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        def hook(args: Any) -> None:
            stop = stop_behind(args.exc_value) if args.exc_value is not None else None
            if stop is None:
                otherwise(args)
            elif self.stopped is None:
                self._stop(stop, args.exc_traceback)

        return hook

    def _stop(self, stop: BudgetExceededError, trace: Any) -> None:
        self.stopped = stop
        if self._stop_meter is not None:
            self._stop_meter()
        if not self.as_json:
            where = _where(trace)
            print(f"\ntaximeter: the budget stopped this program\n  {stop}", file=sys.stderr)
            if where:
                print(f"  at {where}", file=sys.stderr)

    def finish(self) -> None:
        """Print the summary, once."""
        if self._finished:
            return
        self._finished = True
        from taximeter.runtime import RUNTIME

        if self._stop_meter is not None:
            self._stop_meter()
        RUNTIME.settle_all()
        _flush_stdout()
        try:
            print(self._summary(), file=sys.stderr, flush=True)
        except BrokenPipeError:
            return
        except TaximeterError as error:
            print(f"taximeter: no summary: {error}", file=sys.stderr)

    def _summary(self) -> str:
        from taximeter.report import summary_text

        data = self.budget.summary_data()
        if not self.as_json:  # What stopped it stands above already.
            return summary_text({**data, "tripped": None} if self.stopped is not None else data)
        return to_json({**data, "exit_status": self.status, "stopped": _facts(self.stopped)})


def stop_behind(error: BaseException) -> BudgetExceededError | None:
    """The budget's own error inside what a framework has made of it, or None."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, BudgetExceededError):
            return one
        seen.add(id(one))
        waiting += [one.__context__, one.__cause__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return None


def _program(options: argparse.Namespace) -> Callable[[], None]:
    if options.module:
        return program.module(options.module[0], options.module[1:])
    words = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not words:
        raise ConfigurationError("nothing to run; give a script.py, or -m and a module")
    if words[0].startswith("-"):
        raise ConfigurationError(f"run knows no option {words[0]!r}; see `taximeter run --help`")
    return program.script(words[0], words[1:])


def _budget(options: argparse.Namespace) -> Budget:
    from taximeter.api import budget

    number, limits = _limit(options.budget)
    store = options.store or os.environ.get("TAXIMETER_STORE") or "sqlite://"
    return budget(
        limits,
        max_usd=number,
        name=options.name,
        mode=options.mode,
        on_limit=options.on_limit,
        store=store,
        tags=_tags(options.tags),
    )


def _limit(text: str | None) -> tuple[Decimal | None, str | None]:
    """``--budget`` as an amount of USD, or as limits in short (``$5/day``) for ``budget`` to read."""
    if text is None:
        return None, None
    try:
        Decimal(text.strip().lstrip("$"))
    except InvalidOperation:
        return None, text
    return usd(amount(text, name="--budget")), None


def _tags(given: list[str]) -> dict[str, str]:
    tags = {}
    for text in ",".join(given).split(","):
        key, equals, value = text.strip().partition("=")
        if key and equals:
            tags[key.strip()] = value.strip()
        elif text.strip():
            raise ConfigurationError(f"--tags {text!r} is not of the form key=value")
    return tags


def _exit_status(exit: SystemExit) -> int:
    """What ``python`` makes of ``sys.exit(code)``."""
    if exit.code is None:
        return 0
    if isinstance(exit.code, int):
        return exit.code
    _flush_stdout()
    print(exit.code, file=sys.stderr)
    return 1


def _outlived() -> bool:
    """Threads of the program are still running and will be waited for, as ``python`` does."""
    me = threading.current_thread()
    return any(not thread.daemon and thread is not me for thread in threading.enumerate())


def _where(trace: Any) -> str | None:
    """The last line of the user's own code in a traceback: ``script.py:12 in main``."""
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if "site-packages" not in frame.filename and not frame.filename.startswith(_LIBRARIES)
    ]
    if not frames:
        return None
    last = frames[-1]
    inside = "" if last.name.startswith("<") else f" in {last.name}"  # <module>, <genexpr>, ...
    return f"{last.filename}:{last.lineno}{inside}"


_LIBRARIES: Final = (os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(__file__)), "<")


def _facts(stop: BudgetExceededError | None) -> dict[str, Any] | None:
    if stop is None:
        return None
    names = (
        "scope", "spent", "limit", "requested", "available", "unit", "window", "retry_after",
        "usage",
    )  # fmt: skip
    return {
        "code": stop.code,
        "message": str(stop),
        **{name: getattr(stop, name) for name in names},
    }


def _flush_stdout() -> None:
    """The program's output comes before our summary, also where both go to one file."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return
