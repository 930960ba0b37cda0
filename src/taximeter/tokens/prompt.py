"""Input tokens of a request before it is sent: what to expect, what to hold, what cannot be passed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from typing import Final

from taximeter.tokens import vocabulary
from taximeter.tokens.families import Family, family
from taximeter.tokens.images import count_image
from taximeter.tokens.normalization import byte_bound
from taximeter.tokens.scripts import estimate, estimate_bytes
from taximeter.wire.base import Prompt

TOKENIZED_BYTES_MAX: Final = 50_000
"""Longer prompts are estimated from their bytes: a vocabulary would take 25 ms and more."""

MESSAGE_BOUND: Final = 48  # framing of one message, tool calls and results inside it included
TEXT_BOUND: Final = 16  # framing of one string: a content block, a name, an id
TOOL_BOUND: Final = 64

_VERSIONED: Final = re.compile(r'"type":"\w+_20\d{6}"')
_VERSIONED_TOKENS: Final = (450, 900, 1_500)
"""A tool whose schema the provider fills in (``bash_20250124``): expected, likely and bound tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCount:
    """Input tokens of one request.

    ``expected``: the best estimate. ``likely_max``: not passed by 99.9 % of requests whose input can
    be seen. ``bound``: not passed at all, for tokenizers that spend at most a token a byte; None where
    the request does not show its whole input (``why_unbounded`` says why): hold the context window,
    ``turns_max`` times. ``turns_max``: how often the provider may read the input itself (hosted
    tools); None: nothing limits it.
    """

    expected: int
    likely_max: int
    bound: int | None
    why_unbounded: str | None
    turns_max: int | None = 1


def count_prompt(
    prompt: Prompt,
    *,
    model: str,
    exact_texts: bool = True,
    tokenized_bytes_max: int = TOKENIZED_BYTES_MAX,
) -> PromptCount:
    """Count the input of a request.

    Args:
        prompt: What the model will read, as its wire read it from the request.
        model: As asked. Decides the family; a name that says nothing gets wide margins.
        exact_texts: The vocabulary may be used, if installed. Its first use loads it (up to a second)
            and each costs about 0.5 µs a byte: pass False on an event loop.
        tokenized_bytes_max: Above this many bytes the vocabulary is not used in any case.
    """
    found = family(model)
    joined = prompt.texts[0] if len(prompt.texts) == 1 else "\n".join(prompt.texts)
    data = joined.encode("utf-8", "surrogatepass")
    size = byte_bound(joined, data)
    exact = exact_texts and size + len(prompt.tools_json) <= tokenized_bytes_max
    texts = _count_exactly(prompt.texts, found) if exact else None
    texts = texts or estimate_bytes(data, ascii_only=joined.isascii())
    expected = found.text * texts[0] + found.message * prompt.messages + found.prompt
    likely = found.text_max * texts[1] + found.message_max * prompt.messages + found.prompt_max
    bound = size + MESSAGE_BOUND * prompt.messages + TEXT_BOUND * len(prompt.texts)
    images_bounded = True
    if prompt.tools or prompt.tools_json:
        more = _tools(prompt, found, exact=exact)
        expected, likely, bound = expected + more[0], likely + more[1], bound + more[2]
    else:
        bound += found.bound_prompt
    for image in prompt.images:
        counts = count_image(image, family=found, model=model)
        expected, likely = expected + counts.expected, likely + counts.likely_max
        bound += counts.bound or 0
        images_bounded = images_bounded and counts.bound is not None
    why, turns_max = _unseen(prompt, images_bounded=images_bounded)
    expected, likely = _add_unseen(prompt, expected, likely)
    likely_max = ceil(max(likely, expected))
    if why is None:
        likely_max = min(likely_max, bound)
    return PromptCount(
        expected=min(round(expected), likely_max),
        likely_max=likely_max,
        bound=bound if why is None else None,
        why_unbounded=why,
        turns_max=turns_max,
    )


def _tools(prompt: Prompt, found: Family, *, exact: bool) -> tuple[float, float, int]:
    """Expected, likely and bound tokens of tool definitions and a response schema."""
    text = prompt.tools_json
    tokens = (_count_exactly((text,), found) if exact else None) or estimate(text)
    if prompt.tools:
        expected = found.tools * tokens[0] + found.tool * prompt.tools + found.tool_prompt
    else:
        expected = found.schema * tokens[0] + found.schema_prompt
    # A response schema may bring a hidden prompt as well as tools do.
    likely = found.tools_max * tokens[1] + found.tool_max * prompt.tools + found.tool_prompt_max
    bound = _json_bound(text) + TOOL_BOUND * prompt.tools + found.bound_tools
    filled_in = len(_VERSIONED.findall(text)) if "_20" in text else 0
    more = [filled_in * each for each in _VERSIONED_TOKENS]
    return expected + more[0], likely + more[1], bound + more[2]


def _count_exactly(texts: tuple[str, ...], found: Family) -> tuple[float, float] | None:
    """Vocabulary tokens (as expected and high, which are one here); None without the vocabulary."""
    total = 0
    for text in texts:
        tokens = vocabulary.count(text, found.vocabulary)
        if tokens is None:
            return None
        total += tokens
    return total, total


def _json_bound(tools_json: str) -> int:
    """Most tokens of tool definitions, however the provider writes them out again."""
    if tools_json.isascii():
        return len(tools_json)
    # Escaped as JSON, é grows from two bytes to six; nothing grows by more.
    return 3 * byte_bound(tools_json)


def _unseen(prompt: Prompt, *, images_bounded: bool) -> tuple[str | None, int | None]:
    """Why the input has no bound (None: it has), and how often the provider may read it."""
    if prompt.hosted_tools:
        kinds = ", ".join(sorted({tool.kind or "hosted tool" for tool in prompt.hosted_tools}))
        limits = [tool.calls_max for tool in prompt.hosted_tools]
        calls = prompt.hosted_calls_max
        if calls is None and None not in limits:
            calls = sum(limit for limit in limits if limit is not None)
        if calls is None:
            return f"hosted tools without a limit on calls: {kinds}", None
        return f"hosted tools return text of any length: {kinds}", calls + 1
    if prompt.server_state:
        return "earlier turns or cached content are kept by the provider", 1
    if prompt.references:
        return f"{prompt.references} files or URLs whose size the request does not show", 1
    if prompt.media_bytes:
        return "inline audio, video or documents", 1
    return (None, 1) if images_bounded else ("an image of unknown size without a cap", 1)


_REFERENCE: Final = (2_500, 60_000)  # expected and high tokens of a file or page
_HOSTED_TOOL: Final = (3_000, 60_000)
_MEDIA_BYTES: Final = (100, 8)  # bytes per token of audio, video and documents
_STATE: Final = (1_000, 60_000)


def _add_unseen(prompt: Prompt, expected: float, likely: float) -> tuple[float, float]:
    """A guess at what the request does not show; no bound rests on it."""
    hosted = len(prompt.hosted_tools)
    expected += _REFERENCE[0] * prompt.references + _HOSTED_TOOL[0] * hosted
    likely += _REFERENCE[1] * prompt.references + _HOSTED_TOOL[1] * hosted
    if prompt.media_bytes:
        expected += prompt.media_bytes / _MEDIA_BYTES[0]
        likely += 5_000 + prompt.media_bytes / _MEDIA_BYTES[1]
    if prompt.server_state:
        expected += _STATE[0]
        likely += _STATE[1]
    return expected, likely
