"""Clients in their surroundings: retries, refused options, signatures, other traffic, wrap, imports."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

import taximeter
from taximeter import BudgetExceededError, budget
from taximeter.runtime import RUNTIME
from taximeter.testing import Fault, Reply, SimulatedProvider

MESSAGES = [{"role": "user", "content": "Say something"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
MESSAGE = {"model": "claude-haiku-4-5", "max_tokens": 300, "messages": MESSAGES}


@pytest.fixture
def forgets_servers() -> Iterator[None]:
    """What is remembered about a loopback port must not meet the next server on it."""
    before = set(RUNTIME.refuses_usage)
    yield
    RUNTIME.refuses_usage.clear()
    RUNTIME.refuses_usage.update(before)


# --- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_each_attempt_is_a_call_and_only_the_answered_one_is_billed(
    serve: Any, openai_client: Any, stream: bool
) -> None:
    provider = serve(Reply(tokens=20), faults={"gpt-4o-mini": Fault.STATUS(500, times=2)})
    client = openai_client(provider, max_retries=2)
    with budget(max_usd=1) as b:
        answer = client.chat.completions.create(**CHAT, stream=stream)
        if stream:
            list(answer)
    provider.wait_until_idle()
    calls = b.summary_data()["calls"]
    assert [call["settlement"] for call in calls] == ["void", "void", "exact"]
    assert len(provider.requests) == 3
    assert len(provider.invoice) == 1
    assert b.spent == provider.invoice[0].cost_usd
    assert b.held == 0


async def test_each_attempt_of_an_async_client_is_a_call_too(serve: Any) -> None:
    provider = serve(Reply(tokens=20), faults={"gpt-4o-mini": Fault.STATUS(500, times=2)})
    async with (
        openai.AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=2) as client,
        budget(max_usd=1) as b,
    ):
        await client.chat.completions.create(**CHAT)
    calls = b.summary_data()["calls"]
    assert [call["settlement"] for call in calls] == ["void", "void", "exact"]
    assert b.spent == provider.invoice[0].cost_usd
    assert b.held == 0


def test_a_budget_for_one_call_survives_retries(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=20), faults={"gpt-4o-mini": Fault.RATE_LIMIT(times=2)})
    with budget(max_calls=1) as b:
        openai_client(provider, max_retries=2).chat.completions.create(**CHAT)
    assert len(provider.requests) == 3
    assert b.calls_refused == 0


# --- the caller's own objects --------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"include_usage": False}, {"include_usage": True}, {}])
def test_stream_options_of_the_caller_are_never_written_to(
    serve: Any, openai_client: Any, options: dict[str, bool]
) -> None:
    provider, before = serve(Reply(tokens=9)), dict(options)
    messages = [dict(message) for message in MESSAGES]
    with budget(max_usd=1):
        stream = openai_client(provider).chat.completions.create(
            model="gpt-4o-mini", messages=messages, stream=True, stream_options=options
        )
        chunks = list(stream)
    assert options == before
    assert messages == MESSAGES
    assert provider.requests[0].body["stream_options"] == {"include_usage": True}
    assert bool(chunks[-1].usage) is (before == {"include_usage": True})
    assert all(chunk.choices or chunk.usage for chunk in chunks)
    shown = [chunk for chunk in chunks if "usage" in chunk.model_fields_set]
    assert bool(shown) is (before == {"include_usage": True})


def test_the_response_knows_the_request_as_it_was_sent(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=9))
    with budget(max_usd=1):
        stream = openai_client(provider).chat.completions.create(**CHAT, stream=True)
        list(stream)
    request = stream.response.request
    assert "taximeter" not in request.extensions
    assert json.loads(request.content) == provider.requests[0].body
    assert int(request.headers["content-length"]) == len(provider.requests[0].raw)


# --- servers that do not know the question -------------------------------------------------------


def test_a_server_that_refuses_stream_options_is_asked_once(
    serve: Any, openai_client: Any, forgets_servers: None
) -> None:
    provider = serve(Reply(tokens=9), strict_server=True)
    client = openai_client(provider)
    with budget(max_usd=1) as b:
        first = list(client.chat.completions.create(**CHAT, stream=True))
        again = list(client.chat.completions.create(**CHAT, stream=True))
    assert len(first) > 2
    assert len(again) > 2
    assert ["stream_options" in one.body for one in provider.requests] == [True, False, False]
    assert [call["status"] for call in b.summary_data()["calls"]] == [200, 200]
    assert b.held == 0


async def test_an_async_client_asks_such_a_server_once_too(
    serve: Any, forgets_servers: None
) -> None:
    provider = serve(Reply(tokens=9), strict_server=True)
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="any") as client:
        with budget(max_usd=1):
            for _ in range(2):
                stream = await client.chat.completions.create(**CHAT, stream=True)
                assert len([chunk async for chunk in stream]) > 2
    assert ["stream_options" in one.body for one in provider.requests] == [True, False, False]


def test_a_refusal_of_the_callers_own_stream_options_is_the_callers(
    serve: Any, openai_client: Any, forgets_servers: None
) -> None:
    provider = serve(Reply(tokens=9), strict_server=True)
    with budget(max_usd=1), pytest.raises(openai.BadRequestError):
        openai_client(provider).chat.completions.create(
            **CHAT, stream=True, stream_options={"include_usage": True}
        )
    assert len(provider.requests) == 1


# --- signatures ----------------------------------------------------------------------------------


def sign(request: Any) -> Any:
    """A signature over the body, in the place and shape of AWS's."""
    content = request.content if hasattr(request, "_content") else request.read()
    digest = hmac.new(b"secret", content, hashlib.sha256).hexdigest()
    request.headers["authorization"] = f"AWS4-HMAC-SHA256 Credential=x, Signature={digest}"
    return request


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("settings", [{}, {"max_usd": 1000}], ids=["tracked", "clamped"])
def test_signed_requests_are_sent_byte_for_byte(
    serve: Any, module: Any, settings: dict[str, Any]
) -> None:
    provider = serve(Reply(tokens=9))
    body = {**CHAT, "stream": True, "max_tokens": 300}
    content = json.dumps(body, indent=1).encode()
    url = f"{provider.base_url}/chat/completions"
    with module.Client() as client, budget(**settings) as b:
        request = client.build_request("POST", url, content=content)
        sign(request)
        lines = list(client.send(request, stream=True).iter_lines())
    received = provider.requests[0]
    assert received.raw == content
    digest = hmac.new(b"secret", received.raw, hashlib.sha256).hexdigest()
    assert received.headers["authorization"].endswith(digest)
    assert lines[-2] == "data: [DONE]"
    assert b.summary_data()["calls_total"] == 1


