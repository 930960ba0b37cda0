"""``taximeter run``: any program, unchanged; the budget stops it, its own status is its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from taximeter.testing import Fault, Reply, SimulatedProvider
from tests.cli.conftest import Taximeter, command, pointed_at

pytest.importorskip("openai", reason="NO OPENAI SDK: programs under `taximeter run` were not run")

PREAMBLE = """\
import os, sys, threading
import openai
client = openai.OpenAI(max_retries=0)
def ask(**more):
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], **more)
"""
CALL = 61_500  # nano-USD of one answer: 10 tokens in, 100 out, at 0.15 and 0.60 USD a million


def write(folder: Path, body: str) -> str:
    """A program; one that asks nothing is spared the import of the SDK."""
    text = PREAMBLE + body if "ask" in body else "import sys\n" + body
    (folder / "program.py").write_text(text, encoding="utf-8")
    return "program.py"


def usd(nano: int) -> str:
    return f"{Decimal(nano).scaleb(-9).normalize():f}"


def test_a_program_runs_as_python_runs_it(taximeter: Taximeter, tmp_path: Path) -> None:
    body = """
import json
print(json.dumps([__name__, __file__, sys.argv, sys.path[0], __package__, __spec__ is None,
                  sys.modules["__main__"].__dict__ is globals(), sys.stdin.read()]))
