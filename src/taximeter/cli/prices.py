"""``taximeter prices``: the embedded price book, listed or looked up."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from taximeter.cli.output import LEFT, RIGHT, add_command, print_table, to_json
from taximeter.errors import ConfigurationError

if TYPE_CHECKING:
    from taximeter.pricing.base import RateCard

EXAMPLES: Final = """\
  taximeter prices list --provider anthropic
  taximeter prices list --search gpt-4.1 --json
  taximeter prices show claude-sonnet-4-5
  taximeter prices show groq/llama-3.3-70b-versatile --json

  Rates are USD per million tokens, fees USD each."""

LISTED: Final = ("input", "cached_input", "output")


def add(commands: Any) -> None:
    """The arguments of ``prices list`` and ``prices show``."""
    parser = add_command(
        commands,
        "prices",
        help="the price book: list, show",
        description="The price book that ships with taximeter. Needs no network.",
        examples=EXAMPLES,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    lister = add_command(
        actions,
        "list",
        help="every model with its rates",
        description="Rates per million tokens, a line a model.",
        examples="  taximeter prices list --provider openai --search mini",
    )
    lister.add_argument("--provider", help="only this provider's")
    lister.add_argument("--search", metavar="TEXT", help="only names that contain this")
    lister.add_argument("--json", action="store_true", help="a line of JSON for each model")
    lister.set_defaults(execute=execute_list)
    shower = add_command(
        actions,
        "show",
        help="all that is known of one model's price",
        description="Rates, tiers, fees, source and date of one model. Aliases and dated names "
        "are found as a call would find them.",
        examples="  taximeter prices show gpt-4o-mini\n  taximeter prices show azure/gpt-4o",
    )
    shower.add_argument("model", help="as the SDK takes it, or provider/model")
    shower.add_argument("--provider", help="who answers (default: the model's maker)")
    shower.add_argument("--json", action="store_true", help="one JSON object")
    shower.set_defaults(execute=execute_show)


def execute_list(options: argparse.Namespace) -> int:
    """Print the list; an unknown provider is an error, no match is an empty list."""
    from taximeter.pricing.book import embedded
    from taximeter.pricing.describe import describe

    wanted = (options.search or "").lower()
    cards = list(embedded().models(options.provider))
    if not cards:
        known = sorted({card.provider for card in embedded().models()})
        near = difflib.get_close_matches(str(options.provider).lower(), known, n=3)
        hint = f"do you mean {', '.join(near)}?" if near else f"it has {', '.join(known)}"
        raise ConfigurationError(
            f"--provider {options.provider!r} is not in the price book; {hint}"
        )
    found = [card for card in cards if wanted in f"{card.provider}/{card.model}".lower()]
    if options.json:
        for card in found:
            print(to_json(describe(card)))
        return 0
    columns = [("provider", LEFT), ("model", LEFT), *((kind, RIGHT) for kind in LISTED)]
    rows = []
    for card in found:
        rates = describe(card)["rates"]
        rows.append([card.provider, card.model, *(rates.get(kind, "-") for kind in LISTED)])
    print_table(
        [*columns, ("context", RIGHT)],
        [[*r, _context(c)] for r, c in zip(rows, found, strict=True)],
    )
    print(f"{len(found):,} models; USD per million tokens; snapshot {embedded().snapshot_id}")
    return 0


def execute_show(options: argparse.Namespace) -> int:
    """Print one model's card."""
    from taximeter.pricing.book import embedded
    from taximeter.pricing.describe import describe

    card = find(options.model, options.provider)
    data = {"asked": options.model, **describe(card), "snapshot": embedded().snapshot_id}
    if options.json:
        print(to_json(data))
    else:
        _print_card(data)
    return 0


def find(model: str, provider: str | None) -> RateCard:
    """The card a call would be priced with.

    Raises:
        ConfigurationError: No price is known; names what comes near.
    """
    from taximeter import providers
    from taximeter.pricing.book import embedded

    book = embedded()
    card = book.find(provider or providers.owner(model), model)
    if card is None and provider is None and "/" in model:
        prefix, _, rest = model.partition("/")
        card = book.find(prefix, rest)
    if card is None:
        raise unknown_model(model, provider)
    return card


def unknown_model(model: str, provider: str | None) -> ConfigurationError:
    """The error of a model without a price, with names that come near."""
    from taximeter import providers
    from taximeter.pricing.book import embedded

    bare = model.rpartition("/")[2].lower()
    homes: dict[str, list[str]] = {}
    for card in embedded().models(provider):
        homes.setdefault(card.model.rpartition("/")[2].lower(), []).append(card.provider)
    near = difflib.get_close_matches(bare, homes, n=4, cutoff=0.7)
    shown = []
    for name in dict.fromkeys([*near, *sorted(n for n in homes if bare in n)][:4]):
        maker = providers.owner(name)  # Its own maker rather than one of many resellers.
        shown.append(f"{maker if maker in homes[name] else homes[name][0]}/{name}")
    of = f" of {provider!r}" if provider is not None else ""
    hint = f"do you mean {', '.join(shown)}?" if shown else "see `taximeter prices list --search`"
    return ConfigurationError(f"no price is known for model {model!r}{of}; {hint}")


def _context(card: RateCard) -> str:
    return "-" if card.context_tokens is None else f"{card.context_tokens:,}"


def _tokens(count: int | None) -> str | None:
    return f"{count:,} tokens" if count is not None else None


def _print_card(data: Mapping[str, Any]) -> None:
    print(f"{data['provider']}/{data['model']}")
    _print_rates("USD per million tokens", data["rates"])
    for step in data.get("tiers", ()):
        edge = "from" if "from" in step else "over"
        _print_rates(f"{edge} {step[edge]:,} input tokens, the whole call", step["rates"])
    for name, rates in data.get("service_tiers", {}).items():
        _print_rates(f"service tier {name}", rates)
    if "off_peak" in data:
        _print_rates("off-peak", data["off_peak"])
    if "fees" in data:
        _print_rates("fees, USD each", data["fees"])
    for step in data.get("history", ()):
        _print_rates(f"from {step['since'] or '?'} until {step['until'] or '?'}", step["rates"])
    facts = {
        "context": _tokens(data.get("context_tokens")),
        "longest answer": _tokens(data.get("output_tokens_max")),
        "reasons": "yes, output tokens that nobody sees are billed" if "reasons" in data else None,
        "free": "yes" if "free" in data else None,
        "regions": ", ".join(f"{zone} × {by}" for zone, by in data.get("regions", {}).items()),
        "flags": ", ".join(data.get("flags", ())),
        "since": data.get("since"),
        "retires": data.get("until"),
        "source": data.get("source"),
        "snapshot": data["snapshot"],
    }
    for name, fact in facts.items():
        if fact:
            print(f"  {name:<16}{fact}")


def _print_rates(title: str, rates: Mapping[str, str]) -> None:
    if rates:
        print(f"  {title}")
        for kind, rate in rates.items():
            print(f"    {kind:<20}{rate:>12}")