def test_a_signed_request_that_would_have_to_be_clamped_is_refused(serve: Any) -> None:
    provider = serve(Reply(tokens=9))
    body = {**CHAT, "max_tokens": 16_000}
    with httpx2.Client() as client, budget(max_usd="0.001", wait=0) as b:
        request = client.build_request(
            "POST", f"{provider.base_url}/chat/completions", content=json.dumps(body)
        )
        sign(request)
        with pytest.raises(BudgetExceededError, match="signed"):
            client.send(request).read()
    assert provider.requests == []
    assert b.held == 0


def test_bodies_are_rewritten_before_an_sdk_signs_them(serve: Any) -> None:
    class Signing(anthropic.Anthropic):
        def _prepare_request(self, request: Any) -> None:
            sign(request)

    provider = serve(Reply(tokens=60))
    with (
        Signing(base_url=provider.anthropic_url, api_key="any") as client,
        budget(max_usd="0.002") as b,
    ):
        client.messages.create(**{**MESSAGE, "max_tokens": 4000}, timeout=20)
    received = provider.requests[0]
    assert received.body["max_tokens"] < 4000
    digest = hmac.new(b"secret", received.raw, hashlib.sha256).hexdigest()
    assert received.headers["authorization"].endswith(digest)
    assert b.spent <= b.limit


# --- other traffic -------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_other_traffic_passes_as_it_is(module: Any) -> None:
    sent: list[Any] = []

    def answer(request: Any) -> Any:
        sent.append(request)
        return module.Response(200, json={"ok": True})

    def parts() -> Iterator[bytes]:
        yield b'{"messages":'
        yield b"[]}"

    with module.Client(transport=module.MockTransport(answer)) as client, budget(max_usd=0) as b:
        client.get("http://example.com/v1/chat/completions")
        client.post("http://example.com/orders", json={"messages": [], "model": "gpt-4o"})
        stream = parts()
        client.post("http://example.com/upload", content=stream)
        client.post("http://example.com/v1/messages", content=b"not json")
        client.post("http://example.com/v1/messages", json={"text": "to a friend"})
        client.post("http://example.com/v1/threads/t_1/messages", json={"content": "x"})
        client.post("http://example.com/v1/chat/completions", json=[1, 2])
    assert len(sent) == 7
    assert all(request.extensions.get("taximeter") is None for request in sent)
    assert b.summary_data()["calls_total"] == 0
    assert next(stream, None) is None  # read by the transport, and by nobody before it


