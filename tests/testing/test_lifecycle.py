"""The server itself: many clients, keep-alive, bad bytes, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from taximeter.errors import ConfigurationError
from taximeter.testing import Reply, SimulatedProvider

ASK = [{"role": "user", "content": "Say something."}]
BODY = json.dumps({"model": "gpt-4o", "messages": ASK}).encode()


def address(provider) -> tuple[str, int]:
    host, port = provider.root_url.removeprefix("http://").split(":")
    return host, int(port)


def test_fifty_threads_stream_at_once_and_each_is_billed_exactly(serve):
    provider = serve(lambda request: Reply(tokens=20 + request.body["n_th"]), seed=1)

    def one(n: int) -> int:
        with openai.OpenAI(base_url=provider.base_url, api_key="any") as client:
            stream = client.chat.completions.create(
                model="gpt-4o-mini", messages=ASK, stream=True, extra_body={"n_th": n}
            )
            return sum(bool(chunk.choices[0].delta.content) for chunk in stream)

    with ThreadPoolExecutor(50) as pool:
        counts = list(pool.map(one, range(50)))
    assert counts == [20 + n for n in range(50)]
    assert sorted(line.usage["output_tokens"] for line in provider.invoice) == counts
    assert all(line.completed for line in provider.invoice)


async def test_fifty_tasks_stream_at_once_over_one_client(serve):
    provider = serve(Reply(tokens=30))
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="any") as client:

        async def one() -> int:
            stream = await client.chat.completions.create(
                model="gpt-4o-mini", messages=ASK, stream=True
            )
            return sum([bool(chunk.choices[0].delta.content) async for chunk in stream])

        assert await asyncio.gather(*(one() for _ in range(50))) == [30] * 50
    assert len(provider.invoice) == 50


def test_a_connection_serves_many_requests(serve):
    provider = serve(Reply(text="a"))
    connection = http.client.HTTPConnection(*address(provider))
    connection.connect()
    used = connection.sock
    for _ in range(3):
        connection.request("POST", "/v1/chat/completions", BODY)
        assert json.loads(connection.getresponse().read())["object"] == "chat.completion"
        assert connection.sock is used
    connection.close()
    assert len(provider.invoice) == 3


def test_a_request_may_come_byte_by_byte_or_chunked(serve):
    provider = serve(Reply(text="a"))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%b\r\n5\r\n%b\r\n0\r\n\r\n" % (len(BODY) - 5, BODY[:-5], BODY[-5:])
    plain = head + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    for raw in (plain, chunked):
        with socket.create_connection(address(provider)) as sock:
            for at in range(len(raw)):
                sock.sendall(raw[at : at + 1])
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [request.raw for request in provider.requests] == [BODY, BODY]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"POST /v1/chat/completions HTTP/1.1\r\n\r\n", "content-length is missing"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", "not a number"),
        (b"nonsense\r\n\r\n", "not a request line"),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", "not a header"),
    ],
)
def test_bytes_that_are_no_request_are_refused(serve, raw, reason):
    provider = serve()
    with socket.create_connection(address(provider)) as sock:
        sock.sendall(raw)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert reason in provider.bad_requests[0]


def test_a_body_longer_than_its_content_length_is_noticed(serve):
    provider = serve()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    with socket.create_connection(address(provider)) as sock:
        sock.sendall(head + BODY + b"surplus\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in answer
    assert "surplus" in provider.bad_requests[0]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/nothing", b"{}", 404),
        ("GET", "/v1/chat/completions", b"", 405),
        ("POST", "/v1/chat/completions", b"{not json", 400),
        ("POST", "/v1/chat/completions", b"[" * 100_000, 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/messages", b"\xff", 400),
        ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", b"{}", 400),
    ],
)
def test_bad_requests_get_the_providers_envelope(serve, method, path, body, status):
    provider = serve()
    answer = httpx.request(method, provider.root_url + path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert provider.invoice == []


def test_a_script_that_raises_is_an_error_answer_and_is_raised_at_the_end():
    def script(request):
        raise KeyError("mine")

    provider = SimulatedProvider(script).start()
    assert httpx.post(f"{provider.base_url}/chat/completions", content=BODY).status_code == 500
    with pytest.raises(KeyError, match="mine"):
        provider.__exit__(None, None, None)


def test_replies_follow_the_order_of_requests(serve):
    provider = serve([Reply(text="one"), Reply(text="two")])
    texts = [
        httpx.post(f"{provider.base_url}/chat/completions", content=BODY).json()["choices"][0][
            "message"
        ]["content"]
        for _ in range(3)
    ]
    assert texts == ["one", "two", "two"]


def test_stopping_leaves_no_thread_and_no_socket_behind():
    gc.collect()
    threads = set(threading.enumerate())
    files = len(os.listdir("/proc/self/fd"))
    with SimulatedProvider(Reply(tokens=100_000)) as provider:
        idle = http.client.HTTPConnection(*address(provider))
        idle.request("POST", "/v1/chat/completions", BODY)
        idle.getresponse().read()
        with socket.create_connection(address(provider)) as busy:
            body = BODY[:-1] + b', "stream": true}'
            busy.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            busy.sendall(body)
            assert busy.recv(10)
            provider.stop()
            provider.stop()
        idle.close()
    gc.collect()
    assert set(threading.enumerate()) == threads
    assert len(os.listdir("/proc/self/fd")) == files
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address(provider))
    assert len(provider.invoice) == 2
    assert not provider.invoice[1].completed


def test_wait_until_idle_says_who_does_not_leave(serve):
    provider = serve(Reply(tokens=100_000))
    with socket.create_connection(address(provider)) as sock:
        body = BODY[:-1] + b', "stream": true}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
        sock.sendall(head % len(body) + body)
        assert sock.recv(10)
        with pytest.raises(TimeoutError, match="1 requests are still in work"):
            provider.wait_until_idle(timeout=0)
    provider.wait_until_idle()
    assert len(provider.disconnects) == 1
    assert provider.invoice[0].usage["output_tokens"] < 100_000


@pytest.mark.parametrize("options", [{"tokens_per_second": 0}, {"read_ahead": -1}, {"skew": 9}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        SimulatedProvider(**options)


def test_it_runs_as_a_program_and_shows_its_invoice():
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "taximeter.testing.provider", "--tokens", "5"],
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        lines = [program.stdout.readline().split() for _ in range(5)]
        urls = dict(lines)
        httpx.post(f"{urls['OpenAI']}/chat/completions", content=BODY)
        with urllib.request.urlopen(urls["invoice"]) as answer:
            invoice = json.load(answer)
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
    assert invoice["lines"][0]["usage"]["output_tokens"] == 5
    assert invoice["total"] == invoice["lines"][0]["cost"]
