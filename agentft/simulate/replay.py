"""Conversations with an agent that is given: its calls and words are played against a suite, without any model.

What a suite is checked with: the reference actions have to succeed, an agent that does nothing mostly must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentft.environments import Episode, SimTask, Suite
from agentft.records import Message

Step = tuple[Sequence[Mapping[str, Any]], str]  # calls, and the words after them

_MOST_TURNS = 50


def replay(suite: Suite, task: SimTask, steps: Sequence[Step], *, seed: int = 0) -> Episode:
    """An episode in which the agent answers each message of the user with one of ``steps``, and with ``Done.`` when none are left."""
    environment, user = suite.open(task), suite.user(task, seed)
    messages, calls, errors, left = list(task.history), 0, 0, list(steps)
    turn = user.answers(messages) if messages else user.opens()
    turns = 1
    try:
        while True:
            messages.append(Message("user", turn.text))
            if turn.done or turns > _MOST_TURNS:
                break
            made, words = left.pop(0) if left else ((), "Done.")
            if made:
                messages.append(Message("assistant", "", tool_calls=tuple(made)))
            for call in made:
                answer = environment.call(call["name"], call["arguments"])
                calls, errors = calls + 1, errors + answer.error
                messages.append(Message("tool", answer.content, call["name"]))
            messages.append(Message("assistant", words))
            turn = user.answers(tuple(messages))
            turns += 1
        end = "user" if turn.done else "turns"
        violations = tuple(environment.violations)
        return Episode(task.id, 0, tuple(messages), end, environment.state(), violations, calls, tool_errors=errors)
    finally:
        environment.close()


def reference(suite: Suite, task: SimTask, calls: Sequence[Mapping[str, Any]] = ()) -> Episode:
    """The episode of an agent that makes the reference calls (and ``calls`` after them) and tells the facts.

    A suite whose tasks expect certain calls in each turn has a method ``expected(task)`` that gives them turn by turn.
    """
    told = ". ".join(group[0] for group in task.facts) or "Done."
    expected = getattr(suite, "expected", None)
    turns = expected(task) if expected else [[*task.actions, *calls]]
    return replay(suite, task, [(turn, told) for turn in turns])


def idle(suite: Suite, task: SimTask) -> Episode:
    """The episode of an agent that says ``Done.`` and calls nothing."""
    return replay(suite, task, ())
