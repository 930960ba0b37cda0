"""Legacy completions and embeddings: ``POST /v1/completions``, ``POST /v1/embeddings``."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from taximeter.testing.answers.base import (
    ApiError,
    Ask,
    Choice,
    Event,
    Generation,
    compact,
    indented,
    positive,
    quoted,
    steps,
)
from taximeter.testing.answers.openai_chat import OpenAIChat
from taximeter.testing.answers.openai_common import JSON, error_body, stop_strings, stream_options
from taximeter.testing.tokenizer import Tokenizer

DEFAULT_TOKENS = 16
"""Completions stop after so many tokens when no cap was given."""


def _texts(value: object) -> list[str | list[int]]:
    """A prompt or input: a string, strings, token ids, or lists of token ids."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        return [value]
    return list(value) if isinstance(value, list) else []


def _count(texts: list[str | list[int]], tokenizer: Tokenizer) -> int:
    return sum(tokenizer.count(t) if isinstance(t, str) else len(t) for t in texts)


def _model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError(400, "you must provide a model parameter")
    return model


class OpenAICompletions(OpenAIChat):
    """Legacy completions."""

    name = "openai.completions"
    id_prefix = "cmpl-"

    def read(self, body: Mapping[str, Any], path: str, tokenizer: Tokenizer) -> Ask:
        include_usage, _ = stream_options(body)
        prompts = _texts(body.get("prompt", "<|endoftext|>"))
        cap = positive(body, "max_tokens")
        return Ask(
            model=_model(body),
            input_tokens=_count(prompts, tokenizer),
            streamed=body.get("stream") is True,
            cap=DEFAULT_TOKENS if cap is None else cap,
            choices=(positive(body, "n") or 1) * max(1, len(prompts)),
            stops=stop_strings(body),
            include_usage=include_usage,
        )

    def events(self, generation: Generation) -> Iterator[Event]:
        asked = generation.ask.include_usage and generation.says_usage
        names = f'"id":"{generation.id}","object":"text_completion","created":{generation.created},'
        tail = f'"model":{quoted(generation.model)}' + (',"usage":null' if asked else "")
        generated = 0
        for kind, choice, value, generated in steps(generation, 1):
            if kind not in ("text", "end"):
                continue
            finish = quoted(_reason(choice)) if kind == "end" else "null"
            data = (
                f'data: {{{names}"choices":[{{"text":{quoted(value)},"index":{choice.index},'
                f'"logprobs":null,"finish_reason":{finish}}}],{tail}}}\n\n'
            )
            yield data.encode(), generated, kind == "text"
        if asked:
            usage = compact(_usage(generation)).decode()
            model = quoted(generation.model)
            data = f'data: {{{names}"model":{model},"usage":{usage},"choices":[]}}\n\n'
            yield data.encode(), generated, False
        yield b"data: [DONE]\n\n", generated, False

    def whole(self, generation: Generation) -> bytes:
        choices = [
            {"text": c.text, "index": c.index, "logprobs": None, "finish_reason": _reason(c)}
            for c in generation.choices
        ]
        value = {
            "id": generation.id,
            "object": "text_completion",
            "created": generation.created,
            "model": generation.model,
            "choices": choices,
        }
        if generation.says_usage:
            value["usage"] = _usage(generation)
        return indented(value)


def _reason(choice: Choice) -> str:
    return "length" if choice.finish == "length" else "stop"


def _usage(generation: Generation) -> dict[str, int]:
    read, wrote = generation.usage["input_tokens"], generation.usage["output_tokens"]
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


class OpenAIEmbeddings:
    """Embeddings; the vectors say nothing."""

    name = "embeddings"
    whole_on_abort = True
    call_prefix = "call_"
    id_prefix = "embd-"

    def read(self, body: Mapping[str, Any], path: str, tokenizer: Tokenizer) -> Ask:
        texts = _texts(body.get("input"))
        if not texts:
            raise ApiError(400, "'$.input' is invalid. Please check the API reference.")
        tokens = _count(texts, tokenizer)
        return Ask(model=_model(body), input_tokens=tokens, vectors=len(texts), cap=0)

    def events(self, generation: Generation) -> Iterator[Event]:
        raise ApiError(400, "embeddings are not streamed")

    def whole(self, generation: Generation) -> bytes:
        size = generation.body.get("dimensions") or 16
        packed = generation.body.get("encoding_format") == "base64"
        data = []
        for index in range(generation.ask.vectors):
            vector = [round(generation.random.uniform(-1, 1), 6) for _ in range(size)]
            value: Any = vector
            if packed:
                value = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": value})
        answer: dict[str, Any] = {"object": "list", "data": data, "model": generation.model}
        if generation.says_usage:
            tokens = generation.usage["input_tokens"]
            answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        return indented(answer)

    def error(self, error: ApiError, request_id: str) -> bytes:
        return error_body(error)

    def error_event(self, generation: Generation, message: str, events: int) -> bytes:
        return b""

    def content_type(self, ask: Ask) -> str:
        return JSON
