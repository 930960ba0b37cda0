"""Makes one book of two: LiteLLM's rows first, genai-prices for what it lacks and for history."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from sources import scaled

from taximeter.pricing.rows import rate_of, text_of

Row = dict[str, Any]
Book = dict[str, dict[str, Any]]

COMPARED = ("input", "output", "cached_input", "cache_write_5m", "cache_write_1h", "audio_input")
DATED = re.compile(r"[-@](?:20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d)$")


def merge(litellm: Book, genai: Book) -> tuple[Book, list[str]]:
    """Both books in one, and what they disagree about in words."""
    book = deepcopy(litellm)
    report: list[str] = []
    for provider, models in genai.items():
        own = book.setdefault(provider, {})
        lower = {name.lower(): name for name in own}
        for name, row in models.items():
            there = own.get(name) or own.get(lower.get(name.lower(), ""))
            if there is None:
                own[name] = deepcopy(row)
                continue
            report += differences(f"{provider}/{name}", there, row)
            fill(there, row)
    return book, report


def differences(name: str, litellm: Row, genai: Row) -> list[str]:
    found = []
    for kind in COMPARED:
        left, right = litellm["r"].get(kind), genai["r"].get(kind)
        if left is not None and right is not None and left != right:
            found.append(f"{name} {kind}: litellm {left}, genai-prices {right}")
    return found


def fill(row: Row, other: Row) -> None:
    """What ``row`` lacks and ``other`` knows about the same model, where the basic rates agree."""
    if any(row["r"].get(kind) != other["r"].get(kind) for kind in ("input", "output")):
        # Peak and off-peak disagree on what "current" is, but not on what was before.
        if "h" in other and "o" in row:
            row["h"], row["s"] = deepcopy(other["h"]), other.get("s")
        return
    for key in ("h", "s", "c"):
        if key in other and key not in row:
            row[key] = deepcopy(other[key])
    for kind, text in other["r"].items():
        row["r"].setdefault(kind, text)
    for step in row.get("h", []):
        for kind, text in row["r"].items():
            if kind.startswith("request"):
                step["r"].setdefault(kind, text)
    for service, rates in other.get("v", {}).items():
        row.setdefault("v", {}).setdefault(service, rates)


def apply_rules(book: Book) -> None:
    """Facts about whole families that the maps leave out. Sources: prices/README.md."""
    bedrock_in_region(book["bedrock"])
    azure_zones(book["azure"])
    for models in book.values():
        for name, row in models.items():
            if "claude" in name.lower():
                row.pop("x", None)  # Thinks only when it is asked to.
                claude_cache_writes(row)
    for row in book["openrouter"].values():
        storage_beside_input(row)
    for provider in ("google", "vertex", "vercel"):
        for name, row in book[provider].items():
            if re.search(r"gemini-(?:[12]\.|pro|flash-(?:1|2))", name):
                for step in [row, *row.get("h", [])]:
                    by_prompt(step["r"])
    for provider in ("openai", "azure", "google", "vertex", "openrouter", "vercel"):
        for name, row in book.get(provider, {}).items():
            if reasons(name):
                row["x"] = 1
            elif "gpt-5-chat" in name:
                row.pop("x", None)
    for provider, names in {
        "xai": r"grok-(?:3-mini|4|code|build|latest)",
        "deepseek": r"reason|r1",
    }.items():
        for name, row in book[provider].items():
            if re.search(names, name) and "non-reasoning" not in name:
                row["x"] = 1
            elif "non-reasoning" in name:
                row.pop("x", None)


def storage_beside_input(row: Row) -> None:
    """OpenRouter lists Gemini's cache write as what it adds to the input: a few minutes of storage."""
    for step in [row, *row.get("h", [])]:
        rates = step["r"]
        write, plain = rates.get("cache_write_5m"), rates["input"]
        if write is not None and rate_of(write) < rate_of(plain):
            rates["cache_write_5m"] = text_of(rate_of(write) + rate_of(plain))


def by_prompt(rates: dict[str, str]) -> None:
    """Before Gemini 3 a grounded answer is charged once, however many queries it took."""
    if fee := rates.pop("requests.web_search", None):
        rates["requests.web_search_prompt"] = fee


def reasons(name: str) -> bool:
    name = name.rpartition("/")[2]
    if "non-reasoning" in name or "embed" in name or "gpt-5-chat" in name:
        return False
    return bool(
        re.match(r"o\d(?:-|$)|gpt-(?:[5-9]|1\d)|codex-mini|gpt-oss", name)
        or re.match(r"gemini-(?:2\.5|[3-9])(?!.*(?:-image|-tts))", name)
    )


def bedrock_in_region(models: dict[str, Row]) -> None:
    """A bare id runs in one region: it costs what the geographic profiles cost, not the global one."""
    for name in list(models):
        regional, worldwide = models.get(f"us.{name}"), models.get(f"global.{name}")
        if not (name.startswith("anthropic.claude") and regional and worldwide):
            continue
        if regional["r"]["input"] != worldwide["r"]["input"]:
            kept = models[name]
            models[name] = {**deepcopy(regional), **{k: kept[k] for k in "cm" if k in kept}}


