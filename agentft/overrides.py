"""``--set train.0.epochs=1``: changing a value of a recipe from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentft import yamlio
from agentft.errors import Problem, RecipeError, did_you_mean


@dataclass(frozen=True)
class Override:
    """``text`` as the user wrote it, split into the path and the value (which is YAML)."""

    text: str
    path: tuple[str | int, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> Override:
        """Raises RecipeError."""
        where, equals, value = text.partition("=")
        steps = where.strip().split(".")
        if not equals or not all(steps):
            raise RecipeError([_problem(text, "is not of the form PATH=VALUE", "for example --set train.0.epochs=1")])
        try:
            parsed = yamlio.parse_value(value)
        except RecipeError as error:
            raise RecipeError([_problem(text, f"the value: {p.message}", p.hint) for p in error.problems]) from None
        # ASCII only: isdigit() is true for digits that int() cannot read.
        return cls(text, tuple(int(step) if step.isascii() and step.isdigit() and len(step) < 10 else step for step in steps), parsed)

    def problem(self, message: str, hint: str = "") -> Problem:
        return _problem(self.text, message, hint)

    def apply(self, data: dict[str, Any], known: Sequence[str] = ()) -> None:
        """Set the value in ``data``, in place. Mappings on the way that are missing are made, list entries are not.

        Args:
            known: keys that the outermost mapping may have, for "did you mean".

        Raises:
            RecipeError: the path leads nowhere.
        """
        node: Any = data
        for depth, step in enumerate(self.path[:-1]):
            node = self._enter(node, depth, step, known)
        last = len(self.path) - 1
        if isinstance(node, list):
            node[self._index(node, last)] = self.value
        else:
            node[str(self.path[-1])] = self.value

    def _enter(self, node: Any, depth: int, step: str | int, known: Sequence[str]) -> Any:
        if isinstance(node, list):
            key: Any = self._index(node, depth)
        else:
            key = str(step)
            if node.get(key) is None:
                if isinstance(self.path[depth + 1], int):
                    raise RecipeError(
                        [
                            self.problem(
                                f"the recipe has no list '{self._name(depth)}'", did_you_mean(key, {*node, *(known if depth == 0 else ())})
                            )
                        ]
                    )
                node[key] = {}
        inner = node[key]
        if isinstance(inner, str) and (isinstance(node, list) or self._name(depth) == "persona"):
            node[key] = inner = {"use": inner}  # "sft" is short for {use: sft}
        if not isinstance(inner, (dict, list)):
            raise RecipeError([self.problem(f"'{self._name(depth)}' is {yamlio.show(inner)}, which has nothing inside")])
        return inner

    def _index(self, node: list[Any], depth: int) -> int:
        step = self.path[depth]
        if isinstance(step, int) and step < len(node):
            return step
        entries = f"entries 0 to {len(node) - 1}" if len(node) > 1 else "one entry, number 0" if node else "no entries"
        raise RecipeError([self.problem(f"'{self._name(depth - 1)}' is a list with {entries}; there is no '{step}'")])

    def _name(self, depth: int) -> str:
        return ".".join(map(str, self.path[: depth + 1]))


def _problem(text: str, message: str, hint: str = "") -> Problem:
    return Problem(message, f"--set {text}", hint=hint)
