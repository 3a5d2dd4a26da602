"""Peak memory of reading 1,000 and 100,000 rows through each source, one process each.

    python benchmarks/source_memory.py                  # all sources
    python benchmarks/source_memory.py parquet hub      # some
    python benchmarks/source_memory.py --rows 1000 300000

The files are made in a temporary folder; a row has about 380 characters of text. Each reading goes through the catalog as a recipe's
does, keeps no record, and prints the process's largest resident set (``getrusage``: ``ru_maxrss``) and its speed. What it takes to import
the libraries of a source is in both columns; what grows with the rows is in their difference. (The process that starts the others stays
small, because the peak of a child begins with that of its parent.)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

WORDS = [f"{a}{b}{c}" for a in ("par", "cus", "ref", "del") for b in ("to", "ce", "un", "li", "mer") for c in ("l", "m", "d", "ver", "s")]
LABELLED = {"columns": {"text": "text", "label": "label"}}
OPTIONS: dict[str, dict[str, Any]] = {
    "jsonl": {"path": "{rows}.jsonl", **LABELLED},
    "json": {"path": "{rows}.json", **LABELLED},
    "csv": {"path": "{rows}.csv", **LABELLED},
    "parquet": {"path": "{rows}.parquet", **LABELLED},
    "hub": {"name": "{rows}.saved", **LABELLED},
    "hub (folder of files)": {"name": "{rows}.files", **LABELLED},
    "text": {"path": "{rows}.txt", "by": "line"},
    "text (files)": {"path": "{rows}.texts"},
    "conll": {"path": "{rows}.conll"},
    "spans (squad)": {"path": "{rows}.squad.json"},
    "spans (slots)": {"path": "{rows}.slots.json", "negatives": "all"},
    "tmx": {"path": "{rows}.tmx"},
}


def row(number: int) -> dict[str, Any]:
    words = Random(number).choices(WORDS, k=50)  # other words in every row: copies would compress too well
    return {"text": f"{number} {' '.join(words)}", "label": "late" if number % 2 else "lost"}


def make(source: str, rows: int, folder: Path) -> None:
    """Write what ``source`` reads, row by row."""
    target = folder / next(str(OPTIONS[source].get(key)) for key in ("path", "name") if key in OPTIONS[source]).format(rows=rows)
    if target.exists():
        return
    if source in ("parquet", "hub"):
        from datasets import Dataset

        data = Dataset.from_list([row(n) for n in range(rows)], split="train")
        data.to_parquet(target, batch_size=rows) if source == "parquet" else data.save_to_disk(target)
        return
    if source in ("hub (folder of files)", "text (files)"):
        target.mkdir()
        if source.startswith("text"):
            for start in range(0, rows, 100):
                (target / f"{start:07}.txt").write_text("\n".join(row(n)["text"] for n in range(start, start + 100)), "utf-8")
            return
        target = target / "train.jsonl"
    with target.open("w", encoding="utf-8") as stream:
        stream.writelines(lines(source, rows))


def lines(source: str, rows: int) -> Any:
    slot = {"slot": "number", "valueSpan": {"endIndex": 1}}
    heads = {"json": "[", "csv": "text,label\n", "spans (squad)": '{"data": [', "spans (slots)": "[", "tmx": '<tmx version="1.4"><body>'}
    tails = {"json": "]", "spans (squad)": "]}", "spans (slots)": "]", "tmx": "</body></tmx>"}
    yield heads.get(source, "")
    for n in range(rows):
        text, comma = row(n)["text"], "," if n < rows - 1 else ""
        if source in ("jsonl", "hub (folder of files)"):
            yield json.dumps(row(n)) + "\n"
        elif source == "json":
            yield json.dumps(row(n)) + comma
        elif source == "csv":
            yield f'"{text}",{row(n)["label"]}\n'
        elif source == "text":
            yield text + "\n"
        elif source == "conll":
            yield "\n".join(f"{word}\tO" for word in text.split()) + "\n\n"
        elif source == "spans (squad)":
            qas = [{"question": "What?", "answers": [{"text": text[0], "answer_start": 0}]}]
            yield json.dumps({"title": str(n // 100), "paragraphs": [{"context": text, "qas": qas}]}) + comma
        elif source == "spans (slots)":
            yield json.dumps({"userInput": {"text": text}, "labels": [slot]}) + comma
        else:
            tuv = "".join(f'<tuv xml:lang="{language}"><seg>{text}</seg></tuv>' for language in ("en", "zh"))
            yield f'<tu tuid="{n}">{tuv}</tu>\n'
    yield tails.get(source, "")


def read(source: str, rows: int, folder: Path) -> None:
    """In a process of its own: read everything, print rows, seconds and kilobytes."""
    import resource

    from agentft.contracts import DataContext
    from agentft.host import Host

    catalog = Host(allow=()).catalog
    entry = catalog.get("source", source.split(" ")[0])
    options = {key: value.format(rows=rows) if isinstance(value, str) else value for key, value in OPTIONS[source].items()}
    model = catalog.config_model(entry)
    assert model is not None
    begin = time.perf_counter()
    count = sum(1 for _ in catalog.target(entry)(model.model_validate(options), DataContext(base=folder)))
    print(json.dumps([count, time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", nargs="*", default=list(OPTIONS))
    parser.add_argument("--rows", nargs=2, type=int, default=[1000, 100_000])
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        what, source, rows, folder = args.step
        {"make": make, "read": read}[what](source, int(rows), Path(folder))
        return
    few, many = args.rows
    print(f"| source | {few:,} rows, MB | {many:,} rows, MB | difference, MB | file, MB | rows per second |\n|---|---|---|---|---|---|")
    for source in args.sources:
        with tempfile.TemporaryDirectory() as folder:
            results = []
            for rows in (few, many):
                subprocess.run(
                    [sys.executable, __file__, "--step", "make", source, str(rows), folder], check=True, stderr=subprocess.DEVNULL
                )
                command = [sys.executable, __file__, "--step", "read", source, str(rows), folder]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                assert found[0] == rows or source == "text (files)", found
                results.append(found)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
        (_, _, first), (count, seconds, last) = results
        print(
            f"| {source} | {first / 1024:.0f} | {last / 1024:.0f} | {(last - first) / 1024:+.0f} | {size:.0f} | {count / seconds:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
