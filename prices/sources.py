"""Reads the two public maps into rows of the book (see taximeter.pricing.rows)."""

from __future__ import annotations

import re
from typing import Any

from taximeter.pricing import litellm as keys
from taximeter.pricing.rows import Row

Book = dict[str, dict[str, Any]]

# Sold by subscription, or placeholders of a program that serves models itself: no price per token.
LEFT_OUT = {
    "github_copilot",
    "github-copilot",
    "chatgpt",
    "microsoft_365_copilot",
    "cursor",
    "lemonade",
    "ollama_chat",
    "sample_spec",
}

PROVIDERS = {
    "ai21": "ai21",
    "amazon_nova": "amazon_nova",
    "aws": "bedrock",
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "bedrock_mantle": "bedrock",
    "cohere_chat": "cohere",
    "dashscope": "alibaba",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "gemini": "google",
    "meta_llama": "meta",
    "moonshotai": "moonshot",
    "ollama": "local",
    "text-completion-openai": "openai",
    "text-completion-codestral": "mistral",
    "codestral": "mistral",
    "together_ai": "together",
    "vercel_ai_gateway": "vercel",
    "voyageai": "voyage",
    "x-ai": "xai",
    "zhipuai": "zai",
}

# Listed at 0 because they are free, not because nobody knows: all other zeros are left out.
FREE = {"local", "zai", "openrouter", "google"}

TEXT_MODES = {"chat", "responses", "completion", "embedding", None}


def canonical(provider: str) -> str:
    if provider.startswith("vertex_ai"):
        return "vertex"
    return PROVIDERS.get(provider, provider)


def read_litellm(data: dict[str, Any]) -> Book:
    book: Book = {}
    for key, entry in data.items():
        source = entry.get("litellm_provider") if isinstance(entry, dict) else None
        if source is None or source in LEFT_OUT or key == "sample_spec" or "commitment" in key:
            continue
        provider = canonical(source)
        row = keys.row_of(entry, inclusive=provider == "xai")
        if not complete(row, entry.get("mode"), provider):
            continue
        if entry.get("mode") not in TEXT_MODES:
            row["n"] = 1
        add_regions(entry, row)
        add_speeds(entry, row)
        row["q"] = "litellm"
        name = model_name(key, source, provider)
        # The provider-prefixed key wins over a bare one where both exist.
        known = book.setdefault(provider, {})
        if name not in known or key.startswith(f"{source}/"):
            known[name] = row
    return book


# 1,000 USD per million tokens: beyond it somebody entered the price of a thousand tokens.
RATE_MAX = 1000


def complete(row: Row, mode: str | None, provider: str) -> bool:
    """Whether the row prices text; drops zeros that mean unknown. Changes ``row``."""
    rates = row["r"]
    for kind, text in rates.items():
        if not kind.startswith("request") and float(text) > RATE_MAX:
            print(f"left out: {provider} {mode} {kind} at {text} USD per million")
            return False
    if rates.get("cache_write_5m") == "0":
        del rates["cache_write_5m"]
    if rates.get("cache_write_1h") == "0":
        del rates["cache_write_1h"]
    if "input" not in rates:
        return False
    if "output" not in rates:
        if mode not in ("embedding", "rerank", "moderation", "audio_transcription"):
            return False
        rates["output"] = "0"
    if rates["input"] == "0" and rates["output"] == "0" and not rates.get("request"):
        if provider not in FREE:
            return False
        row["f"] = 1
    elif rates.get("cached_input") == "0":
        del rates["cached_input"]  # An unknown discount is not a gift.
    for kind, whole in (("reasoning", "output"), ("image_input", "input")):
        if rates.get(kind) in (rates[whole], "0"):
            del rates[kind]
    return True


def model_name(key: str, source: str, provider: str) -> str:
    for prefix in (source, source.partition("-")[0], provider):
        if key.startswith(f"{prefix}/"):
            return key[len(prefix) + 1 :]
    return key


def add_regions(entry: dict[str, Any], row: Row) -> None:
    regions: dict[str, int] = {}
    for zone in ("eu", "us"):
        if factor := entry.get(f"regional_processing_uplift_multiplier_{zone}"):
            regions[zone] = thousandths(factor)
    if factor := entry.get("regional_endpoint_uplift_multiplier"):
        regions["*"] = thousandths(factor)
    specific = entry.get("provider_specific_entry") or {}
    if isinstance(factor := specific.get("us"), int | float):
        regions["us"] = thousandths(factor)
    if regions:
        row["g"] = regions


def add_speeds(entry: dict[str, Any], row: Row) -> None:
    """Anthropic's fast mode: a factor on every token rate."""
    factor = (entry.get("provider_specific_entry") or {}).get("fast")
    if isinstance(factor, int | float):
        fast = {
            kind: scaled(text, thousandths(factor))
            for kind, text in row["r"].items()
            if not kind.startswith("request")
        }
        row.setdefault("v", {})["fast"] = fast
    windows = entry.get("off_peak_pricing")
    if isinstance(windows, dict):
        row["o"] = {
            "r": keys.row_of({k: v for k, v in windows.items() if k != "windows"})["r"],
            "w": [span for window in windows["windows"] for span in spans(window)],
        }
        row["o"]["r"].pop("cache_write_5m", None)


