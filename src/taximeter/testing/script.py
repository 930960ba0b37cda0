"""From the bytes of a request to the plan of its answer: routes, scripts, faults, made-up text."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from taximeter.testing.answers.anthropic_messages import AnthropicMessages
from taximeter.testing.answers.base import Ask, Generation, Wire, plan
from taximeter.testing.answers.gemini import PATH as GEMINI_PATH
from taximeter.testing.answers.gemini import GeminiGenerate
from taximeter.testing.answers.openai_chat import OpenAIChat
from taximeter.testing.answers.openai_plain import OpenAICompletions, OpenAIEmbeddings
from taximeter.testing.answers.openai_responses import OpenAIResponses
from taximeter.testing.faults import Fault
from taximeter.testing.invoice import DATED
from taximeter.testing.loopback import HttpRequest
from taximeter.testing.reply import ReceivedRequest, Reply
from taximeter.testing.tokenizer import Tokenizer

Script = Reply | Sequence[Reply] | Callable[[ReceivedRequest], Reply | None]
"""One reply for all, replies by order of requests, or a function of the request."""

OPENAI: Final = OpenAIChat()
_WIRES: Final[tuple[tuple[str, Wire], ...]] = (
    ("/chat/completions", OPENAI),
    ("/responses", OpenAIResponses()),
    ("/completions", OpenAICompletions()),
    ("/embeddings", OpenAIEmbeddings()),
    ("/messages", AnthropicMessages()),
    ("/messages/count_tokens", AnthropicMessages()),
)
_GEMINI: Final = GeminiGenerate()


def route(path: str) -> Wire | None:
    """Which wire a path belongs to, whatever stands before it."""
    if GEMINI_PATH.search(path):
        return _GEMINI
    for end, wire in _WIRES:
        if path.endswith(end):
            return wire
    return None


class Director:
    """Decides what each request gets. Safe to use from any thread."""

    def __init__(
        self,
        script: Script | None,
        *,
        seed: int,
        tokenizer: Tokenizer,
        faults: Mapping[int | str, Fault],
    ) -> None:
        self._script = script
        self._seed = seed
        self._tokenizer = tokenizer
        self._faults = dict(faults)
        self._fault_uses: dict[Fault, int] = {}
        self._lock = threading.Lock()
        self._requests: list[ReceivedRequest] = []

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every request so far."""
        with self._lock:
            return list(self._requests)

    def receive(self, http: HttpRequest, wire: Wire | None) -> ReceivedRequest:
        """Keep the request, and give it its id."""
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

    def reply(self, received: ReceivedRequest) -> Reply:
        """What the script says; what it raises goes through."""
        script = self._script
        if callable(script):
            return script(received) or Reply()
        if script is None or isinstance(script, Reply):
            return script or Reply()
        return script[min(received.order, len(script) - 1)] if script else Reply()

    def fault(self, received: ReceivedRequest, reply: Reply) -> Fault | None:
        """What goes wrong this time: the reply's own fault, or that of the order or model."""
        by_order = self._faults.get(received.order, self._faults.get(received.model))
        fault = reply.fault or by_order
        if fault is None or fault.times is None:
            return fault
        with self._lock:
            used = self._fault_uses.get(fault, 0)
            if used >= fault.times:
                return None
            self._fault_uses[fault] = used + 1
        return fault

    def generate(self, wire: Wire, ask: Ask, reply: Reply, received: ReceivedRequest) -> Generation:
        """The answer as it will be, and what it costs in tokens."""
        seed = random.Random(f"{self._seed} {received.order} answer").getrandbits(48)
        choose = random.Random(seed)
        choices = []
        if not (ask.vectors or ask.free):
            choices = plan(ask, reply, self._tokenizer, seed=seed, call_prefix=wire.call_prefix)
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
        generation.id = generation.token(wire.id_prefix)
        return generation


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
