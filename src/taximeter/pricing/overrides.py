"""The user's own prices: checked strictly, merged over what is known. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from taximeter.errors import ConfigurationError
from taximeter.pricing import litellm
from taximeter.pricing.base import RateCard
from taximeter.pricing.names import canonical
from taximeter.pricing.rows import card_of

USER: Final = "user"
REQUIRED: Final = ("input_cost_per_token", "output_cost_per_token")
"""What a model needs that nobody else has a price for."""


def read(prices: Any, known: Callable[[str], RateCard | None]) -> dict[str, RateCard]:
    """Rate cards by the user's model names; ``known`` finds the card that one is laid over."""
    if not isinstance(prices, Mapping):
        raise ConfigurationError(
            f"prices={prices!r} is not a mapping of models; "
            'use {"my-model": {"input_cost_per_token": "0.00001", ...}}'
        )
    for model in prices:
        if not isinstance(model, str) or not model:
            raise ConfigurationError(f"prices has the key {model!r}; use the model's name, a str")
    return {model: _card(model, entry, known(model)) for model, entry in prices.items()}


def fingerprint(prices: Mapping[str, Mapping[str, Any]]) -> str:
    """Eight hex digits that change when the prices do: part of the snapshot id of ledger entries."""
    from hashlib import sha256

    text = repr(sorted((model, sorted(entry.items())) for model, entry in prices.items()))
    return sha256(text.encode()).hexdigest()[:8]


def _card(model: str, entry: Any, base: RateCard | None) -> RateCard:
    if not isinstance(entry, Mapping):
        raise ConfigurationError(
            f"prices[{model!r}]={entry!r} is not a mapping of prices; "
            'use {"input_cost_per_token": "0.00001", "output_cost_per_token": "0.00002"}'
        )
    for key in entry:
        _check_key(model, key)
    try:
        row = litellm.row_of(entry, strict=True)
    except ConfigurationError as error:
        raise ConfigurationError(f"prices[{model!r}]: {error}") from None
    provider, slash, name = model.partition("/")
    if base is None:
        _check_complete(model, entry)
        row["r"].setdefault("output", "0")
    own = card_of(
        row, provider=canonical(provider) if slash else "", model=name if slash else model
    )
    if base is None:
        free = not any(own.rates.values())
        return replace(own, free=free, source=USER)
    return replace(
        base,
        rates={**base.rates, **own.rates},
        # A new basic rate makes the listed long-context and service rates those of another price.
        tiers=own.tiers or (() if own.rates else base.tiers),
        variants=own.variants or ({} if own.rates else base.variants),
        context_tokens=own.context_tokens or base.context_tokens,
        output_tokens_max=own.output_tokens_max or base.output_tokens_max,
        reasons=own.reasons or (base.reasons and entry.get("supports_reasoning") is not False),
        free=False,
        flags=(),
        history=(),
        off_peak=None,
        since=None,
        until=None,
        source=USER,
        memo={},
    )


def _check_key(model: str, key: object) -> None:
    if isinstance(key, str) and (key in litellm.OTHER_KEYS or litellm.is_price_key(key)):
        return
    from difflib import get_close_matches

    choices = [*litellm.BASES, *litellm.OTHER_KEYS]
    near = get_close_matches(str(key), choices, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(choices))}"
    raise ConfigurationError(f"prices[{model!r}] has the unknown key {key!r}; {hint}")


def _check_complete(model: str, entry: Mapping[str, Any]) -> None:
    needed = REQUIRED[:1] if entry.get("mode") == "embedding" else REQUIRED
    for key in needed:
        if key not in entry:
            raise ConfigurationError(
                f"prices[{model!r}] lacks {key!r}, and no other price of this model is known; "
                "give one, 0 if it costs nothing"
            )
