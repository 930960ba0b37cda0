"""``POST /v1/responses``: numbered events, a snapshot of the response at its start and its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taximeter.testing.answers.base import (
    ApiError,
    Ask,
    Call,
    Choice,
    Event,
    Generation,
    compact,
    indented,
    positive,
    quoted,
    steps,
)
from taximeter.testing.answers.openai_common import (
    EVENT_STREAM,
    JSON,
    SERVER_ERROR,
    error_body,
    input_tokens,
)
from taximeter.testing.tokenizer import Tokenizer


class OpenAIResponses:
    """Responses."""

    name = "openai.responses"
    whole_on_abort = False
    call_prefix = "call_"
    id_prefix = "resp_"

    def read(self, body: Mapping[str, Any], path: str, tokenizer: Tokenizer) -> Ask:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise ApiError(
                400,
                "Missing required parameter: 'model'.",
                param="model",
                code="missing_required_parameter",
            )
        given = body.get("input")
        if not given and not body.get("prompt") and not body.get("instructions"):
            raise ApiError(
                400,
                "Missing required parameter: 'input'.",
                param="input",
                code="missing_required_parameter",
            )
        options = body.get("stream_options")
        count = input_tokens(given or "", body.get("tools"), tokenizer)
        if isinstance(body.get("instructions"), str):
            count += 4 + tokenizer.count(body["instructions"])
        return Ask(
            model=model,
            input_tokens=count,
            streamed=body.get("stream") is True,
            cap=positive(body, "max_output_tokens", 16),
            obfuscated=not (
                isinstance(options, Mapping) and options.get("include_obfuscation") is False
            ),
        )

    def events(self, generation: Generation) -> Iterator[Event]:
        return _Stream(generation).events()

    def whole(self, generation: Generation) -> bytes:
        items = _items(generation.choices[0], _Ids(generation))
        return indented(_response(generation, items, ended=True)).rstrip(b"\n")

    def error(self, error: ApiError, request_id: str) -> bytes:
        return error_body(error)

    def error_event(self, generation: Generation, message: str, events: int) -> bytes:
        value = _response(generation, [], ended=False)
        value["status"] = "failed"
        value["error"] = {"code": "server_error", "message": message or SERVER_ERROR}
        data = {"type": "response.failed", "response": value, "sequence_number": events}
        return b"event: response.failed\ndata: " + compact(data) + b"\n\n"

    def content_type(self, ask: Ask) -> str:
        return EVENT_STREAM if ask.streamed else JSON


class _Ids:
    def __init__(self, generation: Generation) -> None:
        stem = generation.id.removeprefix("resp_")
        self.reasoning = f"rs_{stem}01"
        self.message = f"msg_{stem}02"
        self.stem = stem

    def call(self, at: int) -> str:
        return f"fc_{self.stem}{at + 3:02d}"


def _reasoning(choice: Choice, ids: _Ids) -> dict[str, Any]:
    text = "".join(choice.thinking)
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"id": ids.reasoning, "type": "reasoning", "summary": summary}


def _message(text: str | None, ids: _Ids, status: str) -> dict[str, Any]:
    content = [] if text is None else [_part(text)]
    return {
        "id": ids.message,
        "type": "message",
        "status": status,
        "content": content,
        "role": "assistant",
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _function(call: Call, at: int, ids: _Ids, status: str) -> dict[str, Any]:
    return {
        "id": ids.call(at),
        "type": "function_call",
        "status": status,
        "arguments": "".join(call.arguments) if status != "in_progress" else "",
        "call_id": call.id,
        "name": call.name,
    }


def _items(choice: Choice, ids: _Ids) -> list[dict[str, Any]]:
    status = "incomplete" if choice.finish == "length" else "completed"
    items = [_reasoning(choice, ids)] if choice.reasoning else []
    if choice.pieces:
        items.append(_message(choice.text, ids, status))
    return items + [_function(call, at, ids, status) for at, call in enumerate(choice.calls)]


def _response(
    generation: Generation, items: list[dict[str, Any]], *, ended: bool
) -> dict[str, Any]:
    body, choice = generation.body, generation.choices[0]
    cut = ended and choice.finish == "length"
    status = "incomplete" if cut else "completed" if ended else "in_progress"
    usage = generation.usage
    said = {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {"cached_tokens": usage["cached_input_tokens"]},
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage["reasoning_tokens"]},
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
    }
    return {
        "id": generation.id,
        "object": "response",
        "created_at": generation.created,
        "status": status,
        "background": False,
        "completed_at": generation.created + 1 if ended and not cut else None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": generation.model,
        "output": items,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "presence_penalty": 0.0,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "safety_identifier": None,
        "service_tier": "default" if ended else "auto",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_logprobs": 0,
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": said if ended and generation.says_usage else None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


class _Stream:
    """Events of one answer; keeps the sequence number and the index of the open item."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._choice = generation.choices[0]
        self._ids = _Ids(generation)
        self._sequence = -1
        self._output = -1
        self._pad = 0
        self._status = "incomplete" if self._choice.finish == "length" else "completed"

    def events(self) -> Iterator[Event]:
        generation, choice = self._generation, self._choice
        start = _response(generation, [], ended=False)
        yield self._event("response.created", response=start), 0, False
        yield self._event("response.in_progress", response=start), 0, False
        if choice.hidden and not choice.thinking:
            yield from self._reasoned(choice.hidden)
        generated, calls, opened = 0, -1, ""
        for kind, _, value, generated in steps(generation, 1):
            if kind != opened and opened in ("thinking", "text"):
                yield from self._close(opened, generated)
                opened = ""
            if kind in ("thinking", "text"):
                if not opened:
                    yield from self._open(kind, generated)
                    opened = kind
                yield self._delta(kind, value), generated, True
            elif kind == "call":
                calls += 1
                yield from self._open_call(value, calls, generated)
            elif kind == "arguments":
                yield self._arguments(calls, value), generated, True
            elif kind == "call_end":
                yield from self._close_call(value, calls, generated)
        ended = _response(generation, _items(choice, self._ids), ended=True)
        name = "response.incomplete" if choice.finish == "length" else "response.completed"
        yield self._event(name, response=ended), generated, False

    def _event(self, name: str, **fields: Any) -> bytes:
        self._sequence += 1
        fields["sequence_number"] = self._sequence
        data = compact({"type": name, **{key: fields[key] for key in sorted(fields)}})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    def _item(self, name: str, item: dict[str, Any]) -> bytes:
        return self._event(f"response.output_item.{name}", item=item, output_index=self._output)

    def _reasoned(self, tokens: int) -> Iterator[Event]:
        self._output += 1
        item = _reasoning(self._choice, self._ids)
        yield self._item("added", item), 0, False
        yield self._item("done", item), tokens, False

    def _open(self, kind: str, generated: int) -> Iterator[Event]:
        self._output += 1
        if kind == "thinking":
            item = {"id": self._ids.reasoning, "type": "reasoning", "summary": []}
            part: dict[str, Any] = {"type": "summary_text", "text": ""}
            yield self._item("added", item), 0, False
            yield self._part("reasoning_summary_part.added", kind, part), 0, False
            return
        item = _message(None, self._ids, "in_progress")
        yield self._item("added", item), generated - 1, False
        yield self._part("content_part.added", kind, _part("")), generated - 1, False

    def _close(self, kind: str, generated: int) -> Iterator[Event]:
        if kind == "thinking":
            text = "".join(self._choice.thinking)
            part: dict[str, Any] = {"type": "summary_text", "text": text}
            yield self._text_done("reasoning_summary_text.done", kind, text), generated, False
            yield self._part("reasoning_summary_part.done", kind, part), generated, False
            yield self._item("done", _reasoning(self._choice, self._ids)), generated, False
            return
        text = self._choice.text
        yield self._text_done("output_text.done", kind, text), generated, False
        yield self._part("content_part.done", kind, _part(text)), generated, False
        yield self._item("done", _message(text, self._ids, self._status)), generated, False

    def _place(self, kind: str) -> dict[str, Any]:
        if kind == "thinking":
            return {
                "item_id": self._ids.reasoning,
                "output_index": self._output,
                "summary_index": 0,
            }
        return {"content_index": 0, "item_id": self._ids.message, "output_index": self._output}

    def _part(self, name: str, kind: str, part: dict[str, Any]) -> bytes:
        return self._event(f"response.{name}", **self._place(kind), part=part)

    def _text_done(self, name: str, kind: str, text: str) -> bytes:
        logprobs: dict[str, Any] = {} if kind == "thinking" else {"logprobs": []}
        return self._event(f"response.{name}", **self._place(kind), **logprobs, text=text)

    def _delta(self, kind: str, text: str) -> bytes:
        self._sequence += 1
        if kind == "thinking":
            name, id, tail = "reasoning_summary_text", self._ids.reasoning, ',"summary_index":0'
            head = middle = ""
        else:
            name, id, tail = "output_text", self._ids.message, ""
            head, middle = '"content_index":0,', '"logprobs":[],'
        return (
            f"event: response.{name}.delta\n"
            f'data: {{"type":"response.{name}.delta",{head}"delta":{quoted(text)},'
            f'"item_id":"{id}",{middle}{self._padding()}"output_index":{self._output},'
            f'"sequence_number":{self._sequence}{tail}}}\n\n'
        ).encode()

    def _padding(self) -> str:
        if not self._generation.ask.obfuscated:
            return ""
        self._pad += 1
        at = (self._pad * 13) % 480
        pad = self._generation.padding[at : at + 1 + (self._pad * 7) % 15]
        return f'"obfuscation":"{pad}",'

    def _open_call(self, call: Call, at: int, generated: int) -> Iterator[Event]:
        self._output += 1
        item = _function(call, at, self._ids, "in_progress")
        yield self._item("added", item), generated, True

    def _arguments(self, at: int, text: str) -> bytes:
        self._sequence += 1
        name = "response.function_call_arguments.delta"
        return (
            f'event: {name}\ndata: {{"type":"{name}","delta":{quoted(text)},'
            f'"item_id":"{self._ids.call(at)}",{self._padding()}"output_index":{self._output},'
            f'"sequence_number":{self._sequence}}}\n\n'
        ).encode()

    def _close_call(self, call: Call, at: int, generated: int) -> Iterator[Event]:
        done = {
            "arguments": "".join(call.arguments),
            "item_id": self._ids.call(at),
            "output_index": self._output,
        }
        yield self._event("response.function_call_arguments.done", **done), generated, False
        item = _function(call, at, self._ids, self._status)
        yield self._item("done", item), generated, False
