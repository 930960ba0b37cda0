"""The output of a Responses stream as it grows, kept so that the stream can be ended well.

OpenAI's own client follows items, parts and deltas; an ending that leaves one open, or that
states another text than was streamed, is not one that the provider would send.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from taximeter.wire.base import BUFFER_BYTES_MAX
from taximeter.wire.body import count, items, mapping, string

# Delta event -> the field it grows and the event that closes it.
_GROWS: Final = {
    "response.output_text.delta": ("text", "response.output_text.done"),
    "response.refusal.delta": ("refusal", "response.refusal.done"),
    "response.reasoning_text.delta": ("text", "response.reasoning_text.done"),
    "response.reasoning_summary_text.delta": ("text", "response.reasoning_summary_text.done"),
    "response.function_call_arguments.delta": (
        "arguments",
        "response.function_call_arguments.done",
    ),
    "response.custom_tool_call_input.delta": ("input", "response.custom_tool_call_input.done"),
    "response.mcp_call_arguments.delta": ("arguments", "response.mcp_call_arguments.done"),
    "response.code_interpreter_call_code.delta": (
        "code",
        "response.code_interpreter_call_code.done",
    ),
}
_CLOSES: Final = frozenset(closing for _, closing in _GROWS.values())
_LIFE: Final = frozenset({"response.created", "response.queued", "response.in_progress"})


class _Text:
    """One growing text: where it stands, and its pieces."""

    __slots__ = ("closing", "facts", "field", "pieces")

    def __init__(self, field: str, closing: str, facts: dict[str, Any]) -> None:
        self.field = field
        self.closing = closing
        self.facts = facts  # item_id, output_index, content_index or summary_index
        self.pieces: list[str] = []


class _Item:
    """One output item that has not been done yet."""

    __slots__ = ("parts", "texts", "value")

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value
        self.parts: dict[tuple[str, int], dict[str, Any]] = {}  # open content and summary parts
        self.texts: dict[tuple[str, int], _Text] = {}


class OpenOutput:
    """Follows the events of one stream. ``keep=False``: nothing is kept, no ending is wanted."""

    def __init__(self, *, keep: bool, size_max: int = BUFFER_BYTES_MAX) -> None:
        self._keep = keep
        self._room = size_max  # characters that may still be kept
        self._response: dict[str, Any] = {}
        self._open: dict[int, _Item] = {}
        self._done: dict[int, dict[str, Any]] = {}
        self._sequence = -1

    def receive(self, kind: str, event: dict[str, Any]) -> None:
        """Follow one event, in order."""
        if not self._keep:
            return
        number = count(event.get("sequence_number"))
        self._sequence = number if number is not None else self._sequence + 1
        index = count(event.get("output_index")) or 0
        if kind in _LIFE:
            self._response = dict(mapping(event.get("response"))) or self._response
        elif kind == "response.output_item.added" and isinstance(event.get("item"), dict):
            self._open[index] = _Item(dict(event["item"]))
        elif kind == "response.output_item.done":
            self._open.pop(index, None)
            self._done[index] = dict(mapping(event.get("item")))
        elif index in self._open:
            self._follow(self._open[index], kind, event)

    def _follow(self, item: _Item, kind: str, event: dict[str, Any]) -> None:
        place = _place(event)
        if kind in _GROWS:
            piece = string(event.get("delta"))
            field, closing = _GROWS[kind]
            text = item.texts.get(place)
            if text is None:
                names = ("item_id", "output_index", "content_index", "summary_index")
                facts = {name: event[name] for name in names if name in event}
                text = item.texts[place] = _Text(field, closing, facts)
            if len(piece) <= self._room:
                self._room -= len(piece)
                text.pieces.append(piece)
        elif kind in _CLOSES:
            self._close_text(item, place)
        elif kind in {"response.content_part.added", "response.reasoning_summary_part.added"}:
            item.parts[place] = dict(mapping(event.get("part")))
        elif kind in {"response.content_part.done", "response.reasoning_summary_part.done"}:
            self._close_part(item, place, dict(mapping(event.get("part"))))

    @staticmethod
    def _close_text(item: _Item, place: tuple[str, int]) -> tuple[_Text, str] | None:
        text = item.texts.pop(place, None)
        if text is None:
            return None
        whole = "".join(text.pieces)
        if place in item.parts:
            item.parts[place][text.field] = whole
        elif place[0] == "":
            item.value[text.field] = whole
        return text, whole

    @staticmethod
    def _close_part(item: _Item, place: tuple[str, int], part: dict[str, Any]) -> None:
        item.parts.pop(place, None)
        kind, index = place
        if kind:
            done = list(items(item.value.get(kind)))
            done[index : index + 1] = [part]
            item.value[kind] = done

    def ending(self, *, model: str, usage: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The events that close the stream as an output limit would have done."""
        events: list[dict[str, Any]] = []
        for index in sorted(self._open):
            events += self._close_item(index)
        response = {
            "id": "resp_cut",
            "object": "response",
            "created_at": 0,
            "model": model,
            "error": None,
            **self._response,
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [self._done[index] for index in sorted(self._done)],
            "usage": usage,
        }
        events.append({"type": "response.incomplete", "response": response})
        for event in events:
            self._sequence += 1
            event["sequence_number"] = self._sequence
        return events

    def _close_item(self, index: int) -> list[dict[str, Any]]:
        item = self._open.pop(index)
        events: list[dict[str, Any]] = []
        for place in sorted({*item.texts, *item.parts}):
            closed = self._close_text(item, place)
            if closed is not None:
                text, whole = closed
                event = {"type": text.closing, **text.facts, text.field: whole}
                if text.closing == "response.output_text.done":
                    event["logprobs"] = []
                events.append(event)
            if place in item.parts:
                part = item.parts[place]
                self._close_part(item, place, part)
                events.append(_part_done(item, index, place, part))
        if "status" in item.value or item.value.get("type") in {"message", "function_call"}:
            item.value["status"] = "incomplete"
        self._done[index] = item.value
        events.append(
            {"type": "response.output_item.done", "output_index": index, "item": item.value}
        )
        return events


def _place(event: Mapping[str, Any]) -> tuple[str, int]:
    """Which part of an item an event is about; ``("", 0)``: the item itself."""
    if (summary := count(event.get("summary_index"))) is not None:
        return "summary", summary
    if (content := count(event.get("content_index"))) is not None:
        return "content", content
    return "", 0


def _part_done(
    item: _Item, index: int, place: tuple[str, int], part: dict[str, Any]
) -> dict[str, Any]:
    kind, at = place
    summary = kind == "summary"
    return {
        "type": "response.reasoning_summary_part.done" if summary else "response.content_part.done",
        "item_id": item.value.get("id"),
        "output_index": index,
        "summary_index" if summary else "content_index": at,
        "part": part,
    }


def write_event(event: dict[str, Any]) -> bytes:
    """One server-sent event, as this protocol names them."""
    data = json.dumps(event, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()
