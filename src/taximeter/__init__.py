"""taximeter meters LLM calls while they run and never lets a budget be passed."""

from __future__ import annotations

__version__ = "0.1.0"
