"""``POST .../completions``: OpenAI's legacy text completions, and servers that still speak them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from taximeter.wire.base import WireRequest
from taximeter.wire.body import mapping
from taximeter.wire.openai_chat import ChatMeter, ChatWire
from taximeter.wire.openai_meter import Shown
from taximeter.wire.openai_request import read_completions_request, rewrite_chat
from taximeter.wire.visible import Piece


class CompletionsMeter(ChatMeter):
    """Meters one text completion: chat's stream with ``text`` in place of a delta."""

    object_name = "text_completion"
    id_prefix = "cmpl"

    def _caused_null(self, choices: list[Any]) -> bool:
        # vLLM writes the null unasked on this wire; ``stop_reason`` is a field of its own.
        return not any("stop_reason" in mapping(choice) for choice in choices)

    def _decode_block(self, block: bytes) -> Iterator[Piece]:
        return self._parse_block(block)

    def _decode_choice(self, choice: Mapping[str, Any], shown: Shown) -> None:
        shown.add_text(choice.get("text"))

    def _last_choice(self, index: int) -> dict[str, Any]:
        return {"text": "", "index": index, "logprobs": None, "finish_reason": "length"}


class CompletionsWire(ChatWire):
    """The legacy completions protocol; see :class:`taximeter.wire.base.Wire`."""

    def __init__(self) -> None:
        super().__init__("openai.completions")

    def read_request(self, path: str, body: Mapping[str, Any]) -> WireRequest:
        return read_completions_request(self.name, path, body)

    def rewrite(
        self,
        request: WireRequest,
        *,
        output_cap: int | None = None,
        model: str | None = None,
        include_usage: bool = False,
    ) -> tuple[str, dict[str, Any]]:
        return rewrite_chat(
            request,
            output_cap=output_cap,
            model=model,
            include_usage=include_usage,
            caps=("max_tokens",),
        )

    def meter(
        self,
        request: WireRequest | None = None,
        *,
        content_type: str = "",
        strip_usage: bool = False,
        whole_events: bool = False,
    ) -> CompletionsMeter:
        return CompletionsMeter(
            request,
            content_type=content_type,
            strip_usage=strip_usage,
            whole_events=whole_events,
        )


WIRE: Final = CompletionsWire()
