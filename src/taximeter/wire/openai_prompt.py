"""Collects what a model will read: texts, tools, images and what cannot be seen from here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from taximeter.wire.base import HostedTool, Image, Prompt
from taximeter.wire.body import clean, count, items, mapping, string
from taximeter.wire.images import decoded_size, measure

# The provider's own tools, by type without its version, and the fee each call is billed under.
_HOSTED: Final = {
    "web_search": "web_search",
    "web_search_preview": "web_search_preview",  # dearer with models that do not reason
    "search_source": "search_source",
    "x_search": "x_search",
    "file_search": "file_search",
    "collections_search": "document_search",
    "code_interpreter": "code_interpreter",
    "code_execution": "code_interpreter",
    "image_generation": "image_generation",
    "mcp": "",
    "shell": "",
    "computer_use_preview": "",
}
_OWN_TOOLS: Final = frozenset(
    {
        "",
        "apply_patch",
        "computer",
        "custom",
        "function",
        "local_shell",
        "namespace",
        "programmatic_tool_calling",
        "tool_search",
    }
)


_PLAIN: Final = frozenset({"role", "content"})
"""What nearly every message consists of; the rest of ``read_message`` is for all others."""


class PromptReader:
    """Reads the parts of one request, in any order, and gives the :class:`Prompt`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.tools: list[Any] = []
        self.images: list[Image] = []
        self.hosted: list[HostedTool] = []
        self.messages = 0
        self.media_bytes = 0
        self.references = 0
        self.server_state = False
        self.hosted_calls_max: int | None = None
        self._caching = False

    def prompt(self, body: Mapping[str, Any]) -> Prompt:
        """All that was read. ``body`` is searched for a cache that the request asks to write."""
        cache: Literal["", "5m"] = "5m" if self._caching or "prompt_cache_options" in body else ""
        return Prompt(
            texts=tuple(self.texts),
            messages=self.messages,
            tools=len(self.tools),
            tools_json=_compact(self.tools) if self.tools else "",
            images=tuple(self.images),
            media_bytes=self.media_bytes,
            references=self.references,
            server_state=self.server_state,
            cache_write=cache,
            hosted_tools=tuple(self.hosted),
            hosted_calls_max=self.hosted_calls_max,
        )

    def read_message(self, message: Any) -> None:
        """A chat message, or a message item of the Responses API."""
        message = mapping(message)
        self.messages += 1
        if _PLAIN.issuperset(message):
            self.read_content(message.get("content"))
            return
        for key in ("name", "tool_call_id", "refusal"):
            self._add_text(message.get(key))
        # Gateways repeat a thought under several names; it is read once by the model.
        thoughts = [message.get("reasoning_content"), message.get("reasoning")]
        for detail in items(message.get("reasoning_details")):
            thoughts += [mapping(detail).get(key) for key in ("text", "summary", "data")]
        for thought in dict.fromkeys(filter(_is_text, thoughts)):
            self._add_text(thought)
        self.read_content(message.get("content"))
        calls = items(message.get("tool_calls"))
        for call in (*calls, {"function": message.get("function_call")}):
            call = mapping(call)
            for function in (mapping(call.get("function")), mapping(call.get("custom"))):
                for key in ("name", "arguments", "input"):
                    self._add_text(function.get(key))
        if "cache_control" in message:
            self._caching = True

    def read_item(self, item: Any) -> None:
        """An input item of the Responses API: messages, calls and their results, reasoning."""
        item = mapping(item)
        kind = string(item.get("type"))
        if kind in {"", "message"}:
            self.read_message(item)
            return
        if kind == "item_reference":
            self.server_state = True
            return
        if kind == "additional_tools":
            self.read_tools(items(item.get("tools")))
            return
        self.messages += 1
        known = {"type", "id", "status", "call_id", "role"}
        for key, value in item.items():
            if key in known:
                continue
            if key in {"content", "output", "summary"}:
                self.read_content(value)
            elif isinstance(value, str):
                self._add_text(value)
            elif value is not None:
                self._add_text(_compact(value))

    def read_content(self, content: Any) -> None:
        """Text, or a list of text, image, audio, video and file parts."""
        if isinstance(content, str):
            self._add_text(content)
            return
        if isinstance(content, dict):
            content = [content]
        for part in items(content):
            if isinstance(part, str):
                self._add_text(part)
            else:
                self._read_part(mapping(part))

    def _read_part(self, part: Mapping[str, Any]) -> None:
        if "cache_control" in part or "prompt_cache_breakpoint" in part:
            self._caching = True
        for key in ("text", "refusal", "thinking"):
            self._add_text(part.get(key))
        if isinstance(part.get("thinking"), list):
            self.read_content(part["thinking"])
        kind = string(part.get("type"))
        if kind in {"image_url", "input_image", "computer_screenshot"}:
            self._read_image(part)
        elif kind == "input_audio":
            self.media_bytes += decoded_size(string(mapping(part.get("input_audio")).get("data")))
        elif kind in {"file", "input_file", "document_url", "video_url", "audio_url"}:
            self._read_file(mapping(part.get("file")) or part)

    def _read_image(self, part: Mapping[str, Any]) -> None:
        source = part.get("image_url")
        url = string(source) or string(mapping(source).get("url"))
        detail = string(part.get("detail")) or string(mapping(source).get("detail")) or None
        width, height = measure(url)
        if width is None and not url.startswith("data:"):
            self.references += 1
        self.images.append(Image(width=width, height=height, detail=detail))

    def _read_file(self, part: Mapping[str, Any]) -> None:
        for key in ("file_data", "video_url", "audio_url", "document_url"):
            value = part.get(key)
            inline = string(value) or string(mapping(value).get("url"))
            if inline.startswith("data:") or (inline and key == "file_data"):
                self.media_bytes += decoded_size(inline)
                return
        self.references += 1

    def read_tools(self, tools: list[Any]) -> None:
        """Tool definitions; the provider's own among them also carry fees."""
        for tool in tools:
            if not isinstance(tool, dict):
                continue
            self.tools.append(tool)
            if "cache_control" in tool:
                self._caching = True
            kind = string(tool.get("type")).removeprefix("openrouter:")
            if kind in _OWN_TOOLS:
                continue
            fee = _HOSTED.get(kind)
            if fee is None:  # "web_search_2025_08_26": types carry versions.
                names = [name for name in _HOSTED if kind.startswith(name)]
                fee = _HOSTED[max(names, key=len)] if names else ""
            calls = count(tool.get("max_uses"))
            self.hosted.append(HostedTool(kind=fee, calls_max=calls))

    def read_schema(self, schema: Any) -> None:
        """A response format with a schema is rendered into the prompt like a tool."""
        if string(mapping(schema).get("type")) not in {"", "text"}:
            self.tools.append(schema)

    def read_text_or_tokens(self, prompt: Any) -> None:
        """A legacy prompt: a string, or token ids, of which each is one token."""
        if isinstance(prompt, list):
            self.texts.append(" ".join("a" for _ in prompt))
        self._add_text(prompt)
        self.messages += 1

    def _add_text(self, text: Any) -> None:
        if isinstance(text, str) and text:
            self.texts.append(clean(text))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _compact(value: Any) -> str:
    try:
        return clean(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return ""
