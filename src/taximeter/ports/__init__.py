"""Where calls are seen: byte ports on HTTP clients, put in place at the first budget or ``install()``.

With no scope active every hook falls through at once: nothing is read, rewritten or recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from taximeter.context import Scope
from taximeter.errors import ConfigurationError
from taximeter.ports.hooks import when_any_imported, when_imported

_SCOPE: Final = "_taximeter_scope"
_active = False


def activate() -> None:
    """Put the ports in place for what is, and what will be, imported. Idempotent."""
    global _active
    if _active:
        return
    _active = True
    from taximeter.ports import httpx, stainless

    for name in ("httpx", "httpx2"):
        when_imported(f"{name}._client", httpx.patch)
    when_any_imported("._base_client", stainless.patch)


def wrap_client(client: Any, scope: Callable[[], Scope]) -> Any:
    """Watch one client and nothing else. ``scope`` says, at each call, where it belongs.

    Wrapped again (two budgets), it belongs to both.
    """
    from taximeter.ports import httpx, stainless

    inner = _http_clients(client)
    if not inner:
        raise ConfigurationError(
            f"wrap() does not know how to watch {type(client).__module__}.{type(client).__qualname__}; "
            "it takes openai, anthropic and google-genai clients, or an httpx client"
        )
    earlier: Callable[[], Scope] | None = inner[0].__dict__.get(_SCOPE)
    if earlier is not None:
        only = scope

        def scope() -> Scope:
            return earlier().joined(only())

    for http_client in inner:
        httpx.wrap(http_client, scope)
        setattr(http_client, _SCOPE, scope)
    if hasattr(client, "_build_request"):
        stainless.wrap(client, scope)
    return client


def _http_clients(client: Any) -> list[Any]:
    """The httpx clients inside an SDK's client (or the client itself)."""
    api = getattr(client, "_api_client", None)  # google-genai
    if api is not None:
        names = ("_httpx_client", "_async_httpx_client")
        found = [getattr(api, name, None) for name in names]
    else:
        found = [getattr(client, "_client", None), client]
    return [one for one in found if one is not None and _is_http_client(one)][:2]


def _is_http_client(client: Any) -> bool:
    return any(
        base.__module__.split(".")[0] in ("httpx", "httpx2") for base in type(client).__mro__
    ) and hasattr(client, "send")


def close_abandoned(calls: Iterable[Any], me: tuple[int, int]) -> None:
    """Close streams that this thread or task began to read and left: they would go on costing."""
    for call in calls:
        stream = call.shell.stream() if call.shell.stream is not None else None
        if stream is not None and stream.left_by(me):
            stream.abandon()


async def close_abandoned_async(calls: Iterable[Any], me: tuple[int, int]) -> None:
    """The same, waiting for asynchronous streams to close."""
    for call in calls:
        stream = call.shell.stream() if call.shell.stream is not None else None
        if stream is not None and stream.left_by(me):
            closing = stream.abandon()
            if closing is not None:
                await closing
