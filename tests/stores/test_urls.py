"""Stores by URL, and what is said about those that are not."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from taximeter.errors import ConfigurationError, StoreError
from taximeter.stores.memory import MemoryStore
from taximeter.stores.sqlite import SQLiteStore
from taximeter.stores.urls import default_path, open_ledger, open_store


def test_memory_is_one_store_for_the_process_and_another_by_name() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)
    assert open_store("memory://") is open_store("MEMORY://")
    assert open_store("memory://other") is not open_store("memory://")


def test_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for url in (
        "sqlite:///a%20b.db", f"sqlite:///{tmp_path}/a b.db", "sqlite:///~/a b.db",
        "sqlite:///./x/../a b.db",
    ):  # fmt: skip
        store = open_store(url)
        assert isinstance(store, SQLiteStore)
        assert store.path == tmp_path / "a b.db"
        store.close()


def test_the_same_file_is_one_store_for_as_long_as_it_is_in_use(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    store = open_store(url)
    assert open_store(url) is open_ledger(url) is store
    assert open_store(url + "?timeout=1") is not store
    store.close()
    del store
    gc.collect()
    assert open_store(url).read(["k"])


def test_options_reach_the_store(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/l.db?timeout=1.5&synchronous=FULL")
    assert isinstance(store, SQLiteStore)
    assert (store._file.timeout, store._file.synchronous) == (1.5, "full")
    store.close()


def test_the_users_own_file_is_made_with_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = open_store("sqlite://")
    assert isinstance(store, SQLiteStore)
    assert store.path == tmp_path / "state/taximeter/ledger.db"
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    store.close()


def test_a_relative_state_directory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    monkeypatch.setenv("HOME", "/somebody")
    assert default_path() == Path("/somebody/.local/state/taximeter/ledger.db")


def test_a_state_directory_that_cannot_be_made_is_an_error_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="XDG_STATE_HOME"):
        open_store("sqlite://")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://localhost", "redis is not built yet"),
        ("postgresql://localhost/db", "postgresql is not built yet"),
        ("oracle://x", "not known"),
        ("ledger.db", "not known; use 'memory://', 'sqlite:///file.db'"),
        ("sqlite:ledger.db", "not known"),
        ("", "not known"),
        ("sqlite://ledger.db", "third slash: 'sqlite:///ledger.db'"),
        ("sqlite:///:memory:", "use 'memory://'"),
        ("sqlite:///x.db?colour=red", "option 'colour'"),
        ("sqlite:///x.db?timeout=soon", "timeout='soon'"),
        ("sqlite:///x.db?synchronous=off", "synchronous='off'"),
        ("memory:///path", "no path"),
        ("http://[", "no URL"),
        (None, "store=None is no store|lacks"),
        (7, "lacks hold|lacks now"),
    ],
)
def test_what_cannot_be_opened_is_named_with_the_way_out(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=said):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


def test_a_store_object_is_given_back_and_one_that_lacks_operations_is_not() -> None:
    store = MemoryStore()
    assert open_store(store) is store
    assert open_ledger(store) is store

    class OnlyLedger:
        save = save_batch = entries = stats = close = MemoryStore.save

    ledger = OnlyLedger()
    assert open_ledger(ledger) is ledger  # type: ignore[comparison-overlap, arg-type]
    with pytest.raises(ConfigurationError, match="lacks now, hold, extend"):
        open_store(ledger)  # type: ignore[arg-type]
