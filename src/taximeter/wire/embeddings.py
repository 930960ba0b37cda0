"""Embeddings: input tokens and nothing else, in the shapes of several providers.

OpenAI's (Azure, Mistral, Voyage, Perplexity, OpenRouter), Google's ``:embedContent`` and
``:batchEmbedContents``, and Cohere's, whose ``billed_units`` are what is billed. Never streamed.

Vectors are long and say nothing here. Of a large body only both ends are kept, where every one of
these shapes has its usage and its model, and no time is spent on parsing a million numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from taximeter.errors import WireError
from taximeter.usage import Part, Usage
from taximeter.wire.base import Visible, WireRequest
from taximeter.wire.body import count, items, mapping, string
from taximeter.wire.framing import read_json
from taximeter.wire.openai_meter import Finish
from taximeter.wire.openai_prompt import PromptReader
from taximeter.wire.openai_request import model_in, swap_model
from taximeter.wire.openai_usage import read_cost, read_usage

_END_BYTES: Final = 64 * 1024
_FACT: Final = re.compile(r'"(usage|usageMetadata|meta|model)"\s*:\s*(?=[{"])')
_MODEL_IN_PATH: Final = re.compile(r"(/models/)([^/:]+)(:)")


class EmbeddingsMeter:
    """Meters one answer to an embeddings request."""

    def __init__(self, request: WireRequest | None = None, *, end_bytes: int = _END_BYTES) -> None:
        self.usage: Usage | None = None
        self.parts: tuple[Part, ...] = ()
        self.provider_cost: Decimal | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.finish: Finish | None = None
        self.terminal = False
        self.error: str | None = None
        self.exc: WireError | None = None
        self._end_bytes = end_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self._cut = False

    def receive_data(self, data: bytes) -> bytes:
        """Take the next chunk; the caller sees it as it is."""
        room = self._end_bytes - len(self._head)
        if room > 0:
            self._head += data[:room]
            self._tail += data[room:]
        else:
            self._tail += data
        if len(self._tail) > 2 * self._end_bytes:
            del self._tail[: -self._end_bytes]
            self._cut = True
        return data

    def receive_eof(self) -> bytes:
        """The answer has ended: read it."""
        try:
            self._read(self._facts())
        except WireError as exc:
            self.exc = exc
        self._head.clear()
        self._tail.clear()
        return b""

    def take_visible(self) -> Visible:
        """Nothing: vectors are not output that is billed."""
        return Visible()

    def ending(self, usage: Usage | None = None) -> bytes:
        """Nothing: there is no stream to end."""
        return b""

    def _facts(self) -> Mapping[str, Any]:
        if not self._cut:
            body = read_json(bytes(self._head + self._tail))
            if not isinstance(body, dict):
                raise WireError("the body is not a JSON object")
            return body
        facts: dict[str, Any] = {}
        decoder = json.JSONDecoder()
        for end in (self._head, self._tail):
            text = end.decode("utf-8", "replace")
            for found in _FACT.finditer(text):
                try:
                    facts[found.group(1)] = decoder.raw_decode(text, found.end())[0]
                except (ValueError, RecursionError):
                    continue  # Cut in the middle; the other end may have it whole.
        return facts

    def _read(self, body: Mapping[str, Any]) -> None:
        self.model = string(body.get("model")) or None
        stated = mapping(body.get("usage"))
        billed = mapping(mapping(body.get("meta")).get("billed_units"))
        google = mapping(body.get("usageMetadata"))
        if stated:
            self.usage = read_usage(stated)
            self.provider_cost = read_cost(stated)
            self.service_tier = string(stated.get("service_tier")) or None
        elif billed:
            self.usage = _read_cohere(billed)
        elif google:
            self.usage = _read_google(google)
        if body.get("error"):
            error = mapping(body["error"])
            self.error = string(error.get("type")) or string(error.get("message")) or "error"
        self.terminal = True


def _read_cohere(billed: Mapping[str, Any]) -> Usage | None:
    text, images = count(billed.get("input_tokens")), count(billed.get("image_tokens"))
    if text is None and images is None:
        return None
    return Usage(input_tokens=(text or 0) + (images or 0), image_input_tokens=images or 0)


def _read_google(stated: Mapping[str, Any]) -> Usage | None:
    tokens = count(stated.get("promptTokenCount"))
    if tokens is None:
        return None
    # The same list has two spellings, by endpoint.
    details = items(stated.get("promptTokensDetails")) or items(stated.get("promptTokenDetails"))
    by_kind: dict[str, int] = {}
    for detail in details:
        detail = mapping(detail)
        kind = string(detail.get("modality"))
        by_kind[kind] = by_kind.get(kind, 0) + (count(detail.get("tokenCount")) or 0)
    return Usage(
        input_tokens=tokens,
        audio_input_tokens=min(by_kind.get("AUDIO", 0), tokens),
        image_input_tokens=min(by_kind.get("IMAGE", 0), tokens),
    )


class EmbeddingsWire:
    """The embeddings protocols; see :class:`taximeter.wire.base.Wire`."""

    name = "embeddings"

    def read_request(self, path: str, body: Mapping[str, Any]) -> WireRequest:
        reader = PromptReader()
        entered = body.get("input")
        if isinstance(entered, list) and entered and all(isinstance(n, int) for n in entered):
            reader.read_text_or_tokens(entered)
        else:
            for one in entered if isinstance(entered, list) else [entered]:
                if isinstance(one, (str, list)):
                    reader.read_text_or_tokens(one)
                else:
                    reader.read_content(mapping(one).get("content"))
        for text in items(body.get("texts")):  # Cohere
            reader.read_content(text)
        requests = items(body.get("requests")) or [body]  # Google, many or one
        for request in requests:
            reader.read_content(mapping(mapping(request).get("content")).get("parts"))
        named = _MODEL_IN_PATH.search(path)
        return WireRequest(
            wire=self.name,
            path=path,
            body=body,
            model=named.group(2) if named else model_in(path, body),
            output_cap=0,
            prompt=reader.prompt(body),
        )

    def rewrite(
        self,
        request: WireRequest,
        *,
        output_cap: int | None = None,
        model: str | None = None,
        include_usage: bool = False,
    ) -> tuple[str, dict[str, Any]]:
        body, path = dict(request.body), request.path
        if model is not None and _MODEL_IN_PATH.search(path):
            path = _MODEL_IN_PATH.sub(lambda found: f"{found[1]}{model}{found[3]}", path, count=1)
            if "model" not in body:
                return path, body
        return swap_model(path, body, model), body

    def meter(
        self,
        request: WireRequest | None = None,
        *,
        content_type: str = "",
        strip_usage: bool = False,
        whole_events: bool = False,
    ) -> EmbeddingsMeter:
        return EmbeddingsMeter(request)


WIRE: Final = EmbeddingsWire()
