"""Makes src/taximeter/pricing/snapshot.tsv.gz: see README.md in this folder.

    python prices/build.py [--litellm FILE] [--genai FILE] [--date YYYY-MM-DD] [--check]

Without files it fetches the newest ``litellm`` wheel and ``genai-prices`` with pip into a temporary
folder. Prints what the two disagree about and how the snapshot changes.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))
sys.path.insert(0, str(HERE))

import merge  # noqa: E402
import sources  # noqa: E402

SNAPSHOT = HERE.parent / "src" / "taximeter" / "pricing" / "snapshot.tsv.gz"
MAP = "litellm/model_prices_and_context_window_backup.json"


def fetch(folder: Path) -> tuple[Path, Path, dict[str, str]]:
    """The two sources and their versions, through pip alone."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--no-deps", "litellm", "-d", str(folder)], check=True)
    wheel = next(folder.glob("litellm-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(MAP, folder)
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "-q", "install", "genai-prices"], check=True)
    export = folder / "genai.json"
    with export.open("wb") as out:
        subprocess.run([str(python), str(HERE / "genai_export.py")], check=True, stdout=out)
    installed = next((venv / "lib").glob("python*/site-packages/genai_prices-*.dist-info"))
    versions = {
        "litellm": wheel.name.split("-")[1],
        "genai-prices": installed.name.removesuffix(".dist-info").split("-")[1],
    }
    return folder / MAP, export, versions


def read(path: Path) -> merge.Book:
    """A snapshot as provider → model → row (an alias is a string)."""
    if not path.exists():
        return {}
    book: merge.Book = {}
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    for line in lines[1:]:
        provider, model, row = line.split("\t", 2)
        book.setdefault(provider, {})[model] = row[1:] if row[0] == "=" else json.loads(row)
    return book


def header_of(path: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()).split(b"\n", 1)[0])
    return header


def write(path: Path, book: merge.Book, header: dict[str, Any]) -> int:
    lines = [json.dumps(header, sort_keys=True)]
    for provider in sorted(book):
        for model in sorted(book[provider]):
            row = book[provider][model]
            text = (
                f"={row}"
                if isinstance(row, str)
                else json.dumps(row, sort_keys=True, separators=(",", ":"))
            )
            lines.append(f"{provider}\t{model}\t{text}")
    # mtime 0: the same facts make the same bytes.
    packed = gzip.compress("\n".join(lines).encode(), 9, mtime=0)
    path.write_bytes(packed)
    return len(packed)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--litellm", type=Path)
    options.add_argument("--genai", type=Path)
    options.add_argument("--versions", default="", help="litellm=1.2,genai-prices=3.4")
    options.add_argument("--date", default=datetime.datetime.now(datetime.UTC).date().isoformat())
    options.add_argument("--check", action="store_true", help="print the changes, write nothing")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.litellm and given.genai:
            files = given.litellm, given.genai
            versions = dict(pair.split("=") for pair in given.versions.split(",") if pair)
        else:
            *files, versions = fetch(Path(folder))
        litellm = sources.read_litellm(json.loads(Path(files[0]).read_text()))
        genai = sources.read_genai(json.loads(Path(files[1]).read_text()), given.date)
    previous = read(SNAPSHOT)
    made = header_of(SNAPSHOT)["id"][:10] if previous else ""
    book, disagreements = merge.merge(litellm, genai)
    for line in disagreements:
        print("sources disagree:", line)
    corrections = json.loads((HERE / "corrections.json").read_text())
    merge.apply_rules(book)
    for line in merge.apply_corrections(book, corrections):
        print("correction:", line)
    merge.add_aliases(book)
    for line in merge.keep_history(book, previous, given.date, made):
        print("change:", line)
    merge.share(book)
    count = sum(len(models) for models in book.values())
    print(f"{count} models of {len(book)} providers")
    if given.check:
        return 0
    serial = 1
    if made == given.date:
        serial = int(header_of(SNAPSHOT)["id"].rpartition(".")[2]) + (previous != book)
    header = {"id": f"{given.date}.{serial}", "models": count, "sources": versions}
    size = write(SNAPSHOT, book, header)
    print(f"{SNAPSHOT.name}: {header['id']}, {size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
