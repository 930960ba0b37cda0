"""The reference is complete and true: what it leaves out, or names in vain, fails here."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from typing import Any

import pytest

import taximeter
from taximeter import cli, errors, testing
from taximeter.api import _LATER
from taximeter.budgets.policy import MODES
from taximeter.ledger import Stats
from tests.recordings import ROOT

API = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")

SHELL = {"admitted", "covers", "before", "ledger", "left_scope", "refused", "settled_call"}
SHELL |= {"tripped_by"}
"""Methods of a Budget that the runtime calls; no user has a use for them."""


def sections(text: str) -> dict[str, str]:
    """Text below each heading of level two or three, by the heading."""
    parts = re.split(r"^#{2,3} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def words(text: str) -> set[str]:
    """Names in code spans: of ``b.spent`` both, of ``f(x)`` f."""
    spans = re.findall(r"`([^`\n]+)`", text)
    return {word for span in spans for word in re.findall(r"[A-Za-z_]\w*", span)}


def section(name: str) -> str:
    found = [text for heading, text in sections(API).items() if f"`{name}" in heading]
    assert found, f"docs/reference/api.md has no heading for {name}"
    return found[0]


def spans_with_lines(text: str) -> set[str]:
    """The same where a code span runs over several lines."""
    return words(re.sub(r"(?<!\n)\n(?!\n|\|)", " ", text))


def test_every_public_name_is_in_the_reference() -> None:
    headings = " ".join(sections(API))
    missing = [name for name in taximeter.__all__ if not re.search(rf"`{name}\b", headings)]
    assert [name for name in missing if not name.endswith("Error")] == []
    assert set(missing) <= words(section_of_errors())


def section_of_errors() -> str:
    return sections(API)["Errors"]


def test_every_heading_that_names_something_names_something_public() -> None:
    named = {name for h in sections(API) for name in re.findall(r"`([A-Za-z_]\w*)(?=[`(])", h)}
    assert named <= set(taximeter.__all__)
    assert named >= {"budget", "Budget", "stats"}


@pytest.mark.parametrize(
    "name", ["budget", "tracked_call", "tracked_stream", "configure", "quote", "tags"]
)
def test_every_setting_is_described(name: str) -> None:
    parameters = inspect.signature(getattr(taximeter, name)).parameters.values()
    named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    told = words(section("tracked_call" if name == "tracked_stream" else name))
    headings = [h for h in sections(API) if f"`{name}" in h]
    assert [setting for setting in named if setting not in told | words(headings[0])] == []


def rows(text: str) -> dict[str, list[str]]:
    """Cells of the tables' rows by each name in their first cell."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for name in re.findall(r"`(\w+)`", cells[0]):
                found[name] = cells[1:]
    return found


def test_the_settings_of_a_budget_have_the_defaults_that_are_told() -> None:
    parameters = inspect.signature(taximeter.budget).parameters
    told = rows(section("budget"))
    assert set(told) == set(parameters)
    for name, (default, _) in told.items():
        expected = repr(parameters[name].default).replace("'", '"')
        assert default == f"`{expected}`", name


def test_every_word_that_a_setting_takes_is_told() -> None:
    told = words(section("budget"))
    choices = {*MODES, "raise", "truncate", "ceiling", "refuse", "closed", "open", "degrade"}
    assert choices | {"estimate", "worst_case", "drain"} <= told
    for wrong in ("mode", "on_limit", "unknown_model", "on_outage", "on_abort"):
        with pytest.raises(taximeter.ConfigurationError, match=wrong) as caught:
            taximeter.budget(**{wrong: "no such word"})  # type: ignore[arg-type]
        listed = re.search(r"is not one of ([\w, ]+)", str(caught.value))
        assert listed is not None
        assert set(listed[1].split(", ")) <= told


def test_settings_of_later_releases_are_told_as_such() -> None:
    line = next(line for line in section("budget").splitlines() if "not in this release" in line)
    assert set(_LATER) <= words(line)
    for setting in _LATER:
        with pytest.raises(taximeter.ConfigurationError, match=setting):
            taximeter.budget(**{setting: {"at_pct": 0.8, "model": "m"}})  # type: ignore[arg-type]


def test_everything_that_a_budget_shows_is_described() -> None:
    public = {name for name in dir(taximeter.Budget) if not name.startswith("_")}
    assert public >= SHELL
    assert public - SHELL <= words(section("Budget`"))


def test_every_key_of_the_summary_is_described() -> None:
    told = spans_with_lines(section("Budget`"))
    with taximeter.budget(max_usd=1) as b:
        assert set(b.summary_data()) <= told


@pytest.mark.parametrize("record", [taximeter.Estimate, taximeter.Usage, Stats])
def test_every_field_is_described(record: Any) -> None:
    name = "stats" if record is Stats else record.__name__
    told = spans_with_lines(section(name))
    assert [field.name for field in dataclasses.fields(record) if field.name not in told] == []


def test_every_error_and_its_facts_are_described() -> None:
    told = words(section_of_errors())
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.TaximeterError)
    }
    assert kinds <= told
    for kind in (errors.BudgetExceededError, errors.PriceUnknownError, errors.MissingExtraError):
        facts = set(inspect.signature(kind).parameters) - {"message"}
        assert facts <= words(" ".join(rows(section_of_errors())[kind.__name__]))


def test_every_environment_variable_is_described() -> None:
    read = set()
    for path in (ROOT / "src").rglob("*.py"):
        read |= set(re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", path.read_text("utf-8")))
    assert read
    assert read <= words(sections(API)["Environment"])


def test_every_name_for_tests_is_described() -> None:
    assert set(testing.__all__) <= words(section("taximeter.testing"))


def commands() -> dict[str, argparse.ArgumentParser]:
    for action in cli._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the command line has no commands")


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Long options, also of commands inside the command."""
    found = set()
    for action in parser._actions:
        found |= {word for word in action.option_strings if word.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found |= options(inner)
    return found - {"--help"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_of_a_command_is_described_and_no_other(name: str) -> None:
    text = sections(COMMANDS)[name]
    told = set(re.findall(r"--[a-z][a-z-]*", text))
    own = options(commands()[name])
    assert own <= told
    # A section may speak of another command: `taximeter run --name`.
    assert told <= own | {"--name"}
