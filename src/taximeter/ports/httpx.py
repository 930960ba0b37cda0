"""The port on ``Client.send`` and ``AsyncClient.send`` of both ``httpx`` and ``httpx2``.

Sees every way of calling every SDK built on them, after their own retries and before their own
parsing: one call for each attempt. See docs/decisions/0002-http-level-ports.md.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import MethodType, ModuleType
from typing import Any, Final

from taximeter.call import Call
from taximeter.context import Scope
from taximeter.errors import BudgetExceededError, TaximeterError
from taximeter.ports import exchange
from taximeter.ports.codec import Codec
from taximeter.ports.poison import dual, poisoned
from taximeter.ports.streams import AsyncMetered, SyncMetered
from taximeter.runtime import RUNTIME
from taximeter.settlement import Ending
from taximeter.wire import registry

KEY: Final = "taximeter"
"""Request extension: the Ticket of a call that pre-flight has admitted, or True while we send."""


class Ticket:
    """A call on its way from pre-flight to ``send``. Lost on the way (an SDK's own hook failed, a
    task was cancelled), it says that the call was never sent."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call: Call | None = call

    def take(self) -> Call | None:
        """The call; the second time None."""
        call, self._call = self._call, None
        return call

    def __del__(self) -> None:
        if self._call is not None:
            RUNTIME.defer(self._call, Ending.NOT_SENT, "the request was built, but never sent")


def patch(module: ModuleType) -> None:
    """Patch the classes of ``httpx._client`` (or httpx2's). Patching twice changes nothing."""
    if not getattr(module.Client.send, "taximeter", False):
        module.Client.send = _sync_send(module.Client.send, RUNTIME.scope)
    if not getattr(module.AsyncClient.send, "taximeter", False):
        module.AsyncClient.send = _async_send(module.AsyncClient.send, RUNTIME.scope)


def wrap(client: Any, scope: Callable[[], Scope | None]) -> None:
    """The same for one client."""
    original = type(client).send
    make = _async_send if hasattr(client, "aclose") else _sync_send
    client.send = MethodType(make(original, scope), client)


def _sync_send(original: Callable[..., Any], scope_now: Callable[[], Scope | None]) -> Any:
    @functools.wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        if request.method != "POST" or (scope := scope_now()) is None:
            return original(self, request, **options)
        mark = request.extensions.get(KEY)
        if mark is True or (mark is None and registry.name_of(_path(request)) is None):
            return original(self, request, **options)
        call, asked = mark.take() if mark is not None else None, None
        if call is None:
            try:
                call = _begin(request, scope)
                if call is not None:
                    RUNTIME.admit(call)
                    asked = _rewrite(request, call)
            except TaximeterError as error:
                return _refuse(self, error)
        if call is None:
            return original(self, request, **options)
        request.extensions = {**request.extensions, KEY: True}
        try:
            response = original(self, request, **options)
            if call.strips_usage and response.status_code in (400, 404, 422):
                response.read()
                if exchange.refuses_usage(call, response.status_code, response.content):
                    RUNTIME.remember_refusal(request.url.host, request.url.port)
                    _replace_body(request, exchange.without_usage(call))
                    response = original(self, request, **options)
        except BaseException as error:
            RUNTIME.settle(
                call, exchange.ending_of(error), error=f"{type(error).__name__}: {error}"
            )
            raise
        finally:
            request.extensions.pop(KEY, None)
            if asked is not None:
                _restore(request, asked)
        return _answer(self, response, call, options.get("stream", False), _sync_stream_class)

    send.taximeter = True  # type: ignore[attr-defined]
    return send


def _async_send(original: Callable[..., Any], scope_now: Callable[[], Scope | None]) -> Any:
    @functools.wraps(original)
    async def send(self: Any, request: Any, **options: Any) -> Any:
        if request.method != "POST" or (scope := scope_now()) is None:
            return await original(self, request, **options)
        mark = request.extensions.get(KEY)
        if mark is True or (mark is None and registry.name_of(_path(request)) is None):
            return await original(self, request, **options)
        call, asked = mark.take() if mark is not None else None, None
        if call is None:
            try:
                if not hasattr(request, "_content"):
                    await request.aread()
                call = _begin(request, scope)
                if call is not None:
                    await RUNTIME.admit_async(call)
                    asked = _rewrite(request, call)
            except TaximeterError as error:
                return _refuse(self, error)
        if call is None:
            return await original(self, request, **options)
        request.extensions = {**request.extensions, KEY: True}
        try:
            response = await original(self, request, **options)
            if call.strips_usage and response.status_code in (400, 404, 422):
                await response.aread()
                if exchange.refuses_usage(call, response.status_code, response.content):
                    RUNTIME.remember_refusal(request.url.host, request.url.port)
                    _replace_body(request, exchange.without_usage(call))
                    response = await original(self, request, **options)
        except BaseException as error:
            await RUNTIME.settle_async(
                call, exchange.ending_of(error), error=f"{type(error).__name__}: {error}"
            )
            raise
        finally:
            request.extensions.pop(KEY, None)
            if asked is not None:
                _restore(request, asked)
        return _answer(self, response, call, options.get("stream", False), _async_stream_class)

    send.taximeter = True  # type: ignore[attr-defined]
    return send