def test_without_a_budget_nothing_is_seen(serve: Any, openai_client: Any) -> None:
    provider = serve(Reply(tokens=9))
    with budget() as b:
        pass
    stream = openai_client(provider).chat.completions.create(**CHAT, stream=True)
    assert type(stream.response.stream).__name__ == "BoundSyncStream"
    list(stream)
    assert "stream_options" not in provider.requests[0].body
    assert b.summary_data()["calls_total"] == 0


# --- one client ----------------------------------------------------------------------------------

WRAPPED = """
import json, sys
{imports}
import taximeter
from taximeter import budget
untouched = [(owner, name, owner.__dict__[name]) for owner, name in {owners}]
b = {budget}
{client}
{call}
assert all(owner.__dict__[name] is function for owner, name, function in untouched)
data = b.summary_data()
print(json.dumps([data["calls_total"], data["calls_open"], str(b.held), str(b.spent)]))
"""
_SEND = '(httpx2.Client, "send"), (httpx2.AsyncClient, "send")'
_OWNERS = {
    sdk: f"[{_SEND}, ({sdk}._base_client.BaseClient, '_build_request'),"
    f" ({sdk}._base_client.AsyncAPIClient, '_prepare_options')]"
    for sdk in ("openai", "anthropic")
} | {"genai": f"[{_SEND}]"}
_IMPORTS = {
    "openai": "import openai, openai._base_client",
    "anthropic": "import anthropic, anthropic._base_client",
    "genai": "from google import genai",
}


def run_wrapped(provider: SimulatedProvider, client: str, call: str, spending: str) -> Any:
    sdk = next(name for name in _IMPORTS if f"{name}." in client)
    code = WRAPPED.format(
        imports=f"import asyncio, httpx2\n{_IMPORTS[sdk]}",
        owners=_OWNERS[sdk],
        budget=spending,
        client=client.replace("**AZURE", _AZURE)
        .replace("URL", repr(provider.base_url))
        .replace("ROOT", repr(provider.root_url)),
        call=call,
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


_AZURE = "azure_endpoint=ROOT, api_key='x', api_version='2024-10-21'"
_CHAT = "model='gpt-4o-mini', messages=[{'role': 'user', 'content': 'Hi'}], stream=True"
_SYNC = f"list(client.chat.completions.create({_CHAT}))"
_ASYNC = f"""
async def main():
    async with client:
        async for _ in await client.chat.completions.create({_CHAT}): pass
asyncio.run(main())
"""
_MESSAGES = (
    "client.messages.create(model='claude-haiku-4-5', max_tokens=50,"
    " messages=[{'role': 'user', 'content': 'Hi'}])"
)
_GEMINI = "client.models.generate_content(model='gemini-2.5-flash', contents='Hi')"


@pytest.mark.parametrize(
    ("client", "call"),
    [
        ("client = b.wrap(openai.OpenAI(base_url=URL, api_key='x'))", _SYNC),
        ("client = b.wrap(openai.AsyncOpenAI(base_url=URL, api_key='x'))", _ASYNC),
        (
            "client = b.wrap(openai.AsyncAzureOpenAI(**AZURE))",
            _ASYNC,
        ),
        ("client = b.wrap(anthropic.Anthropic(base_url=ROOT, api_key='x'))", _MESSAGES),
        (
            "client = b.wrap(genai.Client(api_key='x', http_options={'base_url': ROOT}))",
            _GEMINI,
        ),
    ],
    ids=["openai", "openai-async", "azure-async", "anthropic", "gemini"],
)
def test_wrap_watches_one_client_and_patches_nothing(serve: Any, client: str, call: str) -> None:
    provider = serve(Reply(tokens=9))
    total, still_open, held, spent = run_wrapped(provider, client, call, "budget(max_usd=1)")
    provider.wait_until_idle()
    assert (total, still_open, float(held)) == (1, 0, 0.0)
    assert [line.cost_usd for line in provider.invoice] == [Decimal(spent)]


@pytest.mark.parametrize("client_type", [openai.OpenAI, openai.AsyncOpenAI])
@pytest.mark.parametrize("around", [False, True], ids=["alone", "inside another budget"])
@pytest.mark.parametrize("patched_first", [False, True])
def test_a_wrapped_client_charges_each_budget_once(
    serve: Any, client_type: Any, around: bool, patched_first: bool
) -> None:
    provider = serve(Reply(tokens=9))
    mine, other = budget(max_usd=1), budget(max_usd=1)
    if patched_first:
        with budget():
            pass

    async def call_async(client: Any) -> None:
        async with client:
            async for _ in await client.chat.completions.create(**CHAT, stream=True):
                pass

    def call() -> None:
        client = mine.wrap(client_type(base_url=provider.base_url, api_key="any"))
        if client_type is openai.AsyncOpenAI:
            asyncio.run(call_async(client))
        else:
            with client:
                list(client.chat.completions.create(**CHAT, stream=True))

    if around:
        with other:
            call()
    else:
        call()
    provider.wait_until_idle()
    cost = provider.invoice[0].cost_usd
    assert [mine.spent, other.spent] == [cost, cost if around else 0]
    assert [mine.held, other.held] == [0, 0]
    assert len(provider.invoice) == len(provider.requests) == 1
    assert mine.summary_data()["calls_total"] == 1


def test_a_wrapped_client_is_refused_unwrapped(serve: Any) -> None:
    provider = serve(Reply(tokens=9))
    b = budget(max_usd="0.000000001", wait=0)
    with b.wrap(openai.OpenAI(base_url=provider.base_url, api_key="any")) as client:
        with pytest.raises(BudgetExceededError):
            client.chat.completions.create(**CHAT)
        with pytest.raises(BudgetExceededError):
            client.with_options(timeout=5).chat.completions.create(**CHAT)
    assert provider.requests == []


def test_wrapping_twice_charges_once(serve: Any) -> None:
    provider = serve(Reply(tokens=9))
    b = budget(max_usd=1)
    with b.wrap(b.wrap(openai.OpenAI(base_url=provider.base_url, api_key="any"))) as client:
        client.chat.completions.create(**CHAT)
    assert b.spent == provider.invoice[0].cost_usd
    assert b.held == 0
    assert b.summary_data()["calls_total"] == 1


def test_wrap_says_what_it_takes() -> None:
    with pytest.raises(taximeter.ConfigurationError, match="takes openai"):
        taximeter.wrap(object())


# --- order of imports ----------------------------------------------------------------------------

IMPORTS = """
import json
{first}
from taximeter import budget
with budget(): pass
{then}
import openai
Client = openai.OpenAI
with budget(max_usd=1) as b:
    with Client(base_url={url!r}, api_key="x") as client:
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{{"role": "user", "content": "Hi"}}], stream=True)
        assert type(stream) is openai.Stream
        list(stream)
print(json.dumps([b.summary_data()["calls_total"], str(b.spent)]))
"""


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("import openai", ""),
        ("", "import openai"),
        ("import httpx, httpx2", "import openai"),
        ("", "import httpx2"),
        ("from openai import OpenAI, Stream", "import anthropic"),
    ],
    ids=["sdk first", "budget first", "http first", "http after", "names first"],
)
def test_the_order_of_imports_does_not_matter(serve: Any, first: str, then: str) -> None:
    provider = serve(Reply(tokens=9))
    code = IMPORTS.format(first=first, then=then, url=provider.base_url)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    total, spent = json.loads(done.stdout)
    assert total == 1
    assert [line.cost_usd for line in provider.invoice] == [Decimal(spent)]


