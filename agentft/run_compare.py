"""Two finished runs against each other, on the rows that both were measured on: which recipe is better?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentft import arms
from agentft.errors import UserError
from agentft.evaluate.compare import Comparison, compare
from agentft.records import Score
from agentft.runs import Store


def compare_runs(first: str, second: str, store: Store, seed: int = 0) -> list[Comparison]:
    """Every score of the second run's trained arm (the base arm where it trained nothing), paired with that of the first.

    Args:
        first, second: ids, recipe names or folders of runs; a folder may belong to another store.

    Raises:
        UserError: a run is not there or was not evaluated, or the two have no score of one row in common.
    """
    found = [_scores(reference, store) for reference in (first, second)]
    groups = found[0][1] | found[1][1]
    rows = compare(found[0][0], found[1][0], groups, seed)
    if not any(row.n for row in rows):
        raise UserError(f"'{first}' and '{second}' have no score of one row in common; compare runs with the same test rows and evaluators")
    return rows


def _scores(reference: str, store: Store) -> tuple[list[Score], dict[str, str]]:
    folder = Path(reference)
    home = Store(folder.absolute().parent) if (folder / "run.json").is_file() else store
    manifest = home.manifest(reference)
    stages: Mapping[str, Any] = {stage["name"]: stage for stage in manifest["stages"]}
    arm = "tuned" if any(name.startswith("scores-tuned-") for name in stages) else "base"
    scores = [
        score
        for name, stage in stages.items()
        if name.startswith(f"scores-{arm}-")
        for score in arms.read_scores(home.stages / stage["folder"])
    ]
    if not scores:
        raise UserError(f"run '{manifest['id']}' has no scores; give its recipe evaluators and run it")
    return scores, arms.groups(home.stages / stages["data"]["folder"])
