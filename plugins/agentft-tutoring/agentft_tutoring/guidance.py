"""``question-ratio``, ``telling-ratio``, ``turn-length``: does the tutor guide or tell? Sentence by sentence, by rules.

A sentence tells when it gives a result or carries out a step for the student:

* it names the answer: "the answer is ...", "here is the code", "change it to ...", a code block;
* it says a number that the student has not written as the result of something: "the total is 12", "you get 7", "that equals
  3", "6 x 8 = 48", "x = 4" (not: "try x = 4");
* it orders the whole step with its numbers: "Multiply 6 by 8", "You need to subtract 3 from both sides".

Telling in other words is missed, and a sentence that tells a harmless thing in these words counts. A question
never counts, even one with the answer in it: that is what ``answer-leak`` is for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import failed, sample_score
from agentft.evaluate.numbers import numbers
from agentft.records import Example, Sample, Score
from agentft.text import sentences, words


def _any(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


_NUMBER = r"(?P<number>-?\d[\d,.]*(?:/\d+)?)"
_IS = r"(?:is|was|equals|would be|should be|comes to)(?: equal to)?"
_FEEDBACK = _any(
    "right|correct|incorrect|not|already|always|yours|in|so|wrong|close|off|the same|what|how|too|still",
    "smaller|bigger|larger|greater|less|more",
)
_ANSWER = re.compile(
    _any(
        rf"\b(?:the|our) (?:correct |right |final )?(?:answer|solution) (?:\w+ )?{_IS}\b(?! (?:\w+ ){{0,2}}?{_FEEDBACK}\b)",
        r"\byour (?:\w+ )?answer (?:would|should) be\b",
        r"\bhere(?:['’]s| is) (?:the |your )?(?:\w+ )?(?:answer|solution|code|fix)\b",
        r"\b(?:change|replace|rewrite) (?:it|this|that|line \d+|the \w+) (?:to|with|as)\b|```",
        "答案(?:就|应该|应当)?(?:是|等于|为)(?!对|错|什么|多少|不)",
    ),
    re.IGNORECASE,
)
_RESULT = re.compile(
    _any(
        r"\b(?:result|sum|product|total|difference|quotient|remainder|value|area|perimeter|volume|mean|median|average)"
        rf"(?: of [^.?]{{1,30}}?)?(?: \w+)? {_IS}",
        r"\d (?:times|plus|minus|divided by) \d[\d,.]* (?:is|equals)(?: equal to)?",
        r"\b(?:you|we|i)(?: will| would| should| can|['’]ll|['’]d)? (?:get|end up with|obtain|are left with)",
        r"\b(?:that|this|it|which|and)(?: would| will)? (?:gives?(?: you| us)?|equals?|makes?|leaves?(?: you| us)?|comes to|becomes?)",
        r"\b(?:it|that)(?:['’]s| is| would be) (?:equal to )?",
        "(?:结果|得数|和|差|积|商|余数|面积|周长)(?:就|应该|应当)?(?:是|等于|为)|等于|得到|得出|就是",
    )
    + rf"[：: ]*(?:a total of |exactly |about |only |a |an )?{_NUMBER}",
    re.IGNORECASE,
)
_TERM = r"\(?\d[\d,.]*\)?\s*"
_EQUATION = re.compile(rf"(?:{_TERM}(?:[-+*/×÷x−]\s*{_TERM})+|(?P<variable>\b[a-z]\s*))=\s*{_NUMBER}", re.IGNORECASE)
_TRIAL = re.compile(r"\b(?:try|test|with|if|when|suppose|let|say|imagine|for)\b|如果|假如|试|代入|设|当", re.IGNORECASE)
_STEP = _any(
    r"add|subtract|multiply|divide|take away|take(?= -?\d)|double|halve|square|cancel|carry|borrow|combine|simplify|convert|round",
    "substitute|plug|isolate|distribute|factor|move|write|type|replace|insert|delete|remove|rename",
)
_ORDER = re.compile(
    _any(
        r"^(?:(?:so|now|first|then|next|just|and|okay|ok|well|yes|no|please|finally)[,:]? +)*"
        r"(?:(?:you|we) (?:just |simply |first |then )?(?:need to|have to|must|should|can|will|would) (?:just |then |first |now )?)?"
        rf"{_STEP}\b[^?]*\d",
        r"^(?:那|所以|首先|先|再|然后|接着|最后|现在)*[，,]?(?:你?(?:应该|需要|要|可以|必须))?(?:把|用|将|先|再)*"
        r"(?:(?:等式)?两边(?:同时|都|同)?|[-\d.xyz]{0,8})(?:加上?|减去?|乘以?|除以?)-?\d(?![^？?]*了[。！]?$)",
    ),
    re.IGNORECASE,
)


def question_ratio(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``question-ratio``: share of an answer's sentences that are questions; ``question-ratio/last``: share of answers that end
    with one. An answer without a sentence is 0."""
    return [
        sample_score(
            "question-ratio", samples, lambda s: _share(s.text, is_question), ctx, summary="share of a tutor's sentences that ask"
        ),
        sample_score(
            "question-ratio/last",
            samples,
            lambda s: any(is_question(part) for part in sentences(s.text)[-1:]),
            ctx,
            summary="answers that end with a question",
        ),
    ]


def telling_ratio(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Share of an answer's sentences that tell (lower is better); ``details`` quotes them. An answer without a sentence tells nothing."""
    told = {s.id: [part for part in sentences(s.text) if tells(part, s.prompt)] for s in samples if not failed(s)}
    summary = "share of a tutor's sentences that give a result or a worked step"
    details = {key: parts for key, parts in told.items() if parts}

    def share(sample: Sample) -> float:
        found = sentences(sample.text)
        return len(told[sample.id]) / len(found) if found else 0.0

    return [sample_score("telling-ratio", samples, share, ctx, direction="lower", summary=summary, details=details)]


def turn_length(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Words of an answer, a Chinese character counted as one."""
    summary = "words of a tutor's turn (a Chinese character is a word)"
    return [sample_score("turn-length", samples, lambda s: len(words(s.text)), ctx, direction="none", unit="words", summary=summary)]


def is_question(sentence: str) -> bool:
    return bool(re.search(r"[?？][\"'”’)\]」』]*$", sentence))


def tells(sentence: str, prompt: Example) -> bool:
    """Whether the sentence names the answer, a result that the student has not written, or a whole step."""
    if is_question(sentence):
        return False
    if _ANSWER.search(sentence) or _ORDER.search(sentence):
        return True
    written = {number.value for m in prompt.messages if m.role == "user" for number in numbers(m.content)}
    results = [found["number"] for found in _RESULT.finditer(sentence)]
    trial = _TRIAL.search(sentence)
    results += [found["number"] for found in _EQUATION.finditer(sentence) if not (found["variable"] and trial)]
    return any(number.value not in written for result in results for number in numbers(result))


def _share(text: str, holds: Any) -> float:
    found = sentences(text)
    return sum(map(holds, found)) / len(found) if found else 0.0
