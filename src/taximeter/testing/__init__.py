"""What tests of programs that spend on LLM calls need: a provider that bills, on loopback.

``SimulatedProvider`` speaks the providers' own HTTP and keeps an invoice; ``ReplayServer`` gives
recorded answers back byte for byte; ``taximeter.testing.conformance`` is the suite for stores.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taximeter.testing.faults import Fault
    from taximeter.testing.invoice import Invoice, InvoiceLine, Price
    from taximeter.testing.provider import Disconnect, SimulatedProvider
    from taximeter.testing.replay_server import ReplayServer, read_recordings
    from taximeter.testing.reply import ReceivedRequest, Reply, ToolCall
    from taximeter.testing.tokenizer import Tokenizer

__all__ = [
    "Disconnect",
    "Fault",
    "Invoice",
    "InvoiceLine",
    "Price",
    "ReceivedRequest",
    "ReplayServer",
    "Reply",
    "SimulatedProvider",
    "Tokenizer",
    "ToolCall",
    "read_recordings",
]

_HOMES = {
    "Disconnect": "provider",
    "Fault": "faults",
    "Invoice": "invoice",
    "InvoiceLine": "invoice",
    "Price": "invoice",
    "ReceivedRequest": "reply",
    "ReplayServer": "replay_server",
    "read_recordings": "replay_server",
    "Reply": "reply",
    "SimulatedProvider": "provider",
    "Tokenizer": "tokenizer",
    "ToolCall": "reply",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that the stores' suite does not start a web server's modules."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
