"""The cap holds: many threads, tasks and streams against a provider that counts otherwise than we do.

Every run is seeded and prints its seed on failure. The invoice is the truth; nothing else is asked.
"""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import openai
import pytest

from taximeter import BudgetExceededError, budget
from taximeter.money import usd
from taximeter.testing.provider import SimulatedProvider
from taximeter.testing.reply import ReceivedRequest, Reply

THREADS, TASKS, STREAMS = 50, 50, 10
MODEL = "gpt-4o-mini"
OUTPUT_RATE = Decimal("0.6") / 1_000_000
PROMPT = [{"role": "user", "content": "Say something about taximeters, at some length."}]


def provider_of(rng: random.Random) -> SimulatedProvider:
    """Counts up to 20 % otherwise than usual, hides input, and reads ahead of a disconnect."""
    lengths = random.Random(rng.random())

    def reply(request: ReceivedRequest) -> Reply:
        return Reply(
            tokens=lengths.choice([8, 40, 200, 900]),
            extra_input_tokens=lengths.choice([0, 0, 5, 20]),
            tokens_per_event=lengths.choice([1, 1, 1, 3]),
        )

    return SimulatedProvider(
        reply,
        seed=rng.randrange(2**31),
        skew=rng.uniform(-0.2, 0.2),
        read_ahead=rng.choice([0, 16, 128, 256]),
        bills_whole_answer_on_abort=False,
    )


def ask(client: openai.OpenAI, output_tokens_max: int | None, *, stream: bool) -> str:
    options = {} if output_tokens_max is None else {"max_tokens": output_tokens_max}
    try:
        answer = client.chat.completions.create(
            model=MODEL, messages=PROMPT, stream=stream, **options
        )
        if stream:
            for _ in answer:
                pass
    except BudgetExceededError as error:
        return "cut" if error.usage is not None else "refused"
    return "done"


async def ask_async(client: openai.AsyncOpenAI, output_tokens_max: int, *, stream: bool) -> str:
    try:
        answer = await client.chat.completions.create(
            model=MODEL, messages=PROMPT, stream=stream, max_tokens=output_tokens_max
        )
        if stream:
            async for _ in answer:
                pass
    except BudgetExceededError as error:
        return "cut" if error.usage is not None else "refused"
    return "done"


def crowd(provider: SimulatedProvider, rng: random.Random) -> list[str]:
    """50 threads, 50 tasks and 10 streams without a cap of their own, all at once."""
    jobs = [(rng.choice([50, 200, 500]), rng.random() < 0.5) for _ in range(THREADS + TASKS)]
    results: list[str] = []
    with openai.OpenAI(base_url=provider.base_url, api_key="any", max_retries=0) as client:

        async def tasks() -> list[str]:
            async with openai.AsyncOpenAI(
                base_url=provider.base_url, api_key="any", max_retries=0
            ) as own:
                return await asyncio.gather(
                    *(ask_async(own, cap, stream=stream) for cap, stream in jobs[THREADS:])
                )

        loop = threading.Thread(target=lambda: results.extend(asyncio.run(tasks())))
        loop.start()
        with ThreadPoolExecutor(THREADS + STREAMS) as pool:
            futures = [
                pool.submit(ask, client, cap, stream=stream) for cap, stream in jobs[:THREADS]
            ] + [pool.submit(ask, client, None, stream=True) for _ in range(STREAMS)]
            results += [future.result() for future in futures]
        loop.join()
    return results


def crowd_under_a_fifth(seed: int, mode: str) -> tuple[list[str], Decimal, Decimal]:
    rng = random.Random(f"{mode}-{seed}")
    demand = OUTPUT_RATE * (250 * (THREADS + TASKS) + 900 * STREAMS)
    cap = (demand / 5).quantize(Decimal("1e-9"))
    with provider_of(rng) as provider:
        with budget(max_usd=cap, mode=mode, wait=2) as b:
            results = crowd(provider, rng)
        provider.wait_until_idle()
        invoice = usd(provider.invoice_total)
        data = b.summary_data()
    assert invoice <= cap, f"seed {seed} ({mode}): invoice {invoice} passes the cap {cap}"
    assert b.spent >= invoice, f"seed {seed} ({mode}): ledger {b.spent} is below {invoice}"
    assert b.held == 0, f"seed {seed} ({mode}): {b.held} is still held"
    assert data["calls_open"] == 0
    return results, invoice, cap


@pytest.mark.parametrize("mode", ["strict", "clamp"])
@pytest.mark.parametrize("seed", range(5))
def test_the_invoice_never_passes_the_cap_of_a_crowd_that_wants_five_times_as_much(
    seed: int, mode: str
) -> None:
    results, invoice, cap = crowd_under_a_fifth(seed, mode)
    assert len(results) == THREADS + TASKS + STREAMS
    assert results.count("refused") > 0  # It was really tight ...
    assert invoice > cap / 20  # ... and not all were turned away.


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "clamp"])
@pytest.mark.parametrize("block", range(10))
def test_the_cap_holds_over_two_hundred_seeded_crowds(block: int, mode: str) -> None:
    for seed in range(100 + block * 10, 110 + block * 10):
        crowd_under_a_fifth(seed, mode)


@pytest.mark.parametrize("mode", ["strict", "clamp"])
def test_nobody_is_refused_while_the_whole_worst_case_would_have_fitted(mode: str) -> None:
    rng = random.Random(7)
    worst = OUTPUT_RATE * (500 * (THREADS + TASKS) + 16_384 * STREAMS) * 2
    with provider_of(rng) as provider:
        with budget(max_usd=worst, mode=mode, wait=0) as b:
            results = crowd(provider, rng)
        assert set(results) == {"done"}
        assert b.spent == usd(provider.invoice_total)


@pytest.mark.parametrize("seed", range(8))
def test_a_lone_stream_without_a_cap_that_fits_its_budget_is_never_cut(seed: int) -> None:
    rng = random.Random(seed)
    tokens = rng.choice([300, 3000, 12_000])
    provider = SimulatedProvider(Reply(tokens=tokens), seed=seed, skew=rng.uniform(-0.2, 0.2))
    with provider, openai.OpenAI(base_url=provider.base_url, api_key="any") as client:
        with budget(max_usd=OUTPUT_RATE * tokens + Decimal("0.0004")) as b:
            assert ask(client, None, stream=True) == "done"
        assert b.spent == usd(provider.invoice_total)
        assert b.summary_data()["calls"][-1]["settlement"] == "exact"
