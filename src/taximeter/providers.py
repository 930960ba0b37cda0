"""Who answers, and how they behave: told by host, else by whose model it is. Pure.

Gateways, Azure and local servers are recognised by URL path and JSON shape elsewhere; a host that is
not listed here is judged by the model it was asked for, because that is who bills in the end.

Sources: docs/decisions/0002 (where we listen) and the abort table of docs/decisions/0005.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider's billing and streaming habits.

    Attributes:
        name: As in the price book and the ledger, e.g. ``"openai"``.
        stops_on_abort: A client's disconnect ends generation, and so the bill. Where False (or
            not known) an interrupted answer is billed whole.
        stream_usage: ``"ask"``: usage in a stream must be asked for; ``"unasked"``: it comes anyway;
            ``"try"``: an unlisted host, which may refuse the question with a 4xx.
        cap_covers_reasoning: The output cap is known to include hidden reasoning.
        region: Where the host says it runs (Vertex), for prices that depend on it.
        local: The user's own machine: a model without a price costs nothing there.
    """

    name: str
    stops_on_abort: bool = False
    stream_usage: Literal["ask", "unasked", "try"] = "unasked"
    cap_covers_reasoning: bool = True
    local: bool = False
    region: str | None = None


_STOP: Final = {"openai", "azure", "anthropic", "xai", "deepseek", "together", "cohere"}
_ASK: Final = {"openai", "azure"}

# Longest suffix wins; a leading dot means any subdomain.
_HOSTS: Final = {
    "api.openai.com": "openai",
    ".api.openai.com": "openai",  # eu., us. and other regional hosts
    ".openai.azure.com": "azure",
    ".cognitiveservices.azure.com": "azure",
    ".services.ai.azure.com": "azure",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "vertex",
    ".aiplatform.googleapis.com": "vertex",
    "-aiplatform.googleapis.com": "vertex",
    ".amazonaws.com": "bedrock",
    "api.x.ai": "xai",
    ".api.x.ai": "xai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "openrouter.ai": "openrouter",
    "ai-gateway.vercel.sh": "vercel",
    "router.huggingface.co": "huggingface",
    ".databricks.com": "databricks",
    ".azuredatabricks.net": "databricks",
    "api.z.ai": "zai",
    "api.moonshot.ai": "moonshot",
    "models.github.ai": "github",
}

# Whose model it is, where the host does not tell. Prefixes that only their maker uses.
_MODELS: Final = re.compile(
    r"(?P<openai>gpt-(?!oss)|chatgpt-|o[1-9](?:$|-)|ft:|text-embedding-|davinci|babbage|codex-|computer-use)"
    r"|(?P<anthropic>claude-)"
    r"|(?P<google>(?:models/)?(?:gemini-|gemma-|text-embedding-00))"
    r"|(?P<xai>grok-)"
    r"|(?P<deepseek>deepseek-(?:chat|reasoner|v\d))"
    r"|(?P<perplexity>sonar(?:$|-)|r1-1776)"
    r"|(?P<mistral>(?:mistral|ministral|magistral|codestral|devstral|pixtral|voxtral)-)"
    r"|(?P<cohere>command-|c4ai-|embed-(?:english|multilingual|v\d))"
)

_LOCAL_HOSTS: Final = frozenset(
    {"localhost", "127.0.0.1", "::1", "[::1]", "0.0.0.0", "host.docker.internal"}
)
_LOCAL_PORTS: Final = frozenset({11434, 1234})  # Ollama, LM Studio: servers of local models only


@lru_cache(maxsize=256)
def identify(host: str, port: int | None, wire: str, model: str) -> Provider:
    """The provider behind ``host``, or the maker of ``model`` where the host is not listed."""
    name = _by_host(host.lower().rstrip("."))
    if name is not None:
        provider = _provider(name, known_host=True)
        if name == "vertex" and "-aiplatform" in host:
            provider = replace(provider, region=host.lower().partition("-aiplatform")[0])
        return provider
    if host.lower() in _LOCAL_HOSTS and port in _LOCAL_PORTS:
        return Provider(name="local", stops_on_abort=True, stream_usage="try", local=True)
    return _provider(owner(model, wire), known_host=False)


def owner(model: str, wire: str = "") -> str:
    """The maker of ``model`` where its name alone tells (``"openai/gpt-4o"`` too), else ``"unknown"``."""
    bare = model.lower().rpartition("/")[2] if not model.startswith("models/") else model.lower()
    found = _MODELS.match(bare)
    if found is None or found.lastgroup is None:
        return {"anthropic.messages": "anthropic", "gemini.generate": "google"}.get(wire, "unknown")
    return found.lastgroup


def named(name: str) -> Provider:
    """The provider of this name, as if its own host had been called."""
    return _provider(name, known_host=True)


def _by_host(host: str) -> str | None:
    if host in _HOSTS:
        return _HOSTS[host]
    for suffix, name in _HOSTS.items():
        if suffix[0] in ".-" and host.endswith(suffix):
            return name
    return None


def _provider(name: str, *, known_host: bool) -> Provider:
    if known_host:
        usage: Literal["ask", "unasked", "try"] = "ask" if name in _ASK else "unasked"
    else:
        usage = "unasked" if name in {"xai", "deepseek", "mistral", "perplexity"} else "try"
    return Provider(
        name=name,
        stops_on_abort=name in _STOP,
        stream_usage=usage,
        cap_covers_reasoning=name not in {"xai", "perplexity"},
    )
