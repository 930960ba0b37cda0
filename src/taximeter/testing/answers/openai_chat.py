"""``POST /v1/chat/completions``, and the same on Azure with its own field order and filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

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
from taximeter.testing.answers.openai_common import (
    EVENT_STREAM,
    JSON,
    SERVER_ERROR,
    chat_usage,
    error_body,
    input_tokens,
    reasons,
    stop_strings,
    stream_options,
)
from taximeter.testing.tokenizer import Tokenizer

_DONE: Final = b"data: [DONE]\n\n"
_FINISH: Final = {"stop_sequence": "stop"}
_SAFE: Final = {"filtered": False, "severity": "safe"}
_FILTERS: Final = {"hate": _SAFE, "self_harm": _SAFE, "sexual": _SAFE, "violence": _SAFE}
_PROMPT_FILTERS: Final = [{"prompt_index": 0, "content_filter_results": _FILTERS}]


def is_azure(path: str) -> bool:
    """Azure has its own order of fields, and filters in every chunk."""
    return path.startswith("/openai/")


class OpenAIChat:
    """Chat completions."""

    name = "openai.chat"
    whole_on_abort = False
    call_prefix = "call_"
    id_prefix = "chatcmpl-"

    def read(self, body: Mapping[str, Any], path: str, tokenizer: Tokenizer) -> Ask:
        model = body.get("model")
        if is_azure(path) and "/deployments/" in path:
            model = path.split("/deployments/")[1].split("/")[0]
        if not isinstance(model, str) or not model:
            raise ApiError(400, "you must provide a model parameter")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise ApiError(
                400,
                "Missing required parameter: 'messages'.",
                param="messages",
                code="missing_required_parameter",
            )
        include_usage, obfuscated = stream_options(body)
        return Ask(
            model=model,
            input_tokens=input_tokens(messages, body.get("tools"), tokenizer),
            streamed=body.get("stream") is True,
            cap=_cap(body, model),
            choices=positive(body, "n") or 1,
            stops=stop_strings(body),
            include_usage=include_usage,
            obfuscated=obfuscated,
        )

    def events(self, generation: Generation) -> Iterator[Event]:
        return (_azure_events if is_azure(generation.path) else _events)(generation)

    def whole(self, generation: Generation) -> bytes:
        value: dict[str, Any] = {
            "id": generation.id,
            "object": "chat.completion",
            "created": generation.created,
            "model": generation.model,
            "choices": [_whole_choice(choice, generation.model) for choice in generation.choices],
        }
        if generation.says_usage:
            value["usage"] = chat_usage(generation)
        value |= {"service_tier": "default", "system_fingerprint": _fingerprint(generation)}
        if not is_azure(generation.path):
            return indented(value)
        value["prompt_filter_results"] = _PROMPT_FILTERS
        for choice in value["choices"]:
            choice.update(content_filter_results=_FILTERS, logprobs=None)
        return compact(_sorted(value)) + b"\n"

    def error(self, error: ApiError, request_id: str) -> bytes:
        return error_body(error)

    def error_event(self, generation: Generation, message: str, events: int) -> bytes:
        error = {
            "message": message or SERVER_ERROR,
            "type": "server_error",
            "param": None,
            "code": None,
        }
        return b"data: " + compact({"error": error}) + b"\n\n"

    def content_type(self, ask: Ask) -> str:
        return EVENT_STREAM if ask.streamed else JSON


def _cap(body: Mapping[str, Any], model: str) -> int | None:
    old, new = positive(body, "max_tokens"), positive(body, "max_completion_tokens")
    if old is not None and new is not None:
        raise ApiError(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            code="invalid_parameter_combination",
        )
    if old is not None and reasons(model):
        raise ApiError(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
            " 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        )
    return old if old is not None else new


def _fingerprint(generation: Generation) -> str | None:
    return None if reasons(generation.model) else "fp_" + generation.padding[:10].lower()


def _whole_choice(choice: Choice, model: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    message["content"] = choice.text if choice.pieces or not choice.calls else None
    if choice.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in choice.calls
        ]
    message |= {"refusal": None, "annotations": []}
    value: dict[str, Any] = {"index": choice.index, "message": message}
    if not reasons(model):
        value["logprobs"] = None
    value["finish_reason"] = _FINISH.get(choice.finish, choice.finish)
    return value


def _deltas(generation: Generation) -> Iterator[tuple[Choice, str, str | None, int, bool]]:
    """(choice, delta JSON, finish reason, tokens by then, output?) in the order of time."""
    calls: dict[int, int] = {}
    for kind, choice, value, generated in steps(generation, 1):
        if kind == "start":
            content = "null" if choice.calls and not choice.pieces else '""'
            delta = f'{{"role":"assistant","content":{content},"refusal":null}}'
            yield choice, delta, None, generated, False
        elif kind == "text":
            yield choice, f'{{"content":{quoted(value)}}}', None, generated, True
        elif kind == "call":
            at = calls[choice.index] = calls.get(choice.index, -1) + 1
            call = {
                "index": at,
                "id": value.id,
                "type": "function",
                "function": {"name": value.name, "arguments": ""},
            }
            yield choice, compact({"tool_calls": [call]}).decode(), None, generated, True
        elif kind == "arguments":
            at = calls[choice.index]
            delta = (
                f'{{"tool_calls":[{{"index":{at},"function":{{"arguments":{quoted(value)}}}}}]}}'
            )
            yield choice, delta, None, generated, True
        elif kind == "end":
            yield choice, "{}", _FINISH.get(choice.finish, choice.finish), generated, False


def _events(generation: Generation) -> Iterator[Event]:
    reply = generation.reply
    wanted = generation.says_usage and (generation.ask.include_usage or reply.usage_unasked)
    fingerprint = _fingerprint(generation)
    head = (
        f'data: {{"id":"{generation.id}","object":"chat.completion.chunk",'
        f'"created":{generation.created},"model":{quoted(generation.model)},'
        f'"service_tier":"default","system_fingerprint":'
        f"{quoted(fingerprint) if fingerprint else 'null'},"
    )
    null = '"usage":null' if generation.ask.include_usage and generation.says_usage else ""
    if null and reply.usage_before_choices:
        head, null = head + null + ",", ""
    logprobs = "" if fingerprint is None else '"logprobs":null,'
    middle = "," + null if null else ""
    pads = _pads(generation)
    generated = 0
    for choice, delta, finish, generated, output in _deltas(generation):
        reason = quoted(finish) if finish else "null"
        said = middle
        if wanted and (
            reply.usage_chunk == "running" or (finish and reply.usage_chunk == "finish")
        ):
            last = generation.output_tokens if finish else generated
            said = ',"usage":' + compact(chat_usage(generation, last)).decode()
        data = (
            f'{head}"choices":[{{"index":{choice.index},"delta":{delta},{logprobs}'
            f'"finish_reason":{reason}}}]{said}{next(pads)}}}\n\n'
        )
        yield data.encode(), generated, output
    if wanted and reply.usage_chunk == "own":
        usage = compact(chat_usage(generation)).decode()
        if reply.usage_before_choices and generation.ask.include_usage:
            head = head.removesuffix('"usage":null,')
        yield f'{head}"choices":[],"usage":{usage}{next(pads)}}}\n\n'.encode(), generated, False
    yield _DONE, generated, False


def _pads(generation: Generation) -> Iterator[str]:
    """``obfuscation`` of 1 to 15 characters, so that lengths tell nothing."""
    at, padding = 0, generation.padding
    while True:
        length = 1 + (at * 7 + 3) % 15
        start = (at * 13) % 480
        at += 1
        pad = padding[start : start + length]
        yield f',"obfuscation":"{pad}"' if generation.ask.obfuscated else ""


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _azure_events(generation: Generation) -> Iterator[Event]:
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
    first["prompt_filter_results"] = _PROMPT_FILTERS
    yield b"data: " + compact(first) + b"\n\n", 0, False
    filters = compact(_FILTERS).decode()
    asked = generation.ask.include_usage and generation.says_usage
    fingerprint = _fingerprint(generation)
    object = '"object":"chat.completion.chunk","service_tier":"default","system_fingerprint":'
    object += quoted(fingerprint) if fingerprint else "null"
    names = (
        f'"created":{generation.created},"id":"{generation.id}","model":{quoted(generation.model)}'
    )
    pads, generated = _pads(generation), 0
    null = ',"usage":null' if asked else ""
    for choice, delta, finish, generated, output in _deltas(generation):
        results = filters if output or finish else "{}"
        reason = quoted(finish) if finish else "null"
        data = (
            f'data: {{"choices":[{{"content_filter_results":{results},"delta":{delta},'
            f'"finish_reason":{reason},"index":{choice.index},"logprobs":null}}],'
            f"{names}{next(pads)},{object}{null}}}\n\n"
        )
        yield data.encode(), generated, output
    if asked:
        usage = compact(_sorted(chat_usage(generation))).decode()
        data = f'data: {{"choices":[],{names}{next(pads)},{object},"usage":{usage}}}\n\n'
        yield data.encode(), generated, False
    yield _DONE, generated, False
