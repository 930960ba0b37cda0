"""Who holds: a process, named so that others can tell when it is gone.

A pid alone means nothing on another machine, in another container or after a reboot, so the host
carries the boot and the pid namespace, and the process its start. Where that cannot be read, nobody
is declared dead; the hold's time to live decides.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Owner:
    """One process of one host. ``started``: in clock ticks since boot; 0 where it is not known."""

    host: str
    pid: int
    started: int


def this_process() -> Owner:
    """The running process; read anew after a fork."""
    return _this_process(os.getpid())


def is_gone(owner: Owner) -> bool:
    """Whether the process has certainly ended. False when it lives, or when nobody can know."""
    if owner.host != this_process().host or owner.started == 0:
        return False
    started = _started(owner.pid)
    if started is not None:
        return started != owner.started
    try:  # /proc may hide other users' processes; a signal's error does not.
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


@lru_cache(maxsize=1)
def _this_process(pid: int) -> Owner:
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    started = _started(pid) if boot and namespace else 0
    node = os.uname().nodename if hasattr(os, "uname") else ""
    return Owner(f"{node}/{boot}/{namespace}", pid, started or 0)


def _started(pid: int) -> int | None:
    """Start of a living process, from /proc; 0 for a zombie, None when nothing can be read."""
    # The name, in parentheses, may itself contain spaces and parentheses.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    return 0 if fields[0] in "ZXx" else int(fields[19])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
