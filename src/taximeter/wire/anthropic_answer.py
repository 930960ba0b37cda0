"""The state of one Anthropic answer: events in, figures out. Knows nothing of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal

from taximeter.errors import WireError
from taximeter.usage import Part, Usage
from taximeter.wire.anthropic_usage import (
    Raw,
    Turns,
    largest_prompt,
    merge,
    normalise,
    read_turns,
)
from taximeter.wire.base import WireRequest
from taximeter.wire.body import count

Finish = Literal["stop", "length", "tool", "filter", "error", "other"]

FINISHES: Final[Mapping[str, Finish]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool",
    "refusal": "filter",
}

MESSAGES_MAX: Final = 1000
"""Messages in one body; only proxies and stored fixtures put more than one there."""

OPEN_MAX: Final = 10_000
"""Content blocks open at once. Anthropic has one."""

_NO_REGION: Final = ("", "not_available")


class AnthropicAnswer:
    """Base of the meter: what the events of one answer add up to."""

    def __init__(self, request: WireRequest | None) -> None:
        self.usage: Usage | None = None
        self.parts: tuple[Part, ...] = ()
        self.provider_cost: Decimal | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.finish: Finish | None = None
        self.terminal = False
        self.error: str | None = None
        self.context_tokens: int | None = None
        self.region: str | None = None
        self.facts: dict[str, object] = {}
        self.started = False  # ``message_start`` was seen.
        self.reason_given = False  # A stop reason was seen.
        self.open_blocks: dict[int, str] = {}
        self._lifetime = request.prompt.cache_write if request is not None else ""
        self._messages: dict[str, Raw] = {}
        self._totals: dict[str, tuple[Usage | None, tuple[Part, ...]]] = {}
        self._begin("", {})

    def _begin(self, identity: str, raw: Raw) -> None:
        self._id, self._raw = identity, raw
        self._named: str | None = None
        self._first_prompt = 0
        self._contents = 0  # content blocks so far
        self._rounds = 0  # groups of calls of the provider's own tools
        self._searches = 0
        self._last_kind = ""

    def read(self, event: Mapping[str, Any]) -> None:
        """Take one event in.

        Raises:
            WireError: More messages in one answer than any provider sends.
        """
        match event.get("type"):
            case "message_start":
                self._start(event.get("message"))
            case "message_delta":
                self._read_delta(event)
            case "message_stop":
                self.terminal = True
                self.open_blocks.clear()
            case "content_block_start":
                self._start_content(event.get("index"), event.get("content_block"))
            case "content_block_stop":
                if isinstance(index := event.get("index"), int):
                    self.open_blocks.pop(index, None)
            case "message":  # The whole answer: a body, or (Vertex) one event of a stream.
                self._read_message(event)
            case "error":
                self._read_error(event)

    def _start(self, message: object) -> None:
        if not isinstance(message, dict):
            return
        identity = message.get("id")
        if not isinstance(identity, str):
            identity = f"#{len(self._messages)}" if self.terminal else self._id
        if identity not in self._messages and len(self._messages) >= MESSAGES_MAX:
            raise WireError(f"more than {MESSAGES_MAX} messages in one answer")
        self._begin(identity, self._messages.setdefault(identity, {}))
        self.started = True
        self.terminal = self.reason_given = False
        self.finish = None
        self.open_blocks.clear()
        if isinstance(model := message.get("model"), str) and model:
            self._named = self.model = model
        merge(self._raw, message.get("usage"))
        first = normalise(self._raw)
        self._first_prompt = first.input_tokens if first is not None else 0
        self._add_up()

    def _read_delta(self, event: Mapping[str, Any]) -> None:
        usage, delta = event.get("usage"), event.get("delta")
        self._messages.setdefault(self._id, self._raw)  # Its start may be lost.
        merge(self._raw, usage)
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        if isinstance(reason, str):
            self._set_finish(reason)
            if isinstance(usage, dict) and count(usage.get("output_tokens")) is not None:
                self.facts["usage_final"] = normalise(self._raw) is not None
        self._add_up()

    def _read_message(self, message: Mapping[str, Any]) -> None:
        self._start(message)
        self._first_prompt = 0  # A sum, from the start.
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            self._count_content(block)
        self.reason_given = True
        if isinstance(reason := message.get("stop_reason"), str):
            self._set_finish(reason)
        self.facts["usage_final"] = normalise(self._raw) is not None
        self._add_up()
        self.terminal = True

    def _read_error(self, event: Mapping[str, Any]) -> None:
        error = event.get("error")
        told = error.get("type") or error.get("message") if isinstance(error, dict) else error
        self.error = told if isinstance(told, str) and told else "error"
        self.finish = "error"

    def _set_finish(self, reason: str) -> None:
        self.reason_given = True
        self.finish = FINISHES.get(reason, "other")
        if reason == "refusal" and not self._contents:
            self.facts["refused_before_output"] = True  # Anthropic does not bill these.

    def _start_content(self, index: object, block: object) -> None:
        if isinstance(index, int) and len(self.open_blocks) < OPEN_MAX:
            self.open_blocks[index] = ""
        if self._count_content(block):
            self._add_up()

    def _count_content(self, block: object) -> bool:
        """Count a content block; whether it is a search, which is billed by the piece."""
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str):
            return False
        self._contents += 1
        if kind in ("server_tool_use", "mcp_tool_use") and kind != self._last_kind:
            self._rounds += 1  # Calls side by side are one round: the prompt is read again once.
        self._last_kind = kind
        assert isinstance(block, dict)
        searches = kind == "server_tool_use" and block.get("name") == "web_search"
        self._searches += searches
        return searches

    # --- figures --------------------------------------------------------------------------------

    def _add_up(self) -> None:
        """Figures of the answer from its messages: the last within a message, the sum over all."""
        usage = normalise(self._raw, lifetime=self._lifetime)
        if usage is not None and self._searches and not self.facts.get("usage_final"):
            usage = self._with_searches(usage)
        turns = read_turns(self._raw, model=self._named, lifetime=self._lifetime)
        self._totals[self._id] = usage, turns.parts
        if len(self._totals) == 1:
            self.usage, self.parts = usage, turns.parts
        else:
            known = [u for u, _ in self._totals.values() if u is not None]
            self.usage = sum(known[1:], known[0]) if known else None
            self.parts = tuple(part for _, parts in self._totals.values() for part in parts)
        self._read_facts(usage, turns)

    def _with_searches(self, usage: Usage) -> Usage:
        """Until the final figures come, searches are counted by the blocks that call them."""
        requests = dict(usage.requests)
        requests["web_search"] = max(self._searches, requests.get("web_search", 0))
        return Usage(**{**_fields(usage), "requests": requests})

    def _read_facts(self, usage: Usage | None, turns: Turns) -> None:
        raw = self._raw
        self.model = turns.model or self.model
        self.service_tier = raw.get("service_tier", self.service_tier)
        region = raw.get("inference_geo", "")
        if region not in _NO_REGION:
            self.region = region
            self.facts["region"] = region
        if "speed" in raw:
            self.facts["speed"] = raw["speed"]
        if turns.fallback:
            self.facts["fallback"] = True
        context = turns.context_tokens
        if context is None and usage is not None and not raw.get("iterations"):
            context = self._estimate_context(usage.input_tokens)
        self.context_tokens = context

    def _estimate_context(self, total: int) -> int | None:
        grown = 0 < self._first_prompt < total
        rounds = self._rounds or int(grown)
        if not rounds or (self._first_prompt and not grown):
            return None
        return largest_prompt(total, first=self._first_prompt, turns=rounds + 1)


def _fields(usage: Usage) -> dict[str, Any]:
    return {name: getattr(usage, name) for name in Usage.__slots__}
