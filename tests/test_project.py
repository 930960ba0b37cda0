"""The frame: versions agree, importing stays light, nothing of one machine is committed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import taximeter
from tests import recordings as files

ROOT = files.ROOT
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Written so that the patterns do not find themselves.
REGISTRY_HOST = re.compile(r"\b(?:pypi|pythonhosted|npmjs|debian|crates)\.(?:org|com|io)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+|opt/pypi[\w-]*)/")


def committed_files() -> list[Path]:
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("NOT A GIT CLONE: what is committed cannot be listed")
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file()]


def findings(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in committed_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


def modules_imported_by(statement: str) -> set[str]:
    """Names that a fresh interpreter loads for ``statement``, beyond those of its own start."""
    program = (
        "import json, sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return set(json.loads(run.stdout))


def test_package_project_and_changelog_tell_one_version() -> None:
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest is not None
    assert taximeter.__version__ == PROJECT["version"] == latest[1]


def test_import_loads_the_standard_library_only_and_no_asyncio() -> None:
    loaded = modules_imported_by("import taximeter")
    assert "taximeter" in loaded
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert foreign == {"taximeter"}
    assert "asyncio" not in loaded


def test_there_is_no_hard_dependency() -> None:
    assert PROJECT["dependencies"] == []


def test_the_extra_all_names_every_purpose() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.fullmatch(r"taximeter\[(.*)\]", everything)[1].split(","))  # type: ignore[index]
    assert named == set(extras) - {"all", "dev"}


def test_every_extra_that_an_error_names_exists() -> None:
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r"MissingExtraError\(\s*\"[^\"]+\",\s*\"(\w+)\"", path.read_text()))
    assert named <= set(PROJECT["optional-dependencies"])


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


def test_no_committed_file_names_a_registry_host() -> None:
    assert findings(REGISTRY_HOST) == []


def test_no_committed_file_names_a_path_of_one_machine() -> None:
    assert findings(MACHINE_PATH) == []


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("see https://files.python" + "hosted.org/x", REGISTRY_HOST),
        ("--index-url https://py" + "pi.org/simple", REGISTRY_HOST),
        ("open('/ho" + "me/ada/notes')", MACHINE_PATH),
        ("cd /ro" + "ot/.cache", MACHINE_PATH),
    ],
)
def test_the_patterns_find_what_they_are_for(text: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(text)


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    records = {path.name for path in folder.glob("[0-9]*.md")}
    linked = set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert records == linked


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            if not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_a_typed_package_says_so() -> None:
    assert (ROOT / "src" / "taximeter" / "py.typed").exists()


def test_skips_for_want_of_recordings_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(files.VARIABLE, str(ROOT / "no-such-folder"))
    assert "NO RECORDINGS" in (files.missing("openai.chat") or "")
    assert list(files.read("openai.chat")) == []


@files.needs_recordings
def test_recordings_are_found_and_read() -> None:
    first = next(files.read("openai.chat"))
    assert first["wire"] == "openai.chat"
    assert files.response_bytes(first)
