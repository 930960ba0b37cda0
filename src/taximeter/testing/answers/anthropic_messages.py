"""``POST /v1/messages``: typed events, padded as the real ones, with a ping after the first block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from taximeter.testing.answers.base import (
    ApiError,
    Ask,
    Call,
    Choice,
    Event,
    Generation,
    compact,
    quoted,
    steps,
    strings,
)
from taximeter.testing.tokenizer import Tokenizer

_STOP: Final = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_NOT_TEXT: Final = frozenset({"type", "role", "id", "tool_use_id", "cache_control", "source"})
_TOOLS_PROMPT: Final = 346  # The provider's own prompt, billed once tools are offered.
_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


class AnthropicMessages:
    """Messages, and counting tokens."""

    name = "anthropic.messages"
    whole_on_abort = False
    call_prefix = "toolu_01"
    id_prefix = "msg_01"

    def read(self, body: Mapping[str, Any], path: str, tokenizer: Tokenizer) -> Ask:
        counting = path.endswith("/count_tokens")
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise ApiError(400, "model: Field required")
        if not isinstance(body.get("messages"), list):
            raise ApiError(400, "messages: Field required")
        if not body["messages"]:
            raise ApiError(400, "messages: at least one message is required")
        cap = body.get("max_tokens")
        if not counting:
            if isinstance(cap, bool) or not isinstance(cap, int):
                raise ApiError(400, "max_tokens: Field required")
            if cap < 1:
                raise ApiError(400, "max_tokens: Input should be greater than or equal to 1")
        _check_thinking(body, cap)
        count = sum(tokenizer.count(t) for t in strings(body["messages"], _NOT_TEXT))
        count += sum(tokenizer.count(t) for t in strings(body.get("system"), _NOT_TEXT))
        count += 3 + 4 * len(body["messages"])
        if body.get("tools"):
            text = json.dumps(body["tools"], ensure_ascii=False, separators=(",", ":"))
            count += _TOOLS_PROMPT + tokenizer.count(text)
        return Ask(
            model=model,
            input_tokens=count,
            streamed=body.get("stream") is True,
            cap=cap,
            stops=tuple(s for s in body.get("stop_sequences") or () if isinstance(s, str)),
            include_usage=True,
            free=counting,
        )

    def events(self, generation: Generation) -> Iterator[Event]:
        return _Stream(generation).events()

    def whole(self, generation: Generation) -> bytes:
        if generation.ask.free:
            return compact({"input_tokens": generation.usage["input_tokens"]})
        choice = generation.choices[0]
        content: list[dict[str, Any]] = []
        if choice.thinking:
            signature = generation.padding[:120]
            text = "".join(choice.thinking)
            content.append({"type": "thinking", "thinking": text, "signature": signature})
        if choice.pieces:
            content.append({"type": "text", "text": choice.text})
        content += [{**_tool_use(call), "input": _input(call)} for call in choice.calls]
        value = _message(generation, content, _STOP[choice.finish], _stopped(generation))
        if generation.says_usage:
            value["usage"] = _usage(generation, generation.output_tokens, split=True)
        return compact(value)

    def error(self, error: ApiError, request_id: str) -> bytes:
        kind = _TYPES.get(error.status, "api_error")
        detail = {"type": kind, "message": error.message}
        return compact({"type": "error", "error": detail, "request_id": request_id})

    def error_event(self, generation: Generation, message: str, events: int) -> bytes:
        error = {"type": "overloaded_error", "message": message or "Overloaded"}
        return b"event: error\ndata: " + compact({"type": "error", "error": error}) + b"\n\n"

    def content_type(self, ask: Ask) -> str:
        return "text/event-stream; charset=utf-8" if ask.streamed else "application/json"


def _check_thinking(body: Mapping[str, Any], cap: Any) -> None:
    thinking = body.get("thinking")
    if not isinstance(thinking, Mapping) or thinking.get("type") != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < 1024:
        raise ApiError(
            400, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        )
    if isinstance(cap, int) and cap <= budget:
        raise ApiError(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")


def _tool_use(call: Call) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": call.id,
        "name": call.name,
        "input": {},
        "caller": {"type": "direct"},
    }


def _input(call: Call) -> Any:
    try:
        return json.loads("".join(call.arguments))
    except ValueError:  # Cut by the cap.
        return {}


def _stopped(generation: Generation) -> str | None:
    if generation.choices[0].finish != "stop_sequence":
        return None
    return generation.ask.stops[0]


def _usage(generation: Generation, output: int, *, split: bool) -> dict[str, Any]:
    usage = generation.usage
    written = (usage["cache_write_5m_tokens"], usage["cache_write_1h_tokens"])
    value: dict[str, Any] = {
        "input_tokens": usage["input_tokens"] - usage["cached_input_tokens"] - sum(written),
        "cache_creation_input_tokens": sum(written),
        "cache_read_input_tokens": usage["cached_input_tokens"],
    }
    if split:  # Never said in message_delta.
        value["cache_creation"] = {
            "ephemeral_5m_input_tokens": written[0],
            "ephemeral_1h_input_tokens": written[1],
        }
    value["output_tokens"] = output
    searches = usage.get("requests.web_search", 0)
    if searches and (not split or output == generation.output_tokens):
        value["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    if split:
        value |= {"service_tier": "standard", "inference_geo": "not_available"}
    return value


def _message(
    generation: Generation, content: list[dict[str, Any]], stop: str | None, sequence: str | None
) -> dict[str, Any]:
    return {
        "model": generation.model,
        "id": generation.id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": sequence,
        "stop_details": None,
    }


class _Stream:
    """Events of one answer; keeps the index of the open block and the padding."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._index = -1
        self._pad = 0
        self._pinged = False

    def events(self) -> Iterator[Event]:
        generation, choice = self._generation, self._generation.choices[0]
        start = _message(generation, [], None, None)
        if generation.says_usage:
            first = min(generation.output_tokens, 1 + generation.random.randrange(8))
            start["usage"] = _usage(generation, first, split=True)
        yield self._event("message_start", message=start), 0, False
        generated, opened = 0, ""
        for kind, _, value, generated in steps(generation, 5):
            same = kind == opened != "call" or (opened == "call" and kind == "arguments")
            if opened and not same:
                yield from self._close(opened, generated)
                opened = ""
            if kind in ("thinking", "text", "call") and not opened:
                yield from self._open(kind, value, generated)
                opened = kind
            if kind in ("thinking", "text", "arguments"):
                yield self._delta(kind, value), generated, True
        yield from self._end(choice, generated)

    def _open(self, kind: str, value: Any, generated: int) -> Iterator[Event]:
        self._index += 1
        block: dict[str, Any] = {"type": "text", "text": ""}
        if kind == "thinking":
            block = {"type": "thinking", "thinking": "", "signature": ""}
        elif kind == "call":
            block = _tool_use(value)
        event = self._event("content_block_start", index=self._index, content_block=block)
        yield event, generated if kind == "call" else max(0, generated - 5), False
        if not self._pinged:
            self._pinged = True
            yield _PING, 0, False
        if kind == "call":
            yield self._delta("arguments", ""), generated, True

    def _close(self, kind: str, generated: int) -> Iterator[Event]:
        if kind == "thinking":
            delta = {"type": "signature_delta", "signature": self._generation.padding[:120]}
            event = self._event("content_block_delta", index=self._index, delta=delta)
            yield event, generated, False
        yield self._event("content_block_stop", index=self._index), generated, False

    def _end(self, choice: Choice, generated: int) -> Iterator[Event]:
        generation = self._generation
        delta = {
            "stop_reason": _STOP[choice.finish],
            "stop_sequence": _stopped(generation),
            "stop_details": None,
        }
        fields: dict[str, Any] = {"delta": delta}
        if generation.says_usage:
            fields["usage"] = _usage(generation, generation.output_tokens, split=False)
        yield self._event("message_delta", **fields), generated, False
        yield self._event("message_stop"), generated, False

    def _spaces(self) -> str:
        self._pad += 1
        return " " * ((self._pad * 11) % 16)

    def _event(self, name: str, **fields: Any) -> bytes:
        data = compact({"type": name, **fields}).decode()[:-1]
        return f"event: {name}\ndata: {data}{self._spaces()}}}\n\n".encode()

    def _delta(self, kind: str, text: str) -> bytes:
        name, key = {
            "thinking": ("thinking_delta", "thinking"),
            "text": ("text_delta", "text"),
            "arguments": ("input_json_delta", "partial_json"),
        }[kind]
        return (
            f'event: content_block_delta\ndata: {{"type":"content_block_delta",'
            f'"index":{self._index},"delta":{{"type":"{name}","{key}":{quoted(text)}}}'
            f"{self._spaces()}}}\n\n"
        ).encode()
