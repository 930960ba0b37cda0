"""Requests of OpenAI's wires: what they ask for, and how they are changed without touching them.

Odd or missing fields are read as absent. Nothing inside the caller's body is ever changed: a
rewrite copies the levels that it touches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from taximeter.wire.base import WireRequest
from taximeter.wire.body import count, items, mapping, string
from taximeter.wire.openai_prompt import PromptReader

# Models of OpenAI's own, which refuse or deprecate ``max_tokens``. gpt-oss is served by others.
_OPENAI_MODEL: Final = re.compile(r"(?:ft:)?(?:gpt-(?!oss)|o\d|chatgpt-|codex-)")
_XAI_SOURCES: Final = 20  # when the request does not say
_DEPLOYMENT: Final = re.compile(r"/deployments/([^/]+)/")


def model_in(path: str, body: Mapping[str, Any]) -> str:
    """The model asked for; an Azure deployment's name where the body has none."""
    model = body.get("model")
    if isinstance(model, str) and model:
        return model
    found = _DEPLOYMENT.search(path)
    return found.group(1) if found else ""


def _choices(body: Mapping[str, Any], *names: str) -> int:
    most = 1
    for name in names:
        if name in body:
            most = max(most, count(body[name]) or 0)
    return most


_THINKING: Final = frozenset(
    {"reasoning_effort", "reasoning", "thinking", "enable_thinking", "chat_template_kwargs"}
)


def _thinking_budget(body: Mapping[str, Any]) -> int | None:
    """Tokens for thinking, 0 where it is switched off, None where the request does not say."""
    if _THINKING.isdisjoint(body):
        return None
    effort = body.get("reasoning_effort")
    reasoning, thinking = mapping(body.get("reasoning")), mapping(body.get("thinking"))
    template = mapping(body.get("chat_template_kwargs"))
    if (
        effort == "none"
        or reasoning.get("effort") == "none"
        or reasoning.get("enabled") is False
        or thinking.get("type") == "disabled"
        or body.get("enable_thinking") is False
        or template.get("enable_thinking") is False
    ):
        return 0
    for budget in (reasoning.get("max_tokens"), thinking.get("budget_tokens")):
        if (tokens := count(budget)) is not None:
            return tokens
    return None


