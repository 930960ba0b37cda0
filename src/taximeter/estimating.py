"""``taximeter.quote``: the cost of a call before it is made, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from taximeter import providers, quoting
from taximeter.errors import PriceUnknownError
from taximeter.money import usd
from taximeter.pricing.base import PriceBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Cost in USD. ``output_tokens`` is the cap asked for, else the model's own maximum.

    ``expected_usd`` is input (best estimate) plus the whole output cap; ``worst_usd`` is the sound
    bound that a strict budget would hold, None where the cost has none (``unbounded`` says why).
    """

    model: str
    provider: str
    input_tokens: int
    input_tokens_max: int | None
    output_tokens: int | None
    input_usd: Decimal
    expected_usd: Decimal | None
    worst_usd: Decimal | None
    unbounded: str | None
    price_snapshot: str
    price_flags: tuple[str, ...]


def estimate(
    book: PriceBook, model: str, provider: str | None, request: Mapping[str, Any], *, at: float
) -> Estimate:
    """See :func:`taximeter.quote`."""
    body = {"model": model, **request}
    wire, path = _wire(body)
    if wire.name == "gemini.generate":
        path = path.format(model=model)
    read = wire.read_request(path, body)
    name = provider or providers.owner(model, wire.name)
    who = providers.named(name)
    quoted = quoting.make(read, who, book, at=at, ceiling=False)
    if quoted.card is None:
        raise PriceUnknownError(name, model)
    most = quoted.output_max
    line = quoted.line(sound=True)
    facts = {**quoted.facts, "media": bool(read.prompt.images or read.prompt.media_bytes)}
    expected = book.bound(
        quoted.card,
        input_tokens=quoted.input_expected,
        output_tokens=(most or 0) * read.choices,
        **facts,
    )
    given = book.bound(quoted.card, input_tokens=quoted.input_expected, output_tokens=0, **facts)
    return Estimate(
        model=model,
        provider=name,
        input_tokens=quoted.input_expected,
        input_tokens_max=quoted.input_bound,
        output_tokens=most,
        input_usd=usd(given.settled),
        expected_usd=usd(expected.settled) if most is not None else None,
        worst_usd=usd(line.amount(most)) if most is not None and not quoted.unbounded else None,
        unbounded=quoted.unbounded,
        price_snapshot=book.snapshot_id,
        price_flags=quoted.flags,
    )


def _wire(body: Mapping[str, Any]) -> tuple[Any, str]:
    from taximeter.wire import registry

    if "contents" in body:
        return registry.by_name("gemini.generate"), "/v1beta/models/{model}:generateContent"
    if "messages" in body:
        if str(body["model"]).startswith("claude"):
            return registry.by_name("anthropic.messages"), "/v1/messages"
        return registry.by_name("openai.chat"), "/v1/chat/completions"
    if "input" in body:
        return registry.by_name("openai.responses"), "/v1/responses"
    return registry.by_name("openai.completions"), "/v1/completions"
