"""Sending one answer: in what pieces, how fast, and where the fault strikes."""

from __future__ import annotations

import asyncio
from typing import Final

from taximeter.testing.answers.base import ApiError, Event, Wire
from taximeter.testing.billing import RunningCall
from taximeter.testing.faults import Fault
from taximeter.testing.invoice import Invoice
from taximeter.testing.loopback import Exchange

pause = asyncio.sleep
"""The one place where time passes, so that a test can stand in for it."""

_GARBAGE: Final = b'data: {"choices": [{"delta": {"content": \n\n'


class Delivery:
    """Sends answers and bills them: the whole one just before its last bytes leave.

    Args:
        invoice: Where calls are billed.
        events_per_write: Events that leave together when nothing paces them.
        released: Set when stalled answers may go on.
    """

    def __init__(self, invoice: Invoice, *, events_per_write: int, released: asyncio.Event) -> None:
        self._invoice = invoice
        self._batch = max(1, events_per_write)
        self._released = released

    async def stream(
        self,
        wire: Wire,
        call: RunningCall,
        fault: Fault | None,
        exchange: Exchange,
        headers: dict[str, str],
        gzip: bool,
    ) -> None:
        """A stream, event by event."""
        exchange.start(200, headers, gzip=gzip)
        paced = call.rate is not None or call.generation.reply.delay_per_event > 0
        strike = fault if fault is not None and fault.kind != "no_usage" else None
        pending: list[bytes] = []
        for event in wire.events(call.generation):
            # What was said so far leaves before the next event is known: the last one is billed first.
            if paced or len(pending) >= self._batch:
                await self._flush(exchange, pending)
                if paced:
                    await _pace(call, event)
            if strike is not None and _reached(strike, call, event):
                ended = await self._strike(wire, call, strike, exchange, pending)
                if ended:
                    return
                strike = None
            pending.append(event[0])
            call.generated = max(call.generated, event[1])
            call.deltas += event[2]
            call.events += 1
        call.bill_whole(self._invoice)
        exchange.write(pending, last=True)

    async def _strike(
        self,
        wire: Wire,
        call: RunningCall,
        fault: Fault,
        exchange: Exchange,
        pending: list[bytes],
    ) -> bool:
        """The fault, where it was asked for. True: the answer ends here."""
        if fault.kind == "garbage":
            pending.append(_GARBAGE)
            return False
        if fault.kind in ("slow", "stall"):
            await self._flush(exchange, pending)
            if fault.kind == "slow":
                await pause(fault.seconds)
            else:
                await self._released.wait()
            return False
        call.bill_abort(self._invoice, asyncio.get_running_loop().time())
        if fault.kind == "error_event":
            pending.append(wire.error_event(call.generation, fault.message, call.events))
        if fault.kind == "cut":
            exchange.write(pending)
            exchange.cut()
        else:
            exchange.write(pending, last=True)
        return True

    async def whole(
        self,
        wire: Wire,
        call: RunningCall,
        fault: Fault | None,
        exchange: Exchange,
        headers: dict[str, str],
        gzip: bool,
    ) -> None:
        """An answer in one piece."""
        generation = call.generation
        kind = fault.kind if fault is not None else ""
        if kind == "error_event":
            message = fault.message if fault is not None else ""
            raise ApiError(500, message or "The server had an error", type="server_error")
        if call.rate is not None:
            await pause(generation.output_tokens / call.rate)
        call.generated = generation.output_tokens
        if kind == "slow" and fault is not None:
            await pause(fault.seconds)
        elif kind == "stall":
            await self._released.wait()
        body = wire.whole(generation)
        if kind == "garbage":
            body = body[: len(body) // 2]
        call.bill_whole(self._invoice)
        sent = len(body) // 2 if kind in ("cut", "no_end") else None
        exchange.send(200, body, headers, gzip=gzip, sent_bytes=sent)

    async def _flush(self, exchange: Exchange, pending: list[bytes]) -> None:
        exchange.write(pending)
        pending.clear()
        await exchange.drain()


def send_status(
    wire: Wire,
    fault: Fault,
    request_id: str,
    exchange: Exchange,
    headers: dict[str, str],
) -> None:
    """An error answer, with what the client should wait."""
    limited = fault.status == 429
    message = fault.message or ("Rate limit reached" if limited else "The server had an error")
    kind = "rate_limit_error" if limited else "server_error"
    code = "rate_limit_exceeded" if limited else None
    error = ApiError(fault.status, message, type=kind, code=code)
    fields = {"content-type": "application/json", **headers}
    if fault.retry_after is not None:
        fields["retry-after"] = f"{fault.retry_after:g}"
        fields["retry-after-ms"] = f"{fault.retry_after * 1000:g}"
    exchange.send(fault.status, wire.error(error, request_id), fields)


def _reached(fault: Fault, call: RunningCall, event: Event) -> bool:
    """After so many deltas, whatever comes next; "before any" still lets the answer begin."""
    return event[2] if fault.after == 0 else call.deltas >= fault.after


async def _pace(call: RunningCall, event: Event) -> None:
    delay = call.generation.reply.delay_per_event
    wait = call.due(event[1]) - asyncio.get_running_loop().time()
    if max(wait, delay) > 0:
        await pause(max(wait, delay))
