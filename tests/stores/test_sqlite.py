"""The SQLite store: the shared suite, and what a file shared by processes has to prove."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from taximeter.budgets.books import Balance, Charge
from taximeter.errors import (
    ConfigurationError,
    SchemaMismatchError,
    StoreError,
    StoreUnavailableError,
)
from taximeter.stores import sqlite_file
from taximeter.stores.owner import Owner, is_gone, this_process
from taximeter.stores.sqlite import SQLiteStore
from taximeter.testing.conformance import CombinedStoreConformance, Reopen, entry
from taximeter.testing.fake_clock import FakeClock


class TestSQLiteStore(CombinedStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path, clock: FakeClock) -> Iterator[SQLiteStore]:
        store = SQLiteStore(tmp_path / "ledger.db", clock=clock, timeout=30)
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(SQLiteStore, tmp_path / "ledger.db", timeout=30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, timeout=0.05)
    yield store
    store.close()


def python(code: str, *arguments: object) -> str:
    """Run ``code`` in another interpreter; what it printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


# --- files that cannot be used -----------------------------------------------------------------------


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no/such' does not exist; make it"):
        SQLiteStore(tmp_path / "no/such/ledger.db")
    assert not (tmp_path / "no").exists()


def test_a_directory_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        SQLiteStore(tmp_path)


def test_a_file_that_is_no_database_is_named_and_left_alone(path: Path) -> None:
    path.write_bytes(b"model,cost\n" * 100)
    with pytest.raises(StoreError, match=r"ledger\.db' is not an SQLite database"):
        SQLiteStore(path)
    assert path.read_bytes() == b"model,cost\n" * 100


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaMismatchError, match="another program"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_with_the_way_out(path: Path) -> None:
    SQLiteStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaMismatchError, match=r"newer taximeter \(schema 99.*upgrade"):
        SQLiteStore(path)


def test_an_older_schema_is_brought_up_to_date_and_keeps_its_books(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = SQLiteStore(path)
    old.settle("h", {"k": 5})
    old.close()
    text = sqlite_file._text

    def with_next(file: str) -> str:
        return (
            "ALTER TABLE counters ADD COLUMN colour TEXT;\n" if file == "next.sql" else text(file)
        )

    monkeypatch.setattr(sqlite_file, "_text", with_next)
    monkeypatch.setattr(sqlite_file, "MIGRATIONS", (*sqlite_file.MIGRATIONS, "next.sql"))
    new = SQLiteStore(path)
    assert new.read(["k"]) == {"k": Balance(5, 0)}
    new.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(sqlite_file.MIGRATIONS),)
    assert connection.execute("SELECT colour FROM counters").fetchall() == [(None,)]
    connection.close()


def test_a_migration_that_fails_leaves_the_old_schema(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SQLiteStore(path).close()
    text = sqlite_file._text
    broken = "CREATE TABLE half (a);\nALTER TABLE nowhere ADD COLUMN b;\n"
    monkeypatch.setattr(sqlite_file, "_text", lambda f: broken if f == "next.sql" else text(f))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "MIGRATIONS", (*sqlite_file.MIGRATIONS, "next.sql"))
        with pytest.raises(StoreError, match="nowhere"):
            SQLiteStore(path)
    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall()
    connection.close()
    assert tables == []
    SQLiteStore(path).close()


