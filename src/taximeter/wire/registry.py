"""Which wire a request speaks, told by its URL path alone: hosts differ, paths do not."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from taximeter.wire.base import Wire

# Name -> module that exports it as WIRE (or under the name given). Imported when first needed.
_MODULES: Final = {
    "openai.chat": ("openai_chat", "WIRE"),
    "mistral.chat": ("openai_chat", "MISTRAL"),
    "openai.responses": ("openai_responses", "WIRE"),
    "openai.completions": ("openai_completions", "WIRE"),
    "embeddings": ("embeddings", "WIRE"),
    "anthropic.messages": ("anthropic_messages", "WIRE"),
    "gemini.generate": ("gemini_generate", "WIRE"),
}
NAMES: Final = tuple(_MODULES)

# Last segment of the path -> wire. A longer path below one of these is another call:
# /responses/{id}/cancel, /messages/batches, /messages/count_tokens, /chat/completions/{id}.
_SEGMENTS: Final = {
    "completions": "openai.completions",  # or, below /chat, openai.chat
    "responses": "openai.responses",
    "messages": "anthropic.messages",
    "embeddings": "embeddings",
    "embed": "embeddings",
}
# Last part of a segment "model:method" (Google).
_METHODS: Final = {
    "generateContent": "gemini.generate",
    "streamGenerateContent": "gemini.generate",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
}
# Vertex: publishers/anthropic/models/claude-...:rawPredict carries a Messages body.
_VERTEX_METHODS: Final = frozenset({"rawPredict", "streamRawPredict"})

_loaded: dict[str, Wire] = {}


def find(path: str, body: Mapping[str, Any] | None = None) -> Wire | None:
    """The wire of a POST to ``path`` (without its query), or None where it is none of ours.

    Args:
        path: URL path. Prefixes (proxies, deployments, gateways) do not matter.
        body: The parsed request, where it is at hand: a path that others use too (``/messages``,
            ``/responses``, ``/embed``) is then believed only if the body has the wire's fields.
    """
    name = name_of(path)
    if name is None or (body is not None and not _fits(name, body)):
        return None
    return by_name(name)


def name_of(path: str) -> str | None:
    """The name of the wire that may be spoken at ``path``; None for nearly all other traffic."""
    last = path[path.rfind("/") + 1 :]
    name = _SEGMENTS.get(last)
    if name is not None:
        if last == "completions" and path.endswith("/chat/completions"):
            return "openai.chat"
        if last == "messages" and "/threads/" in path:
            return None  # OpenAI's assistants: a message is stored, nothing is generated.
        return name
    if ":" not in last:
        return None
    method = last.rpartition(":")[2]
    if method in _VERTEX_METHODS and "/publishers/anthropic/" in path:
        return "anthropic.messages"
    return _METHODS.get(method)


_FIELDS: Final = {
    "openai.chat": frozenset({"messages"}),
    "openai.responses": frozenset(
        {"model", "input", "prompt", "conversation", "previous_response_id"}
    ),
    "openai.completions": frozenset({"prompt", "model"}),
    "anthropic.messages": frozenset({"messages"}),
    "embeddings": frozenset(
        {"input", "texts", "images", "inputs", "content", "requests", "prompt"}
    ),
}


def _fits(name: str, body: Mapping[str, Any]) -> bool:
    fields = _FIELDS.get(name)
    return fields is None or any(field in body for field in fields)


def by_name(name: str) -> Wire:
    """The wire called ``name``.

    Raises:
        LookupError: There is none; the message names those that there are.
    """
    wire = _loaded.get(name)
    if wire is None:
        if name not in _MODULES:
            raise LookupError(f"no wire is called {name!r}; there are {', '.join(NAMES)}")
        module, attribute = _MODULES[name]
        wire = getattr(import_module(f"taximeter.wire.{module}"), attribute)
        _loaded[name] = wire
    return wire
