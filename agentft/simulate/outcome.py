"""Whether an episode succeeded: the final state, the facts told, the policies kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentft.environments import Environment, Episode, Outcome, SimTask
from agentft.records import Message
from agentft.simulate.facts import missing

# Name of a message with the role of the user that does not come from the user: it says that a call could not be read.
FROM_TOOLS = "tools"


def by_state(suite_open: Callable[[SimTask], Environment], task: SimTask, episode: Episode) -> Outcome:
    """The usual three checks of an episode.

    Args:
        suite_open: gives a fresh environment in the task's initial state (:meth:`agentft.environments.Suite.open`).

    Returns:
        ``state``: the environment's state at the end is the one that the task's reference actions lead to in a fresh environment;
        ``facts``: each of the task's groups of facts was told to the user (left out where the task has none); ``policy``: no rule
        was broken. An episode that was cut by a limit, or in which the agent could not answer, has a failed ``ended`` besides: nobody was
        served. An episode with a ``fault`` of the user says nothing about the agent and has no checks.
    """
    if episode.fault:
        return Outcome({}, episode.fault)
    checks, why = {"state": episode.state == reference_state(suite_open, task)}, []
    if not checks["state"]:
        why.append("the final state is not the one that the reference actions lead to" if task.actions else "something was changed")
    if task.facts:
        untold = missing(task.facts, "\n".join(spoken(episode.messages)))
        checks["facts"] = not untold
        if untold:
            why.append(f"not told: {', '.join(untold)}")
    checks["policy"] = not episode.violations
    why += [f"{one.policy}: {one.detail}" if one.detail else one.policy for one in episode.violations]
    if episode.end != "user":
        checks["ended"] = False
        why.append(ENDS.get(episode.end, episode.end) + (f": {episode.error}" if episode.error else ""))
    return Outcome(checks, "; ".join(why))


ENDS = {
    "user": "the user left",
    "turns": "cut after as many turns as are allowed",
    "calls": "cut after as many calls in one turn as are allowed",
    "tokens": "cut after as many tokens as are allowed",
    "agent-error": "the agent could not answer",
    "user-error": "the user simulator failed",
}


def reference_state(suite_open: Callable[[SimTask], Environment], task: SimTask) -> str:
    """Digest of the state in which the task's reference actions leave a fresh environment."""
    environment = suite_open(task)
    try:
        for action in task.actions:
            environment.call(action["name"], action.get("arguments") or {})
        return environment.state()
    finally:
        environment.close()


def spoken(messages: Sequence[Message]) -> list[str]:
    """What the agent said to the user: its messages but for texts that meant to call a tool and could not be read."""
    following = [*messages[1:], None]
    return [
        message.content
        for message, after in zip(messages, following, strict=True)
        if message.role == "assistant" and message.content and not (after is not None and from_tools(after))
    ]


def from_tools(message: Message) -> bool:
    """A message that answers a call which could not be read."""
    return message.role == "user" and message.name == FROM_TOOLS
