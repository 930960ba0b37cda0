"""Gemini ``generateContent`` and ``streamGenerateContent`` (SSE with CRLF, or a JSON array)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from taximeter.testing.answers.base import (
    ApiError,
    Ask,
    Call,
    Choice,
    Event,
    Generation,
    indented,
    steps,
    strings,
)
from taximeter.testing.tokenizer import Tokenizer

PATH: Final = re.compile(
    r"/models/(?P<model>[^/:]+):"
    r"(?P<verb>generateContent|streamGenerateContent|countTokens|embedContent|batchEmbedContents)$"
)
_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_NOT_TEXT: Final = frozenset({"role", "inlineData", "inline_data", "thoughtSignature"})
_INLINE_TOKENS: Final = 258


class GeminiGenerate:
    """Generate content, count tokens, embed."""

    name = "gemini.generate"
    whole_on_abort = True
    call_prefix = ""
    id_prefix = ""

    def read(self, body: Mapping[str, Any], path: str, tokenizer: Tokenizer) -> Ask:
        match = PATH.search(path)
        assert match is not None, "routed by this very pattern"
        verb = match["verb"]
        source = body.get("generateContentRequest", body)
        config = source.get("generationConfig") or source.get("generation_config") or {}
        if "mbed" in verb:
            asked = body.get("requests", [body])
            count = sum(
                tokenizer.count(t) for t in strings(asked, _NOT_TEXT | {"model", "taskType"})
            )
            return Ask(model=match["model"], input_tokens=count, vectors=len(asked), cap=0)
        if not source.get("contents"):
            raise ApiError(400, "* GenerateContentRequest.contents: contents is not specified\n")
        return Ask(
            model=match["model"],
            input_tokens=_count(source, tokenizer),
            streamed=verb == "streamGenerateContent",
            cap=_cap(config),
            choices=config.get("candidateCount") or 1,
            stops=tuple(config.get("stopSequences") or ()),
            include_usage=True,
            framing="array",  # Unless the query says alt=sse.
            free=verb == "countTokens",
        )

    def events(self, generation: Generation) -> Iterator[Event]:
        if generation.ask.framing == "sse":
            for value, generated, output in _chunks(generation):
                data = json.dumps(value, ensure_ascii=False, separators=(",", ": "))
                yield b"data: " + data.encode() + b"\r\n\r\n", generated, output
            return
        before, generated = b"[", 0
        for value, generated, output in _chunks(generation):
            yield before + indented(value), generated, output
            before = b",\r\n"
        yield b"]", generated, False

    def whole(self, generation: Generation) -> bytes:
        read = generation.usage["input_tokens"]
        if generation.ask.free:
            details = [{"modality": "TEXT", "tokenCount": read}]
            return indented({"totalTokens": read, "promptTokensDetails": details})
        if generation.ask.vectors:
            vectors = [
                {"values": [round(generation.random.uniform(-1, 1), 6) for _ in range(8)]}
                for _ in range(generation.ask.vectors)
            ]
            single = generation.path.endswith(":embedContent")
            value = {"embedding": vectors[0]} if single else {"embeddings": vectors}
            return indented({**value, "usageMetadata": {"promptTokenCount": read}})
        candidates = [
            _candidate(choice, _parts(choice, generation)) for choice in generation.choices
        ]
        return indented(_chunk(generation, candidates, generation.output_tokens, last=True))

    def error(self, error: ApiError, request_id: str) -> bytes:
        status = _STATUS.get(error.status, "UNKNOWN")
        value = {"code": error.status, "message": error.message, "status": status}
        return indented({"error": value})

    def error_event(self, generation: Generation, message: str, events: int) -> bytes:
        text = message or "The model is overloaded. Please try again later."
        value = {"error": {"code": 503, "message": text, "status": "UNAVAILABLE"}}
        if generation.ask.framing == "array":
            return (b",\r\n" if events else b"[") + indented(value) + b"]"
        data = json.dumps(value, ensure_ascii=False, separators=(",", ": "))
        return b"data: " + data.encode() + b"\r\n\r\n"

    def content_type(self, ask: Ask) -> str:
        if ask.streamed and ask.framing == "sse":
            return "text/event-stream"
        return "application/json; charset=UTF-8"


def _cap(config: Mapping[str, Any]) -> int | None:
    cap = config.get("maxOutputTokens", config.get("max_output_tokens"))
    if cap is None:
        return None
    if isinstance(cap, bool) or not isinstance(cap, int) or cap < 1:
        raise ApiError(
            400,
            f"Unable to submit request because it has a maxOutputTokens value of {cap} but the"
            " supported range is from 1 (inclusive) to 65537 (exclusive). Update the value and try"
            " again.",
        )
    return cap


def _count(body: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    count = 1
    for key in ("contents", "systemInstruction", "system_instruction"):
        count += sum(tokenizer.count(text) for text in strings(body.get(key), _NOT_TEXT))
    contents = body["contents"] if isinstance(body["contents"], list) else [body["contents"]]
    for content in contents:
        parts = content.get("parts") if isinstance(content, Mapping) else None
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, Mapping) and ("inlineData" in part or "inline_data" in part):
                count += _INLINE_TOKENS
    if body.get("tools"):
        text = json.dumps(body["tools"], ensure_ascii=False, separators=(",", ":"))
        count += tokenizer.count(text) * 3 // 4
    return count


def _arguments(pieces: list[str]) -> Any:
    try:
        return json.loads("".join(pieces))
    except ValueError:
        return {}


def _parts(choice: Choice, generation: Generation) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if choice.thinking:
        parts.append({"text": "".join(choice.thinking), "thought": True})
    if choice.pieces:
        parts.append({"text": choice.text})
    return parts + [_function_call(call, generation) for call in choice.calls]


def _function_call(call: Call, generation: Generation) -> dict[str, Any]:
    made = {"name": call.name, "args": _arguments(call.arguments), "id": call.id[:8].lower()}
    part: dict[str, Any] = {"functionCall": made}
    if generation.reasoning_tokens:
        part["thoughtSignature"] = generation.padding[:200]
    return part


def _candidate(
    choice: Choice, parts: list[dict[str, Any]], *, ended: bool = True
) -> dict[str, Any]:
    content: dict[str, Any] = {"parts": parts, "role": "model"} if parts else {"role": "model"}
    value: dict[str, Any] = {"content": content}
    if ended:
        value["finishReason"] = "MAX_TOKENS" if choice.finish == "length" else "STOP"
    value["index"] = choice.index
    return value


def _chunk(
    generation: Generation, candidates: list[dict[str, Any]], output: int, *, last: bool
) -> dict[str, Any]:
    usage = generation.usage
    thoughts = usage["reasoning_tokens"] if last else min(output, usage["reasoning_tokens"])
    told: dict[str, Any] = {"promptTokenCount": usage["input_tokens"]}
    if output > thoughts:
        told["candidatesTokenCount"] = output - thoughts
    told["totalTokenCount"] = usage["input_tokens"] + output
    if usage["cached_input_tokens"]:
        told["cachedContentTokenCount"] = usage["cached_input_tokens"]
    told["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage["input_tokens"]}]
    if usage["cached_input_tokens"]:
        told["cacheTokensDetails"] = [
            {"modality": "TEXT", "tokenCount": usage["cached_input_tokens"]}
        ]
    if thoughts:
        told["thoughtsTokenCount"] = thoughts
    told["serviceTier"] = "standard"
    value: dict[str, Any] = {"candidates": candidates}
    if generation.says_usage:
        value["usageMetadata"] = told
    return {**value, "modelVersion": generation.model, "responseId": generation.id}


def _chunks(generation: Generation) -> Iterator[tuple[dict[str, Any], int, bool]]:
    """Chunks; the last one of each candidate carries its finish reason."""
    held: dict[int, tuple[dict[str, Any], int]] = {}
    generated, ended = 0, 0
    for kind, choice, value, generated in steps(generation, 10):
        if kind == "thinking":
            part: dict[str, Any] = {"text": value, "thought": True}
        elif kind == "text":
            part = {"text": value}
        elif kind == "call_end":
            part = _function_call(value, generation)
        elif kind == "end":
            ended += 1
            last = ended == len(generation.choices)
            parts = [held[choice.index][0]] if choice.index in held else []
            candidate = _candidate(choice, parts)
            yield _chunk(generation, [candidate], generated, last=last), generated, bool(parts)
            continue
        else:
            continue
        if choice.index in held:
            before, by_then = held[choice.index]
            candidate = _candidate(choice, [before], ended=False)
            yield _chunk(generation, [candidate], by_then, last=False), by_then, True
        held[choice.index] = (part, generated)
