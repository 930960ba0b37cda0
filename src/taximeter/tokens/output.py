"""Output tokens while an answer runs, from the parts of it that can be seen.

An estimate until the provider's own figure comes, which for most wires is the last event.
"""

from __future__ import annotations

from math import ceil
from typing import Final, Literal

from taximeter.tokens import vocabulary
from taximeter.tokens.families import Family
from taximeter.tokens.scripts import estimate

OutputKind = Literal["text", "reasoning", "tool"]

PENDING_CHARACTERS_MAX: Final = 4_096
"""Text kept uncounted between two looks; then it is counted without one."""

TOKEN_DELTA_WIRES: Final = frozenset(
    {"openai.chat", "openai.responses", "openai.completions", "cohere.chat_v2", "ollama"}
)
_DELTA_TOKENS: Final = 1.03  # billed tokens of one delta where providers send one token each
_DELTA_TOKENS_MAX: Final = 1.35
_ALIKE: Final = (0.5, 1.6)  # estimate / deltas: outside, the provider sends several tokens at once


class OutputCounter:
    """Estimates the output billed so far from what was fed.

    Hidden reasoning is in no text: where the model may reason unseen
    (``families.may_reason_unseen``), all three figures cover the visible part only, and nothing but
    the request's output cap bounds the bill.

    Args:
        family: The model's, from ``families.family``.
        wire: Name of the wire: on some, an event carries one token.
        exact_texts: Use the vocabulary, if installed: about 10 µs a delta and up to a second for the
            first. Off, text is judged by its bytes.
    """

    __slots__ = (
        "_bound", "_characters", "_deltas", "_exact", "_family", "_high", "_kinds", "_low",
        "_pending", "_token_deltas",
    )  # fmt: skip

    def __init__(self, family: Family, wire: str, *, exact_texts: bool = False) -> None:
        self._family = family
        self._token_deltas = family.token_deltas and wire in TOKEN_DELTA_WIRES
        self._exact = exact_texts and vocabulary.available()
        self._pending: list[str] = []
        self._characters = 0
        self._deltas = 0
        self._low = 0.0
        self._high = 0.0
        self._bound = 0
        self._kinds: set[str] = set()

    def feed(self, text: str, kind: OutputKind = "text", deltas: int = 1) -> None:
        """Add visible output: ``deltas`` events carried it. ``tool``: names and arguments."""
        if not text:
            return
        self._kinds.add(kind)
        self._deltas += deltas
        self._pending.append(text)
        self._characters += len(text)
        if self._characters > PENDING_CHARACTERS_MAX:
            self._count()

    @property
    def expected(self) -> int:
        """Best estimate of the output tokens billed so far, the visible part. 0: nothing was fed."""
        self._count()
        if not self._kinds:
            return 0
        tokens = self._family.text * self._low
        if not self._exact and self._deltas_are_tokens:
            tokens = _DELTA_TOKENS * self._deltas
        tokens += self._family.answer
        if "tool" in self._kinds:
            tokens += self._family.tool_call
        return min(round(tokens), self.bound)

    @property
    def likely_max(self) -> int:
        """Not passed by 99 % of answers without hidden reasoning."""
        self._count()
        if not self._kinds:
            return 0
        tokens = self._family.text_max * self._high
        if not self._exact and self._deltas_are_tokens:
            tokens = min(tokens, max(_DELTA_TOKENS_MAX * self._deltas, 1.15 * self._low))
        tokens += self._family.answer_max
        if "tool" in self._kinds:
            tokens += self._family.tool_call_max
        return min(ceil(tokens), self.bound)

    @property
    def bound(self) -> int:
        """At most this many tokens for what was seen: a token a byte, and generous framing."""
        self._count()
        if not self._kinds:
            return 0
        framing = 2 * self._family.answer_max
        if "tool" in self._kinds:
            framing += 2 * self._family.tool_call_max
        return self._bound + ceil(framing)

    @property
    def _deltas_are_tokens(self) -> bool:
        low, high = _ALIKE
        return self._token_deltas and low * self._deltas <= self._low <= high * self._deltas

    def _count(self) -> None:
        if not self._pending:
            return
        text = self._pending[0] if len(self._pending) == 1 else "".join(self._pending)
        self._pending.clear()
        self._characters = 0
        if text.isascii():
            self._bound += len(text)
        else:
            self._bound += len(text.encode("utf-8", "surrogatepass"))
        if self._exact:
            tokens = vocabulary.count(text, self._family.vocabulary)
            if tokens is not None:
                self._low += tokens
                self._high += tokens
                return
        low, high = estimate(text)
        self._low += low
        self._high += high
