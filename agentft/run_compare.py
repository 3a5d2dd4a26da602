"""Two finished runs against each other, on the rows that both were measured on: which recipe is better?"""

from __future__ import annotations

from agentft.errors import UserError
from agentft.evaluate.compare import Comparison, compare
from agentft.runs import Store
from agentft.sides import side_of_run


def compare_runs(first: str, second: str, store: Store, seed: int = 0) -> list[Comparison]:
    """Every score of the second run's trained arm (the base arm where it trained nothing), paired with that of the first.

    Args:
        first, second: ids, recipe names or folders of runs; a folder may belong to another store.

    Raises:
        UserError: a run is not there or was not evaluated, or the two have no score of one row in common.
    """
    one, other = (side_of_run(reference, store) for reference in (first, second))
    rows = compare(one.scores, other.scores, {**one.groups, **other.groups}, seed)
    if not any(row.n for row in rows):
        raise UserError(f"'{first}' and '{second}' have no score of one row in common; compare runs with the same test rows and evaluators")
    return rows
