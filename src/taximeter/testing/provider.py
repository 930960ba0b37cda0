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
import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Final, Self

from taximeter.errors import ConfigurationError
from taximeter.testing.answers.anthropic_messages import AnthropicMessages
from taximeter.testing.answers.base import ApiError, Ask, Event, Generation, Wire, compact, plan
from taximeter.testing.answers.gemini import PATH as GEMINI_PATH
from taximeter.testing.answers.gemini import GeminiGenerate
from taximeter.testing.answers.openai_chat import OpenAIChat
from taximeter.testing.answers.openai_plain import OpenAICompletions, OpenAIEmbeddings
from taximeter.testing.answers.openai_responses import OpenAIResponses
from taximeter.testing.billing import RunningCall
from taximeter.testing.faults import Fault
from taximeter.testing.invoice import DATED, PRICES, Invoice, InvoiceLine, Prices
from taximeter.testing.loopback import Exchange, HttpRequest, LoopbackServer
from taximeter.testing.reply import ReceivedRequest, Reply
from taximeter.testing.tokenizer import Tokenizer

Script = Reply | Sequence[Reply] | Callable[[ReceivedRequest], Reply | None]

_WIRES: Final = (
    ("/chat/completions", OpenAIChat()),
    ("/responses", OpenAIResponses()),
    ("/completions", OpenAICompletions()),
    ("/embeddings", OpenAIEmbeddings()),
    ("/messages", AnthropicMessages()),
    ("/messages/count_tokens", AnthropicMessages()),
)
_GEMINI: Final = GeminiGenerate()
_GARBAGE: Final = b'data: {"choices": [{"delta": {"content": \n\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """A client that left before its answer was complete."""

    request_id: str
    deltas_sent: int
    tokens_generated: int


