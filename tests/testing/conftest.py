"""The official SDKs, pointed at a provider and closed at the end of the test."""

from __future__ import annotations

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


@pytest.fixture
def openai_client() -> Iterator[Callable[..., openai.OpenAI]]:
    with ExitStack() as stack:

        def make(provider: SimulatedProvider, **options: Any) -> openai.OpenAI:
            client = openai.OpenAI(base_url=provider.base_url, api_key="any", **options)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def anthropic_client() -> Iterator[Callable[..., anthropic.Anthropic]]:
    with ExitStack() as stack:

        def make(provider: SimulatedProvider, **options: Any) -> anthropic.Anthropic:
            client = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="any", **options)
            return stack.enter_context(client)

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
