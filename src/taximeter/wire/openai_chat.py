"""``POST .../chat/completions``: OpenAI, and everyone who speaks its wire (Mistral among them).

Usage comes in the last chunk (``choices: []``) if it was asked for, on the chunk with
``finish_reason``, on every chunk (Perplexity, Databricks) or twice (Groq): the last one counts and
nothing is added up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from taximeter.errors import WireError
from taximeter.usage import Usage
from taximeter.wire.base import WireRequest
from taximeter.wire.body import clean, count, items, mapping, string
from taximeter.wire.deltas import COLON, COMMA, INTEGER, STRING, member, split_known, text_of
from taximeter.wire.framing import read_events, read_json
from taximeter.wire.openai_meter import LINE_FEED, Finish, Shown, StreamMeter
from taximeter.wire.openai_request import read_chat_request, rewrite_chat
from taximeter.wire.openai_usage import read_cost, read_usage, write_usage
from taximeter.wire.visible import Piece

FINISH: Final[Mapping[str, Finish]] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",  # Mistral: the context window was full
    "tool_calls": "tool",
    "function_call": "tool",
    "content_filter": "filter",
    "error": "error",
}

DONE: Final = b"data: [DONE]\n\n"
NO_START: Final = b"\n"  # No event begins with it.

# Up to the first key: an event that begins with another one is an error, or something new.
_START: Final = re.compile(rb'data: ?\{ ?"[^"]*" ?:')
_FINISH_EVENTS_MAX: Final = 16  # The finish comes last, or just before usage and [DONE].

# The comma belongs to it: before the key, or after it where the key comes first.
_USAGE_NULL: Final = re.compile(rb',[ ]?"usage"[ ]?:[ ]?null|(?<=\{)"usage"[ ]?:[ ]?null,[ ]?')


# An ordinary delta: one choice that has not finished, with a piece of text, of shown reasoning, or
# of a tool call's arguments.
_MEMBER: Final = member(b"choices")
_INDEX: Final = rb'"index' + COLON + rb"(" + INTEGER + rb")"
_NULL: Final = (
    rb'"(?:logprobs|finish_reason|native_finish_reason|stop_reason|token_ids)' + COLON + b"null"
)
_NO_OUTPUT: Final = (
    rb'"(?:role' + COLON + rb'"assistant"'
    rb"|(?:refusal|tool_calls|function_call|audio|reasoning|reasoning_content)" + COLON + b"null)"
)
_TEXT: Final = rb'"(content|reasoning_content|reasoning)' + COLON + rb'"(' + STRING + rb')"'
_ARGUMENTS: Final = (
    rb'"tool_calls' + COLON + rb'\[ ?\{ ?"index' + COLON + INTEGER + COMMA + rb'"function' + COLON
    + rb'\{ ?"arguments' + COLON + rb'"(' + STRING + rb')" ?\} ?\} ?\]'
)  # fmt: skip
_DELTA: Final = re.compile(
    rb"data: ?\{ ?(?:" + _MEMBER + COMMA + rb')*+"choices' + COLON + rb"\[ ?\{ ?"
    rb"(?:(?:" + _INDEX + rb"|" + _NULL + rb")" + COMMA + rb')*+"delta' + COLON + rb"\{ ?"
    rb'(?:"(?:role' + COLON + rb'"assistant"|content' + COLON + rb'(?:null|""))' + COMMA + rb")*+"
    rb"(?:" + _TEXT + rb"|" + _ARGUMENTS + rb")(?:" + COMMA + _NO_OUTPUT + rb")*+ ?\}"
    rb"(?:" + COMMA + rb"(?:" + _INDEX + rb"|" + _NULL + rb"))*+ ?\} ?\]"
    rb"(?:" + COMMA + _MEMBER + rb")*+ ?\}\n\n"
)  # fmt: skip


class ChatMeter(StreamMeter):
    """Meters one chat completion, streamed or not."""

    object_name = "chat.completion.chunk"
    id_prefix = "chatcmpl"

    def __init__(self, request: WireRequest | None = None, **options: Any) -> None:
        super().__init__(request, **options)
        self._head: dict[str, Any] = {}  # what every chunk repeats: id, created, model, ...
        self._usage_shown = False  # the caller has been given a chunk that is there for usage
        self._start = NO_START  # how a chunk's bytes begin; errors and [DONE] begin otherwise
        self._choices: dict[int, bool] = {}  # index -> has finished; kept up while decoding

    def receive_data(self, data: bytes) -> bytes:
        """Take the next chunk; return what the caller should see now."""
        # The hot path: one whole line-fed event that begins like the first and has no usage. Each
        # test is one search in C; rfind is the fastest of them, and usage stands near the end.
        if (
            self._plain
            and data.startswith(self._start)
            and data.find(b"\n") == len(data) - 2
            and data[-1] == LINE_FEED
        ):
            bare = data.replace(self._null, b"") if self._null else data
            if bare.rfind(b'"usage"') < 0:
                self._pending.append(data)
                self._pending_bytes += len(data)
                if self._pending_bytes > self._pending_bytes_max:
                    self._shrink()
                return bare if self._strip else data
        return self._receive(data)

    def _urgent(self, raw: bytes) -> bool:
        return not raw.startswith(self._start) or raw.rfind(b'"usage"') >= 0

    # --- read at once ----------------------------------------------------------------------------

    def _receive_event(self, name: str, data: bytes, raw: bytes) -> bool:
        if data.strip() == b"[DONE]":
            self._find_finish()
            self.terminal = True
            return False
        event = read_json(data)
        if not isinstance(event, dict):
            raise WireError("an event is not a JSON object")
        self._read_head(event)
        if self._start is NO_START and self._started and (start := _START.match(raw)):
            self._start = start.group()
        self._read_error(name, event)
        self._read_finish(event)
        choices = items(event.get("choices"))
        if event.get("usage") is None:
            self._read_usage(mapping(event.get("x_groq")).get("usage"))
            if "usage" in event and not self._null and self._caused_null(choices):
                found = _USAGE_NULL.findall(raw)
                self._null = found[0] if len(found) == 1 else b""
            return False
        self._read_usage(event["usage"])
        extra = choices == [] and isinstance(event["usage"], dict) and not self.error
        self._usage_shown = self._usage_shown or (extra and not self._strip)
        return extra

    def _caused_null(self, choices: list[Any]) -> bool:
        """Whether ``usage: null`` came because usage was asked for."""
        return True

    def _read_head(self, event: dict[str, Any]) -> None:
        if model := string(event.get("model")):
            self.model = model
        if tier := string(event.get("service_tier")):
            self.service_tier = tier
        if event.get("id") or items(event.get("choices")):
            # Azure's first chunk, with the prompt's filter results, names nobody.
            self._started = True
            for key in ("id", "created", "model", "system_fingerprint", "service_tier"):
                if event.get(key) is not None:
                    self._head[key] = event[key]

    def _read_finish(self, event: dict[str, Any]) -> None:
        for choice in items(event.get("choices")):
            if reason := string(mapping(choice).get("finish_reason")):
                self.finish = FINISH.get(reason, "other")

    def _find_finish(self) -> None:
        """The finish is not worth a search in every chunk: look back for it at the end."""
        recent = list(self._pending)[-_FINISH_EVENTS_MAX:]
        for block in reversed(recent):
            if self.finish is not None:
                return
            for name, data in read_events(block):
                if b'"finish_reason"' in data or b'"error"' in data:
                    self._read_last(name, data)

    def _read_last(self, name: str, data: bytes) -> None:
        try:
            event = read_json(data)
        except WireError:
            return
        if isinstance(event, dict):
            self._read_head(event)
            self._read_error(name, event)
            self._read_finish(event)

    def _read_usage(self, stated: Any) -> None:
        usage = read_usage(stated, model=self.model or "")
        if usage is not None:
            self.usage = usage
            if (tier := string(mapping(stated).get("service_tier"))) and not self.service_tier:
                self.service_tier = tier
        cost = read_cost(stated)
        if cost is not None:
            self.provider_cost = cost

    def _read_error(self, name: str, event: dict[str, Any]) -> None:
        failed = event.get("error")
        if not failed and name != "error":
            return
        facts = mapping(failed) or event
        self.error = clean(
            string(facts.get("type")) or string(facts.get("message")) or string(failed) or "error"
        )
        self.finish = "error"

    def _at_eof(self) -> None:
        self._find_finish()
        # Some never send [DONE] (Hugging Face, Perplexity): after the finish nothing more comes.
        if self.finish is not None and self.finish != "error":
            self.terminal = True

    def _read_body(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise WireError("the body is not a JSON object")
        self._read_head(body)
        self._read_usage(body.get("usage"))
        self._read_finish(body)
        self._read_error("", body)
        self.terminal = True

    def _show_body(self, body: dict[str, Any], shown: Shown) -> None:
        for choice in items(body.get("choices")):
            self._decode_choice(mapping(choice), shown)

    # --- text ------------------------------------------------------------------------------------

    def _decode_block(self, block: bytes) -> Iterator[Piece]:
        choices = self._choices
        for found in split_known(_DELTA, block):
            if isinstance(found, bytes):
                yield from self._parse_block(found)
                continue
            before, kind, raw, arguments, after = found.groups()
            choices.setdefault(int(after or before or 0), False)
            if kind is None:
                if arguments:
                    yield "", "", text_of(arguments)
            elif raw:
                text = text_of(raw)
                yield (text, "", "") if kind == b"content" else ("", text, "")

    def _decode_event(self, name: str, event: dict[str, Any], shown: Shown) -> None:
        for choice in items(event.get("choices")):
            choice = mapping(choice)
            index = count(choice.get("index")) or 0
            reason = string(choice.get("finish_reason"))
            if reason and self.finish is None:
                self.finish = FINISH.get(reason, "other")
            finished = bool(reason)
            self._choices[index] = finished or self._choices.get(index, False)
            self._decode_choice(choice, shown)

    def _decode_choice(self, choice: Mapping[str, Any], shown: Shown) -> None:
        message = mapping(choice.get("delta")) or mapping(choice.get("message"))
        content = message.get("content")
        if isinstance(content, str):
            shown.add_text(content)
            if len(message) == 1:  # Nearly every delta.
                return
        else:
            _decode_parts(content, shown)
        shown.add_text(message.get("refusal"))
        shown.add_text(mapping(message.get("audio")).get("transcript"))
        # One thought under two names (OpenRouter, some gateways) is one thought.
        shown.add_reasoning(message.get("reasoning_content") or message.get("reasoning"))
        calls = items(message.get("tool_calls"))
        for call in (*calls, {"function": message.get("function_call")}):
            function = mapping(mapping(call).get("function")) or mapping(
                mapping(call).get("custom")
            )
            shown.add_tool(function.get("name"))
            arguments = function.get("arguments")
            if isinstance(arguments, dict):  # Mistral's and Ollama's may come parsed.
                arguments = json.dumps(arguments)
            shown.add_tool(arguments if arguments is not None else function.get("input"))

    # --- ending ----------------------------------------------------------------------------------

    def ending(self, usage: Usage | None = None) -> bytes:
        """``finish_reason: "length"`` for every open choice, usage if it was asked for, [DONE]."""
        if self.terminal or self._body is not None:
            return b""
        self._shrink()
        choices = self._choices or {0: False}
        asked = self._request is not None and bool(self._request.include_usage)
        chunks: list[dict[str, Any]] = []
        for index, finished in sorted(choices.items()):
            if not finished:
                chunk = {"choices": [self._last_choice(index)]}
                chunks.append({**chunk, "usage": None} if asked else chunk)
        if asked and usage is not None and not self._usage_shown:
            chunks.append({"choices": [], "usage": write_usage(usage)})
        return b"".join(_event(self._chunk_head() | chunk) for chunk in chunks) + DONE

    def _last_choice(self, index: int) -> dict[str, Any]:
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": "length"}

    def _chunk_head(self) -> dict[str, Any]:
        asked = self._request.model if self._request is not None else ""
        head = {
            "id": f"{self.id_prefix}-cut",
            "object": self.object_name,
            "created": 0,
            "model": asked,
        }
        return head | self._head


def _decode_parts(content: Any, shown: Shown) -> None:
    """Content as a list of parts (Mistral): text, and thinking that is itself a list of parts."""
    for part in items(content):
        part = mapping(part)
        shown.add_text(part.get("text"))
        thinking = part.get("thinking")
        shown.add_reasoning(thinking)
        for thought in items(thinking):
            shown.add_reasoning(mapping(thought).get("text"))


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


class ChatWire:
    """The chat completions protocol; see :class:`taximeter.wire.base.Wire`."""

    def __init__(self, name: str = "openai.chat") -> None:
        self.name = name

    def read_request(self, path: str, body: Mapping[str, Any]) -> WireRequest:
        return read_chat_request(self.name, path, body)

    def rewrite(
        self,
        request: WireRequest,
        *,
        output_cap: int | None = None,
        model: str | None = None,
        include_usage: bool = False,
    ) -> tuple[str, dict[str, Any]]:
        return rewrite_chat(
            request, output_cap=output_cap, model=model, include_usage=include_usage
        )

    def meter(
        self,
        request: WireRequest | None = None,
        *,
        content_type: str = "",
        strip_usage: bool = False,
        whole_events: bool = False,
    ) -> ChatMeter:
        return ChatMeter(
            request,
            content_type=content_type,
            strip_usage=strip_usage,
            whole_events=whole_events,
        )


WIRE: Final = ChatWire()
MISTRAL: Final = ChatWire("mistral.chat")
