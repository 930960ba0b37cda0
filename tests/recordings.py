"""Where the recorded provider answers are, and how to read them.

They are real traffic and never committed: they lie in ``../shared/recordings`` beside the
repository, or where ``TAXIMETER_RECORDINGS`` says. The README beside them tells their format.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "TAXIMETER_RECORDINGS"
Recording = dict[str, Any]


def folder() -> Path:
    """The folder of recordings, whether or not it is there."""
    return Path(os.environ.get(VARIABLE) or ROOT.parent / "shared" / "recordings")


def path(wire: str) -> Path:
    """The file of one wire, e.g. ``"openai.chat"``."""
    return folder() / f"{wire}.jsonl.gz"


def missing(wire: str | None = None) -> str | None:
    """Why recordings cannot be read (of this wire, or at all); None when they can."""
    wanted = path(wire) if wire else folder()
    if wanted.exists():
        return None
    return f"NO RECORDINGS at {wanted.name}: set {VARIABLE} to their folder; this test did not run"


needs_recordings = pytest.mark.skipif(missing() is not None, reason=str(missing()))
"""Mark for tests that read recordings by themselves (say, to parametrise)."""


def read(wire: str) -> Iterator[Recording]:
    """Every recording of a wire, in the file's order; nothing when there is no such file."""
    if missing(wire):
        return
    with gzip.open(path(wire), "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def response_bytes(recording: Recording) -> bytes:
    """The answer's body as it came over the wire."""
    body = recording["response_body"]
    if recording["response_encoding"] == "base64":
        return base64.b64decode(body)
    return body.encode("utf-8") if isinstance(body, str) else json.dumps(body).encode()