def _first_count(body: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        if name in body and (found := count(body[name])) is not None:
            return found
    return None


_SEARCHES: Final = ("web_search_options", "search_parameters", "plugins")
_READ: Final = frozenset({"tools", "functions", "response_format", "prediction", *_SEARCHES})
"""What a model reads beside the messages; most requests have none of it."""


def read_chat_request(wire: str, path: str, body: Mapping[str, Any]) -> WireRequest:
    """Facts of a chat completions request."""
    reader = PromptReader()
    for message in items(body.get("messages")):
        reader.read_message(message)
    if not _READ.isdisjoint(body):
        reader.read_tools(items(body.get("tools")) or items(body.get("functions")))
        reader.read_schema(body.get("response_format"))
        reader.read_content(mapping(body.get("prediction")).get("content"))
        reader.read_tools(_searches(body))
    return WireRequest(
        wire=wire,
        path=path,
        body=body,
        model=model_in(path, body),
        streamed=body.get("stream") is True,
        output_cap=_first_count(body, "max_completion_tokens", "max_tokens"),
        choices=_choices(body, "n"),
        thinking_budget=_thinking_budget(body),
        include_usage=_include_usage(body),
        service_tier=string(body.get("service_tier")) or None,
        prompt=reader.prompt(body),
    )


def _searches(body: Mapping[str, Any]) -> list[Any]:
    """Searches that are asked for by a field, not by a tool, with the most of them there can be."""
    searches: list[Any] = []
    if isinstance(body.get("web_search_options"), dict):  # One search before the answer.
        searches.append({"type": "web_search", "max_uses": 1})
    live = body.get("search_parameters")
    if isinstance(live, dict) and live.get("mode") != "off":  # xAI bills each source it reads.
        sources = count(live.get("max_search_results"))
        searches.append(
            {"type": "search_source", "max_uses": _XAI_SOURCES if sources is None else sources}
        )
    plugins = [mapping(plugin).get("id") for plugin in items(body.get("plugins"))]
    if "web" in plugins:  # OpenRouter searches once.
        searches.append({"type": "web_search", "max_uses": 1})
    return searches


def read_completions_request(wire: str, path: str, body: Mapping[str, Any]) -> WireRequest:
    """Facts of a legacy completions request. Several prompts make several answers."""
    reader = PromptReader()
    prompts = 1
    prompt = body.get("prompt")
    if isinstance(prompt, list) and not all(isinstance(token, int) for token in prompt):
        prompts = len(prompt)
        for one in prompt:
            reader.read_text_or_tokens(one)
    else:
        reader.read_text_or_tokens(prompt)
    reader.read_content(body.get("suffix"))
    return WireRequest(
        wire=wire,
        path=path,
        body=body,
        model=model_in(path, body),
        streamed=body.get("stream") is True,
        # The protocol's own default is 16; servers that differ are capped by the context.
        output_cap=_first_count(body, "max_tokens"),
        # best_of answers are all generated and billed, whatever number is returned.
        choices=_choices(body, "n", "best_of") * max(1, prompts),
        include_usage=_include_usage(body),
        prompt=reader.prompt(body),
    )


def read_responses_request(wire: str, path: str, body: Mapping[str, Any]) -> WireRequest:
    """Facts of a Responses request."""
    reader = PromptReader()
    reader.read_content(body.get("instructions"))
    entered = body.get("input")
    if isinstance(entered, str):
        reader.read_message({"content": entered})
    for item in items(entered):
        reader.read_item(item)
    reader.read_tools(items(body.get("tools")))
    reader.read_schema(mapping(body.get("text")).get("format"))
    reader.hosted_calls_max = count(body.get("max_tool_calls"))
    prompt = mapping(body.get("prompt"))
    for value in mapping(prompt.get("variables")).values():
        reader.read_content(value)
    reader.server_state = bool(
        body.get("previous_response_id") or body.get("conversation") or prompt.get("id")
    )
    return WireRequest(
        wire=wire,
        path=path,
        body=body,
        model=model_in(path, body),
        streamed=body.get("stream") is True,
        output_cap=_first_count(body, "max_output_tokens"),
        thinking_budget=_thinking_budget(body),
        service_tier=string(body.get("service_tier")) or None,
        prompt=reader.prompt(body),
    )


def _include_usage(body: Mapping[str, Any]) -> bool | None:
    asked = mapping(body.get("stream_options")).get("include_usage")
    return asked if isinstance(asked, bool) else None


def rewrite_chat(
    request: WireRequest,
    *,
    output_cap: int | None,
    model: str | None,
    include_usage: bool,
    caps: tuple[str, ...] = ("max_completion_tokens", "max_tokens"),
) -> tuple[str, dict[str, Any]]:
    """Path and body of a chat or legacy completions request with these changes."""
    body = dict(request.body)
    path = swap_model(request.path, body, model)
    if output_cap is not None:
        used = [name for name in caps if body.get(name) is not None]
        for name in used or [_preferred_cap(model or request.model, caps)]:
            body[name] = output_cap
    if include_usage:
        body["stream_options"] = {**mapping(body.get("stream_options")), "include_usage": True}
    return path, body


def rewrite_responses(
    request: WireRequest, *, output_cap: int | None, model: str | None
) -> tuple[str, dict[str, Any]]:
    """Path and body of a Responses request with these changes. It always states usage."""
    body = dict(request.body)
    path = swap_model(request.path, body, model)
    if output_cap is not None:
        body["max_output_tokens"] = output_cap
    return path, body


def swap_model(path: str, body: dict[str, Any], model: str | None) -> str:
    """Put ``model`` into ``body``, and into an Azure deployment's path, which is returned."""
    if model is None:
        return path
    if _DEPLOYMENT.search(path):
        path = _DEPLOYMENT.sub(lambda _: f"/deployments/{model}/", path, count=1)
        if "model" not in body:
            return path
    body["model"] = model
    return path


def _preferred_cap(model: str, caps: tuple[str, ...]) -> str:
    if "max_completion_tokens" in caps and _OPENAI_MODEL.match(model.rpartition("/")[2]):
        return "max_completion_tokens"
    return "max_tokens"
