"""Usage: what one call was billed for, as counts, parts inside their wholes.

Every wire is normalised to these names where it is read, and nowhere else:

``input_tokens``       everything billed as input, cached and cache-written tokens included
``cached_input_tokens``, ``cache_write_5m_tokens``, ``cache_write_1h_tokens``,
``audio_input_tokens``, ``image_input_tokens``, ``cached_audio_input_tokens``    parts of the input
``output_tokens``      everything billed as output, reasoning included
``reasoning_tokens``, ``audio_output_tokens``, ``image_output_tokens``           parts of the output
``requests``           fees per request by kind, e.g. ``{"web_search": 3}``, beside the tokens

No usage at all is ``None``, never a Usage of zeros: unknown is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Final, Literal

UsageSource = Literal["provider", "counted", "bound", "unknown"]
"""Where counts come from: the provider said so · we counted text · an upper bound · nobody knows."""

Settlement = Literal["exact", "estimated", "assumed_full", "void"]
"""How a call was booked: the provider's final figures · estimated · worst case assumed · not billed."""

NO_REQUESTS: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counts of one call (tokens are integers ≥ 0). Immutable; see the module for what contains what."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    cached_audio_input_tokens: int = 0
    image_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    requests: Mapping[str, int] = field(default_factory=lambda: NO_REQUESTS)

    def to_dict(self) -> dict[str, int]:
        """Flat counts: every token kind, then ``requests.<kind>`` for each fee that is not zero."""
        counts = {name: getattr(self, name) for name in TOKEN_KINDS}
        counts.update({f"requests.{kind}": n for kind, n in self.requests.items() if n})
        return counts

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        requests = dict(self.requests)
        for kind, count in other.requests.items():
            requests[kind] = requests.get(kind, 0) + count
        sums = {name: getattr(self, name) + getattr(other, name) for name in TOKEN_KINDS}
        return Usage(**sums, requests=requests)


TOKEN_KINDS: Final = tuple(f.name for f in fields(Usage) if f.name != "requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Another model billed inside one answer (an advisor, a compaction, a refused first model).

    Its counts are *not* in the answer's own :class:`Usage`.
    """

    model: str
    usage: Usage
    kind: str = ""
