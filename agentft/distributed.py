"""What a recipe must be like to be trained by several processes; looked at before torch is imported."""

from __future__ import annotations

from agentft.check import part_uses
from agentft.errors import Problem, RecipeError
from agentft.session import Session

# Their losses are those of one process, step by step (tests/train/test_distributed.py). The others call the model past the wrapper that
# averages gradients, or, as kto does, learn from what else is in the micro-batch.
SEVERAL = ("sft", "clm", "dpo")
ALONE = ("kto", "reward", "classify", "regress", "tag", "span", "mlm", "seq2seq")


def problems_with(session: Session, world: int) -> list[Problem]:
    """Why ``world`` processes cannot train this recipe together; empty if they can."""
    found: list[Problem] = []
    for kind, path, use in part_uses(session.recipe):
        if kind != "trainer":
            continue
        part = session.parts("trainer", [use])[0]
        if part.name in ALONE:
            hint = f"start it without torchrun; several processes can train: {', '.join(SEVERAL)}"
            found.append(session.recipe.problem(path, f"'{part.name}' trains in one process only", hint))
            continue
        strategy = getattr(part.config, "strategy", None)
        if part.name == "dpo" and strategy is not None and strategy.virtual:
            found.append(session.recipe.problem(path, f"dpo with {strategy.name} trains in one process only", "use lora"))
        batch = getattr(part.config, "batch_size", None)
        if isinstance(batch, int) and batch % world:
            larger = -(-batch // world) * world
            at = (*path, "batch_size") if "batch_size" in use.options else path
            found.append(
                session.recipe.problem(
                    at,
                    f"batch_size {batch} is over all processes and cannot be divided by {world}",
                    f"use a multiple of {world}, for example {larger}",
                )
            )
    return found


def check_processes(session: Session, world: int) -> None:
    """Refuse a recipe that ``world`` processes cannot train together.

    Raises:
        RecipeError: with every problem.
    """
    if world > 1 and (found := problems_with(session, world)):
        raise RecipeError(found)
