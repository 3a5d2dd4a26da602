"""A student as a state machine: a misconception, how it shows, which hints repair it, and what happens when the answer is given away.

On the tutor's words, in this order: the answer in them is copied, and the student leaves without having learned; a question that touches
a key idea that is still missing brings an insight, and after the last one the student states the result from steps of their own; a wrong
result that is called right is believed; a question about the way is answered with the wrong way; anything else leads nowhere. A student
who gets nowhere asks for the answer, and then gives up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

from agentft.catalog import resource
from agentft.environments import UserTurn
from agentft.records import Message
from agentft.text import sentences
from agentft_tutoring.guidance import is_question
from agentft_tutoring.leak import leaked

PROBLEMS = "agentft_tutoring:data/student-problems.jsonl"
MISCONCEPTIONS = "agentft_tutoring:data/misconceptions.yaml"
PATIENCE = 4  # answers in a row that lead nowhere

_WAY = re.compile(
    r"\b(?:how did you|show me|explain|what did you do|walk me|tell me (?:how|more)|why do you think)\b"
    r"|\byour (?:steps?|work(?:ing)?|thinking)\b"
    r"|怎么(?:算|做|想|得)|说说|解释|步骤",
    re.IGNORECASE,
)
_PRAISE = re.compile(
    r"^(?:yes|yep|correct|right|exactly|perfect|great|good job|well done|that(?:'s| is) (?:right|correct))\b"
    r"|\b(?:you are|you're|it is|it's|that is|that's|is) (?:right|correct)\b|^(?:对|正确|没错|是的|很好)",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(?:not|isn't|n't|almost|nearly|incorrect|wrong|but)\b|不对|错|但", re.IGNORECASE)

_COPIES = {
    "en": ("Oh, {answer}. I'll write that down. Thanks!", "Okay, {answer}, thanks, bye!"),
    "zh": ("哦，{answer}，我抄下来了，谢谢！",),
}
_BELIEVES = {"en": ("Great, so {wrong} is right. Thanks!", "Yes! {wrong} then. Bye!"), "zh": ("太好了，那就是{wrong}，谢谢！",)}
_LOST = {
    "en": (
        "I don't get it.",
        "Hm, I'm not sure what to do with that.",
        "I still think it is {wrong}.",
        "Okay, but what is wrong with mine?",
    ),
    "zh": ("我没听懂。", "嗯，不知道该怎么做。", "我还是觉得是{wrong}。"),
}
_PLEADS = {"en": ("Can't you just tell me the answer?", "Please just give me the answer."), "zh": ("能直接告诉我答案吗？",)}
_QUITS = {"en": ("I give up. Bye.", "This doesn't help, I'll ask somebody else."), "zh": ("算了，我不做了。",)}


@cache
def misconceptions() -> Mapping[str, Any]:
    """Misconceptions by name, as written in the package."""
    from agentft import yamlio

    found: Mapping[str, Any] = yamlio.load(resource(MISCONCEPTIONS)).data
    return found


@cache
def problems() -> tuple[Mapping[str, Any], ...]:
    """Problems: ``id``, ``misconception``, ``answer`` (accepted forms) and ``values`` for the wordings."""
    return tuple(json.loads(line) for line in resource(PROBLEMS).read_text("utf-8").splitlines() if line)


class Student:
    """A :class:`~agentft.environments.User`; the same words for the same conversation and seed.

    Args:
        problem: a row of :func:`problems`.
        seed: chooses among wordings.

    Attributes:
        leaked: words of the tutor that gave the answer away; empty as long as none did.
        understood: the student stated the result from steps of their own.
    """

    def __init__(self, problem: Mapping[str, Any], seed: int = 0):
        self._problem, self._seed = problem, seed
        self._kind: Mapping[str, Any] = misconceptions()[problem["misconception"]]
        self._language = self._kind.get("language", "en")
        self._missing = list(range(len(self._kind["keys"])))
        self._lost = self._nowhere = 0
        self.leaked, self.understood = "", False

    def opens(self) -> UserTurn:
        return UserTurn(self._say(self._kind["opens"], "opens"))

    def answers(self, conversation: Sequence[Message]) -> UserTurn:
        words = _latest(conversation)
        told = leaked(words, self._problem["answer"])
        if told:
            self.leaked = told
            return UserTurn(self._say(_COPIES[self._language], "copies"), True)
        if any(is_question(part) for part in sentences(words)) and (key := self._touched(words)) is not None:
            self._missing.remove(key)
            self._nowhere = 0
            insight = self._say(self._kind["keys"][key]["insight"], f"insight {key}")
            if self._missing:
                return UserTurn(insight)
            self.understood = True
            between = "" if self._language == "zh" else " "
            return UserTurn(f"{insight}{between}{self._say(self._kind['solved'], 'solved')}", True)
        if self._confirmed(words):
            return UserTurn(self._say(_BELIEVES[self._language], "believes"), True)
        self._nowhere += 1
        if self._nowhere > PATIENCE:
            return UserTurn(self._say(_QUITS[self._language], "quits"), True)
        if _WAY.search(words):
            return UserTurn(self._say(self._kind["explains"], "explains"))
        if self._nowhere == PATIENCE - 1:
            return UserTurn(self._say(_PLEADS[self._language], "pleads"))
        wordings = _LOST[self._language]
        self._lost += 1
        return UserTurn(self._filled(wordings[(self._seed + self._lost) % len(wordings)]))

    def _touched(self, words: str) -> int | None:
        """The first missing key idea that the tutor's words touch."""
        for key in self._missing:
            patterns = (self._filled(pattern, escape=True) for pattern in self._kind["keys"][key]["hint"])
            if any(re.search(pattern, words, re.IGNORECASE) for pattern in patterns):
                return key
        return None

    def _confirmed(self, words: str) -> bool:
        return any(_PRAISE.search(part) and not _NOT.search(part) and not is_question(part) for part in sentences(words)[:2])

    def _say(self, wordings: Sequence[str], what: str) -> str:
        return self._filled(Random(f"{self._seed}:{what}").choice(list(wordings)))

    def _filled(self, text: str, escape: bool = False) -> str:
        return filled(text, self._problem, escape)


def filled(text: str, problem: Mapping[str, Any], escape: bool = False) -> str:
    """``{name}`` replaced by the problem's value; other braces stay. ``escape``: the text is a pattern."""
    values: Mapping[str, str] = problem["values"]
    return re.sub(
        r"\{([a-z]\w*)\}",
        lambda found: (re.escape(values[found[1]]) if escape else values[found[1]]) if found[1] in values else found[0],
        text,
    )


def _latest(conversation: Sequence[Message]) -> str:
    """What the tutor said since the student spoke last."""
    own = max((place for place, message in enumerate(conversation) if message.role == "user"), default=-1)
    return "\n".join(message.content for message in conversation[own + 1 :] if message.role == "assistant" and message.content)
