"""All benchmarks, one after the other, and the page that they make: ``make bench``.

    python benchmarks/run.py                      # what has no result in benchmarks/results yet, then docs/benchmarks.md
    python benchmarks/run.py --only sft dpo --again
    python benchmarks/run.py --quick              # small settings, into build/bench-quick: does everything run?
    python benchmarks/run.py --page               # only the page

Each case is a process of its own and leaves benchmarks/results/NAME.json when it ends, so that an interrupted run goes on where it was.
A case that fails does not end the others; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import page

HERE = Path(__file__).parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Case:
    """A script with its arguments, and with small ones to try it; ``minutes`` on two cores, roughly.

    ``needs``: a module without which the case is left out, and the extra of agentft that brings it.
    """

    name: str
    script: str
    arguments: str
    quick: str
    minutes: float
    needs: tuple[str, str] | None = None


SMALL = "--batch 4 --steps 1 --repeats 2"
FEW = "--rows 8 --new 8 --repeats 2"
CASES = [
    Case("sft", "training.py", "sft --repeats 5 --steps 1 --memory", f"sft {SMALL} --prefix 64 --memory", 15),
    Case("dpo", "training.py", "dpo --repeats 3 --steps 2", f"dpo {SMALL} --prefix 64 --memory", 22),
    Case("score", "training.py", "score --candidates 1,4,8,16 --repeats 2", "score --prefix 64 --repeats 2 --candidates 1,4", 5),
    Case("generation", "generation.py", "--rows 64 --new 64 --repeats 5", f"{FEW} --prefix 64 --memory", 4),
    Case("llamacpp", "llamacpp.py", "--rows 64 --new 64 --slots 8 32", f"{FEW} --prefix 64 --slots 4", 4, ("xllamacpp", "llamacpp")),
    Case(
        "sft-prefix",
        "training.py",
        "sft --prefix 0,128,512 --arms tuned,agentft --repeats 1 --steps 1",
        f"sft {SMALL} --prefix 0,64 --arms tuned,agentft",
        3,
    ),
    Case(
        "sft-prefix-2048",
        "training.py",
        "sft --prefix 2048 --batch 8 --arms tuned,agentft --repeats 1 --steps 2",
        "sft --prefix 256 --batch 2 --arms tuned,agentft --repeats 1 --steps 1",
        3,
    ),
    Case("generation-prefix", "generation.py", "--prefix 0,128,512,2048 --rows 32 --new 32 --repeats 1", f"{FEW} --prefix 0,64", 3),
    Case(
        "generation-candidates",
        "generation.py",
        "--candidates 1,4,16 --own 200 --rows 64 --new 32 --repeats 1",
        f"{FEW} --prefix 64 --candidates 1,4 --own 40",
        2,
    ),
    Case("generation-uneven", "generation.py", "--rows 128 --slots 32 --uneven --repeats 1", f"{FEW} --prefix 64 --slots 4 --uneven", 2),
    Case("data-1k", "data_path.py", "--rows 1000", "--rows 100 --processes 1", 0.5),
    Case("data-10k", "data_path.py", "--rows 10000", "--rows 300 --processes 1", 1),
    Case("data-100k", "data_path.py", "--rows 100000", "--rows 1000 --processes 1", 5),
    Case(
        "memory",
        "memory.py",
        "--strategies lora:bfloat16 generate:float32 --tokens 512 2048 4096",
        "--strategies lora:bfloat16 --tokens 128",
        3,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[case.name for case in CASES], help="only these cases")
    parser.add_argument("--again", action="store_true", help="also what has a result already")
    parser.add_argument("--quick", action="store_true", help="small settings; the figures mean nothing")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page from the results that there are")
    parser.add_argument("--results", type=Path, help="default: benchmarks/results, with --quick build/bench-quick/results")
    parser.add_argument("--docs", type=Path, help="where benchmarks.md goes; default: docs, with --quick build/bench-quick")
    parser.add_argument("--threads", type=int, default=cores(), help="default: as many as this process has cores")
    args = parser.parse_args()

    quick = ROOT / "build" / "bench-quick"
    results = args.results or (quick / "results" if args.quick else HERE / "results")
    docs = args.docs or (quick if args.quick else ROOT / "docs")
    failed: list[str] = []
    if not args.page:
        chosen = [case for case in CASES if not args.only or case.name in args.only]
        failed = run_all(chosen, results, args)
    print(f"page: {page.write(results, docs)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run_all(cases: list[Case], results: Path, args: argparse.Namespace) -> list[str]:
    """Runs what is to be run; returns the names of the cases that failed."""
    results.mkdir(parents=True, exist_ok=True)
    todo = [case for case in cases if args.again or not (results / f"{case.name}.json").exists()]
    minutes = "" if args.quick else f", about {sum(case.minutes for case in todo):.0f} minutes on two cores"
    print(f"{len(todo)} cases to run{minutes}; {len(cases) - len(todo)} have a result", flush=True)
    failed = []
    for number, case in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {case.name}: {case.script} {case.quick if args.quick else case.arguments}", flush=True)
        if case.needs and importlib.util.find_spec(case.needs[0]) is None:
            print(f"  left out: it needs {case.needs[0]}; pip install 'agentft[{case.needs[1]}]'", flush=True)
            continue
        began = time.perf_counter()
        try:
            found = measure(case, args.quick, args.threads)
        except (RuntimeError, ValueError) as error:
            failed.append(case.name)
            print(f"  FAILED: {error}", flush=True)
            continue
        file = results / f"{case.name}.json"
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        part.replace(file)
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    return failed


def measure(case: Case, quick: bool, threads: int) -> dict[str, Any]:
    """One case: what its script printed last, and where and when that was."""
    arguments = case.quick if quick else case.arguments
    if case.script == "llamacpp.py":
        arguments += f" --threads {threads}"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = child(["-c", "import json, common; print(json.dumps(common.machine()))"], threads)
    began = time.perf_counter()
    output = child([str(HERE / case.script), *shlex.split(arguments), "--json"], threads)
    return {
        "name": case.name,
        "command": f"python benchmarks/{case.script} {arguments}",
        "quick": quick,
        "date": now,
        "commit": commit(),
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "machine": machine,
        "output": output,
    }


def child(command: list[str], threads: int) -> Any:
    """Runs Python on ``command`` and reads the JSON of its last line.

    Raises:
        RuntimeError: it failed; the message is the end of what it said.
    """
    paths = os.pathsep.join([str(ROOT), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stderr[-3000:]}")
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise RuntimeError("it printed nothing")
    return json.loads(lines[-1])


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    """The commit, with a ``+`` where code differs from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        named = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        code = ["agentft", "plugins", "benchmarks/*.py"]
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *code], capture_output=True, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{named}+" if changed else named


if __name__ == "__main__":
    main()
