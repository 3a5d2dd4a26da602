"""Peak memory of the data stage and of tokenised rows, for 1,000 and for 100,000 conversations.

    python benchmarks/data_memory.py

Each measurement is a process of its own: conversations of about 60 words go from JSON lines through `normalize`, `dedup` and the
split (stage `data`), and are rendered and tokenised for the bundled chat model (stage `rows`). What counts is how much more 100
times the rows take.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """\
name: memory
model: smollm2-135m
data:
  sources: [{use: jsonl, path: rows.jsonl}]
  transforms: [normalize, dedup]
train: [{use: sft}]
evaluate: []
"""


def write(folder: Path, rows: int) -> None:
    draw = random.Random(0)
    words = [f"word{n}" for n in range(4000)]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(rows):
            question, answer = (" ".join(draw.choices(words, k=30)) for _ in range(2))
            messages = [{"role": "user", "content": f"{number} {question}?"}, {"role": "assistant", "content": f"{answer}."}]
            stream.write(json.dumps({"messages": messages}) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE, "utf-8")


def measure(folder: Path, until: str) -> None:
    """Run the recipe up to a stage, and print peak memory in MB and seconds."""
    from agentft.pipeline import Pipeline
    from agentft.runs import Store
    from agentft.session import open_recipe

    began = time.perf_counter()
    Pipeline(open_recipe(folder / "recipe.yaml"), Store(folder / "runs")).execute(until)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"mb": round(peak), "seconds": round(time.perf_counter() - began, 1)}))


def main() -> None:
    print(f"{'rows':>8} {'stage':>6} {'peak MB':>8} {'seconds':>8}")
    for rows in (1000, 100_000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder, rows)
            for stage in ("data", "rows"):
                done = subprocess.run([sys.executable, __file__, str(folder), stage], capture_output=True, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                print(f"{rows:>8} {stage:>6} {found['mb']:>8} {found['seconds']:>8}", flush=True)


if __name__ == "__main__":
    measure(Path(sys.argv[1]), sys.argv[2]) if len(sys.argv) == 3 else main()
