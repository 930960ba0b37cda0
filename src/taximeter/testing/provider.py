"""A provider on loopback that speaks the real wires and keeps an invoice: the truth in tests.

    with SimulatedProvider(seed=1) as provider:
        client = openai.OpenAI(base_url=provider.base_url, api_key="any")
        client.chat.completions.create(model="gpt-4o-mini", messages=[...])
        assert provider.invoice_total == ...

``python -m taximeter.testing.provider --port 8080`` serves until it is interrupted;
``GET /_simulated/invoice`` then shows the invoice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from taximeter.errors import ConfigurationError
from taximeter.testing.answers.base import ApiError, Wire, compact
from taximeter.testing.billing import RunningCall
from taximeter.testing.delivery import Delivery, send_status
from taximeter.testing.faults import Fault
from taximeter.testing.invoice import PRICES, Invoice, InvoiceLine, Prices
from taximeter.testing.loopback import Exchange, HttpRequest, LoopbackServer
from taximeter.testing.reply import ReceivedRequest, Reply
from taximeter.testing.script import OPENAI, Director, Script, route
from taximeter.testing.serving import Serving
from taximeter.testing.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """A client that left before its answer was complete."""

    request_id: str
    deltas_sent: int
    tokens_generated: int


class SimulatedProvider(Serving):
    """OpenAI (also Azure's paths), Anthropic and Gemini on one loopback port, with an invoice.

    Args:
        reply: What it answers: a :class:`Reply` for all, a list by order of requests (the last
            one goes on), or a function of the :class:`ReceivedRequest` (None: made-up text). The function
            runs in the server's thread; what it raises is raised again when the provider stops.
        seed: Everything made up follows from it.
        skew: Its tokenizer counts so much more or less than usual (-0.5 to 1).
        faults: By order of request (int, from 0) or model asked (str); a reply's own fault goes
            first.
        prices: A price list (``{"model": Price(...)}``, beside the built-in one) or a function of
            model and usage that gives USD exactly.
        tokens_per_second: How fast tokens are generated, whether the client reads or not. None:
            as fast as it reads, with the sockets' buffers between (small ones, see
            ``socket_buffer``); then nothing ever sleeps.
        read_ahead: Tokens billed beyond those generated when a client leaves.
        bills_whole_answer_on_abort: None: as the real ones do (Google: True).
        strict_server: Refuse ``stream_options`` as an old or strict compatible server does.
        gzip: Compress answers for clients that accept it.
        events_per_write: Events that leave in one system call when not paced; 1 for each alone.
        socket_buffer: Send buffer of a connection in bytes.
        host, port: Where to listen; port 0 takes a free one.
    """

    def __init__(
        self,
        reply: Script | None = None,
        *,
        seed: int = 0,
        skew: float = 0.0,
        faults: Mapping[int | str, Fault] | None = None,
        prices: Prices | None = None,
        tokens_per_second: float | None = None,
        read_ahead: int = 0,
        bills_whole_answer_on_abort: bool | None = None,
        strict_server: bool = False,
        gzip: bool = False,
        events_per_write: int = 16,
        socket_buffer: int = 16_384,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if tokens_per_second is not None and tokens_per_second <= 0:
            raise ConfigurationError(f"tokens_per_second={tokens_per_second!r} is not above 0")
        if read_ahead < 0:
            raise ConfigurationError(f"read_ahead={read_ahead!r} is below 0")
        self._tokenizer = Tokenizer(seed, skew=skew)
        self._director = Director(reply, seed=seed, tokenizer=self._tokenizer, faults=faults or {})
        self._rate = tokens_per_second
        self._read_ahead = read_ahead
        self._whole_on_abort = bills_whole_answer_on_abort
        self._strict = strict_server
        self._gzip = gzip
        self._lock = threading.Lock()
        self._disconnects: list[Disconnect] = []
        self._released = asyncio.Event()
        table = prices if callable(prices) else {**PRICES, **(prices or {})}
        self._invoice = Invoice(table)
        self._delivery = Delivery(
            self._invoice, events_per_write=events_per_write, released=self._released
        )
        self._server = LoopbackServer(
            self._respond,
            host=host,
            port=port,
            socket_buffer=socket_buffer,
            name="taximeter-simulated-provider",
        )

    # --- its life ---------------------------------------------------------------------------------

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Return when no request is in work, so that the invoice is final.

        Raises:
            TimeoutError: A client neither reads on nor leaves.
        """
        self._server.wait_until_idle(timeout)

    def release(self) -> None:
        """Let answers go on that ``Fault.STALL`` stopped, now and later."""
        self._server.call(self._released.set)

    # --- where it is ------------------------------------------------------------------------------

    @property
    def azure_url(self) -> str:
        """``azure_endpoint`` for the Azure client of the OpenAI SDK."""
        return self.root_url

    @property
    def anthropic_url(self) -> str:
        """For the Anthropic SDK."""
        return self.root_url

    @property
    def gemini_url(self) -> str:
        """For google-genai: ``http_options={"base_url": provider.gemini_url}``."""
        return self.root_url

    # --- what happened ----------------------------------------------------------------------------

    @property
    def invoice(self) -> list[InvoiceLine]:
        """Every call billed so far. A call is billed just before its last bytes leave."""
        return self._invoice.lines

    @property
    def invoice_total(self) -> int:
        """Nano-USD of all calls billed so far."""
        return self._invoice.total

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every request that reached a wire or a 404, in order of arrival."""
        return self._director.requests

    @property
    def disconnects(self) -> list[Disconnect]:
        """Clients that left early, in the order in which it was noticed."""
        with self._lock:
            return list(self._disconnects)

    @property
    def bad_requests(self) -> list[str]:
        """Why bytes were no HTTP request, e.g. a body longer than its content-length."""
        return list(self._server.bad_requests)

    # --- one request ------------------------------------------------------------------------------

    async def _respond(self, http: HttpRequest, exchange: Exchange) -> None:
        if http.path.startswith("/_simulated/"):
            exchange.send(200, self._own(http.path), {"content-type": "application/json"})
            return
        wire = route(http.path)
        received = self._director.receive(http, wire)
        base = {"x-request-id": received.request_id, "request-id": received.request_id}
        try:
            if wire is None:
                raise ApiError(404, f"Invalid URL ({http.method} {http.path})")
            if http.method != "POST":
                raise ApiError(405, f"Not allowed to {http.method} on {http.path}.")
            await self._answer(wire, received, exchange, base)
        except ApiError as error:
            speaker = wire if wire is not None else OPENAI
            body = speaker.error(error, received.request_id)
            exchange.send(error.status, body, {"content-type": "application/json", **base})

    async def _answer(
        self, wire: Wire, received: ReceivedRequest, exchange: Exchange, headers: dict[str, str]
    ) -> None:
        if not isinstance(received.body, dict):
            raise ApiError(400, "We could not parse the JSON body of your request.")
        if self._strict and "stream_options" in received.body:
            message = "Unrecognized request argument supplied: stream_options"
            raise ApiError(400, message)
        ask = wire.read(received.body, received.path, self._tokenizer)
        if ask.framing == "array" and received.query.get("alt") == "sse":
            ask = replace(ask, framing="sse")
        reply = self._reply(received)
        fault = self._director.fault(received, reply)
        if fault is not None and fault.kind == "drop":
            exchange.cut()
            return
        if fault is not None and fault.kind == "status":
            send_status(wire, fault, received.request_id, exchange, headers)
            return
        generation = self._director.generate(wire, ask, reply, received)
        generation.says_usage = fault is None or fault.kind != "no_usage"
        whole = self._whole_on_abort
        call = RunningCall(
            generation=generation,
            wire=wire.name,
            started=asyncio.get_running_loop().time(),
            rate=reply.tokens_per_second or self._rate,
            read_ahead=self._read_ahead,
            whole_on_abort=wire.whole_on_abort if whole is None else whole,
        )
        fields = {"content-type": wire.content_type(ask), **headers, **reply.headers}
        gzip = self._gzip and "gzip" in received.headers.get("accept-encoding", "")
        send = self._delivery.stream if ask.streamed else self._delivery.whole
        try:
            await send(wire, call, fault, exchange, fields, gzip)
        except asyncio.CancelledError:
            call.bill_abort(self._invoice, asyncio.get_running_loop().time())
            with self._lock:
                self._disconnects.append(
                    Disconnect(
                        request_id=received.request_id,
                        deltas_sent=call.deltas,
                        tokens_generated=call.generated,
                    )
                )
            raise

    def _reply(self, received: ReceivedRequest) -> Reply:
        try:
            return self._director.reply(received)
        except Exception as exc:
            self._server.note_failure(exc)
            raise ApiError(500, f"the test's own script raised {exc!r}") from exc

    def _own(self, path: str) -> bytes:
        """What the server in a process of its own tells about itself."""
        if path == "/_simulated/invoice":
            lines = [asdict(line) for line in self.invoice]
            return compact({"lines": lines, "total": self.invoice_total})
        return compact({"requests": len(self.requests), "disconnects": len(self.disconnects)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m taximeter.testing.provider",
        description="A simulated provider on this machine that keeps an invoice. Point an SDK at it, "
        "e.g. with OPENAI_BASE_URL; any key will do.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="where to listen (any free one)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other answers")
    parser.add_argument(
        "--skew", type=float, default=0.0, help="count otherwise than the tokenizer by this share"
    )
    parser.add_argument(
        "--tokens-per-second", type=float, help="speed of streams (as fast as they can)"
    )
    parser.add_argument("--tokens", type=int, help="length of every answer")
    options = parser.parse_args(arguments)
    provider = SimulatedProvider(
        Reply(tokens=options.tokens),
        seed=options.seed,
        skew=options.skew,
        tokens_per_second=options.tokens_per_second,
        host=options.host,
        port=options.port,
    )
    with provider, contextlib.suppress(KeyboardInterrupt):
        print(f"OpenAI     {provider.base_url}")
        print(f"Azure      {provider.azure_url}")
        print(f"Anthropic  {provider.anthropic_url}")
        print(f"Gemini     {provider.gemini_url}")
        print(f"invoice    {provider.root_url}/_simulated/invoice", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