READ_ONLY = """
import os, sys
from taximeter.errors import StoreError
from taximeter.stores.sqlite import SQLiteStore
if os.geteuid() == 0:  # Root may write everything: become somebody else.
    os.setgid(65534); os.setuid(65534)
try:
    SQLiteStore(sys.argv[1])
except StoreError as exc:
    print(exc)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_read_only_file_is_an_error_when_it_is_opened_not_a_call_that_is_not_booked() -> None:
    import shutil
    import tempfile

    # Not under tmp_path, which other users cannot enter.
    directory = Path(tempfile.mkdtemp())
    try:
        file = directory / "ledger.db"
        SQLiteStore(file).close()
        file.chmod(0o444)
        directory.chmod(0o555)
        assert "is read-only; make the file and its directory writable" in python(READ_ONLY, file)
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


def test_a_locked_file_is_unavailable_after_the_deadline_and_well_again_after_it(
    store: SQLiteStore, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match=r"ledger\.db' is locked .* 0\.05 s; find"):
        store.hold("h", [Charge("k", 1)])
    with pytest.raises(StoreUnavailableError):
        SQLiteStore(path, timeout=0)
    other.execute("COMMIT")
    other.close()
    assert store.hold("h", [Charge("k", 1)]).accepted
    assert store.read(["k"]) == {"k": Balance(0, 1)}


def test_a_lock_that_ends_in_time_is_waited_for(path: Path) -> None:
    store = SQLiteStore(path, timeout=60)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    waited = threading.Event()
    attempts = iter(range(10**9))
    original = store._file._open

    def counted() -> sqlite3.Connection:
        if next(attempts) == 3:
            waited.set()
        return original()

    store._file._open = counted  # type: ignore[method-assign]
    thread = threading.Thread(target=store.settle, args=("h", {"k": 7}))
    thread.start()
    assert waited.wait(60)
    other.execute("COMMIT")
    other.close()
    thread.join()
    assert store.read(["k"]) == {"k": Balance(7, 0)}
    store.close()


def test_a_file_that_is_removed_while_in_use_is_noticed(store: SQLiteStore, path: Path) -> None:
    store.hold("h", [Charge("k", 1)])
    for file in path.parent.glob("ledger.db*"):
        file.unlink()
    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        store.settle("h", {"k": 1})
    store.settle("h", {"k": 1})
    assert store.read(["k"]) == {"k": Balance(1, 0)}


def test_a_damaged_file_is_named(path: Path) -> None:
    store = SQLiteStore(path)
    store.save_batch([entry(f"e{n}") for n in range(500)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"ledger\.db' is damaged"):
        SQLiteStore(path).stats()


def test_text_that_is_no_unicode_is_an_error_that_names_it(store: SQLiteStore) -> None:
    with pytest.raises(ConfigurationError, match="not text that can be stored"):
        store.hold("h", [Charge("user \ud800", 1)])
    assert store.hold("h", [Charge("user", 1)]).accepted


@pytest.mark.parametrize("options", [{"synchronous": "off"}, {"timeout": -1}])
def test_wrong_options_are_named(path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        SQLiteStore(path, **options)  # type: ignore[arg-type]


# --- how it is used ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "number"), [("normal", 1), ("full", 2)])
def test_the_file_is_in_wal_mode_and_as_synchronous_as_asked(
    path: Path, name: str, number: int
) -> None:
    store = SQLiteStore(path, synchronous=name)
    modes = store._file.read(
        lambda c: [c.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")]
    )
    assert modes == ["wal", number]
    store.close()


def test_a_closed_store_opens_again_when_it_is_used(store: SQLiteStore) -> None:
    store.settle("h", {"k": 5})
    store.close()
    store.close()
    assert store.read(["k"]) == {"k": Balance(5, 0)}


def test_a_relative_path_stays_where_it_was_when_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("ledger.db")
    store.settle("h", {"k": 5})
    store.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.read(["k"]) == {"k": Balance(5, 0)}
    store.close()


def test_a_slow_reader_of_entries_keeps_nobody_from_writing(store: SQLiteStore) -> None:
    store.save_batch([entry(f"e{n:04}", started_at=float(n)) for n in range(1500)])
    reading = store.entries()
    assert next(reading).id == "e0000"
    store.save(entry("new", started_at=1e9))
    store.close()
    assert [e.id for e in reading][-1] == "new"


def test_an_interrupt_inside_a_transaction_rolls_it_back(store: SQLiteStore) -> None:
    def interrupted(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO counters VALUES ('k', 5, 0)")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._file.write(interrupted)
    assert store.read(["k"]) == {"k": Balance()}
    store.settle("h", {"k": 1})
    assert store.read(["k"]) == {"k": Balance(1, 0)}


def test_a_row_maker_that_fails_leaves_the_hold_to_the_next_sweep(path: Path) -> None:
    clock = FakeClock()
    store = SQLiteStore(path, clock=clock)
    store.hold("h", [Charge("k", 5)], ttl=1)
    clock.advance(2)

    def broken(hold: object) -> None:
        raise RuntimeError("no row")

    with pytest.raises(RuntimeError):
        store.sweep(entry=broken)
    assert store.read(["k"]) == {"k": Balance(0, 5)}
    assert len(store.sweep()) == 1
    store.close()


def test_more_expired_holds_than_one_transaction_takes_are_all_swept(path: Path) -> None:
    clock = FakeClock()
    store = SQLiteStore(path, clock=clock)
    for number in range(1100):
        store.hold(f"h{number}", [Charge("k", 1)], ttl=1)
    clock.advance(2)
    assert len({hold.hold_id for hold in store.sweep()}) == 1100
    assert store.read(["k"]) == {"k": Balance(1100, 0)}
    store.close()


def test_ended_holds_are_forgotten_after_a_day_and_expired_ones_much_later(path: Path) -> None:
    clock = FakeClock()
    store = SQLiteStore(path, clock=clock)
    store.settle("settled", {"k": 5})
    store.hold("expired", [Charge("k", 7)], ttl=1)
    clock.advance(2)
    store.sweep()

    def kept() -> list[str]:
        query = "SELECT id FROM holds ORDER BY id"
        return [row[0] for row in store._file.read(lambda c: c.execute(query).fetchall())]

    clock.advance(86_390)
    store.sweep()
    assert kept() == ["expired", "settled"]
    clock.advance(20)
    store.sweep()
    assert kept() == ["expired"]
    store.settle("expired", {"k": 1})
    assert store.read(["k"]) == {"k": Balance(6, 0)}
    store.close()


# --- processes ---------------------------------------------------------------------------------------

HOLD_AND_VANISH = """
import os, sys
from taximeter.budgets.books import Charge
from taximeter.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
store.hold("left", [Charge("k", 40, 100, 25)], ttl=3600, note="n")
os._exit(0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="owners are known through /proc")
def test_a_hold_whose_process_has_ended_is_settled_before_its_time(path: Path) -> None:
    python(HOLD_AND_VANISH, path)
    store = SQLiteStore(path)
    store.hold("mine", [Charge("k", 10, 100)], ttl=3600)
    assert [(h.hold_id, dict(h.amounts), h.note) for h in store.sweep()] == [
        ("left", {"k": 25}, "n")
    ]
    assert store.read(["k"]) == {"k": Balance(25, 10)}
    store.close()


