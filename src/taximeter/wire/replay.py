"""Feed a recorded answer through its meter, whole or cut anywhere. Pure; prices come from outside.

A record is one line of a recordings file: ``id``, ``wire``, ``provider``, ``model``, ``url_path``,
``request_json``, ``response_status``, ``response_headers``, ``response_encoding``, ``response_body``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from taximeter.usage import Part
from taximeter.wire.base import Meter
from taximeter.wire.body import count, mapping, string
from taximeter.wire.registry import NAMES, by_name

if TYPE_CHECKING:  # Chance is handed in: nothing here makes any.
    import random

Pricing = Callable[["Replayed"], str | None]
"""Cost in USD of what was replayed, as a decimal string, or None where no price is known."""

_CUTS_MAX: Final = 200


class Replayed:
    """What is known of one record after its answer was metered; what a price is asked with."""

    __slots__ = ("meter", "model", "model_asked", "provider", "record", "status", "wire")

    def __init__(self, record: Mapping[str, Any], meter: Meter, model_asked: str) -> None:
        self.record = record
        self.meter = meter
        self.wire = string(record.get("wire"))
        self.provider = string(record.get("provider")) or "unknown"
        self.model_asked = model_asked
        self.model = meter.model or model_asked or string(record.get("model"))
        self.status = count(record.get("response_status")) or 200


def replay(
    record: Mapping[str, Any], split: random.Random | None = None, price: Pricing | None = None
) -> dict[str, Any]:
    """The line that ``taximeter replay`` prints for one record.

    Args:
        record: The recording.
        split: Cuts the body at random places; without it the body is fed whole.
        price: Asked where usage is known; its answer is ``cost``.

    Returns:
        ``id, wire, provider, model, usage, parts, usage_source, terminal, cost``. Where usage is
        None, ``reason`` says why.
    """
    wire_name = string(record.get("wire"))
    line: dict[str, Any] = {
        "id": record.get("id"),
        "wire": wire_name,
        "provider": string(record.get("provider")) or "unknown",
        "model": string(record.get("model")) or None,
        "usage": None,
        "parts": [],
        "usage_source": "unknown",
        "terminal": False,
        "cost": None,
    }
    if wire_name not in NAMES:
        return line | {"reason": "unknown wire"}
    body = _body(record)
    if body is None:
        return line | {"reason": "unreadable body"}
    status = count(record.get("response_status")) or 200
    if not 200 <= status < 300:
        # The provider refused: nothing was generated, so there is nothing to meter.
        return line | {"terminal": True, "reason": f"status {status}"}
    done = _feed(record, wire_name, body, split)
    meter = done.meter
    line |= {"model": done.model or None, "terminal": meter.terminal}
    line["parts"] = [_part(part) for part in meter.parts]
    if meter.usage is None:
        return line | {"reason": str(meter.exc or meter.error or "no usage in the answer")}
    line |= {"usage": meter.usage.to_dict(), "usage_source": "provider"}
    line["cost"] = price(done) if price is not None else None
    return line


def _feed(
    record: Mapping[str, Any], wire_name: str, body: bytes, split: random.Random | None
) -> Replayed:
    wire = by_name(wire_name)
    path = string(record.get("url_path")).partition("?")[0]
    request = wire.read_request(path, mapping(record.get("request_json")))
    headers = mapping(record.get("response_headers"))
    meter = wire.meter(request, content_type=string(headers.get("content-type")))
    for piece in _pieces(body, split):
        meter.receive_data(piece)
    meter.receive_eof()
    return Replayed(record, meter, request.model)


def _body(record: Mapping[str, Any]) -> bytes | None:
    body = record.get("response_body")
    if not isinstance(body, str):
        return None
    if record.get("response_encoding") == "base64":
        try:
            return base64.b64decode(body)
        except (binascii.Error, ValueError):
            return None
    return body.encode("utf-8", "surrogatepass")


def _pieces(body: bytes, split: random.Random | None) -> Iterator[bytes]:
    if split is None or len(body) < 2:
        yield body
        return
    cuts = split.randint(1, min(_CUTS_MAX, len(body) - 1))
    start = 0
    for end in sorted(split.sample(range(1, len(body)), cuts)):
        yield body[start:end]
        start = end
    yield body[start:]


def _part(part: Part) -> dict[str, Any]:
    return {"model": part.model, "kind": part.kind, "usage": part.usage.to_dict()}
