"""``escalation``: is the case handed over to a human where it must be, and only there?

A hand-over is a statement that the agent passes the case on to a person, or that a person will get in touch. Found by
rules, sentence by sentence. Not a hand-over: an offer ("if you like", a question), a refusal ("I can't connect you to a
manager"), telling customers to look for somebody themselves, asking a product or billing team for a detail. The rules
see words, not intentions: a hand-over in other words is missed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import groups_of, per_sample, score_from
from agentft.records import Direction, Sample, Score
from agentft.text import sentences


def _any(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


_HUMAN = _any(
    r"specialists?|managers?|supervisors?|team leads?|representatives?|colleagues?",
    r"human(?: being| agent| colleague| representative)?s?|(?:real|live) (?:person|agent)s?",
    r"someone (?:in charge|senior|from (?:our|the) \w+ team)",
    r"(?:fraud|safety|legal|escalations?|specialist) (?:team|department)",
)
_PASS_ON = _any(
    r"hand(?:ed|ing|s)?|pass(?:ed|ing|es)?|transfer(?:red|ring|s)?|forward(?:ed|ing|s)?|escalat(?:e|ed|ing|es)",
    r"refer(?:red|ring|s)?|connect(?:ed|ing|s)?|put(?:ting)?|assign(?:ed|ing|s)?|rout(?:e|ed|ing|es)",
)
_TOUCH = _any(
    r"calls?|contacts?|phones?|writes?|rings?|reach(?:es)? out|gets? (?:back|in touch)|follows? up|handles?",
    r"takes? (?:over|this over|it from here|care)|looks? (?:into|at)",
)
_NOT = _any(
    r"can(?:no|['’])t|can not|won['’]t|will not|unable to|not able to|do(?:n['’]t| not)(?: need to)?",
    r"doesn['’]t|does not|no need to|without|never|not going to",
)
_NEGATED = re.compile(
    _any(rf"\b{_NOT}\s+(?:\w+\s+){{0,2}}?(?:{_PASS_ON}|{_TOUCH})\b", rf"\bno {_HUMAN}\b", r"\bthere(?:['’]s| is) no\b"), re.IGNORECASE
)
_OFFER = re.compile(
    _any(
        r"\bif (?:needed|necessary|you(?:['’]d)? (?:like|want|wish|prefer|need))",
        r"\b(?:would|do) you (?:like|want|prefer)|\b(?:shall|should) (?:i|we)\b|\bcan take over\b",
        r"\b(?:i|we) can(?! only)\b(?!['’])|[?？]\s*$",
    ),
    re.IGNORECASE,
)
_HANDOVER = re.compile(
    _any(
        # I am handing your case to a specialist
        rf"\b{_PASS_ON}\b[^.!?]{{0,70}}?\b(?:to|with|through(?: to)?)\b[^.!?]{{0,40}}?\b{_HUMAN}\b",
        # a specialist calls you
        rf"\b{_HUMAN}\b[^.!?]{{0,60}}?\b(?:(?:will|is going to)\s+(?:\w+\s+)?|['’]ll\s+)?{_TOUCH}\b",
    ),
    re.IGNORECASE,
)
# The customer is told to do it: "please contact our manager", "you can speak to a supervisor".
_YOURSELF = re.compile(
    r"\b(?:please|you (?:can|may|could|should|need to|must))\s+(?:\w+\s+)?(?:contact|call|reach|ask|speak|talk|write|get)\b"
    rf"[^.!?]*\b{_HUMAN}\b",
    re.IGNORECASE,
)

_HUMAN_ZH = r"(?:专员|专家|人工(?:客服|坐席)?|主管|经理|负责人|专人|真人|同事)"
_HANDOVER_ZH = re.compile(
    rf"(?:转给|转交|转接|转到|转达|移交|上报|交给|交由|升级|安排|通知|反馈给)[^。！？!?\n]{{0,14}}?{_HUMAN_ZH}"
    rf"|{_HUMAN_ZH}[^。！？!?\n]{{0,24}}?(?:联系|致电|打电话|回电|来电|跟进|回复|处理|接手)"
)
_NEGATED_ZH = re.compile(
    r"(?:不能|无法|没法|不用|无需|不需要|不会|没有|不必)[^。！？!?，,\n]{0,8}?(?:转|交|升级|上报|安排|专员|人工|主管|经理)"
)
_OFFER_ZH = re.compile(
    _any(
        "如果(?:您)?(?:需要|愿意|想|要)|如需|要不要|需要我?(?:帮您)?(?:转|安排)",
        "可以(?:帮您|为您|给您)?(?:转|安排)",
        r"[?？]\s*$|吗\s*$",
        "请[^。，,]{0,6}联系",
    )
)


def hands_over(text: str) -> bool:
    """Whether the answer says that a human takes the case, in English or Chinese."""
    return any(_english(sentence) or _chinese(sentence) for sentence in sentences(text))


def escalation(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Hand-overs against ``meta.escalate`` of the prompt; prompts that do not say it are left out.

    Returns:
        ``escalation``: share of answers that decide rightly. Most customers need no hand-over, so an agent that never hands
            over scores high; the summary says how high.
        ``escalation/recall``: of the prompts that must be handed over, the share that is.
        ``escalation/precision``: of the answers that hand over, the share that had to; NaN where none does. Two agents are
            compared on the prompts that both handed over, so read its value beside ``needless``.
        ``escalation/needless``: of the prompts that need no hand-over, the share that is handed over (lower is better).
    """
    asked = [sample for sample in samples if isinstance(sample.prompt.meta.get("escalate"), bool)]
    groups = groups_of(asked)
    handed = per_sample(asked, lambda sample: hands_over(sample.text))
    must = {sample.id: bool(sample.prompt.meta["escalate"]) for sample in asked}
    right = {key: value if value != value else float(bool(value) == must[key]) for key, value in handed.items()}
    never = sum(not due for due in must.values()) / len(must) if must else 0.0
    details = {key: {"handed over": bool(value), "due": must[key]} for key, value in handed.items() if value == value}

    def score(name: str, values: dict[str, float], summary: str, direction: Direction = "higher") -> Score:
        return score_from(name, values, groups, seed=ctx.seed, direction=direction, summary=summary, details={} if "/" in name else details)

    needless = "other cases that are handed over without need"
    return [
        score("escalation", right, f"answers that rightly hand over or do not (never handing over would give {never:.0%})"),
        score("escalation/recall", {k: v for k, v in handed.items() if must[k]}, "cases for a human that are handed over"),
        score(
            "escalation/precision",
            {k: float(must[k]) for k, v in handed.items() if v == 1},
            "hand-overs that were due (compared where both agents hand over)",
        ),
        score("escalation/needless", {k: v for k, v in handed.items() if not must[k]}, needless, "lower"),
    ]


def _english(sentence: str) -> bool:
    found = _HANDOVER.search(sentence)
    return bool(found) and not _NEGATED.search(sentence) and not _OFFER.search(sentence) and not _YOURSELF.search(sentence)


def _chinese(sentence: str) -> bool:
    found = _HANDOVER_ZH.search(sentence)
    return bool(found) and not _NEGATED_ZH.search(sentence) and not _OFFER_ZH.search(sentence)