class SimulatedProvider:
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
        self._script = reply
        self._seed = seed
        self._tokenizer = Tokenizer(seed, skew=skew)
        self._faults = dict(faults or {})
        self._fault_uses: dict[Fault, int] = {}
        self._rate = tokens_per_second
        self._read_ahead = read_ahead
        self._whole_on_abort = bills_whole_answer_on_abort
        self._strict = strict_server
        self._gzip = gzip
        self._batch = max(1, events_per_write)
        self._lock = threading.Lock()
        self._requests: list[ReceivedRequest] = []
        self._disconnects: list[Disconnect] = []
        self._released = asyncio.Event()
        table = prices if callable(prices) else {**PRICES, **(prices or {})}
        self._invoice = Invoice(table)
        self._server = LoopbackServer(
            self._respond,
            host=host,
            port=port,
            socket_buffer=socket_buffer,
            name="taximeter-simulated-provider",
        )

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen; the URLs are good from now on."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Break what is open and free the port. The invoice stays readable."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if exc is None and self._server.failures:
            raise self._server.failures[0]

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
    def root_url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{self._server.host}:{self._server.port}"

    @property
    def base_url(self) -> str:
        """For the OpenAI SDK."""
        return f"{self.root_url}/v1"

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
        with self._lock:
            return list(self._requests)

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
        wire = _route(http.path)
        received = self._receive(http, wire)
        base = {"x-request-id": received.request_id, "request-id": received.request_id}
        try:
            if wire is None:
                raise ApiError(404, f"Invalid URL ({http.method} {http.path})")
            if http.method != "POST":
                raise ApiError(405, f"Not allowed to {http.method} on {http.path}.")
            await self._answer(wire, received, exchange, base)
        except ApiError as error:
            speaker = wire if wire is not None else _WIRES[0][1]
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
        reply = self._reply(received, exchange)
        fault = self._strikes(reply.fault or self._fault(received))
        if fault is not None and fault.kind == "drop":
            exchange.cut()
            return
        if fault is not None and fault.kind == "status":
            self._send_fault(wire, fault, received.request_id, exchange, headers)
            return
        generation = self._generate(wire, ask, reply, received)
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
        send = self._stream if ask.streamed else self._whole
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

    async def _stream(
        self,
        wire: Wire,
        call: RunningCall,
        fault: Fault | None,
        exchange: Exchange,
        headers: dict[str, str],
        gzip: bool,
    ) -> None:
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
                await asyncio.sleep(fault.seconds)
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

    async def _whole(
        self,
        wire: Wire,
        call: RunningCall,
        fault: Fault | None,
        exchange: Exchange,
        headers: dict[str, str],
        gzip: bool,
    ) -> None:
        generation = call.generation
        kind = fault.kind if fault is not None else ""
        if kind == "error_event":
            message = fault.message if fault is not None else ""
            raise ApiError(500, message or "The server had an error", type="server_error")
        if call.rate is not None:
            await asyncio.sleep(generation.output_tokens / call.rate)
        call.generated = generation.output_tokens
        if kind == "slow" and fault is not None:
            await asyncio.sleep(fault.seconds)
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

    def _send_fault(
        self,
        wire: Wire,
        fault: Fault,
        request_id: str,
        exchange: Exchange,
        headers: dict[str, str],
    ) -> None:
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

    # --- what to answer ---------------------------------------------------------------------------

    def _receive(self, http: HttpRequest, wire: Wire | None) -> ReceivedRequest:
        try:
            body = json.loads(http.body) if http.body else None
        except (ValueError, RecursionError):
            body = None
        fields = body if isinstance(body, dict) else {}
        match = GEMINI_PATH.search(http.path)
        model = match["model"] if match else fields.get("model")
        streamed = fields.get("stream") is True
        if match:
            streamed = match["verb"] == "streamGenerateContent"
        with self._lock:
            order = len(self._requests)
            received = ReceivedRequest(
                order=order,
                request_id=f"req_{random.Random(f'{self._seed} {order}').getrandbits(96):024x}",
                wire=wire.name if wire is not None else "",
                method=http.method,
                path=http.path,
                query=http.query,
                headers=http.headers,
                body=body,
                raw=http.body,
                model=model if isinstance(model, str) else "",
                streamed=streamed,
            )
            self._requests.append(received)
        return received

    def _reply(self, received: ReceivedRequest, exchange: Exchange) -> Reply:
        script = self._script
        if callable(script):
            try:
                return script(received) or Reply()
            except Exception as exc:
                self._server.note_failure(exc)
                raise ApiError(500, f"the test's own script raised {exc!r}") from exc
        if script is None or isinstance(script, Reply):
            return script or Reply()
        return script[min(received.order, len(script) - 1)] if script else Reply()

    def _fault(self, received: ReceivedRequest) -> Fault | None:
        return self._faults.get(received.order, self._faults.get(received.model))

    def _strikes(self, fault: Fault | None) -> Fault | None:
        """The fault, unless it has struck as often as it should."""
        if fault is None or fault.times is None:
            return fault
        with self._lock:
            used = self._fault_uses.get(fault, 0)
            if used >= fault.times:
                return None
            self._fault_uses[fault] = used + 1
        return fault

    def _generate(
        self, wire: Wire, ask: Ask, reply: Reply, received: ReceivedRequest
    ) -> Generation:
        seed = random.Random(f"{self._seed} {received.order} answer").getrandbits(48)
        choose = random.Random(seed)
        choices = [] if ask.vectors or ask.free else self._plan(wire, ask, reply, seed)
        wrote = sum(choice.tokens for choice in choices)
        shown_apart = wire.name != "anthropic.messages"  # That wire does not tell them apart.
        reasoning = sum(choice.reasoning for choice in choices) if shown_apart else 0
        generation = Generation(
            ask=ask,
            reply=reply,
            body=received.body,
            path=received.path,
            id="",
            request_id=received.request_id,
            created=1_790_000_000 + received.order,
            model=reply.model or DATED.get(ask.model, ask.model),
            choices=choices,
            usage=_usage(ask, reply, wrote, reasoning),
            random=choose,
        )
        generation.id = generation.token(getattr(wire, "id_prefix", ""))
        return generation

    def _plan(self, wire: Wire, ask: Ask, reply: Reply, seed: int) -> list[Any]:
        prefix = getattr(wire, "call_prefix", "")
        return list(plan(ask, reply, self._tokenizer, seed=seed, call_prefix=prefix))

    def _own(self, path: str) -> bytes:
        """What the server in a process of its own tells about itself."""
        if path == "/_simulated/invoice":
            lines = [asdict(line) for line in self.invoice]
            return compact({"lines": lines, "total": self.invoice_total})
        return compact({"requests": len(self.requests), "disconnects": len(self.disconnects)})


def _route(path: str) -> Wire | None:
    if GEMINI_PATH.search(path):
        return _GEMINI
    for end, wire in _WIRES:
        if path.endswith(end):
            return wire
    return None


def _usage(ask: Ask, reply: Reply, output: int, reasoning: int) -> dict[str, int]:
    read = ask.input_tokens if reply.input_tokens is None else reply.input_tokens
    read += reply.extra_input_tokens
    cached = min(reply.cached_tokens, read)
    write_5m = min(reply.cache_write_5m_tokens, read - cached)
    write_1h = min(reply.cache_write_1h_tokens, read - cached - write_5m)
    usage = {
        "input_tokens": read,
        "cached_input_tokens": cached,
        "cache_write_5m_tokens": write_5m,
        "cache_write_1h_tokens": write_1h,
        "output_tokens": output,
        "reasoning_tokens": reasoning,
    }
    if reply.web_searches:
        usage["requests.web_search"] = reply.web_searches
    return usage


def _reached(fault: Fault, call: RunningCall, event: Event) -> bool:
    """After so many deltas, whatever comes next; "before any" still lets the answer begin."""
    return event[2] if fault.after == 0 else call.deltas >= fault.after


async def _pace(call: RunningCall, event: Event) -> None:
    delay = call.generation.reply.delay_per_event
    wait = call.due(event[1]) - asyncio.get_running_loop().time()
    if max(wait, delay) > 0:
        await asyncio.sleep(max(wait, delay))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A simulated provider that keeps an invoice.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skew", type=float, default=0.0)
    parser.add_argument("--tokens-per-second", type=float, default=None)
    parser.add_argument("--tokens", type=int, default=None, help="length of every answer")
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
