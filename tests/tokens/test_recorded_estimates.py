"""The promises of the estimates, on what providers really billed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taximeter.tokens import OutputCounter, count_prompt, family, vocabulary
from taximeter.wire.base import Prompt
from tests.recordings import needs_recordings
from tests.tokens.recorded import WIRES, Call, calls

pytestmark = needs_recordings
HAND_MADE = {"vercel/ai"}  # fixtures shortened by hand: their text does not add up to their usage

exact_or_not = pytest.mark.parametrize(
    "exact",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                not vocabulary.available(), reason="the extra [tokens] is not installed"
            ),
        ),
    ],
    ids=["bytes", "vocabulary"],
)


@pytest.fixture(scope="module")
def recorded() -> list[Call]:
    return [call for call in calls(WIRES) if call.repo not in HAND_MADE]


def of_seen_input(recorded: list[Call]) -> Iterator[Call]:
    return (call for call in recorded if call.shows_input)


@exact_or_not
def test_likely_max_covers_the_input_that_can_be_seen(recorded: list[Call], exact: bool) -> None:
    total, passed = 0, []
    for call in of_seen_input(recorded):
        counted = count_prompt(call.prompt, model=call.model, exact_texts=exact)
        total += 1
        if call.input_tokens > counted.likely_max:
            passed.append((call.id, call.input_tokens, counted))
    assert total > 2_500
    assert len(passed) <= total * 0.001, passed


def test_no_bounded_input_passed_its_bound(recorded: list[Call]) -> None:
    bounded, passed = 0, []
    for call in of_seen_input(recorded):
        counted = count_prompt(
            call.prompt,
            model=call.model,
            exact_texts=False,
        )
        if counted.bound is not None:
            bounded += 1
            if call.input_tokens > counted.bound:
                passed.append((call.id, call.input_tokens, counted.bound))
    assert bounded > 2_500
    assert passed == []


def test_an_unknown_name_for_a_known_model_is_still_covered(recorded: list[Call]) -> None:
    total = passed = 0
    for call in of_seen_input(recorded):
        if (
            family(call.model).name.startswith(("gpt", "gemini", "mistral"))
            and not call.prompt.images
        ):
            counted = count_prompt(call.prompt, model="prod", exact_texts=False)
            total += 1
            passed += call.input_tokens > counted.likely_max
    assert total > 1_000
    assert passed <= total * 0.001


@pytest.mark.skipif(not vocabulary.available(), reason="the extra [tokens] is not installed")
def test_plain_openai_prompts_are_exact_in_nine_of_ten(recorded: list[Call]) -> None:
    plain = [
        call
        for call in of_seen_input(recorded)
        if family(call.model).name == "gpt-4o/4.1" and not call.prompt.images
        if not call.prompt.tools_json
    ]
    exact = sum(
        call.input_tokens == count_prompt(call.prompt, model=call.model).expected for call in plain
    )
    assert len(plain) > 200
    assert exact >= 0.9 * len(plain)


@exact_or_not
@pytest.mark.parametrize("kind", ["text", "tool"])
def test_likely_max_covers_answers_without_hidden_parts(
    recorded: list[Call], exact: bool, kind: str
) -> None:
    total, passed = 0, []
    for call in recorded:
        if call.prompt.hosted_tools or call.reasoning_tokens or call.reasoning:
            continue
        if not call.output_tokens or (kind == "tool") != bool(call.tool):
            continue
        if not (call.text or call.tool) or "image" in call.model:
            continue
        counter = OutputCounter(family(call.model), call.wire, exact_texts=exact)
        counter.feed(call.text, "text", call.deltas if call.streamed else 0)
        counter.feed(call.tool, "tool", 0)
        total += 1
        assert call.output_tokens <= counter.bound, call.id
        if call.output_tokens > counter.likely_max:
            passed.append((call.id, call.output_tokens, counter.likely_max))
    assert total > 500
    assert len(passed) <= total * 0.01, passed


def test_the_wires_own_reading_is_covered_too(recorded: list[Call]) -> None:
    from taximeter.wire import registry
    from tests.recordings import read

    known = {call.id: call for call in of_seen_input(recorded)}
    total, passed = 0, []
    for name in ("openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"):
        try:
            wire = registry.by_name(name)
        except LookupError:
            continue
        for row in read(name):
            call = known.get(row["id"])
            if call is None:
                continue
            prompt: Prompt = wire.read_request(row["url_path"] or "", row["request_json"]).prompt
            counted = count_prompt(prompt, model=call.model, exact_texts=False)
            total += 1
            assert counted.bound is None or call.input_tokens <= counted.bound, call.id
            if counted.why_unbounded is None and call.input_tokens > counted.likely_max:
                passed.append((call.id, call.input_tokens, counted.likely_max))
    assert total > 0
    assert len(passed) <= total * 0.001, passed
