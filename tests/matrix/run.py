"""The SDK version matrix: one environment for each pin file beside this, one run of checks in each.

    python tests/matrix/run.py [--only openai] [--fresh]

Environments live under .venvs/ and are made again when their pins (or this Python) change. A pin file is
named after its first package and lists names and versions only. Exits 1 when a check fails anywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENVS = ROOT / ".venvs"
SDKS = {"openai": "openai", "anthropic": "anthropic", "google-genai": "google.genai"}
SECONDS_MAX = 600


def sdk_of(name: str) -> str:
    """The import name of the SDK that a pin file is about."""
    return next(module for package, module in SDKS.items() if name.startswith(package))


def environment(name: str, *, fresh: bool) -> Path:
    """The environment's python; made if it is missing, or made of other pins."""
    pins = (HERE / f"{name}.txt").read_bytes()
    home = VENVS / f"matrix-{name}"
    stamp = home / "stamp"
    wanted = hashlib.sha256(pins + sys.version.encode()).hexdigest()
    python = home / "bin" / "python"
    if not fresh and stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    print(f"{name}: making its environment", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps"]
    subprocess.run([*install, "-r", HERE / f"{name}.txt"], check=True)
    stamp.write_text(wanted)
    return python


def run(name: str, *, fresh: bool) -> list[tuple[str, str | None]]:
    """Name and problem of every check."""
    try:
        python = environment(name, fresh=fresh)
    except subprocess.CalledProcessError as error:
        return [("environment", f"cannot be made: {error}")]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [str(python), str(HERE / "checks.py"), sdk_of(name)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        return [("all checks", f"not done after {SECONDS_MAX} seconds")]
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = [(result["check"], result["problem"]) for result in results]
    if done.returncode or not found:
        found.append(("the run itself", done.stderr[-2000:] or "it printed nothing"))
    return found


def main() -> int:
    """Run the matrix; print a line for each environment and each failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="pin files whose name contains this")
    parser.add_argument("--fresh", action="store_true", help="make the environments again")
    options = parser.parse_args()
    names = sorted(path.stem for path in HERE.glob("*.txt") if options.only in path.stem)
    if not names:
        print(f"no pin file's name contains {options.only!r}", file=sys.stderr)
        return 2
    failed = 0
    width = max(map(len, names))
    for name in names:
        results = run(name, fresh=options.fresh)
        problems = [(check, problem) for check, problem in results if problem is not None]
        failed += len(problems)
        verdict = "ok" if not problems else "FAILED"
        passed = len(results) - len(problems)
        print(f"{name:{width}}  {passed:3} of {len(results):3} checks  {verdict}", flush=True)
        for check, problem in problems:
            print(f"  {check}\n    " + str(problem).strip().replace("\n", "\n    "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