"""
    name = write(tmp_path, body)
    bare = subprocess.run(
        [sys.executable, name, "a", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        input="typed",
        check=True,
        env={**os.environ, "OPENAI_API_KEY": "none"},
    )
    ours = taximeter("run", name, "a", "--json", input="typed")
    assert ours.status == 0, ours.err
    assert ours.out == bare.stdout


def test_a_module_runs_as_python_dash_m_runs_it(
    taximeter: Taximeter, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    package = tmp_path / "trip"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("word = 'helped'\n")
    (package / "__main__.py").write_text(
        "import sys\nfrom . import helper\n"
        "print(helper.word, __name__, __package__, __spec__.name, sys.argv, sys.path[0])\n"
    )
    bare = subprocess.run(
        [sys.executable, "-m", "trip", "--live", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    ours = taximeter("run", "--budget", "1", "-m", "trip", "--live", "x")
    assert ours.status == 0, ours.err
    assert ours.out == bare.stdout


def test_what_it_spent_is_summed_up_on_stderr_and_stdout_is_the_programs_alone(
    taximeter: Taximeter, tmp_path: Path, provider: SimulatedProvider
) -> None:
    done = taximeter("run", write(tmp_path, "print(len(ask().choices))"))
    assert (done.status, done.out) == (0, "1\n")
    assert provider.invoice_total == CALL
    assert f"${usd(CALL)} spent" in done.err
    assert "gpt-4o-mini" in done.err


def test_the_summary_as_json_agrees_with_the_invoice(
    taximeter: Taximeter, tmp_path: Path, provider: SimulatedProvider
) -> None:
    name = write(tmp_path, "for _ in range(3): ask()")
    done = taximeter("run", "--json", "--budget", "1", "--tags", "team=x,env=dev", name)
    data = done.summary
    assert Decimal(data["spent"]).scaleb(9) == provider.invoice_total == 3 * CALL
    assert data["limit"] == "1"
    assert (data["exit_status"], data["stopped"], data["calls_total"]) == (0, None, 3)
    assert [call["request_id"] for call in data["calls"]] == [
        line.request_id for line in provider.invoice
    ]
    assert data["calls"][0]["tags"] == {"team": "x", "env": "dev"}


def test_status_3_and_one_readable_block_when_the_budget_stops_it(
    taximeter: Taximeter, tmp_path: Path, provider: SimulatedProvider
) -> None:
    name = write(tmp_path, "def work():\n    for n in range(9): ask(); print(n)\nwork()")
    cap = CALL * 5 // 2
    done = taximeter("run", "--budget", usd(cap), name)
    assert done.status == 3
    assert provider.invoice_total <= cap
    assert done.out == "0\n1\n2\n"  # The third answer was clamped to what was left.
    assert "the budget stopped this program" in done.err
    assert f"allows ${usd(cap)}" in done.err
    assert re.search(r"at .*program\.py:\d+ in ask$", done.err, re.MULTILINE)
    assert "Traceback" not in done.err


def test_a_budget_in_a_window_is_shared_by_the_runs_of_that_window(
    taximeter: Taximeter, tmp_path: Path, provider: SimulatedProvider
) -> None:
    name = write(tmp_path, "ask()")
    first = taximeter("run", "--json", "--budget", f"${usd(CALL * 3 // 2)}/year", name)
    again = taximeter("run", "--json", "--budget", f"${usd(CALL * 3 // 2)}/year", name)
    assert [first.status, again.status] == [0, 0]
    assert not first.summary["clamped"]
    assert again.summary["clamped"]  # What the first run spent counts.
    assert provider.invoice_total <= CALL * 3 // 2


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ("-1", "--budget='-1' is negative"),
        ("inf", "--budget='inf' is not a finite amount"),
        ("five", "limit 'five' cannot be read; write e.g. '$5', '$5/day'"),
        ("$5/dya", "window='dya' is not known; use one of total, minute"),
    ],
)
def test_a_budget_that_cannot_be_read_is_named_before_the_program_runs(
    budget: str, says: str, taximeter: Taximeter, tmp_path: Path
) -> None:
    done = taximeter("run", "--budget", budget, write(tmp_path, "print('ran')"))
    assert done.status == 2
    assert done.out == ""
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_in_json_the_refusal_is_data(taximeter: Taximeter, tmp_path: Path) -> None:
    done = taximeter("run", "--json", "--budget", "0.0000001", write(tmp_path, "ask()"))
    assert done.status == 3
    (line,) = done.err.splitlines()
    assert '"stopped": {' in line
    stopped = done.summary["stopped"]
    assert (stopped["code"], stopped["limit"]) == ("BUDGET_EXCEEDED", "0.0000001")
    assert done.summary["exit_status"] == 3


@pytest.mark.parametrize(
    "wrapping",
    [
        "try: ask()\nexcept Exception as e: raise RuntimeError('framework') from e",
        "try: ask()\nexcept Exception: raise RuntimeError('framework')",
        "try: ask()\nexcept Exception as e: raise ExceptionGroup('tasks', [ValueError(), e])",
        "import asyncio\nasync def main():\n async with asyncio.TaskGroup() as group:\n  group.create_task(asyncio.to_thread(ask))\nasyncio.run(main())",
    ],
    ids=["from", "context", "group", "task group"],
)
def test_a_refusal_that_a_framework_wraps_is_still_status_3(
    wrapping: str, taximeter: Taximeter, tmp_path: Path
) -> None:
    done = taximeter("run", "--budget", "0.0000001", write(tmp_path, wrapping))
    assert done.status == 3, done.err
    assert "Traceback" not in done.err


def test_a_thread_that_the_budget_ends_is_status_3_too(
    taximeter: Taximeter, tmp_path: Path
) -> None:
    body = "t = threading.Thread(target=ask); t.start(); t.join(); print('went on')"
    done = taximeter("run", "--budget", "0.0000001", write(tmp_path, body))
    assert (done.status, done.out) == (3, "went on\n")
    assert "Traceback" not in done.err


def test_a_program_that_handles_the_refusal_has_its_own_status(
    taximeter: Taximeter, tmp_path: Path
) -> None:
    body = "from taximeter import BudgetExceededError\ntry: ask()\nexcept BudgetExceededError: sys.exit(7)"
    done = taximeter("run", "--budget", "0.0000001", write(tmp_path, body))
    assert done.status == 7
    assert "stopped this program" not in done.err


def test_a_runaway_stream_is_stopped_and_the_cap_holds(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    body = "for chunk in ask(stream=True): pass\nprint('read to its end')"
    name = write(tmp_path, body)
    with SimulatedProvider(Reply(tokens=20_000), seed=1) as provider:
        done = subprocess.run(
            command("run", "--budget", "0.001", name),
            cwd=tmp_path,
            env={**environment, **pointed_at(provider)},
            capture_output=True,
            text=True,
            check=False,
        )
        provider.wait_until_idle()
        assert done.returncode == 3, done.stderr
        assert done.stdout == ""
        assert 0 < provider.invoice_total <= 1_000_000


def test_on_limit_truncate_lets_the_program_end_by_itself(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    body = "*_, last = [c.choices[0].finish_reason for c in ask(stream=True) if c.choices]\nprint(last)"
    name = write(tmp_path, body)
    with SimulatedProvider(Reply(tokens=20_000), seed=1) as provider:
        done = subprocess.run(
            command("run", "--budget", "0.001", "--on-limit", "truncate", name),
            cwd=tmp_path,
            env={**environment, **pointed_at(provider)},
            capture_output=True,
            text=True,
            check=False,
        )
        provider.wait_until_idle()
        assert (done.returncode, done.stdout) == (0, "length\n"), done.stderr
        assert provider.invoice_total <= 1_000_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("sys.exit(5)", 5),
        ("sys.exit()", 0),
        ("sys.exit('a reason')", 1),
        ("raise SystemExit(0)", 0),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_the_status_is_the_programs_own(
    body: str, status: int, taximeter: Taximeter, tmp_path: Path
) -> None:
    done = taximeter("run", "--budget", "1", write(tmp_path, body))
    assert done.status == status
    assert "$0.00 of $1.00 spent" in done.err
    assert ("a reason" in done.err) == ("a reason" in body)


def test_its_own_error_is_told_as_python_tells_it(taximeter: Taximeter, tmp_path: Path) -> None:
    name = write(tmp_path, "def fall():\n    return 1 / 0\nfall()")
    bare = subprocess.run(
        [sys.executable, name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENAI_API_KEY": "none"},
    )
    ours = taximeter("run", name)
    assert "ZeroDivisionError" in bare.stderr
    assert ours.err.startswith(bare.stderr)


def test_a_syntax_error_is_the_programs_own(taximeter: Taximeter, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def\n")
    done = taximeter("run", "bad.py")
    assert done.status == 1
    assert "SyntaxError" in done.err


def test_ctrl_c_ends_it_quietly_with_130(
    tmp_path: Path, environment: Mapping[str, str], provider: SimulatedProvider
) -> None:
    body = "ask(); print('ready', flush=True); threading.Event().wait()"
    process = subprocess.Popen(
        command("run", write(tmp_path, body)),
        cwd=tmp_path,
        env={**environment, **pointed_at(provider)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"${usd(CALL)} spent" in err


def test_threads_that_outlive_the_program_are_in_the_summary(
    taximeter: Taximeter, tmp_path: Path, provider: SimulatedProvider
) -> None:
    body = """