def test_nobody_is_declared_dead_who_lives_or_cannot_be_seen() -> None:
    me = this_process()
    assert not is_gone(me)
    assert not is_gone(Owner(me.host + " elsewhere", me.pid, me.started + 1))
    assert not is_gone(Owner(me.host, me.pid, 0))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="owners are known through /proc")
def test_a_pid_that_was_given_to_another_process_is_not_its_first_owner() -> None:
    me = this_process()
    assert is_gone(Owner(me.host, me.pid, me.started + 1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_uses_a_connection_of_its_own(store: SQLiteStore) -> None:
    store.hold("parent", [Charge("k", 5)])
    inherited = store._file._connection
    pid = os.fork()
    if pid == 0:
        try:
            store.settle("child", {"k": 3})
            own = store._file._connection is not inherited
            os._exit(0 if own else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store.settle("parent", {"k": 4})
    assert store.read(["k"]) == {"k": Balance(7, 0)}
    assert store._file._connection is inherited


def test_many_processes_may_make_the_same_file_at_once(path: Path) -> None:
    code = (
        "import sys; from taximeter.stores.sqlite import SQLiteStore; "
        "s = SQLiteStore(sys.argv[1], timeout=60); s.settle(sys.argv[2], {'k': 1})"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, path, str(n)], stderr=subprocess.PIPE)
        for n in range(6)
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 6, errors
    store = SQLiteStore(path)
    assert store.read(["k"]) == {"k": Balance(6, 0)}
    store.close()


def test_a_file_that_another_process_makes_while_we_look_at_it_is_not_a_strangers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, opened = sqlite3.connect, []

    class Racing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:  # type: ignore[override]
            if sql == "PRAGMA user_version" and not opened:
                opened.append(sql)
                with suppress(StoreUnavailableError):  # Kept out until we have looked: as good.
                    SQLiteStore(path, timeout=0).close()
            return super().execute(sql, *parameters)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite_file.sqlite3, "connect", partial(connect, factory=Racing))
    store = SQLiteStore(path)
    store.settle("one", {"k": 1})
    assert opened
    assert store.read(["k"]) == {"k": Balance(1, 0)}
    store.close()
