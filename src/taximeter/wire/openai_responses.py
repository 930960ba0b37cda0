"""``POST .../responses``: OpenAI's Responses API, streamed and not.

Usage comes once, in ``response.completed`` (or ``incomplete``; ``failed`` has none). Calls of hosted
tools are not in it: output items are counted. The first event says ``service_tier: auto``, the last
what was served.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from taximeter.errors import WireError
from taximeter.usage import Part, Usage
from taximeter.wire.base import WireRequest
from taximeter.wire.body import clean, count, items, mapping, string
from taximeter.wire.framing import read_json
from taximeter.wire.openai_meter import LINE_FEED, Finish, Shown, StreamMeter
from taximeter.wire.openai_output import OpenOutput, write_event
from taximeter.wire.openai_request import read_responses_request, rewrite_responses
from taximeter.wire.openai_usage import read_cost, read_usage, write_usage

TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})

# What one item of the output is billed as. A code interpreter is billed by container, see below.
_FEES: Final = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "image_generation_call": "image_generation",
}

_TOOL_DELTAS: Final = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.mcp_call_arguments.delta",
        "response.code_interpreter_call_code.delta",
        "response.shell_call_command.delta",
        "response.apply_patch_call_operation_diff.delta",
    }
)
_REASONING_DELTAS: Final = frozenset(
    {"response.reasoning_summary_text.delta", "response.reasoning_text.delta"}
)
_TEXT_DELTAS: Final = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.output_audio_transcript.delta",
        "response.audio.transcript.delta",
    }
)

_INCOMPLETE: Final[Mapping[str, Finish]] = {
    "max_output_tokens": "length",
    "content_filter": "filter",
}

_START: Final = b"event: response."
_TYPE: Final = re.compile(rb'data: ?\{ ?"type" ?: ?"([a-z_.]+)"')


class ResponsesMeter(StreamMeter):
    """Meters one response, streamed or not.

    ``fees`` counts the hosted tool calls seen so far, also where the stream ends without usage.
    """

    def __init__(self, request: WireRequest | None = None, **options: Any) -> None:
        super().__init__(request, **options)
        self.fees: dict[str, int] = {}
        self._containers: set[str] = set()
        self._output = OpenOutput(keep=self._whole)

    def receive_data(self, data: bytes) -> bytes:
        """Take the next chunk; return what the caller should see now."""
        # The hot path: one whole event that is named as a delta.
        if self._plain and data.startswith(_START):
            named = data.find(b"\n")
            if (
                data[named - 6 : named] == b".delta"
                and data.find(b"\n", named + 1) == len(data) - 2
                and data[-1] == LINE_FEED
            ):
                self._pending.append(data)
                self._pending_bytes += len(data)
                if self._pending_bytes > self._pending_bytes_max:
                    self._shrink()
                return data
        return self._receive(data)

    def _urgent(self, raw: bytes) -> bool:
        if raw.startswith(_START):
            end = raw.find(b"\n")
            return raw[:end].rstrip(b"\r")[-6:] != b".delta"
        found = _TYPE.match(raw)
        return found is None or not found.group(1).endswith(b".delta")

    # --- read at once ----------------------------------------------------------------------------

    def _receive_event(self, name: str, data: bytes, raw: bytes) -> bool:
        if data.strip() == b"[DONE]":  # Some gateways add it.
            return False
        event = read_json(data)
        if not isinstance(event, dict):
            raise WireError("an event is not a JSON object")
        kind = string(event.get("type")) or name
        self._started = True
        if isinstance(event.get("response"), dict):
            self._read_response(event["response"])
        elif kind == "response.output_item.done":
            self._count_item(mapping(event.get("item")))
        if kind == "error":
            self._read_error(mapping(event.get("error")) or event)
        if kind in TERMINAL:
            self.terminal = True
            if kind == "response.failed" and self.error is None:
                self.error = self.finish = "error"
        return False

    def _read_response(self, response: dict[str, Any]) -> None:
        if model := string(response.get("model")):
            self.model = model
        if tier := string(response.get("service_tier")):
            self.service_tier = tier
        output = items(response.get("output"))
        if output:
            self.fees.clear()
            self._containers.clear()
            for item in output:
                self._count_item(mapping(item))
        self._read_tool_usage(response)
        self._read_usage(response.get("usage"))
        self._read_status(response, output)

    def _read_usage(self, stated: Any) -> None:
        usage = read_usage(stated, model=self.model or "")
        if usage is not None:
            fees = dict(self.fees)
            for kind, calls in usage.requests.items():
                fees[kind] = max(calls, fees.get(kind, 0))
            self.usage = replace(usage, requests=fees)
        if (cost := read_cost(stated)) is not None:
            self.provider_cost = cost

    def _count_item(self, item: Mapping[str, Any]) -> None:
        kind = string(item.get("type"))
        if kind == "code_interpreter_call":
            # A container is billed once, however often code runs in it.
            self._containers.add(string(item.get("container_id")) or string(item.get("id")))
            self.fees["code_interpreter"] = len(self._containers)
        elif kind in _FEES:
            fee = _FEES[kind]
            self.fees[fee] = self.fees.get(fee, 0) + 1

    def _read_tool_usage(self, response: Mapping[str, Any]) -> None:
        tools = mapping(response.get("tool_usage"))
        searches = count(mapping(tools.get("web_search")).get("num_requests"))
        if searches:
            self.fees["web_search"] = max(searches, self.fees.get("web_search", 0))
        images = read_usage(tools.get("image_gen"))
        if images is not None and images.total_tokens:
            # Another model draws, and its tokens are not in the answer's usage.
            models = [
                string(mapping(tool).get("model"))
                for tool in items(response.get("tools"))
                if mapping(tool).get("type") == "image_generation"
            ]
            model = next(filter(None, models), "gpt-image-1")
            self.parts = (Part(model=model, usage=images, kind="image_generation"),)

    def _read_status(self, response: Mapping[str, Any], output: list[Any]) -> None:
        status = string(response.get("status"))
        if isinstance(response.get("error"), dict):
            self._read_error(mapping(response["error"]))
        if status == "incomplete":
            reason = mapping(response.get("incomplete_details")).get("reason")
            self.finish = _INCOMPLETE.get(string(reason), "other")
        elif status in {"completed", "complete"}:
            last = string(mapping(output[-1]).get("type")) if output else ""
            self.finish = "tool" if last in {"function_call", "custom_tool_call"} else "stop"
        elif status in {"failed", "cancelled"}:
            self.finish = "error" if status == "failed" else "other"

    def _read_error(self, error: Mapping[str, Any]) -> None:
        self.error = clean(
            string(error.get("code")) or string(error.get("message")) or string(error.get("type"))
        )
        self.finish = "error"

    def _read_body(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise WireError("the body is not a JSON object")
        self._read_response(body)
        # A response made in the background answers at once and is billed when it is done.
        self.terminal = string(body.get("status")) not in {"queued", "in_progress"}

    def _show_body(self, body: dict[str, Any], shown: Shown) -> None:
        for item in items(body.get("output")):
            _show_item(mapping(item), shown)

    # --- text ------------------------------------------------------------------------------------

    def _decode_event(self, name: str, event: dict[str, Any], shown: Shown) -> None:
        kind = string(event.get("type")) or name
        delta = event.get("delta")
        if kind in _TEXT_DELTAS:
            shown.add_text(delta)
        elif kind in _REASONING_DELTAS:
            shown.add_reasoning(delta)
        elif kind in _TOOL_DELTAS:
            shown.add_tool(delta)
        elif kind == "response.output_item.added":
            shown.add_tool(mapping(event.get("item")).get("name"))
        self._output.receive(kind, event)

    # --- ending ----------------------------------------------------------------------------------

    def ending(self, usage: Usage | None = None) -> bytes:
        """Closes what is open, then ``response.incomplete`` with reason ``max_output_tokens``."""
        if self.terminal or self._body is not None:
            return b""
        self._shrink()
        stated = write_usage(usage, names=("input", "output")) if usage is not None else None
        asked = self._request.model if self._request is not None else ""
        events = self._output.ending(model=self.model or asked, usage=stated)
        return b"".join(write_event(event) for event in events)


def _show_item(item: Mapping[str, Any], shown: Shown) -> None:
    kind = string(item.get("type"))
    for part in items(item.get("content")):
        part = mapping(part)
        add = shown.add_reasoning if kind == "reasoning" else shown.add_text
        add(part.get("text"))
        add(part.get("refusal"))
    for part in items(item.get("summary")):
        shown.add_reasoning(mapping(part).get("text"))
    for key in ("name", "arguments", "input", "code"):
        shown.add_tool(item.get(key))


class ResponsesWire:
    """The Responses protocol; see :class:`taximeter.wire.base.Wire`."""

    name = "openai.responses"

    def read_request(self, path: str, body: Mapping[str, Any]) -> WireRequest:
        return read_responses_request(self.name, path, body)

    def rewrite(
        self,
        request: WireRequest,
        *,
        output_cap: int | None = None,
        model: str | None = None,
        include_usage: bool = False,
    ) -> tuple[str, dict[str, Any]]:
        return rewrite_responses(request, output_cap=output_cap, model=model)

    def meter(
        self,
        request: WireRequest | None = None,
        *,
        content_type: str = "",
        strip_usage: bool = False,
        whole_events: bool = False,
    ) -> ResponsesMeter:
        # This wire states usage unasked, so there is nothing to strip.
        return ResponsesMeter(request, content_type=content_type, whole_events=whole_events)


WIRE: Final = ResponsesWire()