def _path(request: Any) -> str:
    path: str = request.url._uri_reference.path  # ``url.path`` unquotes: five times the cost.
    return path


def _begin(request: Any, scope: Scope) -> Call | None:
    content = getattr(request, "_content", None)
    if content is None:
        content = request.read()
    url = request.url
    return exchange.begin(
        _path(request),
        exchange.decode(bytes(content)),
        scope,
        host=url.host,
        port=url.port,
    )


_Asked = tuple[Any, bytes, Any, list[tuple[bytes, bytes]]]


def _rewrite(request: Any, call: Call) -> _Asked | None:
    """Change what is sent, if need be; what the caller's own request was, to put it back after."""
    signed = request.headers.get("authorization", "").startswith(exchange.SIGNED)
    if signed:
        if call.admitted is not None and call.admitted.send_cap is not None:
            # Changing a signed body would break its signature, so it cannot be clamped here.
            RUNTIME.settle(call, Ending.NOT_SENT)
            raise BudgetExceededError(
                "this request is signed and cannot be clamped; set a smaller output limit on it"
            )
        return None
    change = exchange.rewritten(call)
    if change is None:
        return None
    asked = (request.url, request._content, request.stream, request.headers.raw)
    path, body = change
    try:
        _replace_body(request, exchange.encode(body))
    except ValueError:  # Not JSON after all (NaN): it goes as it is, for the provider to refuse.
        call.strips_usage = False
        return None
    if path != call.quote.request.path:
        request.url = request.url.copy_with(path=path)
    return asked


def _restore(request: Any, asked: _Asked) -> None:
    """The request is the caller's, who may send it again: then it is clamped and asked anew."""
    request.url, request._content, request.stream, headers = asked
    request.headers = type(request.headers)(headers)


def _replace_body(request: Any, content: bytes) -> None:
    module = sys.modules[type(request).__module__.split(".")[0]]
    request._content = content
    request.stream = module.ByteStream(content)
    request.headers["content-length"] = str(len(content))
    request.headers.pop("transfer-encoding", None)  # A generator's body has one; never both.


def _refuse(client: Any, error: TaximeterError) -> Any:
    """Make the refusal surface once and unwrapped, whatever the SDK does with exceptions here.

    Called by httpx itself (``client.post(...)``): a plain raise does. Called by an SDK: exceptions
    raised inside ``send`` are retried and wrapped, so it gets a response that raises when touched.
    """
    caller = sys._getframe(2).f_globals.get("__name__", "")
    if caller.split(".")[0] in ("httpx", "httpx2"):
        raise error
    module = _module_of(client)
    if module is None:
        raise error
    return poisoned(module.Response, dual(error))


def _module_of(client: Any) -> Any:
    for base in type(client).__mro__:
        name = base.__module__.split(".")[0]
        if name in ("httpx", "httpx2"):
            return sys.modules[name]
    return None


_HEADERS: Final = frozenset({b"content-type", b"x-request-id", b"request-id"})


def _answer(
    client: Any, response: Any, call: Call, stream: bool, stream_class: Callable[[Any], Any]
) -> Any:
    # One pass: each look into httpx's headers goes through all of them.
    headers = {
        name: value for key, value in response.headers.raw if (name := key.lower()) in _HEADERS
    }
    request_id = headers.get(b"x-request-id") or headers.get(b"request-id")
    call.answered(
        response.status_code,
        headers.get(b"content-type", b"").decode("latin-1"),
        request_id.decode("latin-1") if request_id else None,
    )
    if call.meter is None:
        RUNTIME.settle(call, Ending.REFUSED)
    elif stream and not hasattr(response, "_content"):
        inner = response.stream
        codec = _codec(response, call)
        response.stream = stream_class(_module_of(client))(inner, call, codec)
    else:
        _whole(response, call)
    return response


def _whole(response: Any, call: Call) -> None:
    """An answer that is in memory already: not streamed, or read by a hook, or made by a mock."""
    content = response.content
    out = call.receive_data(content) + call.receive_eof()
    if out != content:
        response._content = out
    complete = call.meter is not None and call.meter.terminal
    RUNTIME.settle(call, Ending.COMPLETE if complete else Ending.ENDED_EARLY)


def _codec(response: Any, call: Call) -> Codec | None:
    """How to read, and hand on, compressed bytes; None where they are plain."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return None
    decoder = response._get_content_decoder()
    if type(decoder).__name__ == "IdentityDecoder":
        # Not supported by this installation: nobody can read it, so nobody rewrites it.
        call.meter = None
        return None
    del response._decoder  # It keeps state; the response makes itself another one.
    changes = exchange.may_change(call)
    codec = Codec(decoder, coding, rewrites=changes)
    if codec.hands_on_plain:
        del response.headers["content-encoding"]
    if changes:
        response.headers.pop("content-length", None)
    return codec


@functools.cache
def _sync_stream_class(module: Any) -> Any:
    return type("MeteredSyncStream", (SyncMetered, module.SyncByteStream), {})


@functools.cache
def _async_stream_class(module: Any) -> Any:
    return type("MeteredAsyncStream", (AsyncMetered, module.AsyncByteStream), {})
