"""Which of two answers is better? A judge is asked in both orders; what depends on the order is a tie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentft.contracts import Backend, GenerationSettings
from agentft.feedback.parse import Choice, parse_pair
from agentft.jinja import render_text
from agentft.records import Example, Message


@dataclass(frozen=True)
class Duel:
    """Two answers to one prompt."""

    id: str
    prompt: Example
    first: str
    second: str


@dataclass(frozen=True)
class DuelVerdict:
    """Outcome of a duel.

    Attributes:
        winner: ``first``, ``second``, ``tie``, or None where too little could be read.
        forward, backward: preference per try, in terms of the duel's own first and second, asked in the given and in the swapped
            order; None = unreadable.
        error: why there is no answer at all.
    """

    id: str
    winner: Choice | None
    forward: tuple[Choice | None, ...] = ()
    backward: tuple[Choice | None, ...] = ()
    error: str = ""

    @property
    def consistent(self) -> bool:
        """Whether both orders gave the same answer (first try); False where one is unreadable."""
        return bool(self.forward and self.backward) and self.forward[0] is not None and self.forward[0] == self.backward[0]


def compare_pairs(
    duels: Sequence[Duel],
    ask: Callable[[Sequence[Example]], list[tuple[Choice | None, str]]],
    template: str,
    *,
    repeats: int = 1,
) -> list[DuelVerdict]:
    """Ask about every duel, ``repeats`` times in each order.

    Args:
        ask: questions -> for each the choice in terms of what stands first in it, and an error; see :func:`by_text` and
            :func:`by_likelihood`.
        template: source of ``judge_pair``.

    A winner needs the majority in both orders; where the orders disagree it is a tie.
    """
    questions = [
        _question(f"{duel.id}~{number}{mark}", duel, swapped, template)
        for duel in duels
        for number in range(repeats)
        for mark, swapped in (("f", False), ("b", True))
    ]
    answers = {question.id: answer for question, answer in zip(questions, ask(questions), strict=True)}
    result = []
    for duel in duels:
        forward = [answers[f"{duel.id}~{number}f"] for number in range(repeats)]
        backward = [answers[f"{duel.id}~{number}b"] for number in range(repeats)]
        errors = [error for _, error in (*forward, *backward) if error]
        one = tuple(choice for choice, _ in forward)
        other = tuple(_turned(choice) for choice, _ in backward)
        if len(errors) == 2 * repeats:
            result.append(DuelVerdict(duel.id, None, one, other, errors[0]))
        else:
            result.append(DuelVerdict(duel.id, _winner(_majority(one), _majority(other)), one, other))
    return result


def _winner(forward: Choice | None, backward: Choice | None) -> Choice | None:
    if forward is None or backward is None:
        return None
    return forward if forward == backward else "tie"


def _majority(votes: Sequence[Choice | None]) -> Choice | None:
    options: tuple[Choice, ...] = ("first", "second", "tie")
    return next((choice for choice in options if 2 * votes.count(choice) > len(votes)), None)


def _turned(choice: Choice | None) -> Choice | None:
    return "second" if choice == "first" else "first" if choice == "second" else choice


def _question(name: str, duel: Duel, swapped: bool, template: str) -> Example:
    first, second = (duel.second, duel.first) if swapped else (duel.first, duel.second)
    variables: dict[str, Any] = {
        "conversation": [{"role": m.role, "content": m.content} for m in duel.prompt.messages],
        "prompt": duel.prompt.last_user,
        "first": first.strip(),
        "second": second.strip(),
    }
    return Example(name, (Message("user", render_text(template, variables, "template 'judge_pair'").strip()),))


def by_text(
    backend: Backend, settings: GenerationSettings, on_batch: Callable[[Any], None] | None = None
) -> Callable[[Sequence[Example]], list[tuple[Choice | None, str]]]:
    """Ask in words, and read the answer; what cannot be read is None."""

    def ask(questions: Sequence[Example]) -> list[tuple[Choice | None, str]]:
        replies = backend.generate(questions, settings, on_batch)
        return [(None, one.error) if one.finish == "error" else (parse_pair(one.text), "") for one in replies]

    return ask


def by_likelihood(
    agent: Any, on_batch: Callable[[int], None] | None = None
) -> Callable[[Sequence[Example]], list[tuple[Choice | None, str]]]:
    """Compare the log-probabilities of the answers "A" and "B": deterministic, and every question has an answer.

    Args:
        agent: a :class:`~agentft.engine.agent.LoadedAgent` in process.
    """

    def ask(questions: Sequence[Example]) -> list[tuple[Choice | None, str]]:
        found: list[tuple[Choice | None, str]] = []
        size = agent.profile.score_batch
        for start in range(0, len(questions), size):
            chunk = questions[start : start + size]
            both = [Example(one.id, (*one.messages, Message("assistant", letter))) for one in chunk for letter in ("A", "B")]
            sums = [total for total, _ in agent.logprobs(both)]
            for index in range(len(chunk)):
                left, right = sums[2 * index], sums[2 * index + 1]
                found.append(("tie" if left == right else "first" if left > right else "second", ""))
            if on_batch is not None:
                on_batch(len(chunk))
        return found

    return ask