# --- stops in the middle -------------------------------------------------------------------------


def reads(client: Any, wire: str) -> Callable[[], list[Any]]:
    """Read a stream of this wire to its end."""
    if wire == "chat":
        return lambda: list(client.chat.completions.create(**CHAT, stream=True))
    if wire == "responses":
        return lambda: list(client.responses.create(model="gpt-4o-mini", input="Hi", stream=True))
    return lambda: list(client.messages.create(**{**MESSAGE, "max_tokens": 4000}, stream=True))


@pytest.mark.parametrize("wire", ["chat", "responses", "messages"])
def test_a_truncated_stream_is_a_normal_short_one(
    serve: Any, openai_client: Any, anthropic_client: Any, wire: str
) -> None:
    provider = serve(Reply(tokens=2000), gzip=True)
    client = (anthropic_client if wire == "messages" else openai_client)(provider)
    with budget(max_usd=1, max_stream_output_tokens=60, on_limit="truncate") as b:
        events = reads(client, wire)()
    ends = {
        "chat": lambda last: last.choices[0].finish_reason == "length",
        "responses": lambda last: last.type == "response.incomplete",
        "messages": lambda last: last.type == "message_stop",
    }
    assert ends[wire](events[-1])
    assert b.held == 0


def test_a_stop_is_raised_unwrapped_from_the_middle_of_a_stream(
    serve: Any, openai_client: Any
) -> None:
    provider = serve(Reply(tokens=2000), gzip=True)
    with budget(max_usd=1, max_stream_output_tokens=60) as b:
        stream = openai_client(provider).chat.completions.create(**CHAT, stream=True)
        with pytest.raises(BudgetExceededError) as caught:
            list(stream)
    assert caught.value.usage["output_tokens"] > 0
    assert stream.response.is_closed
    assert b.held == 0
