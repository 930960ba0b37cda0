"""Anthropic Messages requests: what they will make the model read and allow it to write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

from taximeter.wire.base import HostedTool, Image, Prompt, WireRequest
from taximeter.wire.images import decoded_size, measure_base64

WIRE_NAME: Final = "anthropic.messages"

# Vertex: .../publishers/anthropic/models/MODEL:rawPredict; Bedrock: /model/MODEL/invoke.
_MODEL_IN_PATH: Final = re.compile(
    r"(?P<before>/models?/)(?P<model>[^/]+?)"
    r"(?P<after>:(?:rawPredict|streamRawPredict)|/invoke(?:-with-response-stream)?)$"
)
_STREAMING_PATHS: Final = (":streamRawPredict", "/invoke-with-response-stream")

HOSTED: Final = (
    ("web_search", "web_search"),
    ("web_fetch", "web_fetch"),
    ("code_execution", "code_execution"),
    ("tool_search_tool", ""),
    ("advisor", "advisor"),
    ("mcp_toolset", ""),
)
"""Tools that Anthropic runs, by the start of their ``type``, and their fee's name."""

_DEPTH_MAX: Final = 100
_NO_TEXT: Final = frozenset(
    ("type", "id", "tool_use_id", "cache_control", "signature", "media_type", "role", "file_id")
)


def read_request(path: str, body: Mapping[str, Any]) -> WireRequest:
    """The facts of a request. Odd or missing fields are read as absent."""
    in_path = _MODEL_IN_PATH.search(path)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        model = unquote(in_path["model"]) if in_path else ""
    tier = body.get("service_tier")
    return WireRequest(
        wire=WIRE_NAME,
        path=path,
        body=body,
        model=model,
        streamed=body.get("stream") is True or path.endswith(_STREAMING_PATHS),
        output_cap=_count(body.get("max_tokens")),
        thinking_budget=_thinking(body.get("thinking")),
        service_tier=tier if isinstance(tier, str) else None,
        prompt=_prompt(body),
    )


