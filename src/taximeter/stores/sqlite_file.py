"""One SQLite file: opening, schema, transactions that retry, and errors that say the way out.

WAL and ``BEGIN IMMEDIATE``, with SQLite's own busy handler off: under load it starves single
processes for seconds, while short random waits serve all alike (measured: design.md, section 6).
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pkgutil import get_data
from typing import Final, TypeVar

from taximeter.errors import (
    ConfigurationError,
    SchemaMismatchError,
    StoreError,
    StoreUnavailableError,
)

R = TypeVar("R")

APPLICATION_ID: Final = 0x54584D54  # "TXMT": what makes the file ours.
MIGRATIONS: Final = ("sqlite_001.sql",)
WAIT_SECONDS: Final = (0.00005, 0.002)

_left_behind: list[sqlite3.Connection] = []
"""Connections inherited through a fork. Closing one would disturb the parent's; they are kept."""


class SQLiteFile:
    """A connection to one file, used by one thread at a time (the store sees to that).

    Args:
        path: The file; it is made, its directory is not.
        timeout: Seconds to wait for other processes before ``StoreUnavailableError``.
        synchronous: ``normal`` loses nothing when a process dies, but perhaps the last calls when
            the machine loses power; ``full`` loses nothing then either and waits for the disk.
    """

    def __init__(self, path: Path, *, timeout: float, synchronous: str) -> None:
        self._connection: sqlite3.Connection | None = None
        self.path = path
        self.timeout = timeout
        self.synchronous = synchronous
        self._pid = os.getpid()
        self._inode: tuple[int, int] = (0, 0)

    def write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Run ``work`` in one transaction, again from its start while others hold the file."""

        def transaction() -> R:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return self._retry(transaction)

    def read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Run ``work``, which only reads, on the store's connection."""
        return self._retry(lambda: work(self._open()))

    @contextmanager
    def reader(self) -> Iterator[Callable[[Callable[[sqlite3.Connection], R]], R]]:
        """A connection of its own for long questions, so that no call waits for them.

        May be used beside the store's own, by any one thread, once :meth:`read` has succeeded.
        """
        connection = self._retry(self._connect)
        try:
            yield lambda work: self._retry(lambda: work(connection))
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._pid == os.getpid():
                connection.close()
            else:
                _left_behind.append(connection)

    def __del__(self) -> None:
        with suppress(Exception):  # At interpreter exit anything may be gone already.
            self.close()

    def _open(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            self.close()
        if self._connection is not None:
            self._check_not_replaced()
            return self._connection
        connection = self._connect()
        try:
            self._prepare(connection)
            status = os.stat(self.path)
        except BaseException:
            connection.close()
            raise
        self._inode = (status.st_dev, status.st_ino)
        self._connection, self._pid = connection, os.getpid()
        return connection

    def _connect(self) -> sqlite3.Connection:
        parent = self.path.parent
        if not parent.is_dir():
            raise StoreError(f"{self._name}: the directory {str(parent)!r} does not exist; make it")
        # timeout=0: the retry is ours. Threads take turns outside, hence check_same_thread.
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self.synchronous.upper()}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_not_replaced(self) -> None:
        """Books written to a file that has been deleted would be lost without a word."""
        try:
            status = os.stat(self.path)
        except OSError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._inode:
            self.close()
            raise StoreUnavailableError(
                f"{self._name} was removed or replaced while it was in use; the next call opens "
                "the file that is there then"
            )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check whose file it is, and bring its schema up to date."""
        connection.execute("BEGIN")  # One view: another process may be making the schema just now.
        version = self._version(connection)
        connection.execute("COMMIT")
        if version < len(MIGRATIONS):
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreError(
                    f"{self._name} cannot be put into WAL mode here (it is {mode!r}); "
                    "use a local disk"
                )
        connection.execute("BEGIN IMMEDIATE")  # Fails here, not at the first call, if read-only.
        try:
            for number in range(self._version(connection), len(MIGRATIONS)):
                for statement in statements(MIGRATIONS[number]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number + 1}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _version(self, connection: sqlite3.Connection) -> int:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and (tables or version or application):
            raise SchemaMismatchError(
                f"{self._name} is a database of another program; give taximeter a file of its own"
            )
        if version > len(MIGRATIONS):
            raise SchemaMismatchError(
                f"{self._name} was made by a newer taximeter (schema {version}, this one knows "
                f"{len(MIGRATIONS)}); upgrade taximeter or use another file"
            )
        return version

    def _retry(self, attempt: Callable[[], R]) -> R:
        deadline: float | None = None
        while True:
            try:
                return attempt()
            except sqlite3.Error as exc:
                if _code(exc) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise self._error(exc) from exc
                now = time.monotonic()
                deadline = now + self.timeout if deadline is None else deadline
                if now >= deadline:
                    raise self._error(exc) from exc
            except UnicodeEncodeError as exc:
                raise ConfigurationError(
                    f"{exc.object!r} is not text that can be stored; give ids and names in Unicode"
                ) from exc
            time.sleep(random.uniform(*WAIT_SECONDS))  # noqa: S311

    def _error(self, exc: sqlite3.Error) -> StoreError:
        match _code(exc):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreUnavailableError(
                    f"{self._name} is locked by another process for more than {self.timeout:g} s; "
                    "find and end that process, or allow more with ?timeout=<seconds>"
                )
            case sqlite3.SQLITE_READONLY:
                return StoreError(
                    f"{self._name} is read-only; make the file and its directory "
                    "writable, or use another one"
                )
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
                return StoreError(
                    f"{self._name} cannot be opened ({exc}); check that it is a file "
                    "and that it and its directory can be written"
                )
            case sqlite3.SQLITE_NOTADB:
                return StoreError(f"{self._name} is not an SQLite database; use another file")
            case sqlite3.SQLITE_CORRUPT:
                return StoreError(
                    f"{self._name} is damaged ({exc}); restore it from a copy, or "
                    "save what is readable with sqlite3's .recover"
                )
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                with suppress(sqlite3.Error):
                    self.close()  # Whatever it had in mind, the next use starts afresh.
                return StoreUnavailableError(
                    f"{self._name} cannot be written ({exc}); check the "
                    "space and the state of the disk"
                )
            case _:
                return StoreError(f"{self._name}: {exc}")

    @property
    def _name(self) -> str:
        return f"the store {str(self.path)!r}"


def named_statements(file: str) -> dict[str, str]:
    """The statements of ``sql/<file>`` by the name in the comment above each."""
    found: dict[str, str] = {}
    for block in _text(file).split("-- name: ")[1:]:
        name, _, statement = block.partition("\n")
        found[name.strip()] = statement.strip()
    return found


def statements(file: str) -> list[str]:
    """The statements of ``sql/<file>`` in order (``executescript`` would commit in between)."""
    found: list[str] = []
    pending = ""
    for line in _text(file).splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    assert not pending.strip(), f"the last statement of {file} has no end"
    return found


def _text(file: str) -> str:
    data = get_data("taximeter.stores", f"sql/{file}")
    assert data is not None
    return data.decode()


def _code(exc: sqlite3.Error) -> int:
    """Primary result code; errors of the module itself (a closed connection) have none."""
    return getattr(exc, "sqlite_errorcode", -1) & 0xFF