go = threading.Event()
threading.Thread(target=lambda: (go.wait(), ask())).start()
threading.Thread(target=lambda: (threading.main_thread().join(), go.set())).start()
"""
    done = taximeter("run", "--json", "--budget", "1", write(tmp_path, body))
    assert done.status == 0, done.err
    assert provider.invoice_total == CALL
    assert Decimal(done.summary["spent"]).scaleb(9) == CALL


def test_two_processes_with_one_name_share_a_budget(
    tmp_path: Path, environment: Mapping[str, str], provider: SimulatedProvider
) -> None:
    body = """
from taximeter import BudgetExceededError
try:
    for _ in range(20): ask(max_tokens=100)
except BudgetExceededError:
    sys.exit(3)
"""
    name = write(tmp_path, body)
    cap = CALL * 10
    arguments = ("run", "--budget", usd(cap), "--name", "night", "--json", name)
    both = [
        subprocess.Popen(
            command(*arguments),
            cwd=tmp_path,
            env={**environment, **pointed_at(provider)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        _, err = process.communicate()
        assert process.returncode == 3, err
    assert CALL * 8 <= provider.invoice_total <= cap
    third = subprocess.run(
        command(*arguments),
        cwd=tmp_path,
        env={**environment, **pointed_at(provider)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert third.returncode == 3
    assert provider.invoice_total <= cap


def test_a_run_is_found_again_in_the_users_ledger(taximeter: Taximeter, tmp_path: Path) -> None:
    assert taximeter("run", write(tmp_path, "ask(); ask()")).status == 0
    stats = taximeter("stats", "--json").json
    assert stats["total_requests"] == 2
    assert Decimal(stats["total_cost_usd"]).scaleb(9) == 2 * CALL


def test_the_store_may_be_named_by_option_or_environment(
    taximeter: Taximeter, tmp_path: Path
) -> None:
    name = write(tmp_path, "ask()")
    assert taximeter("run", "--store", "sqlite:///a.db", name).status == 0
    assert taximeter("run", name, TAXIMETER_STORE="sqlite:///b.db").status == 0
    for file in ("a.db", "b.db"):
        stats = taximeter("stats", "--json", "--store", f"sqlite:///{file}").json
        assert stats["total_requests"] == 1


def test_a_store_that_cannot_be_written_is_a_clear_error_before_the_program_starts(
    taximeter: Taximeter, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    name = write(tmp_path, "print('ran')")
    done = taximeter("run", "--budget", "1", "--store", "sqlite:///notes.txt", name)
    assert done.status == 2
    assert done.out == ""
    assert "notes.txt" in done.err
    assert "Traceback" not in done.err


def test_live_writes_lines_to_stderr_where_there_is_no_terminal(
    taximeter: Taximeter, tmp_path: Path
) -> None:
    done = taximeter("run", "--live", "--budget", "1", write(tmp_path, "ask(); print('out')"))
    assert (done.status, done.out) == (0, "out\n")
    assert "\x1b" not in done.err


def test_without_rich_live_says_how_to_get_it(taximeter: Taximeter, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['rich'] = None\n")
    path = f"{tmp_path}:{Path(__file__).parents[2] / 'src'}"
    done = taximeter("run", "--live", write(tmp_path, "ask()"), PYTHONPATH=path)
    assert done.status == 0, done.err
    assert "pip install 'taximeter[cli]'" in done.err


def test_a_call_that_failed_costs_nothing(tmp_path: Path, environment: Mapping[str, str]) -> None:
    name = write(tmp_path, "try: ask()\nexcept openai.InternalServerError: print('failed')")
    with SimulatedProvider(Reply(fault=Fault.STATUS(500)), seed=1) as provider:
        done = subprocess.run(
            command("run", "--json", "--budget", "1", name),
            cwd=tmp_path,
            env={**environment, **pointed_at(provider)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "failed\n"), done.stderr
    assert '"spent": "0"' in done.stderr
