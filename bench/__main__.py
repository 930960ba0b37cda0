"""``python -m bench [--rounds N] [--json]``: measured against the bare SDK and store, with targets."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measured figure and what it should be."""

    name: str
    value: float
    unit: str
    target: float
    ratio: float | None = None
    ratio_target: float | None = None


def main() -> int:
    """Measure everything and print a table, or JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="pairs for each figure")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    for row in rows(options.rounds):
        print(json.dumps(row.__dict__) if options.json else text(row), flush=True)
    return 0


def rows(rounds: int):  # type: ignore[no-untyped-def]
    """The figures of the README, one at a time."""
    yield import_time()
    from bench import sdk, stores

    pair = sdk.openai_chunks(rounds)
    yield Row("openai: CPU added a chunk", pair.added * 1e6, "µs", 1.5, pair.ratio, 1.02)
    pair = sdk.openai_chunks_async(rounds)
    yield Row("openai, async: CPU added a chunk", pair.added * 1e6, "µs", 1.5, pair.ratio, 1.02)
    pair = sdk.openai_chunks_watched(rounds)
    yield Row("openai, spent read every 100 chunks", pair.added * 1e6, "µs", 5, pair.ratio)
    pair = sdk.anthropic_chunks(rounds)
    yield Row("anthropic: CPU added a chunk", pair.added * 1e6, "µs", 1.5, pair.ratio, 1.05)
    pair = sdk.openai_calls(rounds)
    yield Row("openai: CPU added a call", pair.added * 1e6, "µs", 60, pair.ratio)
    pair = sdk.openai_calls_sqlite(rounds)
    yield Row("openai: CPU added a call, in SQLite", pair.added * 1e6, "µs", 500, pair.ratio)
    pair = sdk.other_requests(rounds)
    yield Row("other httpx2 POST inside a budget", pair.added * 1e6, "µs", 1, pair.ratio)
    yield Row("memory: hold + settle, 4 limits", stores.memory(rounds) * 1e6, "µs", 10)
    yield Row("SQLite: hold + settle + entry, 4 limits", stores.sqlite(rounds) * 1e3, "ms", 0.3)


def import_time() -> Row:
    """Median over subprocesses of what ``import taximeter`` adds to a bare start."""
    code = (
        "import sys,time;a=time.perf_counter();import taximeter;"
        "print((time.perf_counter()-a)*1e3);"
        "assert 'asyncio' not in sys.modules and 'httpx' not in sys.modules"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(11)
    ]
    return Row("import taximeter", statistics.median(times), "ms", 25)


def text(row: Row) -> str:
    """One line for people; ✓ when the target is met in this run."""
    met = row.value <= row.target
    line = f"{row.name:<42} {row.value:>9.2f} {row.unit:<3} (target {row.target:g})"
    if row.ratio is not None:
        line += f"   ratio {row.ratio:.3f}"
        if row.ratio_target is not None:
            line += f" (target {row.ratio_target:g})"
            met = met and row.ratio <= row.ratio_target
    return f"{'✓' if met else '✗'} {line}"


if __name__ == "__main__":
    sys.exit(main())
