"""Model names: under which names of the price book a model may stand, best first. Pure.

Every rewriting below is a spelling of the *same* model (a date, ``-latest``, a region, a resource
path, ``4.1`` for ``4-1``). Nothing here shortens a name to a mere prefix: an unknown suffix makes an
unknown model, because ``gpt-5.3-codex`` is not ``gpt-5.3`` and a guess would be a silent mispricing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

Candidate = tuple[str, str, tuple[str, ...]]
"""Provider and model of the price book, and the flags that a hit carries."""

PROVIDERS: Final[Mapping[str, str]] = {
    "aws": "bedrock",
    "amazon": "bedrock",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "dashscope": "alibaba",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "meta_llama": "meta",
    "mistralai": "mistral",
    "moonshotai": "moonshot",
    "ollama": "local",
    "together_ai": "together",
    "vercel_ai_gateway": "vercel",
    "vertex_ai": "vertex",
    "x-ai": "xai",
    "z-ai": "zai",
    "zhipuai": "zai",
}
"""Other names of providers."""

FIRST_PARTIES: Final = (
    "openai",
    "anthropic",
    "google",
    "xai",
    "deepseek",
    "perplexity",
    "mistral",
    "cohere",
)
"""Whose own model names are recognised behind a host that is not known."""

MAKERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "x-ai": "xai",
    "xai": "xai",
    "perplexity": "perplexity",
    "cohere": "cohere",
    "mistralai": "mistral",
    "mistral": "mistral",
}
"""``vendor/`` in a gateway's model names; gateways pass these vendors' list prices on."""

AGGREGATORS: Final = frozenset({"openrouter", "vercel"})
MAKERS_PRICE: Final = ("makers_price",)
"""The gateway's or cloud's own price is not known: the maker's list price stands in."""

_DATE: Final = re.compile(r"[-@:](?:20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d)$")
_SHORT_DATE: Final = re.compile(r"-[01]\d[0-3]\d$")  # kimi-k2.5-0127
_LATEST: Final = re.compile(r"(?:-latest|@latest|@default)$")
_BUILD: Final = re.compile(r"-00\d$")  # gemini-2.0-flash-001
_DOT: Final = re.compile(r"(?<=\d)\.(?=\d)")
_DASH: Final = re.compile(r"(?<=[a-z]-\d)-(?=\d(?:-|@|:|$))")
_CLAUDE_NUMBER_FIRST: Final = re.compile(r"claude-(\d(?:[.-]\d)?)-(opus|sonnet|haiku)")
_CLAUDE_NUMBER_LAST: Final = re.compile(r"claude-(opus|sonnet|haiku)-(\d(?:[.-]\d)?)")
_PATH: Final = re.compile(
    r"^(?:models/|(?:projects/[^/]+/)?(?:locations/[^/]+/)?publishers/[^/]+/models/"
    r"|accounts/fireworks/models/|arn:aws[^/]*:(?:foundation-model|inference-profile)/)"
)
_BEDROCK_REGION: Final = re.compile(r"^(?:us-gov|us|eu|apac|au|jp|ca|sa|me|af|global)\.")
_BEDROCK_VERSION: Final = re.compile(r"(?:-v1)?(?::\d+)?(?::\d+k)?$")  # v2 is another model
_VARIANT: Final = re.compile(r":(?:nitro|floor|exacto|beta)$")  # How it is routed, not what it is.
_CLOUDS_AT_MAKERS_PRICE: Final = re.compile(
    r"claude-(?:[23]|v2|instant|(?:opus|sonnet)-4(?:-[01])?(?=-20|@|$))"
)
"""Until Claude 4.1 clouds charged Anthropic's price in every region; later ones must be listed."""
_COMPLETION_BUILD: Final = re.compile(r":20\d\d-?\d\d-?\d\d-v\d+$")  # davinci:2023-07-21-v2
NAME_LENGTH_MAX: Final = 300


def canonical(provider: str) -> str:
    """The book's name of a provider."""
    return PROVIDERS.get(provider, provider)


def candidates(provider: str, model: str, known: frozenset[str]) -> Iterator[Candidate]:
    """Where ``model`` of ``provider`` may stand in the book, best first.

    Args:
        provider: Canonical name; one that is not in ``known`` is a gateway or an unlisted host.
        model: As asked or answered; anything, also nonsense from a damaged answer.
        known: Providers that have a table in the book.
    """
    if not model or len(model) > NAME_LENGTH_MAX:
        return
    if provider not in known or provider == "unknown":
        yield from _first_parties(model)
        return
    for name in spellings(model, provider):
        yield provider, name, ()
    if provider == "bedrock":
        yield from _bedrock(model)
    elif provider == "azure":
        for name in spellings(_bare(model), "openai"):
            yield "openai", name, MAKERS_PRICE
    elif provider in ("google", "vertex"):
        other = "vertex" if provider == "google" else "google"
        for name in spellings(model, other):
            yield other, name, MAKERS_PRICE
        yield from _claude_of_old(_PATH.sub("", model))
    elif provider in AGGREGATORS:
        yield from _makers(model)


