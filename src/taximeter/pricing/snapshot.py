"""Loads the embedded snapshot: one line a model, parsed when that model is first asked for.

``snapshot.tsv.gz``: a JSON header, then ``provider<TAB>model<TAB>row``; a row that starts with ``=``
is another model's name. Made by prices/build.py. This is the only I/O of the pricing package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

FILE: Final = "snapshot.tsv.gz"

Lines = dict[str, dict[str, str]]
"""Provider → model → unparsed row."""


def load() -> tuple[Mapping[str, Any], Lines]:
    """The header and the rows of the snapshot inside the package."""
    import gzip  # Loaded with the first price, not with the library.
    from importlib.resources import files

    text = gzip.decompress((files(__package__) / FILE).read_bytes()).decode()
    return read(text)


def read(text: str) -> tuple[Mapping[str, Any], Lines]:
    """The header and the rows of a snapshot's text."""
    header, *lines = text.split("\n")
    table: Lines = {}
    provider = ""
    models: dict[str, str] = {}
    for line in lines:
        name, model, row = line.split("\t", 2)
        if name != provider:
            provider = name
            models = table.setdefault(name, {})
        models[model] = row
    return json.loads(header), table
