"""What OpenAI's wires share: errors, ids, usage details, and how their input counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from taximeter.testing.answers.base import ApiError, Generation, strings
from taximeter.testing.tokenizer import Tokenizer

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
JSON: Final = "application/json"
SERVER_ERROR: Final = "The server had an error while processing your request. Sorry about that!"
_REASONS: Final = re.compile(r"^(o\d|gpt-5(?!.*chat))")
_IMAGE_TOKENS: Final = 255
_NOT_TEXT: Final = frozenset({"type", "id", "call_id", "tool_call_id", "image_url", "detail"})


def reasons(model: str) -> bool:
    """Whether the model reasons unseen, and takes ``max_completion_tokens`` alone."""
    return bool(_REASONS.match(model))


def error_body(error: ApiError) -> bytes:
    """OpenAI's envelope, in its own indentation."""
    value = {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }
    return json.dumps(value, ensure_ascii=False, indent=4).encode() + b"\n"


def input_tokens(messages: object, tools: object, tokenizer: Tokenizer, *, extra: int = 3) -> int:
    """3 and 4 a message, the strings, images flat, and tools by most of their JSON."""
    count = extra
    for message in messages if isinstance(messages, (list, tuple)) else [messages]:
        count += 4 + sum(tokenizer.count(text) for text in strings(message, _NOT_TEXT))
        if isinstance(message, Mapping) and isinstance(message.get("content"), list):
            images = [
                part
                for part in message["content"]
                if isinstance(part, Mapping) and "image" in str(part.get("type"))
            ]
            count += _IMAGE_TOKENS * len(images)
    if tools:
        text = json.dumps(tools, ensure_ascii=False, separators=(",", ":"))
        count += 8 + tokenizer.count(text) * 3 // 4
    return count


def stop_strings(body: Mapping[str, Any]) -> tuple[str, ...]:
    """``stop`` as a string, a list or nothing."""
    stop = body.get("stop")
    if isinstance(stop, str):
        return (stop,)
    return tuple(item for item in stop or () if isinstance(item, str))


def stream_options(body: Mapping[str, Any]) -> tuple[bool, bool]:
    """(include_usage, obfuscation), refused without ``stream`` as OpenAI does."""
    options = body.get("stream_options")
    if options is None:
        return False, True
    if not body.get("stream"):
        raise ApiError(
            400,
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    if not isinstance(options, Mapping):
        raise ApiError(400, "Invalid type for 'stream_options'.", param="stream_options")
    return options.get("include_usage") is True, options.get("include_obfuscation") is not False


def chat_usage(generation: Generation, output: int | None = None) -> dict[str, Any]:
    """The ``usage`` object of chat completions, for the whole answer or ``output`` tokens of it."""
    usage = generation.usage
    done = usage["output_tokens"] if output is None else output
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": done,
        "total_tokens": usage["input_tokens"] + done,
        "prompt_tokens_details": {
            "cached_tokens": usage["cached_input_tokens"],
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": min(usage["reasoning_tokens"], done),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