def spans(window: dict[str, Any]) -> list[list[Any]]:
    hours = window["hours_utc"]
    days = window.get("weekdays", [1, 2, 3, 4, 5, 6, 7])
    found = []
    for span in [hours] if isinstance(hours, str) else hours:
        first, end = (int(t[:2]) * 60 + int(t[3:]) for t in span.split("-"))
        if end == 0:
            end = 24 * 60
        if first < end:
            found.append([days, first, end])
        else:  # Over midnight; the early hours belong to the next day, which the map ignores too.
            found += [[days, first, 24 * 60], [days, 0, end]]
    return found


def thousandths(factor: float) -> int:
    return round(factor * 1000)


def scaled(text: str, factor: int) -> str:
    from taximeter.pricing.rows import rate_of, text_of

    return text_of(rate_of(text) * factor // 1000)


# --- genai-prices ---------------------------------------------------------------------------------

UNITS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "cached_audio_input",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "output_reasoning_mtok": "reasoning",
    "requests_kcount": "request",
    "web_searches_kcount": "requests.web_search",
    "social_searches_kcount": "requests.x_search",
    "storage_searches_kcount": "requests.file_search",
    "code_executions_kcount": "requests.code_interpreter",
}
SERVICE = {"service_tier": str, "processing": str, "speed": str}


def read_genai(data: dict[str, Any], today: str) -> Book:
    book: Book = {}
    for source, models in data.items():
        if source in LEFT_OUT or source == "openai-decisions":
            continue
        provider, suffix = canonical(source), ""
        if source.startswith("huggingface_"):
            provider, suffix = "huggingface", ":" + source.removeprefix("huggingface_")
        for model in models:
            row = genai_row(model, provider, today)
            if row is None:
                continue
            known = book.setdefault(provider, {})
            # The exact names first: a model's id may be another one's prefix.
            # "regional." is the source's own word for every profile that is not global.
            ids = [model["id"].removeprefix("regional."), *model["names"]]
            for name in dict.fromkeys(ids):
                if re.search(r"[\s*]", name) or len(name) < 3 or name.endswith(("-", ".", "/")):
                    continue
                known.setdefault(name + suffix, row)
    return book


def genai_row(model: dict[str, Any], provider: str, today: str) -> Row | None:
    """The row that holds today; what held before, and what is announced, goes to its history."""
    dated = [each for each in model["prices"] if "from" not in each["when"]]
    steps = [(each["when"].get("date", ""), each["prices"]) for each in dated]
    mode = "embedding" if "embed" in model["id"] or model["id"].startswith("voyage") else None
    rows: list[Row] = []
    for index, (since, prices) in enumerate(steps):
        row = price_row(prices, provider)
        if not complete(row, mode, provider):
            continue
        add_variants(row, model["variants"], max(since, today))
        if since:
            row["s"] = since
        if index + 1 < len(steps):
            row["u"] = steps[index + 1][0]
        rows.append(row)
    current = [row for row in rows if row.get("s", "") <= today]
    if not current:
        return None
    row = current[-1]
    others = [each for each in rows if each is not row]
    row.pop("u", None)
    if others:
        row["h"] = others
    if model["context"]:
        row["c"] = model["context"]
    row["q"] = "genai-prices"
    return row


def add_variants(row: Row, variants: list[dict[str, Any]], day: str) -> None:
    """Rates by service tier that hold on ``day``; of several the latest."""
    latest: dict[str, str] = {}
    for variant in variants:
        since = variant["condition"].get("date", "")
        names = [value for key, value in variant["when"].items() if key in SERVICE]
        if len(variant["when"]) != 1 or not names or names[0] == "default" or since > day:
            continue
        name = names[0]
        if since < latest.get(name, ""):
            continue
        latest[name] = since
        special = price_row(variant["prices"], "")
        row.setdefault("v", {})[name] = special["r"]
        for step in special.get("t", []):
            for own in row.get("t", []):
                if own[0] == step[0]:
                    own[3][name] = step[2]


def price_row(prices: dict[str, Any], provider: str) -> Row:
    rates: dict[str, str] = {}
    tiers: dict[int, dict[str, str]] = {}
    for unit, value in prices.items():
        kind = UNITS.get(unit)
        if kind is None:
            continue
        base = value["base"] if isinstance(value, dict) else value
        rates[kind] = per_million(base, unit)
        for start, price in value["tiers"] if isinstance(value, dict) else []:
            over = start + 1 if provider == "xai" and start % 1000 == 999 else start
            tiers.setdefault(over, {})[kind] = per_million(price, unit)
    row: Row = {"r": rates}
    if tiers:
        row["t"] = [[over, int(provider == "xai"), tiers[over], {}] for over in sorted(tiers)]
    return row


def per_million(text: str, unit: str) -> str:
    from taximeter.pricing.rows import rate_of, text_of

    return text_of(rate_of(text) * (1000 if unit.endswith("_kcount") else 1))
