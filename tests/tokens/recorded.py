"""Recorded calls as prompts and answers, read without the wires' own code.

A second, simpler reading of requests: what the estimates are checked against must not share its
mistakes with the wire modules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from taximeter.wire.base import HostedTool, Image, Prompt
from tests import recordings

EDITED = {"dcca1ed4aeb9ec59"}
"""Requests that their project shortened by hand after recording: they do not match the usage."""

PROMPT_FIELDS = (
    "messages", "system", "input", "instructions", "contents", "systemInstruction",
    "system_instruction", "documents", "preamble", "chat_history", "message",
    "tool_results", "inputText",
)  # fmt: skip
TOOL_FIELDS = (
    "tools", "functions", "toolConfig", "response_format", "output_format", "output_config",
    "outputConfig", "text", "response_schema",
)  # fmt: skip
SILENT_KEYS = {"type", "role", "id", "cache_control", "status", "cachePoint", "media_type",
               "mimeType", "mime_type", "format", "detail", "logprobs", "annotations"}  # fmt: skip
OBJECT_KEYS = {"args", "response", "input", "arguments", "json", "parameters"}
REFERENCE_KEYS = {"file_data", "fileData", "fileUri", "file_id", "document_url", "container_upload",
                  "s3Location", "video_url", "file_url"}  # fmt: skip
MEDIA_KEYS = {"input_audio", "video", "document", "inlineData", "inline_data", "file", "input_file",
              "audio"}  # fmt: skip
STATE_KEYS = ("previous_response_id", "conversation", "prompt_cache", "cachedContent", "container")
UNSEEN_KEYS = ("encrypted_content", "thoughtSignature", "thought_signature", "signature", "data",
               "reasoning_details", "redactedContent")  # fmt: skip


WIRES = (
    "openai.chat", "openai.responses", "anthropic.messages", "gemini.generate", "mistral.chat",
    "cohere.chat_v2", "bedrock.converse", "bedrock.converse_stream", "bedrock.invoke",
    "bedrock.invoke_stream",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One recorded call with an answer that states its usage."""

    id: str
    repo: str
    wire: str
    provider: str
    model: str
    prompt: Prompt
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    text: str
    reasoning: str
    tool: str
    deltas: int
    streamed: bool
    unseen: bool  # replayed reasoning whose text is not in the request
    choices: int

    @property
    def shows_input(self) -> bool:
        """Whether the request holds all that was billed as input."""
        prompt = self.prompt
        hidden = prompt.references or prompt.server_state or prompt.media_bytes
        return not (hidden or prompt.hosted_tools or self.unseen)


def calls(wires: tuple[str, ...]) -> Iterator[Call]:
    """Every recorded call of these wires whose request and usage are both kept."""
    for wire in wires:
        for row in recordings.read(wire):
            call = _call(row)
            if call is not None:
                yield call


def _call(row: dict[str, Any]) -> Call | None:
    body, usage = row["request_json"], row["provider_usage"]
    if row["response_status"] != 200 or not isinstance(body, dict) or not isinstance(usage, dict):
        return None
    counts = _counts(row["wire"], usage)
    if counts is None or "_raw_text" in body or "_raw_text_elided" in body or row["id"] in EDITED:
        return None
    reader = _Reader()
    prompt = reader.prompt(body, elided=bool(row["elided"]))
    return Call(
        id=row["id"], repo=row["source_repo"], wire=row["wire"], provider=row["provider"] or "",
        model=row["model"] or "", prompt=prompt, input_tokens=counts[0], output_tokens=counts[1],
        reasoning_tokens=counts[2], text=(row["visible_output_text"] or "") + (row.get("refusal_text") or ""),
        reasoning=row["reasoning_text"] or "", tool=row["tool_call_text"] or "",
        deltas=row["n_text_deltas"] or 0, streamed=row["streamed"], unseen=reader.unseen,
        choices=body.get("n") or 1,
    )  # fmt: skip


def _counts(wire: str, usage: dict[str, Any]) -> tuple[int, int, int] | None:
    def get(*names: str) -> int:
        for name in names:
            if isinstance(usage.get(name), int):
                return int(usage[name])
        return 0

    if wire == "gemini.generate":
        got = (
            get("promptTokenCount") + get("toolUsePromptTokenCount"),
            get("candidatesTokenCount") + get("thoughtsTokenCount"),
            get("thoughtsTokenCount"),
        )
    elif wire.startswith("cohere") and isinstance(usage.get("billed_units"), dict):
        tokens = usage["billed_units"]  # The hidden prompt in ``tokens`` is not billed.
        got = (int(tokens.get("input_tokens") or 0), int(tokens.get("output_tokens") or 0), 0)
    elif wire.startswith(("openai", "mistral")):
        details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
        reasoning = int(details.get("reasoning_tokens") or 0) if isinstance(details, dict) else 0
        output = get("completion_tokens", "output_tokens")
        got = (get("prompt_tokens", "input_tokens"), max(output, reasoning), reasoning)
    else:
        cached = get("cache_read_input_tokens", "cacheReadInputTokens", "cacheReadInputTokenCount")
        written = get("cache_creation_input_tokens", "cacheWriteInputTokens")
        asked = get("input_tokens", "inputTokens", "inputTokenCount", "prompt_tokens")
        details = usage.get("output_tokens_details") or {}
        got = (asked + cached + written, get("output_tokens", "outputTokens", "completion_tokens"),
               int(details.get("thinking_tokens") or 0))  # fmt: skip
    return got if got[0] > 0 else None


