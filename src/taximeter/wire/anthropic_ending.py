"""How an Anthropic stream ends at its output limit, said by us instead of the provider.

On a real ``max_tokens`` the open block just stops (a tool's JSON input may stay unfinished), then
``message_delta`` gives the reason and the usage, and ``message_stop`` closes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from taximeter.usage import Usage


def ending(
    *,
    started: bool,
    open_blocks: Iterable[int],
    reason_given: bool,
    model: str,
    usage: Usage | None,
) -> bytes:
    """The events that are still missing after those the caller has seen.

    Args:
        started: ``message_start`` was passed on.
        open_blocks: Indices of content blocks that have not stopped.
        reason_given: A ``message_delta`` with a stop reason was passed on.
        model: Named in ``message_start`` where we must make one.
        usage: Shown in ``message_delta``.
    """
    counts = _counts(usage or Usage())
    events: list[dict[str, Any]] = []
    if not started:
        events.append({"type": "message_start", "message": _empty_message(model, counts)})
    events += ({"type": "content_block_stop", "index": index} for index in sorted(open_blocks))
    if not reason_given:
        delta = {"stop_reason": "max_tokens", "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": counts})
    events.append({"type": "message_stop"})
    return b"".join(_event(event) for event in events)


def _event(event: dict[str, Any]) -> bytes:
    data = json.dumps(event, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def _counts(usage: Usage) -> dict[str, int]:
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_input_tokens - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }


def _empty_message(model: str, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "id": "msg_taximeter",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**counts, "output_tokens": 0},
    }
