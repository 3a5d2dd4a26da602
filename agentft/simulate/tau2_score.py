"""How tau2-bench scores a conversation: the parts that the task's reward basis names, all of which must be met."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from agentft.contracts import Backend, GenerationSettings
from agentft.environments import Episode, Outcome
from agentft.records import Example, Message
from agentft.simulate.outcome import ENDS, spoken

LEFT_OUT = "not judged: {count} assertion(s) in words, for want of a judge"


@dataclass(frozen=True)
class Verdicts:
    """A model that decides whether a sentence about a conversation is true."""

    backend: Backend

    def met(self, sentence: str, episode: Episode) -> bool | None:
        """None where the answer is neither yes nor no."""
        names = {"user": "Customer", "assistant": "Agent"}
        said = "\n".join(f"{names[one.role]}: {one.content}" for one in episode.messages if one.role in names and one.content)
        text = (
            f"A conversation between a customer and an agent:\n\n{said}\n\nSentence: {sentence}\n\n"
            "Does the conversation show that the sentence is true? Answer with one word, yes or no."
        )
        prompt = Example(f"{episode.task}#{episode.trial}", (Message("user", text),))
        answer = self.backend.generate([prompt], GenerationSettings(max_new_tokens=8))[0].text
        found = re.search(r"\b(yes|no)\b", answer.lower())
        return None if found is None else found[1] == "yes"


def score(row: Mapping[str, Any], episode: Episode, basis: Set[str], reference: str, judge: Verdicts | None) -> Outcome:
    """The outcome of an episode.

    Args:
        row: the task as tau2-bench has it.
        basis: parts that count: ``DB``, ``ENV_ASSERTION``, ``ACTION``, ``COMMUNICATE``, ``NL_ASSERTION``.
        reference: the environment's state after the reference actions, see :meth:`agentft.simulate.tau2.Tau2Environment.state`.
        judge: decides NL_ASSERTION; None: these are left out, and ``detail`` says so.
    """
    criteria = row.get("evaluation_criteria") or {}
    checks, why = {"ended": episode.end == "user"}, []
    if not checks["ended"]:
        why.append(ENDS.get(episode.end, episode.end) + (f": {episode.error}" if episode.error else ""))
    databases, _, assertions = episode.state.rpartition("/")
    if "DB" in basis:
        # As in tau2-bench: a task with neither actions nor assertions asks nothing of the database.
        free = criteria.get("actions") is None and criteria.get("env_assertions") is None
        checks["db"] = free or databases == reference.rpartition("/")[0]
        if not checks["db"]:
            why.append("the database is not as the reference actions leave it")
    if "ENV_ASSERTION" in basis:
        checks["env_assertion"] = "0" not in assertions
        if not checks["env_assertion"]:
            failed = [one["func_name"] for one, met in zip(criteria["env_assertions"], assertions, strict=True) if met == "0"]
            why.append(f"not met: {', '.join(failed)}")
    if "ACTION" in basis:
        lacking = missing_actions(criteria.get("actions") or (), episode)
        checks["action"] = not lacking
        if lacking:
            why.append(f"not called: {', '.join(lacking)}")
    if "COMMUNICATE" in basis:
        untold = not_told(criteria.get("communicate_info") or (), episode)
        checks["communicate"] = not untold
        if untold:
            why.append(f"not told: {', '.join(untold)}")
    sentences = criteria.get("nl_assertions") or () if "NL_ASSERTION" in basis else ()
    if sentences and judge is None:
        why.append(LEFT_OUT.format(count=len(sentences)))
    elif sentences and judge is not None:
        verdicts = {sentence: judge.met(sentence, episode) for sentence in sentences}
        checks["nl_assertion"] = all(verdicts.values())
        why += [f"{'not so' if met is False else 'no verdict'}: {sentence}" for sentence, met in verdicts.items() if not met]
    return Outcome(checks, "; ".join(why))


def missing_actions(actions: Sequence[Mapping[str, Any]], episode: Episode) -> list[str]:
    """Names of reference actions of the agent that no call matches.

    A call is compared in the arguments that ``compare_args`` names; without it, in those that the call itself has.
    """
    calls = [call for message in episode.messages for call in message.tool_calls]
    wanted = [action for action in actions if action.get("requestor", "assistant") == "assistant"]
    return [action["name"] for action in wanted if not any(_matches(action, call) for call in calls)]


def _matches(action: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    if action["name"] != call["name"]:
        return False
    named = action.get("compare_args")
    compared = list(call["arguments"]) if named is None else named
    return _only(call["arguments"], compared) == _only(action["arguments"], compared)


def _only(arguments: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key in keys}


def not_told(infos: Sequence[str], episode: Episode) -> list[str]:
    """Pieces of information that stand in no message of the agent, letter by letter; thousands separators are not looked at."""
    texts = [text.lower().replace(",", "") for text in spoken(episode.messages)]
    return [info for info in infos if not any(info.lower() in text for text in texts)]