def rewrite(
    request: WireRequest, *, output_cap: int | None = None, model: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Path and body with another output cap or model."""
    path, body = request.path, dict(request.body)
    if output_cap is not None:
        _check_thinking(request, output_cap)
        body["max_tokens"] = output_cap
    if model is not None:
        in_path = _MODEL_IN_PATH.search(path)
        if in_path:
            kept = path[: in_path.start("model")]
            path = kept + quote(model, safe="@:._-~") + path[in_path.end("model") :]
        if not in_path or "model" in body:
            body["model"] = model
    return path, body


def _check_thinking(request: WireRequest, output_cap: int) -> None:
    budget = request.thinking_budget
    if not budget or output_cap > budget:
        return
    # With interleaved thinking the budget may lie above max_tokens; then the request itself shows it.
    if request.output_cap is not None and budget >= request.output_cap:
        return
    raise ValueError(
        f"max_tokens={output_cap} is not above the thinking budget of {budget} tokens, which "
        "Anthropic refuses; allow more output, or lower thinking.budget_tokens"
    )


def _thinking(thinking: object) -> int | None:
    if not isinstance(thinking, dict):
        return None
    if thinking.get("type") == "disabled":
        return 0
    return _count(thinking.get("budget_tokens")) if thinking.get("type") == "enabled" else None


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


# --- the prompt ---------------------------------------------------------------------------------


class _Reader:
    """Collects what a prompt holds."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.images: list[Image] = []
        self.media_bytes = 0
        self.references = 0

    def read(self, content: object, depth: int = 0) -> None:
        """A string, a content block, or a list of them; unknown blocks give all their strings."""
        if isinstance(content, str):
            self.texts.append(content)
        elif depth > _DEPTH_MAX:
            self.references += 1
        elif isinstance(content, list | tuple):
            for item in content:
                self.read(item, depth + 1)
        elif isinstance(content, Mapping):
            self._read_block(content, depth)

    def _read_block(self, block: Mapping[str, Any], depth: int) -> None:
        kind = block.get("type")
        if kind == "image":
            self._read_source(block.get("source"), image=True)
        elif isinstance(kind, str) and kind.endswith("tool_use"):
            self.texts += (str(block.get("name", "")), _compact(block.get("input", {})))
        elif kind == "container_upload":
            self.references += 1
        else:
            for name, value in block.items():
                if name == "source" and isinstance(value, Mapping):
                    self._read_source(value, image=False)
                elif name not in _NO_TEXT:
                    self.read(value, depth + 1)

    def _read_source(self, source: object, *, image: bool) -> None:
        if not isinstance(source, Mapping):
            return
        data = source.get("data")
        match source.get("type"):
            case "base64" if isinstance(data, str):
                if not image:
                    self.media_bytes += decoded_size(data)
                    return
                width, height = measure_base64(data)
                self.images.append(Image(width=width, height=height))
            case "text" if isinstance(data, str):
                self.texts.append(data)
            case "content":
                self.read(source.get("content"))
            case _ if image:  # By URL or file: an image of a size that is not seen.
                self.images.append(Image())
            case _:
                self.references += 1


def _prompt(body: Mapping[str, Any]) -> Prompt:
    reader = _Reader()
    reader.read(body.get("system"))
    messages = body.get("messages")
    messages = messages if isinstance(messages, list | tuple) else ()
    for message in messages:
        if isinstance(message, Mapping):
            reader.read(message.get("content"))
    tools = body.get("tools")
    tools = [t for t in tools if isinstance(t, Mapping)] if isinstance(tools, list | tuple) else []
    hosted = (*_hosted(tools), *_more_turns(body))
    return Prompt(
        texts=tuple(reader.texts),
        messages=len(messages),
        tools=len(tools),
        tools_json="".join(_schemas(body, tools)),
        images=tuple(reader.images),
        media_bytes=reader.media_bytes,
        references=reader.references,
        cache_write=_cache_write(body),
        hosted_tools=hosted,
    )


def _schemas(body: Mapping[str, Any], tools: list[Mapping[str, Any]]) -> Iterator[str]:
    if tools:
        yield _compact(tools)
    for name in ("output_config", "output_format"):
        schema = body.get(name)
        if isinstance(schema, Mapping) and (schema.get("format") or schema.get("schema")):
            yield _compact(schema)


def _hosted(tools: list[Mapping[str, Any]]) -> Iterator[HostedTool]:
    for tool in tools:
        kind = tool.get("type")
        for prefix, fee in HOSTED:
            if isinstance(kind, str) and kind.startswith(prefix):
                yield HostedTool(kind=fee, calls_max=_count(tool.get("max_uses")))
                break


def _more_turns(body: Mapping[str, Any]) -> Iterator[HostedTool]:
    """What else makes Anthropic read the prompt again, as a call of its own tools does."""
    servers, fallbacks = body.get("mcp_servers"), body.get("fallbacks")
    if isinstance(servers, list | tuple) and servers:
        yield HostedTool(kind="")
    if isinstance(fallbacks, list | tuple | str) and fallbacks:  # "default" names one model.
        yield HostedTool(kind="", calls_max=1 if isinstance(fallbacks, str) else len(fallbacks))
    management = body.get("context_management")
    edits = management.get("edits") if isinstance(management, Mapping) else None
    for edit in edits if isinstance(edits, list | tuple) else ():
        kind = edit.get("type") if isinstance(edit, Mapping) else None
        if isinstance(kind, str) and kind.startswith("compact"):
            yield HostedTool(kind="")


def _cache_write(body: Mapping[str, Any]) -> Literal["", "5m", "1h"]:
    """The longest lifetime that any ``cache_control`` of the request asks for."""
    found: Literal["", "5m", "1h"] = ""
    waiting: list[tuple[object, int]] = [(body, 0)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, Mapping):
            control = node.get("cache_control")
            if isinstance(control, Mapping):
                if control.get("ttl") == "1h":
                    return "1h"
                found = "5m"
            node = tuple(v for k, v in node.items() if k not in ("input", "input_schema"))
        if isinstance(node, list | tuple) and depth < _DEPTH_MAX:
            waiting += ((item, depth + 1) for item in node if not isinstance(item, str))
    return found


def _compact(value: object) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    except (ValueError, RecursionError, TypeError):
        return ""
