"""The streaming samples of the founding page, run as they stand there.

The page lost its indentation when it was captured; only that is restored, and the import line names
taximeter. What a sample leaves undefined (a client, messages) stands in its preamble. The fallback
sample comes with fallback models.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from taximeter.testing import Fault, Price, Reply, SimulatedProvider

SAMPLES = Path(__file__).parent / "samples"
OPENAI = "import openai\nclient = openai.OpenAI()\n"
ASYNC_OPENAI = "import openai\nclient = openai.AsyncOpenAI()\n"
WITH_BUDGET = "from taximeter import budget\n"
PREAMBLES = {
    "budget_enforcement": OPENAI,
    "async_openai": ASYNC_OPENAI,
    "multiple_streams": OPENAI + WITH_BUDGET,
    "progress_bars": OPENAI,
    "real_time_cost": OPENAI,
    "token_tracking": OPENAI + WITH_BUDGET,
    "interruptions": OPENAI,
    "reuse": WITH_BUDGET
    + OPENAI
    + """
items = ["one", "two"]
def stream_response(item):
    for chunk in client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": item}], stream=True
    ):
        pass
""",
    "timeouts": OPENAI + WITH_BUDGET + 'prompt = "Hello"\n',
    "small_chunks": OPENAI + WITH_BUDGET,
    "graceful_errors": OPENAI,
}
TQDM = """
class tqdm:
    def __new__(cls, iterable, **options):
        return iterable
"""


def run(name: str, provider: SimulatedProvider, folder: Path, *, after: str = "") -> str:
    """What the sample prints; it must end well."""
    stub = folder / "tqdm.py"
    stub.write_text(TQDM, encoding="utf-8")  # Progress bars are no dependency of ours.
    sample = (SAMPLES / f"{name}.txt").read_text(encoding="utf-8")
    sample = sample.replace("from shekel import", "from taximeter import")
    environment = {
        **os.environ,
        "ANTHROPIC_API_KEY": "any",
        "ANTHROPIC_BASE_URL": provider.anthropic_url,
        "OPENAI_API_KEY": "any",
        "OPENAI_BASE_URL": provider.base_url,
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        "XDG_STATE_HOME": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLES.get(name, "") + sample + after],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def cents(provider: SimulatedProvider) -> str:
    return f"${Decimal(provider.invoice_total).scaleb(-9):.4f}"


def test_every_sample_is_run() -> None:
    files = {path.stem for path in SAMPLES.glob("*.txt")}
    tested = set(re.findall(r'run\("(\w+)"', Path(__file__).read_text(encoding="utf-8")))
    assert files == tested | {name for name, _ in COSTS}


# Long enough for a cost that shows in four decimals.
LONG = Reply(text="taxi " * 900)
# The page's model is older than the provider's own price list.
HAIKU = {"claude-3-haiku-20240307": Price(input="0.25", output="1.25")}
COSTS = [
    ("openai_streaming", "Streaming cost: "),
    ("anthropic_streaming", "Streaming cost: "),
    ("async_openai", "Async streaming cost: "),
    ("async_anthropic", "Async streaming cost: "),
    ("multiple_streams", "Total for all streams: "),
    ("progress_bars", "Total cost: "),
]


@pytest.mark.parametrize(("name", "label"), COSTS, ids=[name for name, _ in COSTS])
def test_a_sample_prints_the_answer_and_the_invoice(name: str, label: str, tmp_path: Path) -> None:
    with SimulatedProvider(LONG, prices=HAIKU) as provider:
        printed = run(name, provider, tmp_path)
    assert cents(provider) != "$0.0000"
    assert label + cents(provider) in printed
    if name != "progress_bars":
        assert "taxi taxi taxi" in printed


def test_the_enforcement_sample_is_stopped_before_its_limit(tmp_path: Path) -> None:
    with SimulatedProvider(Reply(text="taxi " * 3000)) as provider:
        printed = run("budget_enforcement", provider, tmp_path)
        provider.wait_until_idle()
    assert f"Budget exceeded after stream: {cents(provider)}" in printed
    assert "Completed" not in printed
    assert provider.invoice_total <= 10_000_000


def test_the_enforcement_sample_completes_when_it_fits(tmp_path: Path) -> None:
    with SimulatedProvider(Reply(text="taxi " * 300)) as provider:
        printed = run("budget_enforcement", provider, tmp_path)
    assert f"Completed: {cents(provider)}" in printed


def test_the_real_time_sample_accumulates_over_its_blocks(tmp_path: Path) -> None:
    with SimulatedProvider(LONG) as provider:
        printed = run("real_time_cost", provider, tmp_path)
    assert f"[Cost: {cents(provider)} / $5.00]" in printed
    assert printed.count("[Cost: ") == 3
    assert len(provider.invoice) == 3


def test_the_token_sample_prints_the_billed_tokens(tmp_path: Path) -> None:
    with SimulatedProvider(LONG) as provider:
        printed = run("token_tracking", provider, tmp_path)
    (line,) = provider.invoice
    assert f"Input tokens: {line.usage['input_tokens']}" in printed
    assert f"Output tokens: {line.usage['output_tokens']}" in printed
    assert f"Cost: ${line.cost_usd:.6f}" in printed


def test_the_interruption_sample_runs_to_its_end_undisturbed(tmp_path: Path) -> None:
    with SimulatedProvider(LONG) as provider:
        printed = run("interruptions", provider, tmp_path, after='print("", b.spent, sep="\\n")\n')
    assert "Cost before interruption" not in printed
    assert Decimal(printed.splitlines()[-1]) == Decimal(provider.invoice_total).scaleb(-9)


def test_the_reuse_sample_accumulates(tmp_path: Path) -> None:
    with SimulatedProvider(LONG) as provider:
        printed = run("reuse", provider, tmp_path, after="print(session.spent)\n")
    assert Decimal(printed) == Decimal(provider.invoice_total).scaleb(-9)
    assert len(provider.invoice) == 2


@pytest.mark.parametrize("name", ["timeouts", "small_chunks"])
def test_a_sample_without_output_of_its_own_is_metered(name: str, tmp_path: Path) -> None:
    with SimulatedProvider(LONG) as provider:
        if name == "timeouts":
            # The sample does not read its stream; then nothing of it is owed but what was made.
            run("timeouts", provider, tmp_path)
        else:
            assert "taxi" in run("small_chunks", provider, tmp_path)
    assert len(provider.requests) == 1


def test_the_error_sample_returns_the_answer_or_says_why(tmp_path: Path) -> None:
    with SimulatedProvider(LONG) as provider:
        printed = run(
            "graceful_errors", provider, tmp_path, after='print("=", len(safe_stream("Hi")))\n'
        )
        assert f"= {len('taxi ' * 900)}" in printed
    with SimulatedProvider(faults={0: Fault.STATUS(400, message="no such luck")}) as provider:
        after = 'print("=", safe_stream("Hi"))\n'
        printed = run("graceful_errors", provider, tmp_path, after=after)
        assert "[Error: " in printed
        assert "no such luck" in printed
        assert "= None" in printed
