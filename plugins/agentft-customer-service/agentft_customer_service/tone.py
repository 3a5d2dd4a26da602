"""``tone``: courteous, and free of blame, curtness, shouting, hype and phrases in a loop. Word lists for English and Chinese.

What the lists cannot see: sarcasm, coldness in polite words, empathy without its usual words, a complaint quoted from
the customer. A low share of faults is no proof of a good tone; each fault found is quoted in the details.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import sample_score
from agentft.evaluate.form import repeats
from agentft.records import Sample, Score
from agentft.text import words

SHORTEST = 6  # words; "No." and "Check your email." are curt
LOOP = 5  # words in a row; four are said twice in good answers too ("within 2 business days")


def _compiled(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


_COURTEOUS = _compiled(
    r"\b(?:please|thank(?:s| you)|sorry|apolog\w+|understand\w*|appreciate\w*)\b",
    r"\b(?:i (?:can )?(?:see|hear)|must (?:be|have been) \w+|that sounds)\b",
    r"\b(?:happy|glad|pleased|good) (?:to|that|of you|you)\b|\byou(?:['’]re| are) (?:right|welcome)\b|\bwelcome\b|\bof course\b",
    r"\bno (?:problem|worries)\b|\b(?:frustrat|annoy|disappoint|inconvenien)\w+|\bpity\b|\bmakes sense\b|\bcongratulations\b",
    r"\bgood (?:question|idea|choice|news)\b|(?<!make )(?<!made )\bsure\b",
    "请|您|抱歉|对不起|不好意思|谢谢|感谢|理解|明白|辛苦|放心|欢迎|好的|当然|没问题",
)
_FAULTS = {
    "blame": _compiled(
        r"\byour (?:own )?(?:fault|mistake|problem)\b|\bnot our (?:fault|problem|responsibility)\b|\bunfortunately for you\b",
        r"\byou should(?:n['’]t| not)? have\b|\byou (?:failed|forgot|neglected|didn['’]t bother) to\b",
        r"\bas i (?:have )?(?:already )?(?:said|told|explained|mentioned)\b|\bi (?:have )?already told you\b",
        r"\b(?:calm|cool) down\b|\boverreact\w*|\bwatch your (?:language|tone)\b|\bif you had (?:only )?(?:read|checked|listened)\b",
        "[您你]自己的(?:错|问题|责任)|怪[您你]|谁让[你您]|[您你](?:本来)?就?应该早|我(?:已经|都)说过|冷静(?:一?点|下来)|别激动",
        "不是我们的(?:错|问题|责任)|自己不看",
    ),
    "curt": _compiled(
        r"\bnothing (?:we|i) can do\b|\bread the (?:faq|terms|policy|manual)\b|\bthat['’]s (?:our|the) policy[.!]|\bdeal with it\b",
        r"\btough luck\b|\btoo bad\b|\bnot my (?:job|department)\b|\bstop (?:asking|writing|complaining)\b|\bcontact someone else\b",
        "没办法[。！!]|爱莫能助|自己(?:去)?看(?:规则|说明)|不归我(?:们)?管|不知道[。！!]|就这样[。！!]|别再(?:问|来)",
    ),
    "hype": _compiled(
        r"\b(?:amazing|awesome|incredible|fantastic|thrilled|super excited|world-class|best[- ]ever|game[- ]chang\w+|unbeatable)\b",
        "太棒了|超级棒|无与伦比|史上最|震撼|绝佳体验",
    ),
}
_SHOUTED = re.compile(r"\b[A-Z]{4,}\b")
_NOT_SHOUTED = frozenset({"IBAN", "ASAP", "HTTP", "HTTPS", "IMEI", "UEFA", "NASA", "VISA"})


def tone(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Share of answers with a courteous word and no fault.

    Returns:
        ``tone``: 1 for an answer that is courteous and has no fault; ``details``: the faults found.
        ``tone/courtesy``: share of answers with a word of courtesy or empathy.
        ``tone/faults``: share of answers with a fault: ``blame``, ``curt`` (dismissive, or under 6 words), ``shouting`` (two or
            more exclamation marks, or a word of four or more capitals that the customer did not use), ``hype``, ``loop`` (the same
            five words twice; an apology over and over is no courtesy).
    """
    found = {sample.id: faults(sample.text, sample.prompt.last_user) for sample in samples}
    details = {key: value for key, value in found.items() if value}

    what = "blame, curtness, shouting, hype or loops"
    return [
        sample_score(
            "tone",
            samples,
            lambda s: courteous(s.text) and not found[s.id],
            ctx,
            summary=f"courteous answers without {what}",
            details=details,
        ),
        sample_score("tone/courtesy", samples, lambda s: courteous(s.text), ctx, summary="answers with a word of courtesy or empathy"),
        sample_score("tone/faults", samples, lambda s: bool(found[s.id]), ctx, direction="lower", summary=f"answers with {what}"),
    ]


def courteous(answer: str) -> bool:
    """Whether the answer has a word of courtesy or empathy."""
    return bool(_COURTEOUS.search(answer))


def faults(answer: str, asked: str = "") -> dict[str, str]:
    """Kind of fault -> the words that show it; empty for a clean answer. ``asked`` is what the customer wrote."""
    found = {kind: match.group(0) for kind, pattern in _FAULTS.items() if (match := pattern.search(answer))}
    if len(words(answer)) < SHORTEST:
        found.setdefault("curt", answer.strip() or "(nothing)")
    # Product names and order numbers come from the customer's own message.
    capitals = [word for word in _SHOUTED.findall(answer) if word not in _NOT_SHOUTED and word not in asked]
    marks = re.findall("[!！]", answer)
    if capitals or len(marks) > 1:
        found["shouting"] = capitals[0] if capitals else "".join(marks)
    if repeats(answer, LOOP):
        found["loop"] = f"the same {LOOP} words twice"
    return found
