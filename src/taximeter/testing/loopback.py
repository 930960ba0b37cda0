"""A small HTTP/1.1 server on loopback: one event loop in one thread, keep-alive, chunked streams.

It is fast because an answer is bytes made elsewhere, and honest because it notices at once when the
client leaves: the request's task is cancelled, and whoever answers can bill what was generated.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

HEAD_BYTES_MAX: Final = 256 * 1024
BODY_BYTES_MAX: Final = 256 * 1024 * 1024


class BadRequestError(Exception):
    """The bytes are no HTTP/1.1 request; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One parsed request. ``target`` is the request line's own; ``path`` is decoded, without query."""

    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


Respond = Callable[[HttpRequest, "Exchange"], Awaitable[None]]


@dataclass(slots=True)
class _Parser:
    """Bytes in, requests out. Bodies by content-length or chunked."""

    buffer: bytearray = field(default_factory=bytearray)
    head: tuple[str, str, dict[str, str]] | None = None

    def feed(self, data: bytes) -> None:
        self.buffer += data

    def wants_continue(self) -> bool:
        """A client that waits for ``100 Continue`` has sent its head and nothing more."""
        return (
            self.head is not None
            and not self.buffer
            and self.head[2].get("expect", "").lower() == "100-continue"
        )

    def next(self) -> HttpRequest | None:
        if self.head is None and not self._read_head():
            return None
        assert self.head is not None
        method, target, headers = self.head
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = self._read_chunks()
        else:
            body = self._read_length(method, headers)
        if body is None:
            return None
        self.head = None
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        path = unquote(url.path)
        return HttpRequest(
            method=method, target=target, path=path, query=query, headers=headers, body=body
        )

    def _read_head(self) -> bool:
        while self.buffer[:2] == b"\r\n":
            del self.buffer[:2]
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > HEAD_BYTES_MAX:
                raise BadRequestError(f"head longer than {HEAD_BYTES_MAX} bytes")
            return False
        line, *rest = self.buffer[:end].decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise BadRequestError(f"not a request line: {line[:80]!r}")
        headers: dict[str, str] = {}
        for item in rest:
            name, colon, value = item.partition(":")
            if not colon:
                raise BadRequestError(f"not a header: {item[:80]!r}")
            headers[name.strip().lower()] = value.strip()
        self.head = (parts[0], parts[1], headers)
        return True

    def _read_length(self, method: str, headers: Mapping[str, str]) -> bytes | None:
        stated = headers.get("content-length")
        if stated is None:
            if method in ("POST", "PUT", "PATCH"):
                raise BadRequestError("content-length is missing")
            stated = "0"
        if not stated.isdecimal() or int(stated) > BODY_BYTES_MAX:
            raise BadRequestError(f"content-length {stated!r} is not a number of bytes")
        length = int(stated)
        if len(self.buffer) < length:
            return None
        body = bytes(self.buffer[:length])
        del self.buffer[:length]
        return body

    def _read_chunks(self) -> bytes | None:
        body, at = bytearray(), 0
        while True:
            end = self.buffer.find(b"\r\n", at)
            if end < 0:
                return None
            try:
                size = int(bytes(self.buffer[at:end]).split(b";")[0], 16)
            except ValueError:
                raise BadRequestError("chunk size is not hexadecimal") from None
            if len(self.buffer) < end + 2 + size + 2:
                return None
            body += self.buffer[end + 2 : end + 2 + size]
            at = end + 2 + size + 2
            if size == 0:
                del self.buffer[:at]
                return bytes(body)


