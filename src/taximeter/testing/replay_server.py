"""Recorded answers, given back byte for byte over real HTTP, cut as a network may cut them.

A record is a mapping with ``id``, ``url_path``, ``response_status``, ``response_headers``,
``response_encoding`` (``text`` or ``base64``), ``response_body`` and ``streamed``; other keys are kept and ignored.
"""

from __future__ import annotations

import base64
import gzip as gzip_module
import json
import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from taximeter.errors import ConfigurationError
from taximeter.testing.loopback import Exchange, HttpRequest, LoopbackServer
from taximeter.testing.serving import Serving

RECORDING_HEADER: Final = "x-taximeter-recording"
"""A request with this header gets the record of this id."""

Record = Mapping[str, Any]


def read_recordings(path: str | Path) -> Iterator[dict[str, Any]]:
    """Records of a JSON-lines file, gzipped or not."""
    opener = gzip_module.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def body_bytes(record: Record) -> bytes:
    """The answer's body as the provider sent it (as far as the recording kept it)."""
    body = record["response_body"] or ""
    if record.get("response_encoding") == "base64":
        return base64.b64decode(body)
    return str(body).encode("utf-8", "surrogatepass")


class ReplayServer(Serving):
    """Serves records on loopback. A context manager, or :meth:`start` and :meth:`stop`.

    A request gets the record that its ``x-taximeter-recording`` header names; without one, the next
    record of its path that was not served yet, or the next of all. When all are served, it begins
    again.

    Args:
        records: What to serve, in order.
        seed: Decides where streamed bodies are cut into chunks.
        chunk_bytes_max: Longest chunk of a stream; 1 sends every byte alone, None the body whole.
        gzip: Compress for clients that accept it.
    """

    def __init__(
        self,
        records: Iterable[Record],
        *,
        seed: int = 0,
        chunk_bytes_max: int | None = 2048,
        gzip: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._records = list(records)
        if not self._records:
            raise ConfigurationError("records is empty; give at least one recorded answer")
        if chunk_bytes_max is not None and chunk_bytes_max < 1:
            raise ConfigurationError(f"chunk_bytes_max={chunk_bytes_max!r} is below 1")
        self._by_id = {str(record.get("id")): record for record in self._records}
        self._waiting = list(self._records)
        self._seed = seed
        self._chunk_bytes_max = chunk_bytes_max
        self._gzip = gzip
        self._lock = threading.Lock()
        self._served: list[str] = []
        self._requests: list[HttpRequest] = []
        self._server = LoopbackServer(
            self._respond,
            host=host,
            port=port,
            socket_buffer=65_536,
            name="taximeter-replay-server",
        )

    @property
    def requests(self) -> list[HttpRequest]:
        """Every request so far, as it came."""
        with self._lock:
            return list(self._requests)

    @property
    def served(self) -> list[str]:
        """Ids of the records served, in order."""
        with self._lock:
            return list(self._served)

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Return when no request is in work; TimeoutError after ``timeout`` seconds."""
        self._server.wait_until_idle(timeout)

    async def _respond(self, request: HttpRequest, exchange: Exchange) -> None:
        wanted = request.headers.get(RECORDING_HEADER)
        record = self._by_id.get(wanted) if wanted is not None else self._next(request.path)
        if record is None:
            body = json.dumps({"error": {"message": f"no recording {wanted!r}"}}).encode()
            exchange.send(404, body, {"content-type": "application/json"})
            return
        with self._lock:
            self._requests.append(request)
            self._served.append(str(record.get("id")))
        status = int(record.get("response_status") or 200)
        headers = {"content-type": _content_type(record), "x-request-id": str(record.get("id"))}
        gzip = self._gzip and "gzip" in request.headers.get("accept-encoding", "")
        body = body_bytes(record)
        if not record.get("streamed"):
            exchange.send(status, body, headers, gzip=gzip)
            return
        exchange.start(status, headers, gzip=gzip)
        for part in self._cut(body, str(record.get("id"))):
            exchange.write([part])
            await exchange.drain()
        exchange.write([], last=True)

    def _next(self, path: str) -> Record:
        with self._lock:
            if not self._waiting:
                self._waiting = list(self._records)
            for at, record in enumerate(self._waiting):
                if str(record.get("url_path", "")).split("?")[0] == path:
                    return self._waiting.pop(at)
            return self._waiting.pop(0)

    def _cut(self, body: bytes, id: str) -> Iterator[bytes]:
        longest = self._chunk_bytes_max
        if longest is None:
            yield body
            return
        choose = random.Random(f"{self._seed} {id}")
        at = 0
        while at < len(body):
            size = choose.randint(1, longest)
            yield body[at : at + size]
            at += size


def _content_type(record: Record) -> str:
    stated = (record.get("response_headers") or {}).get("content-type")
    if stated:
        return str(stated)
    if not record.get("streamed"):
        return "application/json"
    if record.get("response_encoding") == "base64":
        return "application/vnd.amazon.eventstream"
    return "text/event-stream; charset=utf-8"
