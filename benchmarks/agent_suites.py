"""Are tau2-bench and BFCL scored right? Reference actions must succeed on every task, doing nothing only where nothing is asked.

    python benchmarks/agent_suites.py --tau2 PATH --bfcl PATH [--json FILE]

No model is loaded. PATH: your copies of tau2-bench and of the gorilla repository (or their folders with data).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentft.environments import SuiteContext
from agentft.errors import UserError
from agentft.simulate.bfcl import BfclConfig, bfcl
from agentft.simulate.replay import idle, reference
from agentft.simulate.tau2 import Tau2Config, tau2

CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple", "irrelevance", "multi_turn_base")
# A task that has an assertion about the database, and no reference actions that would make it true.
COMPLETE = {"name": "update_task_status", "arguments": {"task_id": "task_2", "status": "completed"}}
BY_HAND = {"update_task_with_history_and_env_assertions": [COMPLETE]}


def suites(arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    if arguments.tau2:
        for domain in ("retail", "airline", "mock"):
            for basis in ("task", "all"):
                try:
                    yield f"tau2 {domain}, basis {basis}", tau2(Tau2Config(path=arguments.tau2, domain=domain, basis=basis), SuiteContext())
                except UserError as error:
                    print(f"tau2 {domain}: {error}")
                    break
    if arguments.bfcl:
        for category in CATEGORIES:
            try:
                yield f"bfcl {category}", bfcl(BfclConfig(path=arguments.bfcl, category=category), SuiteContext())
            except UserError as error:
                print(f"bfcl {category}: {error}")


def counts(suite: Any) -> dict[str, Any]:
    """Tasks, and on how many of them each of the two agents succeeds."""
    right = {task.id: suite.judge(task, reference(suite, task, BY_HAND.get(task.id, ()))) for task in suite.tasks}
    still = {task.id: suite.judge(task, idle(suite, task)) for task in suite.tasks}
    return {
        "tasks": len(suite.tasks),
        "reference": sum(one.success for one in right.values()),
        "nothing": sum(one.success for one in still.values()),
        "no_writes": sum(task.slices.get("writes") == "none" for task in suite.tasks),
        "nothing_ids": [key for key, one in still.items() if one.success],
        "reference_fails": {key: one.detail for key, one in right.items() if not one.success},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tau2")
    parser.add_argument("--bfcl")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {}
    print(f"{'suite':34} {'tasks':>6} {'reference':>10} {'does nothing':>13}")
    for name, suite in suites(arguments):
        found[name] = one = counts(suite)
        print(f"{name:34} {one['tasks']:>6} {one['reference']:>10} {one['nothing']:>13}")
        for key, why in one["reference_fails"].items():
            print(f"    reference fails on {key}: {why}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