class _Reader:
    """Walks one request body."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.images: list[Image] = []
        self.references = 0
        self.media = 0
        self.unseen = False

    def prompt(self, body: dict[str, Any], *, elided: bool) -> Prompt:
        for name in PROMPT_FIELDS:
            if name in body:
                self._walk(body[name])
        if isinstance(body.get("prompt"), (str, list)):
            self._walk(body["prompt"])
        tools = _tools(body)
        shown = {name: body[name] for name in TOOL_FIELDS if body.get(name)}
        config = body.get("generationConfig") or {}
        for key in ("responseSchema", "responseJsonSchema"):
            if config.get(key):
                shown[key] = config[key]
        hosted = tuple(HostedTool(kind=kind) for kind in _hosted(tools, body))
        lists = [body.get(n) for n in ("messages", "input", "contents", "chat_history")]
        return Prompt(
            texts=tuple(self.texts),
            messages=sum(len(x) if isinstance(x, list) else 1 for x in lists if x)
            + sum(1 for n in ("system", "instructions", "systemInstruction", "prompt", "message")
                  if body.get(n)),
            tools=len(tools),
            tools_json="".join(json.dumps(v, separators=(",", ":"), ensure_ascii=False)
                               for v in shown.values()),
            images=tuple(self.images),
            media_bytes=self.media + (1 if elided and not self.images else 0),
            references=self.references,
            server_state=any(body.get(k) for k in STATE_KEYS) or isinstance(body.get("prompt"), dict),
            hosted_tools=hosted,
        )  # fmt: skip

    def _walk(self, node: Any) -> None:
        if isinstance(node, str):
            self.texts.append(node)
        elif isinstance(node, list):
            for item in node:
                self._walk(item)
        elif isinstance(node, dict):
            kind = node.get("type")
            mime = str((node.get("inlineData") or node.get("inline_data") or {}).get("mimeType")
                       or (node.get("inlineData") or node.get("inline_data") or {}).get("mime_type"))  # fmt: skip
            if kind in ("image", "image_url", "input_image") or mime.startswith("image/"):
                self.images.append(Image())
                return
            if "image" in node and isinstance(node["image"], dict):
                self.images.append(Image())
                return
            if kind in ("compaction", "item_reference", "program") or kind == "file_reference":
                self.unseen = True
            if kind == "reasoning" and not node.get("encrypted_content"):
                self.unseen = True  # Kept by the provider, named by its id alone.
            if any(node.get(key) for key in UNSEEN_KEYS):
                self.unseen = True
            for key, value in node.items():
                if key in REFERENCE_KEYS or kind == "container_upload":
                    self.references += 1
                elif (key in MEDIA_KEYS and isinstance(value, dict)) or kind in (
                    "document",
                    "file",
                ):
                    self.media += 1000
                elif key in OBJECT_KEYS and isinstance(value, dict):
                    self.texts.append(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
                elif key == "tools":  # Tools inside the conversation.
                    self.texts.append(json.dumps(value, separators=(",", ":")))
                elif key not in SILENT_KEYS and key not in UNSEEN_KEYS:
                    self._walk(value)


def _tools(body: dict[str, Any]) -> list[Any]:
    tools = body.get("tools") or body.get("functions") or []
    if isinstance(body.get("toolConfig"), dict):
        tools = [*tools, *(body["toolConfig"].get("tools") or [])]
    flat: list[Any] = []
    for tool in tools:
        if isinstance(tool, dict):
            listed = tool.get("functionDeclarations") or tool.get("function_declarations")
            flat += listed or [tool]
    return flat


def _hosted(tools: list[Any], body: dict[str, Any]) -> Iterator[str]:
    for tool in tools:
        kind = str(tool.get("type") or "")
        if (
            "name" not in tool
            and "function" not in tool
            and "toolSpec" not in tool
            and (kind or not tool.get("parameter_definitions"))
            and "cachePoint" not in tool
        ):
            yield kind or next(iter(tool), "")
        elif kind not in ("", "function", "custom", "namespace") and "_20" in kind:
            yield kind
    if body.get("web_search_options") or body.get("mcp_servers"):
        yield "web_search"
