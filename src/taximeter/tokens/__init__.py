"""Tokens before and during a call: estimates, likely maxima and sound bounds. Pure."""

from taximeter.tokens.families import Family, family, may_reason_unseen
from taximeter.tokens.output import OutputCounter
from taximeter.tokens.prompt import PromptCount, count_prompt

__all__ = [
    "Family",
    "OutputCounter",
    "PromptCount",
    "count_prompt",
    "family",
    "may_reason_unseen",
]