def azure_zones(models: dict[str, Row]) -> None:
    """``eu/gpt-5.4`` beside ``gpt-5.4``: the factor of the data zone, told as a region."""
    for name, row in models.items():
        for zone in ("eu", "us"):
            other = models.get(f"{zone}/{name}")
            if other and other["r"].get("input") == scaled(row["r"]["input"], 1100):
                row.setdefault("g", {})[zone] = 1100


def claude_cache_writes(row: Row) -> None:
    """Documented for every Claude model: 1.25 times the input rate for 5 minutes, 2 for 1 hour."""
    for step in [row["r"], *(tier[2] for tier in row.get("t", []))]:
        if "input" in step and ("cached_input" in row["r"] or "cache_write_5m" in row["r"]):
            step.setdefault("cache_write_5m", scaled(step["input"], 1250))
            step.setdefault("cache_write_1h", scaled(step["input"], 2000))


def apply_corrections(book: Book, corrections: list[dict[str, Any]]) -> Iterator[str]:
    """Reviewed facts, in order. ``field`` is one of

    * a kind of rate, in USD per million (None takes it out); with ``*`` in the model's name: where
      the matching models have none of their own;
    * a key of the row (one letter, None takes it out);
    * ``row`` (all of it), ``alias`` (another model's name), ``like`` (a copy of another's row);
    * ``earlier``: a step of history, ``{"r": rates, "s": since, "u": until}``. Where steps overlap
      the one added last wins.
    """
    for fact in corrections:
        provider, _, name = fact["model"].partition("/")
        models = book.setdefault(provider, {})
        field, value = fact["field"], fact["value"]
        if "*" in name:
            pattern = re.compile(re.escape(name).replace(r"\*", ".*"))
            for each in models:
                if pattern.fullmatch(each) and isinstance(models[each], dict):
                    correct_family(models[each], field, value)
        elif field == "row":
            models[name] = {**value, "q": fact["source"]}
        elif field == "alias":
            models[name] = value
        elif field == "like":
            models[name] = deepcopy(models[value])
        else:
            correct(models[name], field, value)
            models[name]["q"] = fact["source"]
        yield f"{fact['model']} {field} = {json.dumps(value)[:90]}"


def correct_family(row: Row, field: str, value: Any) -> None:
    if len(field) == 1:
        correct(row, field, value)
        return
    for step in [row, *row.get("h", [])]:
        step["r"].setdefault(field, value)


def correct(row: Row, field: str, value: Any) -> None:
    if field == "earlier":
        fees = {kind: text for kind, text in row["r"].items() if kind.startswith("request")}
        step = {**value, "r": {**fees, **value["r"]}}
        row["h"] = [step, *row.get("h", [])]
    else:
        target = row if len(field) == 1 else row["r"]
        if value is None:
            target.pop(field, None)
        else:
            target[field] = value


def add_aliases(book: Book) -> None:
    """The undated name of a model that is listed under one date only."""
    for models in book.values():
        dated: dict[str, set[str]] = {}
        for name in models:
            if DATED.search(name):
                dated.setdefault(DATED.sub("", name), set()).add(name)
        for base, names in dated.items():
            if base not in models and len(names) == 1:
                models[base] = names.pop()


def keep_history(book: Book, previous: Book, date: str, made: str) -> Iterator[str]:
    """Append only: a changed rate leaves its predecessor behind, a deleted model stays.

    ``made``: the day of the previous snapshot.
    """
    for provider, models in previous.items():
        own = book.setdefault(provider, {})
        for name, old in models.items():
            new = own.get(name)
            if new is None:
                own[name] = old
                if isinstance(old, dict):
                    yield f"kept {provider}/{name}, which the sources dropped"
                continue
            old_row = resolve(models, old)
            new_row = resolve(own, new)
            if old_row is None or new_row is None:
                continue
            if money(old_row) == money(new_row):
                if "h" in old_row and "h" not in new_row and isinstance(new, dict):
                    new["h"], new["s"] = old_row["h"], old_row.get("s")
                continue
            if made == date or not isinstance(new, dict):
                continue  # Made again on the same day: a correction, not a new price.
            past = {k: v for k, v in old_row.items() if k not in "hsu"}
            earlier = [*old_row.get("h", []), {**past, "u": date}]
            new["h"] = earlier + [step for step in new.get("h", []) if step.get("s", "") > date]
            new["s"] = date
            yield f"{provider}/{name}: {old_row['r']} until {date}, now {new['r']}"


def resolve(models: dict[str, Any], row: Any) -> Row | None:
    for _ in range(3):
        if not isinstance(row, str):
            return row
        row = models.get(row)
    return None


def money(row: Row) -> str:
    """What decides about a price, to compare two rows."""
    return json.dumps([row.get(key) for key in "rtvog"], sort_keys=True)


def share(book: Book) -> None:
    """A dated name with the row of its undated one becomes an alias: smaller, and plainly equal."""
    for models in book.values():
        for name in list(models):
            base = DATED.sub("", name)
            if base != name and models[name] == models.get(base) and isinstance(models[name], dict):
                models[name] = base
