"""``taximeter estimate``: what a call would cost, before it is made."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from taximeter.cli.output import LEFT, RIGHT, add_command, print_table, to_json
from taximeter.errors import ConfigurationError, PriceUnknownError
from taximeter.money import dollars

if TYPE_CHECKING:
    from taximeter.estimating import Estimate

EXAMPLES: Final = """\
  taximeter estimate gpt-4o-mini --text "Tell me about taxis." --max-tokens 500
  taximeter estimate claude-sonnet-4-5 --file prompt.txt --max-tokens 4000
  cat prompt.txt | taximeter estimate gpt-4.1 --compare gpt-4.1-mini,gemini-2.5-flash --json

  expected: the prompt's likely tokens and the whole output cap (the model's own maximum without
  --max-tokens). worst case: the sound bound that a strict budget would hold."""


def add(commands: Any) -> None:
    """The arguments of ``estimate``."""
    parser = add_command(
        commands,
        "estimate",
        help="what a call would cost",
        description="Expected and worst cost of one call, from its prompt alone. Nothing is sent.",
        examples=EXAMPLES,
    )
    parser.add_argument("model", help="as the SDK takes it")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--text", help="the prompt")
    prompt.add_argument("--file", metavar="FILE", help="a file with the prompt; - is stdin")
    parser.add_argument("--max-tokens", metavar="N", type=int, help="output cap of the call")
    parser.add_argument("--provider", help="who answers (default: the model's maker)")
    parser.add_argument("--compare", default="", metavar="MODELS", help="more models, a,b,c")
    parser.add_argument("--json", action="store_true", help="a list, one object a model")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print an estimate for each model."""
    if options.max_tokens is not None and options.max_tokens < 1:
        raise ConfigurationError(f"--max-tokens {options.max_tokens} is below 1")
    text = _prompt(options)
    others = [name.strip() for name in options.compare.split(",") if name.strip()]
    estimates = [_estimate(options.model, text, options.max_tokens, options.provider)]
    estimates += [_estimate(name, text, options.max_tokens, None) for name in others]
    if options.json:
        print(to_json([_data(estimate) for estimate in estimates]))
    else:
        _print(estimates)
    return 0


def _prompt(options: argparse.Namespace) -> str:
    if options.text is not None:
        return str(options.text)
    if options.file not in (None, "-"):
        try:
            with open(options.file, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError as error:
            raise ConfigurationError(f"cannot open {options.file!r}: {error.strerror}") from None
    if options.file is None and sys.stdin.isatty():
        raise ConfigurationError("no prompt; give --text, --file or something on stdin")
    return sys.stdin.read()


def _estimate(model: str, text: str, max_tokens: int | None, provider: str | None) -> Estimate:
    from taximeter import providers
    from taximeter.api import quote
    from taximeter.cli.prices import unknown_model

    request: dict[str, Any]
    if providers.owner(model) == "google":
        request = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        if max_tokens is not None:
            request["generationConfig"] = {"maxOutputTokens": max_tokens}
    else:
        request = {"messages": [{"role": "user", "content": text}]}
        if max_tokens is not None:
            request["max_tokens"] = max_tokens
    try:
        return quote(model=model, provider=provider, **request)
    except PriceUnknownError:
        raise unknown_model(model, provider) from None


def _data(estimate: Estimate) -> dict[str, Any]:
    return {field.name: getattr(estimate, field.name) for field in fields(estimate)}


def _print(estimates: list[Estimate]) -> None:
    columns = [
        ("model", LEFT),
        ("provider", LEFT),
        ("input", RIGHT),
        ("at most", RIGHT),
        ("output", RIGHT),
        ("input cost", RIGHT),
        ("expected", RIGHT),
        ("worst case", RIGHT),
    ]
    rows = [
        [
            one.model,
            one.provider,
            f"{one.input_tokens:,}",
            _count(one.input_tokens_max),
            _count(one.output_tokens),
            dollars(one.input_usd),
            dollars(one.expected_usd),
            "no bound" if one.worst_usd is None else dollars(one.worst_usd),
        ]
        for one in estimates
    ]
    print_table(columns, rows)
    for one in estimates:
        if one.unbounded:
            print(f"{one.model}: the cost has no bound: {one.unbounded}")
    print(f"tokens; USD at the rates of price snapshot {estimates[0].price_snapshot}")


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else f"{tokens:,}"
