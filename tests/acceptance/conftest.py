"""The official SDKs at a provider on loopback, and what a test asks of ledger and invoice."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import openai
import pytest
from google import genai

from taximeter.testing import SimulatedProvider


@pytest.fixture
def serve() -> Iterator[Callable[..., SimulatedProvider]]:
    """``serve(reply, seed=1)``: a running provider, stopped at the end."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(SimulatedProvider(*args, **options))
        gc.collect()  # What a test dropped lets go of its connection before the server looks.


@pytest.fixture
def openai_client() -> Iterator[Callable[..., openai.OpenAI]]:
    with ExitStack() as stack:

        def make(provider: SimulatedProvider, **options: Any) -> openai.OpenAI:
            options = {"base_url": provider.base_url, "max_retries": 0, **options}
            return stack.enter_context(openai.OpenAI(api_key="any", **options))

        yield make


@pytest.fixture
def anthropic_client() -> Iterator[Callable[..., anthropic.Anthropic]]:
    with ExitStack() as stack:

        def make(provider: SimulatedProvider, **options: Any) -> anthropic.Anthropic:
            options = {"base_url": provider.anthropic_url, "max_retries": 0, **options}
            return stack.enter_context(anthropic.Anthropic(api_key="any", **options))

        yield make


@pytest.fixture
def gemini_client() -> Iterator[Callable[..., genai.Client]]:
    clients: list[genai.Client] = []

    def make(provider: SimulatedProvider) -> genai.Client:
        clients.append(genai.Client(api_key="any", http_options={"base_url": provider.gemini_url}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
