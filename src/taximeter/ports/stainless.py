"""Pre-flight in SDKs made by Stainless (openai, anthropic, groq, together, cerebras).

``_build_request`` runs outside the SDK's retry loop and before signing, so a plain exception raised
there surfaces once and unwrapped, and a rewritten body is signed as it is sent. It is synchronous in
both kinds of client; asynchronous ones therefore ask the budgets in ``_prepare_options``, which they
await just before. Subclasses that skip it (Azure) are caught by the port on ``send``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import MethodType, ModuleType
from typing import Any

from taximeter.call import Call
from taximeter.context import Scope
from taximeter.ports import exchange
from taximeter.ports.httpx import KEY, Ticket
from taximeter.runtime import RUNTIME
from taximeter.settlement import Ending

_ADMITTED: ContextVar[Ticket | None] = ContextVar("taximeter_admitted", default=None)
_WRAPPED: ContextVar[bool] = ContextVar("taximeter_wrapped", default=False)
"""A wrapped client's own hook is at work: the class's, which it calls, leaves the call to it."""


def patch(module: ModuleType) -> None:
    """Patch a Stainless ``_base_client`` module, if that is what it is. Twice changes nothing."""
    base = getattr(module, "BaseClient", None)
    asynchronous = getattr(module, "AsyncAPIClient", None)
    if base is None or asynchronous is None or not hasattr(base, "_build_request"):
        return
    if not getattr(base._build_request, "taximeter", False):
        base._build_request = _build(base._build_request, RUNTIME.scope, asynchronous)
    if not getattr(asynchronous._prepare_options, "taximeter", False):
        asynchronous._prepare_options = _prepare(asynchronous._prepare_options, RUNTIME.scope)


def wrap(client: Any, scope: Callable[[], Scope | None]) -> None:
    """The same for one client."""
    kind = type(client)
    is_async = hasattr(kind, "__aenter__")
    asynchronous = kind if is_async else ()
    build = _build(_alone(kind._build_request), scope, asynchronous)
    client._build_request = MethodType(build, client)
    if is_async:
        prepare = _prepare(_alone_async(kind._prepare_options), scope)
        client._prepare_options = MethodType(prepare, client)


def _alone(original: Callable[..., Any]) -> Callable[..., Any]:
    """``original`` without the class's hook, if it has one."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = _WRAPPED.set(True)
        try:
            return original(*args, **kwargs)
        finally:
            _WRAPPED.reset(token)

    return call


def _alone_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def call(*args: Any, **kwargs: Any) -> Any:
        token = _WRAPPED.set(True)
        try:
            return await original(*args, **kwargs)
        finally:
            _WRAPPED.reset(token)

    return call


def _build(
    original: Callable[..., Any], scope_now: Callable[[], Scope | None], asynchronous: Any
) -> Any:
    @functools.wraps(original)
    def _build_request(self: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        if _WRAPPED.get():
            call = None
        elif isinstance(self, asynchronous):
            ticket = _ADMITTED.get()
            _ADMITTED.set(None)
            call = ticket.take() if ticket is not None else None
        else:
            call = _begin(self, options, scope_now())
            if call is not None:
                RUNTIME.admit(call)
                _rewrite(options, call)
        if call is None:
            return original(self, options, *args, **kwargs)
        try:
            request = original(self, options, *args, **kwargs)
        except BaseException:
            RUNTIME.settle(call, Ending.NOT_SENT)
            raise
        _hand_over(request, call)
        return request

    _build_request.taximeter = True  # type: ignore[attr-defined]
    return _build_request


def _prepare(original: Callable[..., Any], scope_now: Callable[[], Scope | None]) -> Any:
    @functools.wraps(original)
    async def _prepare_options(self: Any, options: Any) -> Any:
        if _WRAPPED.get():
            return await original(self, options)
        _ADMITTED.set(None)  # If one is left, its request was never built: the SDK failed since.
        options = await original(self, options)
        call = _begin(self, options, scope_now())
        if call is not None:
            await RUNTIME.admit_async(call)
            options = _rewrite(options, call)
            _ADMITTED.set(Ticket(call))
        return options

    _prepare_options.taximeter = True  # type: ignore[attr-defined]
    return _prepare_options


def _begin(client: Any, options: Any, scope: Scope | None) -> Call | None:
    if scope is None or options.method.lower() != "post" or not isinstance(options.json_data, dict):
        return None
    body = options.json_data
    extra = getattr(options, "extra_json", None)
    if extra:
        body = {**body, **extra}
    base = client.base_url
    path = options.url if isinstance(options.url, str) else str(options.url)
    return exchange.begin(path.partition("?")[0], body, scope, host=base.host, port=base.port)


def _rewrite(options: Any, call: Call) -> Any:
    change = exchange.rewritten(call)
    if change is not None:
        # ``options`` is this attempt's own copy; what the caller passed is never written to.
        options.json_data = change[1]
        if getattr(options, "extra_json", None):
            options.extra_json = None
    return options


def _hand_over(request: Any, call: Call) -> None:
    request.extensions = {**request.extensions, KEY: Ticket(call)}
