"""What can go wrong with an answer, as data: ``Fault.CUT(after=3)``, ``Fault.STATUS(500, times=2)``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from taximeter.errors import ConfigurationError

Kind = Literal[
    "cut", "drop", "error_event", "garbage", "no_end", "no_usage", "slow", "stall", "status"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. Use the named ones, called with what should differ.

    ``CUT``          the connection breaks after ``after`` deltas (a body that is not streamed: half-way)
    ``DROP``         the connection breaks before anything is answered
    ``ERROR_EVENT``  the provider's own error event inside a 200, after ``after`` deltas, then the end
    ``GARBAGE``      an event that is not JSON, after ``after`` deltas; the stream goes on
    ``NO_END``       the stream ends cleanly after ``after`` deltas, without its terminal event
    ``NO_USAGE``     the answer is complete, but says no usage
    ``SLOW``         pauses ``seconds`` (the first argument) after ``after`` deltas
    ``STALL``        stops after ``after`` deltas until the client leaves or ``provider.release()``
    ``STATUS``       answers this HTTP status (the first argument), billing nothing
    ``RATE_LIMIT``   429 with ``retry_after``

    Attributes:
        after: Deltas (events that carry output) that are sent before. 0: before the
            first one. An answer that has fewer ends well.
        times: How often it strikes; then requests are answered well. None: always. Equal faults of
            one provider share the count, so a client that retries gets through.
        retry_after: Seconds for the client to wait, sent as ``retry-after``; a thousandth by
            default, so that tests do not sleep. None: no header.
        message: Text of the error.
    """

    CUT: ClassVar[Fault]
    DROP: ClassVar[Fault]
    ERROR_EVENT: ClassVar[Fault]
    GARBAGE: ClassVar[Fault]
    NO_END: ClassVar[Fault]
    NO_USAGE: ClassVar[Fault]
    SLOW: ClassVar[Fault]
    STALL: ClassVar[Fault]
    STATUS: ClassVar[Fault]
    RATE_LIMIT: ClassVar[Fault]

    kind: Kind
    status: int = 0
    seconds: float = 0.0
    after: int = 0
    times: int | None = None
    retry_after: float | None = 0.001
    message: str = ""

    def __call__(
        self,
        value: float | None = None,
        /,
        *,
        seconds: float | None = None,
        after: int | None = None,
        times: int | None = None,
        retry_after: float | None = 0.001,
        message: str = "",
    ) -> Fault:
        """This fault with other figures; ``value`` is the status, or for ``SLOW`` the seconds."""
        status, pause = self.status, self.seconds
        if value is not None and self.kind == "status":
            if not 400 <= value <= 599:
                raise ConfigurationError(f"status={value!r} is not an HTTP error from 400 to 599")
            status = int(value)
        elif value is not None and self.kind == "slow":
            pause = value
        elif value is not None:
            raise ConfigurationError(f"{self.kind} takes no figure of its own, got {value!r}")
        return replace(
            self,
            status=status,
            seconds=pause if seconds is None else seconds,
            after=self.after if after is None else after,
            times=times,
            retry_after=retry_after,
            message=message,
        )


Fault.CUT = Fault(kind="cut")
Fault.DROP = Fault(kind="drop")
Fault.ERROR_EVENT = Fault(kind="error_event")
Fault.GARBAGE = Fault(kind="garbage")
Fault.NO_END = Fault(kind="no_end")
Fault.NO_USAGE = Fault(kind="no_usage")
Fault.SLOW = Fault(kind="slow")
Fault.STALL = Fault(kind="stall")
Fault.STATUS = Fault(kind="status", status=500)
Fault.RATE_LIMIT = Fault(kind="status", status=429)
