"""What a script says the simulated provider should answer, and what it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from taximeter.testing.faults import Fault

UsageChunk = Literal["own", "finish", "running"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool that the answer makes. ``arguments``: an object, or JSON text as it is."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer. Every field has a good default: ``Reply()`` is some made-up text.

    Attributes:
        text: What it says; one text a choice when given as a sequence. None: made up.
        tokens: Length of a made-up text in output tokens. None: 8 to 64 by the provider's seed.
        reasoning_tokens: Hidden output tokens before the text, billed, inside the output cap.
        thinking: Reasoning that is shown (Anthropic, Gemini, Responses). At least its own tokens
            are billed as reasoning.
        tool_call: A tool call, or several, after the text (``text=None`` then means no text).
        input_tokens: The exact input to bill. None: counted by the provider's own tokenizer.
        extra_input_tokens: Hidden input on top, as a provider's own prompt for tools is.
        cached_tokens: Part of the input read from a cache.
        cache_write_5m_tokens: Part of the input written to a cache (Anthropic).
        cache_write_1h_tokens: The same for an hour.
        web_searches: Searches by a hosted tool, billed by the request (Anthropic).
        model: The model that answers. None: the dated name of the one asked.
        fault: What goes wrong.
        delay_per_event: Seconds before each event.
        tokens_per_second: Generation speed of this answer; None: the provider's.
        tokens_per_event: Tokens in one delta; None: as the real provider (OpenAI 1, others more).
        usage_chunk: OpenAI chat: where usage stands: in a chunk of its``own``, on the ``finish``
            chunk (DeepSeek, Mistral), or ``running`` on every chunk (Perplexity).
        usage_unasked: OpenAI chat: send usage without ``include_usage``, as Groq and DeepSeek do.
        usage_before_choices: OpenAI chat: ``"usage":null`` stands before ``choices``; both occur.
        headers: More headers of the answer.
    """

    text: str | Sequence[str] | None = None
    tokens: int | None = None
    reasoning_tokens: int = 0
    thinking: str = ""
    tool_call: ToolCall | Sequence[ToolCall] = ()
    input_tokens: int | None = None
    extra_input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    model: str | None = None
    fault: Fault | None = None
    delay_per_event: float = 0.0
    tokens_per_second: float | None = None
    tokens_per_event: int | None = None
    usage_chunk: UsageChunk = "own"
    usage_unasked: bool = False
    usage_before_choices: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, however many were given."""
        return (self.tool_call,) if isinstance(self.tool_call, ToolCall) else tuple(self.tool_call)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request as it arrived.

    Attributes:
        order: 0 for the first request of this provider.
        request_id: Sent back as ``x-request-id`` and ``request-id``; names the invoice line.
        wire: ``openai.chat``, ``openai.responses``, ``openai.completions``, ``embeddings``,
            ``anthropic.messages``, ``gemini.generate``; ``""`` where the path is none of them.
        path: Without the query, which is in ``query``.
        headers: Names in lower case.
        body: The JSON value; None where the bytes are none.
        raw: The bytes, as they came (decompressed they are never).
        model: As asked, by the body or the path.
        streamed: Whether a stream was asked for.
    """

    order: int
    request_id: str
    wire: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    raw: bytes
    model: str
    streamed: bool
