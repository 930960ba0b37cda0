"""Recorded interactions as SDK calls: to their own hosts, through a proxy that replays the answers."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import random
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any, Self

import anthropic
import httpx2
import openai
from anthropic.resources.messages import Messages
from google import genai
from google.genai import types
from openai.resources.chat.completions import Completions as ChatCompletions
from openai.resources.completions import Completions
from openai.resources.embeddings import Embeddings
from openai.resources.responses import Responses

from taximeter import budget
from taximeter.budgeting import Budget
from taximeter.testing import ReplayServer
from taximeter.testing.replay_server import RECORDING_HEADER
from tests import recordings as files
from tests.acceptance import equality
from tests.acceptance.equality import Ask, Facts

WIRES = (
    "openai.chat",
    "openai.responses",
    "openai.completions",
    "embeddings",
    "anthropic.messages",
    "gemini.generate",
)
Recording = files.Recording
BARE = "-unasked"
"""Twin of a recording: what the provider would have sent, had nobody asked for usage."""


SENDS_USAGE_UNASKED = {"41f5dfff04868c39", "4ce7e61a5c6fb2c1"}
"""Unlike others of their kind, these end with a usage chunk although nobody asked. Taximeter asks there,
so it cannot tell that chunk from one of its own making, and takes it out."""


# --- from a recording to a call ------------------------------------------------------------------


def host(recording: Recording) -> str:
    """The host that was called; where the source kept none, its provider's or one nobody knows."""
    named = str(recording["host"])
    if not named:
        named = {"openai": "api.openai.com", "anthropic": "api.anthropic.com"}.get(
            recording["provider"], ""
        )
    return named if re.fullmatch(r"[\w.:-]+", named) else "unlisted.example"


def base_url(recording: Recording) -> str:
    """For the OpenAI SDK: everything before what it adds itself."""
    path = str(recording["url_path"]).partition("?")[0]
    for end in ("/chat/completions", "/responses", "/completions", "/embeddings"):
        if path.endswith(end):
            return f"http://{host(recording)}{path.removesuffix(end)}".replace("com//", "com/")
    return f"http://{host(recording)}/v1"


def is_gemini(recording: Recording) -> bool:
    """Asked through google-genai."""
    return recording["wire"] == "gemini.generate" or (
        recording["wire"] == "embeddings" and recording["provider"] in ("google", "vertex")
    )


def ask(recording: Recording, *, usage_asked: bool | None = None) -> Ask:
    """The call as recorded where the SDK accepts it, else the least of the same wire and stream.

    ``usage_asked``: False takes the recorded question for usage away.
    """
    request = recording["request_json"]
    request = dict(request) if isinstance(request, dict) and "_raw_text" not in request else {}
    if usage_asked is False:
        request.pop("stream_options", None)
    wire, streamed = recording["wire"], bool(recording["streamed"])
    if is_gemini(recording):
        arguments = _gemini_arguments(recording, request)
    elif wire == "anthropic.messages":
        arguments = _stainless_arguments(Messages.create, request, streamed)
        arguments = {"max_tokens": 64_000, "messages": _MESSAGES, "timeout": 30.0, **arguments}
        arguments.setdefault("model", recording["model"] or "claude-sonnet-4-5")
    else:
        create = {
            "openai.chat": ChatCompletions.create,
            "openai.responses": Responses.create,
            "openai.completions": Completions.create,
            "embeddings": Embeddings.create,
        }[wire]
        arguments = _stainless_arguments(create, request, streamed)
        arguments.setdefault("model", recording["model"] or "gpt-4o-mini")
        needs = {"openai.chat": "messages", "openai.completions": "prompt"}.get(wire, "input")
        if "prompt" not in arguments or wire != "openai.responses":
            arguments.setdefault(needs, _MESSAGES if needs == "messages" else "Hello")
    if not is_gemini(recording):
        arguments["extra_headers"] = {RECORDING_HEADER: recording["id"]}
    return Ask(wire=wire, streamed=streamed, arguments=arguments)


_MESSAGES = [{"role": "user", "content": "Hello"}]


def _stainless_arguments(
    create: Callable[..., Any], request: dict[str, Any], streamed: bool
) -> dict[str, Any]:
    known = inspect.signature(create).parameters
    given = {k: v for k, v in request.items() if k in known and v is not None}
    rest = {k: v for k, v in request.items() if k not in given}
    if rest:
        given["extra_body"] = rest
    given.pop("stream", None)
    if streamed:
        given["stream"] = True
    return given


