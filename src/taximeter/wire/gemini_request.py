"""Gemini ``generateContent`` requests: what they make the model read and allow it to write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from taximeter.wire.base import HostedTool, Image, Prompt, WireRequest
from taximeter.wire.body import count, mapping, string
from taximeter.wire.images import decoded_size, measure_base64

WIRE_NAME: Final = "gemini.generate"

# .../models/MODEL:generateContent, tunedModels/..., endpoints/... (Vertex).
_MODEL_IN_PATH: Final = re.compile(
    r"/(?:models|tunedModels|endpoints)/(?P<model>[^/:]+(?::[^/:]+)*?)"
    r":(?P<method>generateContent|streamGenerateContent)$"
)

HOSTED: Final[Mapping[str, str]] = {
    "googleSearch": "web_search",
    "googleSearchRetrieval": "web_search",
    "enterpriseWebSearch": "web_search",
    "googleMaps": "maps",
    "codeExecution": "",
    "urlContext": "",
    "fileSearch": "",
    "retrieval": "",
    "computerUse": "",
    "mcpServers": "",
}
"""Tools that Google runs, and their fee's name."""

_DEPTH_MAX: Final = 100
# A signature stands for thoughts that were billed as output; it is no text to the model.
_NO_TEXT: Final = frozenset(
    ("role", "thoughtSignature", "mimeType", "fileUri", "displayName", "id")
)


def read_request(path: str, body: Mapping[str, Any]) -> WireRequest:
    """The facts of a request. Odd or missing fields are read as absent."""
    in_path = _MODEL_IN_PATH.search(path)
    model = unquote(in_path["model"]) if in_path else string(body.get("model"))
    settings = mapping(either(body, "generationConfig"))
    thinking = mapping(either(settings, "thinkingConfig"))
    return WireRequest(
        wire=WIRE_NAME,
        path=path,
        body=body,
        model=model.removeprefix("models/"),
        streamed=bool(in_path and in_path["method"] == "streamGenerateContent"),
        output_cap=count(either(settings, "maxOutputTokens")),
        choices=count(either(settings, "candidateCount")) or 1,
        thinking_budget=count(either(thinking, "thinkingBudget")),  # -1, dynamic, is no budget.
        service_tier=string(either(body, "serviceTier")) or None,
        prompt=_prompt(body, settings),
    )


def rewrite(
    request: WireRequest, *, output_cap: int | None = None, model: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Path and body with another output cap or model, spelled as the request spells."""
    path, body = request.path, dict(request.body)
    if output_cap is not None:
        name = _spelling(body, "generationConfig")
        settings = dict(mapping(body.get(name)))
        inner = _spelling(settings, "maxOutputTokens", snake=name == "generation_config")
        settings[inner] = output_cap
        body[name] = settings
    if model is not None:
        name = model.removeprefix("models/")
        if in_path := _MODEL_IN_PATH.search(path):
            kept = path[: in_path.start("model")]
            path = kept + quote(name, safe="@._-~") + path[in_path.end("model") :]
        asked = body.get("model")
        if isinstance(asked, str):
            body["model"] = f"models/{name}" if asked.startswith("models/") else name
    return path, body


def either(fields: Mapping[str, Any], name: str) -> Any:
    """A field by its camelCase name or, as Google's servers also take it, in snake_case."""
    value = fields.get(name)
    return value if value is not None else fields.get(_snake(name))


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _spelling(fields: Mapping[str, Any], name: str, *, snake: bool = False) -> str:
    """The spelling of ``name`` that is there already, else camelCase unless ``snake``."""
    if name in fields:
        return name
    return _snake(name) if snake or _snake(name) in fields else name


# --- the prompt ---------------------------------------------------------------------------------


class _Reader:
    """Collects what a prompt holds."""

    def __init__(self, detail: str | None) -> None:
        self.texts: list[str] = []
        self.images: list[Image] = []
        self.media_bytes = 0
        self.references = 0
        self._detail = detail

    def read(self, content: object, depth: int = 0) -> None:
        """A string, a content, a part, or a list of them; unknown parts give all their strings."""
        if isinstance(content, str):
            self.texts.append(content)
        elif depth > _DEPTH_MAX:
            self.references += 1
        elif isinstance(content, list | tuple):
            for item in content:
                self.read(item, depth + 1)
        elif isinstance(content, Mapping):
            self._read_part(content, depth)

    def _read_part(self, part: Mapping[str, Any], depth: int) -> None:
        inline = either(part, "inlineData")
        if isinstance(inline, Mapping):
            self._read_data(inline)
        if isinstance(either(part, "fileData"), Mapping):
            self.references += 1
        for name, value in part.items():
            if name in ("functionCall", "function_call", "functionResponse", "function_response"):
                self.texts.append(_compact(value))
                # A function may answer with media beside its JSON.
                self._read_media(mapping(value).get("parts"), depth)
            elif name not in ("inlineData", "inline_data", "fileData", "file_data", *_NO_TEXT):
                self.read(value, depth + 1)

    def _read_media(self, parts: object, depth: int) -> None:
        if isinstance(parts, list | tuple):
            self.read(parts, depth + 1)

    def _read_data(self, inline: Mapping[str, Any]) -> None:
        data = string(inline.get("data"))
        if string(either(inline, "mimeType")).startswith("image/"):
            width, height = measure_base64(data)
            self.images.append(Image(width=width, height=height, detail=self._detail))
        else:
            self.media_bytes += decoded_size(data)


def _prompt(body: Mapping[str, Any], settings: Mapping[str, Any]) -> Prompt:
    reader = _Reader(string(either(settings, "mediaResolution")) or None)
    reader.read(either(body, "systemInstruction"))
    contents = body.get("contents")
    reader.read(contents)
    tools = body.get("tools")
    tools = tools if isinstance(tools, list | tuple) else [tools]
    tools = [tool for tool in tools if isinstance(tool, Mapping)]
    declared = sum(
        len(d) for t in tools if isinstance(d := either(t, "functionDeclarations"), list)
    )
    hosted = tuple(_hosted(tools))
    return Prompt(
        texts=tuple(reader.texts),
        messages=len(contents) if isinstance(contents, list | tuple) else int(bool(contents)),
        tools=declared + len(hosted),
        tools_json="".join(_schemas(settings, tools)),
        images=tuple(reader.images),
        media_bytes=reader.media_bytes,
        references=reader.references,
        server_state=bool(either(body, "cachedContent")),
        hosted_tools=hosted,
    )


def _schemas(settings: Mapping[str, Any], tools: list[Mapping[str, Any]]) -> Iterator[str]:
    if tools:
        yield _compact(tools)
    for name in ("responseSchema", "responseJsonSchema"):
        if (schema := either(settings, name)) is not None:
            yield _compact(schema)


def _hosted(tools: list[Mapping[str, Any]]) -> Iterator[HostedTool]:
    for tool in tools:
        for name, fee in HOSTED.items():
            if either(tool, name) is not None:
                yield HostedTool(kind=fee)


def _compact(value: object) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    except (ValueError, RecursionError, TypeError):
        return ""
