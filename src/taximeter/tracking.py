"""``tracked_call`` and ``tracked_stream``: the right SDK method, inside the right scope."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
)
from dataclasses import replace
from typing import Any

from taximeter import context
from taximeter.budgeting import Budget
from taximeter.context import Scope
from taximeter.errors import ConfigurationError
from taximeter.runtime import RUNTIME


def tracked(
    client: Any,
    params: dict[str, Any],
    who: Mapping[str, Any],
    *,
    stream: bool,
    budget: Budget | None,
    on_warning: Callable[[Any], Any] | None,
) -> Any:
    """Call the SDK in a scope of its own; an awaitable for asynchronous clients."""
    from taximeter.ports import activate

    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(f"budget={budget!r} is not a taximeter budget")
    if budget is not None and on_warning is not None:
        budget.terms = replace(budget.terms, on_warn=lambda *_: on_warning(budget.summary_data()))
    activate()
    method, arguments = _method(client, params, stream=stream)
    known = context.SCOPE.get() or RUNTIME.installed or Scope()
    scope = replace(known.tagged(**who), metered=True)
    if budget is not None:
        scope = scope.inside(budget)
    if _is_async(client, method):
        return _awaited(method, arguments, scope)
    previous = context.SCOPE.get()
    token = context.enter(scope)
    try:
        answer = method(**arguments)
    finally:
        context.leave(token, previous)
    return _steps(answer, scope) if isinstance(answer, Generator) else answer


def _steps(answer: Generator[Any, Any, Any], scope: Scope) -> Iterator[Any]:
    """google-genai's stream is a generator that sends its request when it is first asked."""
    step = context.bound(answer.__next__, scope)
    try:
        while True:
            try:
                value = step()
            except StopIteration:
                return
            yield value
    finally:
        answer.close()


async def _awaited(method: Callable[..., Any], arguments: dict[str, Any], scope: Scope) -> Any:
    previous = context.SCOPE.get()
    token = context.enter(scope)
    try:
        answer = await method(**arguments)
    finally:
        context.leave(token, previous)
    return _async_steps(answer, scope) if isinstance(answer, AsyncGenerator) else answer


async def _async_steps(answer: AsyncGenerator[Any, Any], scope: Scope) -> AsyncIterator[Any]:
    try:
        while True:
            previous = context.SCOPE.get()
            token = context.enter(scope)
            try:
                value = await anext(answer)
            except StopAsyncIteration:
                return
            finally:
                context.leave(token, previous)
            yield value
    finally:
        await answer.aclose()


def _is_async(client: Any, method: Callable[..., Any]) -> bool:
    import inspect

    names = [base.__name__ for base in type(client).__mro__]
    return any(name.startswith("Async") for name in names) or inspect.iscoroutinefunction(method)


def _method(
    client: Any, params: dict[str, Any], *, stream: bool
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The SDK's own method for these parameters."""
    if hasattr(client, "chat") and hasattr(client, "responses") and "input" in params:
        target = client.responses.create
    elif hasattr(client, "chat") and hasattr(client.chat, "completions"):
        target = client.chat.completions.create
    elif hasattr(client, "messages"):
        target = client.messages.create
    elif hasattr(client, "models") and hasattr(client.models, "generate_content"):
        name = "generate_content_stream" if stream else "generate_content"
        params.pop("stream", None)
        return getattr(client.models, name), params
    else:
        raise ConfigurationError(
            f"client={type(client).__module__}.{type(client).__qualname__} is not known here; "
            "it takes openai, Azure, anthropic and google-genai clients"
        )
    if stream:
        params["stream"] = True
    return target, params
