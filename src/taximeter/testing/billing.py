"""One call from its request to its line on the invoice."""

from __future__ import annotations

from dataclasses import dataclass, field

from taximeter.testing.answers.base import Generation
from taximeter.testing.invoice import Invoice, InvoiceLine


@dataclass(slots=True, kw_only=True)
class RunningCall:
    """What has been generated so far, and what the provider bills when the client leaves.

    Attributes:
        started: Loop time when generation began.
        rate: Tokens a second, or None: generation waits for the reader.
        read_ahead: Tokens billed beyond those generated when the client left.
        whole_on_abort: Bill the whole answer whenever the client leaves.
    """

    generation: Generation
    wire: str
    started: float
    rate: float | None
    read_ahead: int
    whole_on_abort: bool
    generated: int = 0
    deltas: int = 0
    events: int = 0
    billed: bool = field(default=False, init=False)

    def due(self, tokens: int) -> float:
        """Loop time at which so many tokens are generated."""
        return self.started + (tokens / self.rate if self.rate else 0.0)

    def bill_whole(self, invoice: Invoice) -> None:
        """The answer is complete."""
        self._bill(invoice, self.generation.output_tokens, completed=True)

    def bill_abort(self, invoice: Invoice, now: float) -> None:
        """The answer ended early, at loop time ``now``, whoever ended it."""
        whole = self.generation.output_tokens
        tokens = self.generated
        if self.rate is not None:
            tokens = max(tokens, int((now - self.started) * self.rate))
        output = whole if self.whole_on_abort else min(whole, tokens + self.read_ahead)
        self._bill(invoice, output, completed=False)

    def _bill(self, invoice: Invoice, output: int, *, completed: bool) -> None:
        generation = self.generation
        if self.billed or generation.ask.free:
            return
        self.billed = True
        usage = dict(generation.usage)
        usage["output_tokens"] = output
        usage["reasoning_tokens"] = min(usage["reasoning_tokens"], output)
        invoice.add(
            InvoiceLine(
                request_id=generation.request_id,
                answer_id=generation.id,
                wire=self.wire,
                model=generation.model,
                model_asked=generation.ask.model,
                streamed=generation.ask.streamed,
                completed=completed,
                usage=usage,
                cost=invoice.cost(generation.model, usage),
                tokens_sent=generation.output_tokens if completed else self.generated,
                hidden_tokens=min(generation.hidden_tokens, output),
            )
        )
