"""One HTTP exchange, whatever the client library: request in, answer's bytes through, end settled.

The parts that sync and async shells share. Nothing here does I/O of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from taximeter.call import Call, Stop
from taximeter.context import Scope
from taximeter.errors import BudgetExceededError
from taximeter.runtime import RUNTIME
from taximeter.settlement import Ending
from taximeter.wire import registry

SIGNED: Final = "AWS4-HMAC-SHA256"

# httpx exceptions after which the request cannot have been answered: no byte, or not all, was sent.
_NOT_SENT: Final = frozenset(
    {
        "ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol",
        "InvalidURL", "LocalProtocolError", "WriteError", "WriteTimeout", "CookieConflict",
        "TooManyRedirects",
    }
)  # fmt: skip


def begin(path: str, body: Any, scope: Scope, *, host: str, port: int | None) -> Call | None:
    """The call behind a POST, or None if it is none of ours."""
    if not isinstance(body, (dict, Mapping)):
        return None
    wire = registry.find(path, body)
    if wire is None:
        return None
    request = wire.read_request(path, body)
    return RUNTIME.begin(wire, request, scope, host=host, port=port)


def rewritten(call: Call) -> tuple[str, dict[str, Any]] | None:
    """Path and body as they must be sent, or None to leave the request alone."""
    admitted = call.admitted
    cap = admitted.send_cap if admitted is not None else None
    ask = call.asks_usage
    if cap is None and not ask:
        return None
    call.strips_usage = ask
    return call.wire.rewrite(call.quote.request, output_cap=cap, include_usage=ask)


def without_usage(call: Call) -> bytes:
    """The body again, without the question for usage (for servers that do not know it)."""
    call.strips_usage = False
    cap = call.admitted.send_cap if call.admitted is not None else None
    _, body = call.wire.rewrite(call.quote.request, output_cap=cap)
    return encode(body)


def encode(body: Mapping[str, Any]) -> bytes:
    """JSON as httpx writes it."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def decode(content: bytes) -> Any:
    """JSON of a request body, or None."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def refuses_usage(call: Call, status: int, body: bytes) -> bool:
    """A 4xx because a server does not know ``stream_options``: ask again without, and remember."""
    return (
        call.strips_usage
        and call.quote.provider.stream_usage == "try"
        and status in (400, 404, 422)
        and (b"stream_options" in body or b"include_usage" in body)
    )


def may_change(call: Call) -> bool:
    """The answer may reach the caller changed: without our usage, in whole events, or cut short."""
    return call.quote.request.streamed and (call.strips_usage or call.may_be_cut)


def ending_of(error: BaseException) -> Ending:
    """What an exception from sending or reading says about the bill."""
    if type(error).__name__ in _NOT_SENT:
        return Ending.NOT_SENT
    return Ending.BROKEN if isinstance(error, Exception) else Ending.LEFT


def clamp_stop(call: Call) -> Stop | None:
    """The stop to raise after the last chunk of a stream that ended at the cap *we* had set."""
    admitted, meter = call.admitted, call.meter
    if admitted is None or admitted.send_cap is None or meter is None or meter.finish != "length":
        return None
    cover = admitted.binding
    if cover is None or cover.terms.on_limit != "raise":
        return None
    if cover.terms.max_stream_output_tokens == admitted.send_cap:
        why = f"max_stream_output_tokens={admitted.send_cap}"
    else:
        why = "all that was affordable"
    return Stop(f"the answer ended at {admitted.send_cap} output tokens, {why}", cover)


def truncates(stop: Stop) -> bool:
    """The refusing budget wants a well-formed, short answer instead of an exception."""
    return stop.cover is not None and stop.cover.terms.on_limit == "truncate"


def without_done(out: bytes) -> bytes:
    """``out`` up to ``data: [DONE]``: SDKs read nothing after it, so an error must come before."""
    at = out.rfind(b"data: [DONE]")
    if at < 0:
        at = out.rfind(b"data:[DONE]")
    return out if at < 0 else out[:at]


def stop_error(call: Call, stop: Stop) -> BudgetExceededError:
    """The error of a stream that was stopped; call after it was settled."""
    return RUNTIME.stop_error(call, stop)