class Exchange:
    """One request's way back. All methods belong to the server's own thread."""

    def __init__(self, connection: _Connection, *, keep_alive: bool) -> None:
        self._connection = connection
        self._keep_alive = keep_alive
        self._gzip: zlib._Compress | None = None
        self.started = False
        self.finished = False

    def send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str],
        *,
        gzip: bool = False,
        sent_bytes: int | None = None,
    ) -> None:
        """A whole answer; ``sent_bytes`` breaks it off there, with the length of the whole stated."""
        fields = dict(headers)
        if gzip:
            packer = zlib.compressobj(wbits=31)
            body = packer.compress(body) + packer.flush()
            fields["content-encoding"] = "gzip"
        fields["content-length"] = str(len(body))
        self._connection.write([self._head(status, fields), body[:sent_bytes]])
        self.started = self.finished = True
        if sent_bytes is not None:
            self._keep_alive = False

    def start(self, status: int, headers: Mapping[str, str], *, gzip: bool = False) -> None:
        """The head of a stream; events follow by :meth:`write`, the end by :meth:`finish`."""
        fields = {**headers, "transfer-encoding": "chunked"}
        if gzip:
            self._gzip = zlib.compressobj(wbits=31)
            fields["content-encoding"] = "gzip"
        self._connection.write([self._head(status, fields)])
        self.started = True

    def write(self, parts: Iterable[bytes], *, last: bool = False) -> None:
        """Each part becomes a chunk of its own; all leave in one system call."""
        frames: list[bytes] = []
        for part in parts:
            data = part
            if self._gzip is not None:
                data = self._gzip.compress(part) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
            if data:
                frames.append(b"%x\r\n%b\r\n" % (len(data), data))
        if last:
            if self._gzip is not None:
                tail = self._gzip.flush()
                frames.append(b"%x\r\n%b\r\n" % (len(tail), tail))
            frames.append(b"0\r\n\r\n")
            self.finished = True
        self._connection.write(frames)

    def cut(self) -> None:
        """Break the connection after what was written, in the middle of whatever it was."""
        self._keep_alive = False
        self.finished = True

    @property
    def full(self) -> bool:
        """The client reads slower than we write."""
        return self._connection.full

    async def drain(self) -> None:
        """Wait until the client has read on."""
        await self._connection.drain()

    @property
    def keep_alive(self) -> bool:
        """Whether the connection serves the next request."""
        return self._keep_alive and self.finished

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Status"
        fields = dict(headers)
        if not self._keep_alive:
            fields["connection"] = "close"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Connection(asyncio.Protocol):
    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._parser = _Parser()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._server.socket_buffer)
        # Only the socket buffers: what waits in user space was not generated ahead.
        transport.set_write_buffer_limits(high=0)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._next()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    async def drain(self) -> None:
        while self.full:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        await asyncio.sleep(0)  # A connection that was lost cancels here.

    def write(self, parts: list[bytes]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        if self._task is not None or self._transport is None or self._transport.is_closing():
            return
        try:
            request = self._parser.next()
        except BadRequestError as exc:
            self._server.note_bad_request(str(exc))
            self.write(
                [b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"]
            )
            self.close()
            return
        if request is None:
            if self._parser.wants_continue():
                self.write([b"HTTP/1.1 100 Continue\r\n\r\n"])
            return
        closes = request.headers.get("connection", "").lower() == "close"
        exchange = Exchange(self, keep_alive=not closes)
        task = asyncio.get_running_loop().create_task(self._server.answer(request, exchange))
        self._task = task
        task.add_done_callback(lambda done: self._answered(done, exchange))

    def _answered(self, task: asyncio.Task[None], exchange: Exchange) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            self._server.note_failure(task.exception())
        if exchange.keep_alive:
            self._next()
        else:
            self.close()


class LoopbackServer:
    """Runs ``respond`` for every request, in a thread of its own, until :meth:`stop`.

    Args:
        respond: A coroutine function; cancelled when the client leaves.
        host: Address to bind; loopback by default, and meant to stay there.
        port: 0 takes a free one.
        socket_buffer: Bytes of send buffer a connection; with the client's receive buffer this is how
            far an unpaced stream runs ahead of its reader.
    """

    def __init__(
        self, respond: Respond, *, host: str, port: int, socket_buffer: int, name: str
    ) -> None:
        self._respond = respond
        self._address = (host, port)
        self.socket_buffer = socket_buffer
        self._name = name
        self.host, self.port = host, port
        self.connections: set[_Connection] = set()
        self.bad_requests: list[str] = []
        self.failures: list[BaseException] = []
        self._idle = threading.Condition()
        self._in_flight = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind and serve; returns when connections are taken."""
        listener = socket.create_server(self._address, backlog=512)
        self.host, self.port = listener.getsockname()[:2]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(listener, ready),), name=self._name, daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Break all connections and end the thread. Twice does no harm."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self.call(self._stop)
        thread.join()

    def call(self, function: Callable[[], None]) -> None:
        """Run ``function`` soon in the server's thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop was closed in the meantime.
                loop.call_soon_threadsafe(function)

    def wait_until_idle(self, timeout: float) -> None:
        """Return when no request is in work; TimeoutError after ``timeout`` seconds.

        What already lies in the sockets (a request, a hang-up) is looked at first.
        """
        looked = threading.Event()
        if self._loop is not None and self._thread is not None:
            self.call(lambda: self._look(5, looked))
            looked.wait(timeout)
        with self._idle:
            if not self._idle.wait_for(lambda: self._in_flight == 0, timeout):
                raise TimeoutError(f"{self._in_flight} requests are still in work")

    def note_bad_request(self, reason: str) -> None:
        """Keep why bytes were refused, for assertions."""
        self.bad_requests.append(reason)

    def note_failure(self, exc: BaseException | None) -> None:
        """Keep a defect of ours (or of the user's script), to be raised at the end."""
        if exc is not None:
            self.failures.append(exc)

    async def answer(self, request: HttpRequest, exchange: Exchange) -> None:
        """One request, counted as in work until its last byte is handed over."""
        with self._idle:
            self._in_flight += 1
        try:
            await self._respond(request, exchange)
        finally:
            with self._idle:
                self._in_flight -= 1
                self._idle.notify_all()

    def _look(self, turns: int, looked: threading.Event) -> None:
        if turns == 0:
            looked.set()
        else:
            asyncio.get_running_loop().call_soon(self._look, turns - 1, looked)

    def _stop(self) -> None:
        if self._stopping is not None:
            self._stopping.set()

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), sock=listener)
        ready.set()
        await self._stopping.wait()
        server.close()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(
            0
        )  # Lets every connection say that it is lost; asyncio.run ends the rest.
