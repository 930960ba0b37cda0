"""``python -m bench.accuracy``: the README's table of how accurate taximeter is.

Recordings are read from ``../shared/recordings`` or ``TAXIMETER_RECORDINGS``; interrupted streams are
made with the simulated provider, whose invoice is the truth.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai

from taximeter import budget
from taximeter.cli.replay import line_of
from taximeter.money import usd
from taximeter.testing import Reply, SimulatedProvider, read_recordings

WIRES = (
    "openai.chat", "mistral.chat", "openai.responses", "openai.completions", "embeddings",
    "anthropic.messages", "gemini.generate",
)  # fmt: skip


def main() -> int:
    """Print one line for each figure."""
    folder = Path(os.environ.get("TAXIMETER_RECORDINGS", "../shared/recordings"))
    if folder.is_dir():
        replayed(folder)
    else:
        print(f"no recordings in {folder}; set TAXIMETER_RECORDINGS", file=sys.stderr)
    interrupted()
    return 0


def replayed(folder: Path) -> None:
    """Answers with usage: read, the same when cut anywhere, and priced as the provider says."""
    answers = read = same = stated = agree = 0
    for wire in WIRES:
        for record in read_recordings(folder / f"{wire}.jsonl.gz"):
            if record["response_status"] // 100 != 2 or not record["provider_usage"]:
                continue
            answers += 1
            line = line_of(record)
            read += line["usage"] is not None
            same += all(
                line_of(record, random.Random(f"{seed} {record['id']}")) == line
                for seed in range(3)
            )
            if line.get("provider_cost"):
                stated += 1
                agree += agrees(line["cost"], line["provider_cost"])
    print(f"answers with usage: {answers}; read: {read}; the same in 3 random cuts: {same}")
    print(f"answers with a stated cost: {stated}; our price agrees to the digits stated: {agree}")


def agrees(ours: str | None, theirs: Any) -> bool:
    """Equal to the digits that the provider states (rates are exact to 10⁻¹⁸ USD a token)."""
    if ours is None:
        return False
    stated = Decimal(str(theirs))
    exponent = stated.as_tuple().exponent
    digits = Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)
    return abs(Decimal(ours) - stated) <= max(digits, Decimal("1e-15"))


def interrupted(count: int = 60) -> None:
    """Streams left at a random point, at a pace of real models: booked cost over invoiced cost."""
    ratios = []
    rng = random.Random(1)
    for _ in range(count):
        rate = rng.choice([60, 120, 250])
        reply = Reply(tokens=4000, tokens_per_second=rate)
        ratios.append(left(reply, rng, read_ahead=rate // 5))
    low, middle, high = (float(q) for q in quantiles(ratios))
    print(
        f"interrupted openai streams: {count}; booked / invoiced: "
        f"p5 {low:.2f}, median {middle:.2f}, p95 {high:.2f}, min {float(min(ratios)):.2f}"
    )


def left(reply: Reply, rng: random.Random, *, read_ahead: int) -> Decimal:
    """One stream that is left after some chunks: what is booked over what is invoiced."""
    provider = SimulatedProvider(reply, seed=rng.randrange(10**6), read_ahead=read_ahead)
    with provider, openai.OpenAI(base_url=provider.base_url, api_key="any") as client:
        with budget(max_usd=1) as b:
            stream = client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "Tell me about taxis. " * 20}],
                stream=True,
            )
            for _, _ in zip(range(rng.randrange(20, 400)), stream, strict=False):
                pass
            stream.close()
        provider.wait_until_idle()
        return b.spent / usd(provider.invoice_total)


def quantiles(values: list[Decimal]) -> tuple[Decimal, Decimal, Decimal]:
    """5 %, 50 % and 95 %."""
    ordered = sorted(values)
    return ordered[len(ordered) // 20], statistics.median(ordered), ordered[-len(ordered) // 20]


if __name__ == "__main__":
    sys.exit(main())
