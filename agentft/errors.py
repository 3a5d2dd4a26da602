"""Typed errors. A user's mistake is one line and exit code 2; everything else is our bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class AgentftError(Exception):
    """Root of every error that agentft raises on purpose."""


class UserError(AgentftError):
    """Something the user can put right; the message says what, where and how."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe, persona or template is not valid. Carries every :class:`Problem` found, not only the first."""

    def __init__(self, problems: Iterable[Problem] | str):
        self.problems = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataError(UserError):
    """Rows that cannot be used, or a source that cannot be read."""


class PluginError(UserError):
    """A plugin is broken, blocked, missing or collides with another."""


class MissingDependency(UserError):
    """An optional package is absent; the message ends with the exact ``pip install`` command."""


class TrainingError(UserError):
    """Training cannot go on (no signal, infinite loss); the message says at which step and what to try."""


@dataclass(frozen=True)
class Problem:
    """One finding of a check: what is wrong, where, and what to do.

    ``line`` and ``column`` count from 1; 0 means that the place is not known.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file or '<recipe>'}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.message}{f' ({self.hint})' if self.hint else ''}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the closest choice, else a list of the choices, else an empty string."""
    from difflib import get_close_matches

    known = sorted(choices)
    # A namespaced name is also found by its bare part: "refunds" -> "customer-service/refunds".
    close = get_close_matches(word, known, n=1, cutoff=0.6) or [k for k in known if k.rpartition("/")[2] == word]
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}" if known and len(known) <= 25 else ""