def _gemini_arguments(recording: Recording, request: dict[str, Any]) -> dict[str, Any]:
    options = {"headers": {RECORDING_HEADER: recording["id"]}}
    found = re.search(r"models/([^/:?]+):", str(recording["url_path"]))
    model = found[1] if found else str(recording["model"] or "gemini-2.5-flash")
    if recording["wire"] == "embeddings":
        return {"model": model, "contents": "Hello", "config": {"http_options": options}}
    settings = {
        **(request.get("generationConfig") or {}),
        **{k: request[k] for k in ("tools", "systemInstruction", "toolConfig", "safetySettings")
           if k in request},
    }  # fmt: skip
    try:
        config = types.GenerateContentConfig(**settings, http_options=options)
        contents = [types.Content.model_validate(one) for one in request["contents"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        config, contents = types.GenerateContentConfig(http_options=options), "Hello"
    return {"model": model, "contents": contents, "config": config}


# --- a sample ------------------------------------------------------------------------------------


def sample(records: Sequence[Recording], size: int, seed: int) -> list[Recording]:
    """``size`` recordings, spread over providers, status, streaming and what is odd about them."""
    choose = random.Random(seed)
    groups: dict[Any, list[Recording]] = {}
    for record in sorted(records, key=lambda record: record["id"]):
        odd = sorted(record.get("facts") or ())
        key = (
            record["provider"],
            record["response_status"],
            record["streamed"],
            record["n_usage"] > 0,
            tuple(odd),
            tuple(sorted(set(record["finish"] or ()) - {None})) if record["streamed"] else (),
        )
        groups.setdefault(key, []).append(record)
    chosen: list[Recording] = []
    waiting = [choose.sample(group, len(group)) for group in groups.values()]
    choose.shuffle(waiting)
    while waiting and len(chosen) < size:
        chosen += [group.pop() for group in waiting][: size - len(chosen)]
        waiting = [group for group in waiting if group]
    return chosen


# --- running -------------------------------------------------------------------------------------


class Bench:
    """A replay server as HTTP proxy, and one client of each SDK and kind for each base URL."""

    def __init__(self, records: Iterable[Recording], **options: Any) -> None:
        self.records = list(records)
        twins = [_twin(record) for record in self.records if record["wire"] == "openai.chat"]
        twins += [
            _twin(record) for record in self.records if record["wire"] == "openai.completions"
        ]
        self.server = ReplayServer([*self.records, *twins], **options)
        self._clients: dict[Any, Any] = {}
        self._stack = ExitStack()
        self._async_stack = AsyncExitStack()
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._runner)
        self._stack.enter_context(self.server)
        self._http = self._stack.enter_context(httpx2.Client(proxy=self.server.root_url))
        self._async_http = httpx2.AsyncClient(proxy=self.server.root_url)
        return self

    def __exit__(self, *facts: object) -> None:
        for client in self._clients.values():
            if isinstance(client, genai.Client):
                client.close()
                self._runner.run(client.aio.aclose())
        self._runner.run(self._async_http.aclose())
        self._stack.__exit__(*facts)

    def client(self, recording: Recording, *, asynchronous: bool) -> Any:
        """The SDK client that speaks to this recording's host."""
        if is_gemini(recording):
            make, url = self._gemini, f"http://{_gemini_host(recording)}"
            asynchronous = False
        elif recording["wire"] == "anthropic.messages":
            named = host(recording)
            url = f"http://{named if 'googleapis' not in named else 'api.anthropic.com'}"
            make = self._anthropic
        else:
            make, url = self._openai, base_url(recording)
        key = (make, url, asynchronous)
        if key not in self._clients:
            self._clients[key] = make(url, asynchronous)
        return self._clients[key]

    def _openai(self, url: str, asynchronous: bool) -> Any:
        kind = openai.AsyncOpenAI if asynchronous else openai.OpenAI
        http = self._async_http if asynchronous else self._http
        return kind(api_key="any", base_url=url, max_retries=0, http_client=http)

    def _anthropic(self, url: str, asynchronous: bool) -> Any:
        kind = anthropic.AsyncAnthropic if asynchronous else anthropic.Anthropic
        http = self._async_http if asynchronous else self._http
        return kind(api_key="any", base_url=url, max_retries=0, http_client=http)

    def _gemini(self, url: str, asynchronous: bool) -> Any:
        proxy = {"proxy": self.server.root_url}
        options = types.HttpOptions(base_url=url, client_args=proxy, async_client_args=proxy)
        return genai.Client(api_key="any", http_options=options)

    def run(self, way: Callable[..., Any], recording: Recording, call: Ask) -> tuple[Facts, Any]:
        """What the caller sees, and the request that the server got (None: none)."""
        asynchronous = way.__name__.endswith("_async")
        client = self.client(recording, asynchronous=asynchronous)
        before = len(self.server.requests)
        with warnings.catch_warnings():
            # Recorded models grow old; an SDK's warning of it, made an error, would end the call.
            warnings.simplefilter("ignore", DeprecationWarning)
            if asynchronous:
                # The runner's own context was made before the budget was entered.
                here = contextvars.copy_context()
                facts = self._runner.run(equality.collect_async(way, client, call), context=here)
            else:
                facts = equality.collect(way, client, call)
        got = self.server.requests[before:]
        assert len(got) <= 1, f"{len(got)} requests for one call"
        return facts, (got[0] if got else None)


def _gemini_host(recording: Recording) -> str:
    return host(recording) if recording["host"] else "generativelanguage.googleapis.com"


def _twin(record: Recording) -> Recording:
    body = files.response_bytes(record)
    request = record["request_json"]
    options = request.get("stream_options") if isinstance(request, dict) else None
    asked = request is None or (options or {}).get("include_usage") is True
    if record["streamed"] and (asked or record["id"] in SENDS_USAGE_UNASKED):
        body = equality.without_usage(body)
    return {
        **record,
        "id": f"{record['id']}{BARE}",
        "response_encoding": "text",
        "response_body": body.decode(),
    }


@contextmanager
def uninstrumented() -> Iterator[None]:
    """The SDKs and HTTP clients as they were before taximeter patched them."""
    import anthropic._base_client
    import httpx
    import openai._base_client

    places = []
    for module in (httpx, httpx2):
        places += [(module.Client, "send"), (module.AsyncClient, "send")]
    for module in (openai._base_client, anthropic._base_client):
        places += [
            (module.BaseClient, "_build_request"),
            (module.AsyncAPIClient, "_prepare_options"),
        ]
    patched = [(owner, name, owner.__dict__[name]) for owner, name in places]
    try:
        for owner, name, function in patched:
            while getattr(function, "taximeter", False):
                function = function.__wrapped__
            setattr(owner, name, function)
        yield
    finally:
        for owner, name, function in patched:
            setattr(owner, name, function)


BUDGETS: dict[str, Callable[[], Budget]] = {
    "budget()": budget,
    "budget(max_usd=1000)": lambda: budget(max_usd=1000),
}


def problems(
    bench: Bench, recording: Recording, way: Callable[..., Any], settings: str, call: Ask
) -> Iterator[str]:
    """What differs between the bare and the metered run of one call, if anything does."""
    where = (
        f"{recording['wire']} {recording['id']} {recording['provider']} {way.__name__} {settings}"
    )
    with BUDGETS[settings]() as spending:
        metered, sent = bench.run(way, recording, call)
    asks = sent is not None and _asks_usage(sent) and not _asks_usage_itself(call)
    bare_call = call
    if asks:
        # Had taximeter not asked, the provider would have sent the twin.
        headers = {RECORDING_HEADER: f"{recording['id']}{BARE}"}
        bare_call = call.having(extra_headers=headers)
    with uninstrumented():
        bare, bare_sent = bench.run(way, recording, bare_call)
    if asks:
        bare = json_less(bare)
        metered = json_less(metered)
    if found := equality.difference(bare, metered):
        yield f"{where}: {found}"
    yield from (f"{where}: {text}" for text in _request_problems(bare_sent, sent, asks))
    if sent is None:
        yield f"{where}: nothing was sent: {metered[-1:]}"
    counted = spending.summary_data()
    if sent is not None and (counted["calls_total"], counted["calls_open"]) != (1, 0):
        yield f"{where}: {counted['calls_total']} calls booked, {counted['calls_open']} open"


def json_less(facts: Facts) -> Facts:
    """Facts without the twin's own name, which is in its request id and header."""
    return json.loads(json.dumps(facts, default=_plain).replace(BARE, ""))


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)


