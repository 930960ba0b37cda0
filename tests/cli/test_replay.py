"""``taximeter replay``: the contract's line for every record, whole or cut anywhere."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from taximeter.cli import main
from taximeter.cli.replay import agrees
from taximeter.wire.registry import NAMES
from tests import recordings as files
from tests.cli.conftest import Taximeter

WIRES = (
    "openai.chat",
    "openai.responses",
    "openai.completions",
    "anthropic.messages",
    "gemini.generate",
    "embeddings",
)
KEYS = {"id", "wire", "provider", "model", "usage", "parts", "usage_source", "terminal", "cost"}
COUNTS = {
    "input_tokens",
    "cached_input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
}


def record(**more: Any) -> dict[str, Any]:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 7, "total_tokens": 1007},
    }
    return {
        "id": "r1",
        "wire": "openai.chat",
        "provider": "openai",
        "host": "api.openai.com",
        "model": "gpt-4o-mini-2024-07-18",
        "url_path": "/v1/chat/completions",
        "streamed": False,
        "request_json": {"model": "gpt-4o-mini", "messages": []},
        "response_status": 200,
        "response_headers": {"content-type": "application/json"},
        "response_encoding": "text",
        "response_body": json.dumps(body),
    } | more


def lines_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def write(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)


def test_a_line_has_what_the_contract_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--json", write(tmp_path / "a.jsonl", record())]) == 0
    (line,) = lines_of(capsys.readouterr().out)
    assert set(line) >= KEYS
    assert set(line["usage"]) >= COUNTS
    assert line["usage"]["input_tokens"] == 1000
    assert line["usage"]["output_tokens"] == 7
    assert line["terminal"] is True
    assert (line["usage_source"], line["parts"]) == ("provider", [])
    assert line["cost"] == "0.0001542"  # 1000 at 0.15 and 7 at 0.60 USD a million.


def test_a_cost_has_all_its_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.loads(record()["response_body"])
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 1}
    main(["replay", "--json", write(tmp_path / "a", record(response_body=json.dumps(body)))])
    (line,) = lines_of(capsys.readouterr().out)
    assert line["cost"] == "0.000154125"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"wire": "carrier.pigeon"}, "unknown wire"),
        ({"response_status": 429}, "status 429"),
        ({"response_body": None}, "unreadable body"),
        ({"response_body": "A", "response_encoding": "base64"}, "unreadable body"),
        ({"response_body": '{"choices": []}'}, "no usage"),
        ({"response_body": '{"usage": {"prompt'}, ""),
        ({"response_body": "[" * 5000}, ""),
        ({"wire": 7, "provider": None, "model": [], "request_json": 3}, "unknown wire"),
        ({"request_json": "text", "response_headers": 5, "url_path": None}, None),
    ],
)
def test_an_odd_record_is_a_finding_and_not_a_failure(
    more: dict[str, Any],
    reason: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = write(tmp_path / "a.jsonl", record(**more), record(id="after"))
    assert main(["replay", "--json", name]) == 0
    line, after = lines_of(capsys.readouterr().out)
    if reason is None:
        assert line["usage"] is not None
    else:
        assert (line["usage"], line["cost"]) == (None, None)
        assert line["usage_source"] == "unknown"
        assert reason in line["reason"]
    assert after["usage"] is not None


def test_an_unpriced_model_costs_null_and_not_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.loads(record()["response_body"]) | {"model": "nobody-knows-it"}
    odd = record(
        response_body=json.dumps(body),
        provider="nobody",
        host="llm.example",
        request_json={"model": "nobody-knows-it", "messages": []},
    )
    main(["replay", "--json", write(tmp_path / "a.jsonl", odd)])
    (line,) = lines_of(capsys.readouterr().out)
    assert line["usage"]["input_tokens"] == 1000
    assert line["cost"] is None


def test_zipped_files_are_known_by_their_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "no-ending"
    name.write_bytes(gzip.compress((json.dumps(record()) + "\n").encode()))
    assert main(["replay", "--json", str(name)]) == 0
    assert len(lines_of(capsys.readouterr().out)) == 1


@pytest.mark.parametrize("zipped", [False, True])
def test_a_dash_reads_stdin(zipped: bool, taximeter: Taximeter) -> None:
    data = (json.dumps(record()) + "\n\n").encode()
    done = taximeter("replay", "--json", "-", input=gzip.compress(data) if zipped else data)
    assert done.status == 0, done.err
    assert [line["id"] for line in lines_of(done.out)] == ["r1"]


@pytest.mark.parametrize(
    "broken", [b"{not json\n", b"[1]\n", b"\xff\xfe\n", b'{"a":' * 20_000 + b"\n"]
)
def test_an_unreadable_line_is_named_and_the_rest_is_read(
    broken: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.dumps(record()).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(good + broken + good)
    assert main(["replay", "--json", str(tmp_path / "a.jsonl")]) == 2
    shown = capsys.readouterr()
    assert len(lines_of(shown.out)) == 2
    assert "line 2" in shown.err


def test_a_missing_or_broken_file_is_named_and_the_others_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(json.dumps(record()).encode() * 50)[:-20])
    good = write(tmp_path / "good.jsonl", record())
    assert main(["replay", "--json", str(tmp_path / "none"), str(cut), good]) == 2
    shown = capsys.readouterr()
    assert [line["id"] for line in lines_of(shown.out)] == ["r1"]
    assert "none" in shown.err
    assert "cut.gz" in shown.err


def test_the_table_ends_with_totals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = write(tmp_path / "a", record(), record(response_status=500), record(response_body=0))
    assert main(["replay", name]) == 0
    shown = capsys.readouterr().out
    total = next(line for line in shown.splitlines() if line.startswith("total"))
    assert total.split() == ["total", "3", "1", "1", "1", "1", "$0.0001542"]


@pytest.mark.parametrize(
    ("ours", "stated", "same"),
    [
        ("0.006194", "0.00619", True),
        ("0.006196", "0.00619", False),
        ("0.005", "0.0050", True),
        ("0.0000000001", "0", True),
        ("0.1", "0.2", False),
        ("120", "1E+2", True),
    ],
)
def test_costs_agree_to_the_digits_stated(ours: str, stated: str, same: bool) -> None:
    assert agrees(Decimal(ours), Decimal(stated)) is same


@files.needs_recordings
@pytest.mark.parametrize("wire", WIRES)
def test_recordings_replay_alike_whole_and_cut_anywhere(
    wire: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = files.missing(wire)
    if reason is not None:
        pytest.skip(reason)
    path = str(files.path(wire))
    assert main(["replay", "--json", path]) == 0
    whole = capsys.readouterr().out
    assert main(["replay", "--json", "--split", "11", path]) == 0
    assert capsys.readouterr().out == whole
    lines = {line["id"]: line for line in lines_of(whole)}
    recorded = list(files.read(wire))
    assert len(lines) == len(recorded)
    said = Counter(
        lines[one["id"]]["usage"] is not None
        for one in recorded
        if one["provider_usage"] and 200 <= one["response_status"] < 300
    )
    assert said[False] == 0
    assert said[True] > 0


@files.needs_recordings
def test_every_recording_of_any_wire_gets_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    others = [p for p in sorted(files.folder().glob("*.gz")) if p.name[:-9] not in WIRES]
    if not others:
        pytest.skip("NO RECORDINGS of other wires")
    assert main(["replay", "--json", *map(str, others)]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert all(set(line) >= KEYS for line in lines)
    assert all(line["usage"] is None or line["wire"] in NAMES for line in lines)