def spellings(model: str, provider: str) -> Iterator[str]:
    """The names that all mean ``model`` to ``provider``, closest first, each once."""
    seen: set[str] = set()
    for name in _spellings(model, provider):
        if name and name not in seen:
            seen.add(name)
            yield name


def _spellings(model: str, provider: str) -> Iterator[str]:
    yield model
    name = _PATH.sub("", model)
    prefix, slash, rest = name.partition("/")
    if slash and canonical(prefix) == provider:
        yield name
        name = rest
    if name.startswith("ft:"):
        yield from _fine_tuned(name)
        return
    if provider in AGGREGATORS:
        name = _VARIANT.sub("", name)
    yield name
    for form in _undated(name, provider):
        yield from _restyled(form)


def _undated(name: str, provider: str) -> Iterator[str]:
    """``name``, then without its date, ``-latest`` or build number: one of them, never two."""
    yield name
    for pattern in (_DATE, _LATEST, _COMPLETION_BUILD):
        if pattern.search(name):
            yield pattern.sub("", name)
            return
    if provider in ("google", "vertex") and _BUILD.search(name):
        yield _BUILD.sub("", name)
    elif provider in AGGREGATORS and _SHORT_DATE.search(name):
        yield _SHORT_DATE.sub("", name)


def _restyled(name: str) -> Iterator[str]:
    """Dots for dashes in version numbers and back, and Claude's two word orders."""
    orders = [name]
    if "claude" in name:
        orders.append(_CLAUDE_NUMBER_FIRST.sub(r"claude-\2-\1", name))
        orders.append(_CLAUDE_NUMBER_LAST.sub(r"claude-\2-\1", name))
    for order in orders:
        yield order
        yield _DOT.sub("-", order)
        yield _DASH.sub(".", order)


def _fine_tuned(name: str) -> Iterator[str]:
    """``ft:<base>:<organisation>:<suffix>:<id>`` to ``ft:<base>``: never the base's own price."""
    yield name
    base = name.removeprefix("ft:").partition(":")[0]
    yield f"ft:{base}"
    yield f"ft:{_DATE.sub('', base)}"


def _bedrock(model: str) -> Iterator[Candidate]:
    """Inference profiles and regions. A bare id runs in one region, which costs more than global."""
    name = _PATH.sub("", model)
    name = name.rpartition("/")[2]
    region = _BEDROCK_REGION.match(name)
    bare = name[region.end() :] if region else name
    prefix = region.group() if region else ""
    vendor, dot, rest = bare.partition(".")
    if not dot or not vendor.isalpha():  # The maker's own name, as the Anthropic client answers it.
        rest, vendor = bare, "anthropic" if bare.startswith("claude") else ""
    core = _BEDROCK_VERSION.sub("", rest)
    if not vendor:
        return
    tails = [rest, f"{core}-v1:0", core, _DATE.sub("", core)]
    if rest == core:  # Without a version any will do.
        tails.append(f"{core}-v2:0")
    prefixes = [prefix]
    if prefix not in ("", "global."):
        # All geographic profiles of a model cost the same; the in-region price is theirs too.
        prefixes += ["us.", "eu.", ""]
    for each in prefixes:
        for tail in tails:
            yield "bedrock", f"{each}{vendor}.{tail}", ()
    yield from _claude_of_old(core)


def _claude_of_old(name: str) -> Iterator[Candidate]:
    if _CLOUDS_AT_MAKERS_PRICE.match(name):
        for form in spellings(name.replace("-v2@", "@"), "anthropic"):
            yield "anthropic", form, MAKERS_PRICE


def _makers(model: str) -> Iterator[Candidate]:
    vendor, slash, name = _VARIANT.sub("", model).partition("/")
    if not slash:  # Embeddings answer with the maker's own name.
        for maker in (*FIRST_PARTIES, "voyage"):
            yield maker, model, MAKERS_PRICE
        return
    known_maker = MAKERS.get(vendor)
    if known_maker is None or ":" in name:
        return
    if name.startswith(("gpt-oss", "gemma")):  # Open weights: each host has a price of its own.
        return
    for form in spellings(_SHORT_DATE.sub("", name), known_maker):
        yield known_maker, form, MAKERS_PRICE


def _first_parties(model: str) -> Iterator[Candidate]:
    vendor, slash, name = model.partition("/")
    if slash and vendor in MAKERS:
        for form in spellings(name, MAKERS[vendor]):
            yield MAKERS[vendor], form, ()
        return
    for provider in FIRST_PARTIES:
        for form in spellings(model, provider):
            yield provider, form, ()


def _bare(model: str) -> str:
    """An Azure name without its data zone: ``eu/gpt-5.4``."""
    return model.rpartition("/")[2]
