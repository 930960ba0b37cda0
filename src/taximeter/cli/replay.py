"""``taximeter replay``: recorded answers through the meters, whole or cut anywhere."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from taximeter.cli.output import LEFT, RIGHT, add_command, print_table, to_json
from taximeter.money import dollars, plain

if TYPE_CHECKING:
    from taximeter.wire.replay import Replayed

UNREADABLE: Final = 2
GZIP: Final = b"\x1f\x8b"

EXAMPLES: Final = """\
  taximeter replay recordings/*.jsonl.gz
  taximeter replay --split 7 --json openai.chat.jsonl.gz    # cut at random places: same lines
  zcat recordings.jsonl.gz | taximeter replay --json -

  A file is JSON lines, gzipped or not; a line is one recorded answer: id, wire, provider, model,
  url_path, request_json, response_status, response_headers, response_encoding, response_body.

exit status:
  2 when a file or a line could not be read, else 0: an answer without usage is a finding."""


def add(commands: Any) -> None:
    """The arguments of ``replay``."""
    parser = add_command(
        commands,
        "replay",
        help="read recorded answers through the meters",
        description="Meter recorded answers: usage, cost, and whether the answer was complete.",
        examples=EXAMPLES,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="recordings; - is stdin")
    parser.add_argument("--split", metavar="SEED", help="cut every body at random places")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each record")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Replay every record of every file, printing as it goes."""
    reader = Reader()
    shown: Listing = JsonListing() if options.json else TableListing()
    for name in options.files:
        for record in reader.records(name):
            shown.add(line_of(record, options.split))
    shown.close()
    return UNREADABLE if reader.unreadable else 0


def line_of(record: Mapping[str, Any], split: str | None = None) -> dict[str, Any]:
    """What is printed for one record; ``provider_cost`` (USD) stands beside our ``cost``.

    Each record is cut by the seed and its own id, so that its line does not depend on the others.
    """
    from taximeter.wire.replay import replay

    stated: list[Decimal | None] = [None]

    def price(done: Replayed) -> str | None:
        stated[0] = done.meter.provider_cost
        return cost_of(done)

    cuts = random.Random(f"{split} {record.get('id')}") if split is not None else None  # noqa: S311
    line = replay(record, cuts, price)
    line["provider_cost"] = plain(stated[0]) if stated[0] is not None else None
    return line


def cost_of(done: Replayed) -> str | None:
    """USD with every digit, before the one rounding of the ledger; None where nothing is priced.

    Priced as of the day the answer names; by the model's maker where the recorded provider sells no
    such model (a local server, a gateway).
    """
    from taximeter.pricing.answers import replayed_cost
    from taximeter.providers import owner

    return replayed_cost(done, maker=owner(done.model_asked or done.model, done.wire))


class Reader:
    """Records of files; says on stderr what cannot be read, counts it and goes on."""

    def __init__(self) -> None:
        self.unreadable = 0

    def records(self, name: str) -> Iterator[dict[str, Any]]:
        """Every record of a file, or of stdin for ``-``."""
        number = 0
        try:
            with _opened(name) as file:
                for number, text in enumerate(file, 1):
                    record = self._record(name, number, text)
                    if record is not None:
                        yield record
        except BrokenPipeError:
            raise
        except (OSError, EOFError, gzip.BadGzipFile) as error:
            where = name if not number else f"{name}, after line {number}"
            self._complain(f"cannot read {where}: {getattr(error, 'strerror', None) or error}")

    def _record(self, name: str, number: int, text: bytes) -> dict[str, Any] | None:
        if not text.strip():
            return None
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._complain(f"{name}, line {number}: not JSON ({error})")
            return None
        if not isinstance(record, dict):
            self._complain(f"{name}, line {number}: not a JSON object")
            return None
        return record

    def _complain(self, what: str) -> None:
        self.unreadable += 1
        print(f"taximeter: {what}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """The bytes of a file, unzipped if they are zipped, whatever the file is called."""
    with contextlib.ExitStack() as stack:
        raw: Any = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
        buffered = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
        if buffered.peek(2)[:2] == GZIP:
            yield stack.enter_context(gzip.open(buffered, "rb"))
        else:
            yield buffered


class Listing:
    """Prints lines as they come."""

    def add(self, line: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class JsonListing(Listing):
    """A line of JSON for each record."""

    def add(self, line: Mapping[str, Any]) -> None:
        print(to_json(line), flush=True)


class TableListing(Listing):
    """A row for each record, then totals by wire and what to make of them."""

    FORM: Final = "{:<17} {:<19} {:<11} {:<32.32} {:>9} {:>8} {:>14}  {}"

    def __init__(self) -> None:
        self._wires: dict[str, Counter[str]] = {}
        self._costs: dict[str, Decimal] = {}
        self._stated = 0
        self._differ: list[tuple[str, ...]] = []
        head = ("id", "wire", "provider", "model", "input", "output", "cost", "usage")
        print(self.FORM.format(*head))

    def add(self, line: Mapping[str, Any]) -> None:
        usage = line["usage"] or {}
        row = (
            str(line["id"]),
            str(line["wire"]),
            str(line["provider"]),
            str(line["model"] or "?"),
            _count(usage.get("input_tokens")),
            _count(usage.get("output_tokens")),
            dollars(Decimal(line["cost"])) if line["cost"] is not None else "-",
            "exact" if line["usage"] else line.get("reason", ""),
        )
        print(self.FORM.format(*row), flush=True)
        self._sum(line)

    def close(self) -> None:
        """Print the totals."""
        print()
        columns = [("wire", LEFT)]
        columns += [(n, RIGHT) for n in ("records", *OUTCOMES, "priced", "cost")]
        rows = [self._row(wire, self._wires[wire]) for wire in sorted(self._wires)]
        sums: Counter[str] = sum(self._wires.values(), Counter())
        self._costs["total"] = sum(self._costs.values(), Decimal(0))
        print_table(columns, rows, total=self._row("total", sums))
        if self._stated:
            agree = self._stated - len(self._differ)
            print(
                f"{self._stated:,} answers state a cost of their own; ours agrees, to the digits "
                f"stated, with {agree:,}" + (" and differs with:" if self._differ else "")
            )
        if self._differ:
            heads = [("id", LEFT), ("provider", LEFT), ("model", LEFT), ("ours", RIGHT)]
            print_table([*heads, ("stated", RIGHT)], self._differ)

    def _row(self, wire: str, counts: Counter[str]) -> list[str]:
        names = ("records", *OUTCOMES, "priced")
        return [
            wire,
            *(f"{counts[n]:,}" for n in names),
            dollars(self._costs.get(wire, Decimal(0))),
        ]

    def _sum(self, line: Mapping[str, Any]) -> None:
        wire = str(line["wire"])
        counts = self._wires.setdefault(wire, Counter())
        counts["records"] += 1
        counts[outcome_of(line)] += 1
        if line["cost"] is not None:
            counts["priced"] += 1
            self._costs[wire] = self._costs.get(wire, Decimal(0)) + Decimal(line["cost"])
            if line["provider_cost"] is not None:
                self._compare(line, Decimal(line["cost"]), Decimal(line["provider_cost"]))

    def _compare(self, line: Mapping[str, Any], ours: Decimal, stated: Decimal) -> None:
        self._stated += 1
        if not agrees(ours, stated):
            who = (str(line["id"]), str(line["provider"]), str(line["model"] or "?"))
            self._differ.append((*who, dollars(ours), dollars(stated)))


OUTCOMES: Final = ("exact", "none", "failed")


def outcome_of(line: Mapping[str, Any]) -> str:
    """``exact``: the provider's own usage was read; ``none``: it gave none; ``failed``: damaged."""
    if line["usage"] is not None:
        return "exact"
    reason = str(line.get("reason", ""))
    none = reason.startswith(("status ", "no usage", "unknown wire"))
    return "none" if none else "failed"


def agrees(ours: Decimal, stated: Decimal) -> bool:
    """Whether ``ours``, rounded either way to the digits that ``stated`` has, is that amount.

    Nano-USD is the finest that counts: some providers state the residue of a float.
    """
    exponent = stated.normalize().as_tuple().exponent
    digit = Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)
    return abs(ours - stated) <= max(digit / 2, Decimal("1e-9"))


def _count(tokens: int | None) -> str:
    return "-" if tokens is None else f"{tokens:,}"
