"""A reader who is slower than the provider: what he has not read is generated, and billed, as well.

The clock is a fake one: the provider's answer waits for it, the reader's naps move it on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from taximeter import BudgetExceededError, budget
from taximeter.budgets.books import Charge
from taximeter.stores.memory import MemoryStore

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
URL = "https://api.openai.com/v1"
OUTPUT_RATE = 600  # nano-USD a token


class Clock:
    """``time`` for the modules under test: stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0
        self.monotonic = time.monotonic

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("ports.streams", "runtime", "budgeting"):
        monkeypatch.setattr(f"taximeter.{module}.time", clock)
    return clock


class Provider(httpx2.BaseTransport):
    """Generates ``rate`` tokens a second from the first on, whether anybody reads or not."""

    def __init__(self, clock: Clock, rate: float) -> None:
        self.clock, self.rate = clock, rate
        self.generated_when_left = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream"}
        most = json.loads(request.content)["max_completion_tokens"]
        return httpx2.Response(200, headers=headers, stream=Answer(self, most))


class Answer(httpx2.SyncByteStream):
    def __init__(self, provider: Provider, most: int) -> None:
        self.provider, self.most, self.began = provider, most, provider.clock.now

    def __iter__(self) -> Iterator[bytes]:
        clock = self.provider.clock
        for number in range(self.most):
            clock.now = max(clock.now, self.began + (number + 1) / self.provider.rate)
            delta = {"index": 0, "delta": {"content": " word"}, "finish_reason": None}
            yield b"data: " + json.dumps({"id": "c", "choices": [delta]}).encode() + b"\n\n"

    def close(self) -> None:
        spent = (self.provider.clock.now - self.began) * self.provider.rate
        self.provider.generated_when_left = min(int(spent), self.most)


def nap_each_time(seconds: float) -> Callable[[int], float]:
    return lambda read: seconds


def nap_now_and_then(seconds: float) -> Callable[[int], float]:
    return lambda read: seconds if read % 50 == 0 else 0.0


@pytest.mark.parametrize("rate", [40, 100, 300])
@pytest.mark.parametrize(
    "nap",
    [
        pytest.param(nap_each_time(0), id="none"),
        pytest.param(nap_each_time(0.05), id="each time"),
        pytest.param(nap_now_and_then(1.5), id="now and then"),
    ],
)
def test_a_stream_without_a_cap_of_its_own_is_cut_before_more_is_generated_than_it_holds(
    rate: int, nap: Callable[[int], float], clock: Clock
) -> None:
    provider, store = Provider(clock, rate), MemoryStore()
    inner = httpx2.Client(transport=provider)
    client = openai.OpenAI(api_key="x", base_url=URL, max_retries=0, http_client=inner)
    with budget(max_usd="0.006", store=store, wait=0) as b:
        stream: Any = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        assert b.remaining is not None
        rest = int(b.remaining.scaleb(9))
        (call,) = b._open.values()
        assert store.hold("others", [Charge(key, rest, rest * 10) for key in call.held]).accepted
        read = 0
        with pytest.raises(BudgetExceededError, match="used up"):  # noqa: PT012
            for read, _ in enumerate(stream, 1):
                clock.now += nap(read)
        held = 6_000_000 - rest
        assert provider.generated_when_left * OUTPUT_RATE <= held
        (row,) = b.summary_data()["calls"]
        assert row["output_tokens"] >= provider.generated_when_left
        assert read * OUTPUT_RATE > held / 20  # It was not cut for nothing.
