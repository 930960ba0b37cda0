"""Stores by URL: what users write in settings becomes a store object."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from taximeter.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from taximeter.stores.base import BudgetStore, CombinedStore, Ledger

SCHEMES: Final = ("memory", "sqlite")
SCHEMES_TO_COME: Final = (
    "redis", "rediss", "redis+cluster", "postgresql", "postgres", "mysql", "mariadb", "mongodb",
    "mongodb+srv",
)  # fmt: skip
USE: Final = "use 'memory://', 'sqlite:///file.db', 'sqlite://' (your own ledger) or a store object"
BUDGET_STORE: Final = (
    "now", "hold", "extend", "settle", "void", "shrink", "renew", "sweep", "adjust", "read",
)  # fmt: skip
LEDGER: Final = ("save", "save_batch", "entries", "stats")


def open_store(store: str | BudgetStore) -> BudgetStore:
    """The BudgetStore that ``store`` names; an object that is one is given back as it is.

    The same URL gives the same object within a process for as long as it is in use, so that budgets
    share its connection (and, for ``memory://``, its books, for the life of the process). A store
    given by URL is a CombinedStore: budgets and ledger in one.

    ``memory://`` · ``sqlite:///relative.db`` · ``sqlite:////absolute.db`` · ``sqlite://`` (the user's
    own file). SQLite takes ``?timeout=<seconds>`` and ``?synchronous=full``.

    Raises:
        ConfigurationError: The URL cannot be read or names a store that is not built yet, or the
            object lacks operations of the contract; the text says which.
        StoreError: The file cannot be used.
    """
    return store if not isinstance(store, str) and _has(store, BUDGET_STORE) else _open(store)


def open_ledger(store: str | Ledger) -> Ledger:
    """The Ledger that ``store`` names; otherwise as :func:`open_store`."""
    return store if not isinstance(store, str) and _has(store, LEDGER) else _open(store)


def default_path() -> Path:
    """The user's own file: ``$XDG_STATE_HOME/taximeter/ledger.db`` (the usual place elsewhere)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # A relative one is to be ignored, says its specification.
        if sys.platform == "win32":
            state = os.environ.get("LOCALAPPDATA", "") or os.path.expanduser("~")
        else:
            state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(state) / "taximeter" / "ledger.db"


def _open(url: object) -> CombinedStore:
    if not isinstance(url, str):
        raise ConfigurationError(f"store={url!r} is no store; {USE}")
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise ConfigurationError(f"store={url!r} is no URL ({exc}); {USE}") from None
    scheme = parts.scheme.lower()
    if scheme in SCHEMES_TO_COME:
        raise ConfigurationError(f"store={url!r}: {scheme} is not built yet; {USE}")
    if scheme not in SCHEMES or not url[len(scheme) :].startswith("://"):
        raise ConfigurationError(f"store={url!r} is not known; {USE}")
    return _open_memory(url, parts) if scheme == "memory" else _open_sqlite(url, parts)


_lock = threading.Lock()
_memory: dict[str, Any] = {}
_sqlite: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def _open_memory(url: str, parts: SplitResult) -> CombinedStore:
    from taximeter.stores.memory import MemoryStore

    if parts.query or parts.path.strip("/"):
        raise ConfigurationError(f"store={url!r}: a memory store has no path and no options")
    with _lock:
        if parts.netloc not in _memory:
            _memory[parts.netloc] = MemoryStore()
        return cast("CombinedStore", _memory[parts.netloc])


def _open_sqlite(url: str, parts: SplitResult) -> CombinedStore:
    from taximeter.stores.sqlite import SQLiteStore

    if parts.netloc:
        raise ConfigurationError(
            f"store={url!r} names a host; a path needs a third slash: 'sqlite:///{parts.netloc}"
            f"{parts.path}'"
        )
    options = _sqlite_options(url, parts.query)
    name = unquote(parts.path).removeprefix("/")
    if name == ":memory:":
        raise ConfigurationError(f"store={url!r}: use 'memory://'")
    if name:
        path = Path(os.path.abspath(os.path.expanduser(name)))
    else:
        path = default_path()
        _make_directory(path.parent)
    key = (path, *sorted(options.items()))
    with _lock:
        store = _sqlite.get(key)
        if store is None:
            store = _sqlite[key] = SQLiteStore(path, **options)
        return cast("CombinedStore", store)


def _sqlite_options(url: str, query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "synchronous":
            options[name] = value.lower()
        elif name == "timeout":
            try:
                options[name] = float(value)
            except ValueError:
                raise ConfigurationError(
                    f"timeout={value!r} in store={url!r} is no number"
                ) from None
        else:
            raise ConfigurationError(
                f"option {name!r} of store={url!r} is not known; use timeout= or synchronous="
            )
    return options


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreError(
            f"the directory {str(path)!r} for your ledger cannot be made ({exc.strerror}); "
            "set XDG_STATE_HOME or give a store URL"
        ) from exc


def _has(store: object, operations: tuple[str, ...]) -> bool:
    missing = [name for name in operations if not callable(getattr(store, name, None))]
    if missing:
        raise ConfigurationError(
            f"store={store!r} lacks {', '.join(missing)}; {USE} (contract: taximeter.stores.base)"
        )
    return True