def _asks_usage(request: Any) -> bool:
    body = json.loads(request.body) if request.body else {}
    options = body.get("stream_options") if isinstance(body, dict) else None
    return isinstance(options, dict) and options.get("include_usage") is True


def _asks_usage_itself(call: Ask) -> bool:
    arguments = {**(call.arguments.get("extra_body") or {}), **call.arguments}
    options = arguments.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _request_problems(bare: Any, metered: Any, asks: bool) -> Iterator[str]:
    if (bare is None) != (metered is None):
        yield f"bare sent {bare}, metered sent {metered}"
        return
    if bare is None:
        return
    one = (bare.method, bare.target, equality.request_headers(bare.headers))
    other = (metered.method, metered.target, equality.request_headers(metered.headers))
    for headers in (one[2], other[2]):
        headers.pop(RECORDING_HEADER, None)
    if one != other:
        yield f"the request's head differs: {one} but {other}"
    if int(metered.headers["content-length"]) != len(metered.body):
        yield "content-length is not the body's"
    if bare.body == metered.body:
        return
    sent, changed = json.loads(bare.body), json.loads(metered.body)
    restored = equality.without_own_changes(sent, changed)
    if restored != sent:
        yield f"the request's body differs: {sent} but {restored}"
    if restored == changed:
        yield "the same JSON was sent in other bytes"
