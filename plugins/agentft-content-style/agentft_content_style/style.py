"""``style-markers``: by what a reader recognises the style, counted.

Each style is a set of markers that a text has or has not. They are not the checklist of the persona: that one asks whether
the rules were kept, this one whether the text reads like its kind. Word lists decide, so a style in other words is
missed, and a text that only wears the markers passes: look at ``facts-kept`` beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import NAN, failed, groups_of, per_sample, sample_score, score_from
from agentft.records import Sample, Score
from agentft.text import sentences, words
from agentft.validation import Model

Marker = Callable[[str], bool]
Style = Literal["newsroom", "brand-voice", "plain-language", "newsroom-zh"]


class StyleConfig(Model):
    """Options of ``style-markers`` and ``style-and-facts``."""

    style: Style | None = Field(None, description="style to look for; left out: that of the persona, or of one that it extends")


def style_markers(samples: Sequence[Sample], generate: Generate, config: StyleConfig, ctx: EvalContext) -> list[Score]:
    """``style-markers``: share of the style's markers that an answer has; ``style-markers/NAME``: share of answers that have it.

    NaN for all where the persona belongs to no known style and the option ``style`` is not set.
    """
    style = style_of(config, ctx)
    if style is None:
        known = f"persona '{ctx.persona.name}' is of no known style; set style: {', '.join(STYLES)}"
        return [sample_score("style-markers", samples, lambda s: NAN, ctx, summary=f"not computed: {known}")]
    groups = groups_of(samples)
    has = {sample.id: {name: marker(sample.text) for name, marker in STYLES[style].items()} for sample in samples}
    unscored = {s.id: NAN for s in samples if failed(s)}
    details = {s.id: [name for name, present in has[s.id].items() if not present] for s in samples if not failed(s)}
    summary = f"share of the markers of the style '{style}' that an answer has"
    share = per_sample(samples, lambda s: sum(has[s.id].values()) / len(has[s.id]))
    scores = [score_from("style-markers", share, groups, seed=ctx.seed, summary=summary, details=details)]
    for name in STYLES[style]:
        values = {key: float(marks[name]) for key, marks in has.items()}
        scores.append(score_from(f"style-markers/{name}", values | unscored, groups, seed=ctx.seed, summary=SUMMARIES[name]))
    return scores


def style_of(config: StyleConfig | None, ctx: EvalContext) -> str | None:
    """The style to look for: the option, else the persona's name or that of one that it extends."""
    names = [config.style if config else None, *(name.rpartition("/")[2] for name in ctx.persona.lineage)]
    return next((name for name in names if name in STYLES), None)


def marker_share(style: str, text: str) -> float:
    """Share of the style's markers that ``text`` has."""
    return sum(marker(text) for marker in STYLES[style].values()) / len(STYLES[style])


def sentence_length(text: str) -> float:
    """Mean words per sentence, a Chinese character counted as one word; infinite where there is no sentence."""
    found = sentences(text)
    return len(words(text)) / len(found) if found else float("inf")


def _some(pattern: str, flags: int = re.IGNORECASE) -> Marker:
    compiled = re.compile(pattern, flags)
    return lambda text: bool(compiled.search(text))


def _none(pattern: str, flags: int = re.IGNORECASE) -> Marker:
    compiled = re.compile(pattern, flags)
    return lambda text: bool(text.strip()) and not compiled.search(text)


def _short(limit: float) -> Marker:
    return lambda text: sentence_length(text) <= limit


def _one_of(*alternatives: str, end: str = r"\b") -> str:
    return rf"\b(?:{'|'.join(alternatives)}){end}"


_IMPERATIVE = re.compile(
    r"(?:so |and |just |or |then |please )?"
    + _one_of(
        "come|drop|pop|join|try|book|stop|visit|write|call|ring|bring|pick|save|order|reserve|tell|ask|sign|stay|take|swing|find|let|give|send",
        "treat|choose|reply|browse|grab|keep|say|meet|pull|look|see|have|put|wander|mark|show|share|sit|settle|taste|leave|step|text|email|phone",
        "make|go|follow|wear|turn|get",
    ),
    re.IGNORECASE,
)
_FIRST_PERSON = _one_of("I|me|my|mine|we|us|our|ours")
_SECOND_PERSON = _one_of("you|your|yours|yourself")
_WE = _one_of("we|us|our")
_CONTRACTION = r"\b\w+(?:n['’]t|['’](?:re|ll|ve|m|d)\b)|\b(?:it|that|there|here|what|he|she|who|how|where|let)['’]s\b"
_ATTRIBUTION = _one_of("said|says|according to|announced|confirmed|reported|told")
_PRAISE = _one_of(
    "amaz|wonderful|fantastic|incredib|excit|thrill|stunning|beloved|world-class|unforgettable|outstanding|magnificent|superb|brilliant",
    "spectacular|delight|proud|perfect|exclusive|ultimate|luxur|must-have|once-in-a-lifetime|state-of-the-art|cutting-edge",
    end=r"\w*",
)
_OFFICIALESE = _one_of(
    r"commenc\w+|pursuant|prior to|subsequent\w*|aforementioned|hereby|herein|notwithstanding|in respect of|with effect from|in the event",
    r"in order to|utili[sz]\w+|facilitat\w+|are advised|in accordance|shall|purchas\w+|regarding|terminat\w+|remit\w*|in lieu",
    "consumers?|customers?|patrons?|complimentary|inconvenience",
)
_DUTY = r"\byou (?:\w+ )?(?:must|need to|can|cannot|should|may|have to|do not need|do not have to)\b|\bplease\b"
_PASSIVE = (
    r"\b(?:is|are|was|were|be|been|being)\s+(?:being |not |now )?"
    r"(?!need\b)(?:\w+ed|held|sent|paid|made|given|taken|done|shown|kept|brought|built)\b"
)
_PRAISE_ZH = "热烈|隆重|精彩|圆满|震撼|辉煌|喜讯|匠心|完美|骄傲|自豪|非凡|卓越|盛宴|惊喜|重磅|泪目|沸腾|太[^平阳湖]{1,6}了"


def _ends_with_invitation(text: str) -> bool:
    found = sentences(text)
    return bool(found) and bool(_IMPERATIVE.match(found[-1]))


def _says_you_and_we(text: str) -> bool:
    return _some(_SECOND_PERSON)(text) and _some(_WE)(text)


def _figure_first(text: str) -> bool:
    return any(character.isdigit() for character in (sentences(text) or [""])[0])


SUMMARIES = {
    "short-sentences": "answers with short sentences on average",
    "attribution": "answers that say where the information comes from",
    "impersonal": "answers that speak neither of I and we nor to you",
    "calm": "answers without exclamation marks",
    "no-praise": "answers without praise and hype",
    "no-contractions": "answers without it's, you'll and the like",
    "contractions": "answers with it's, you'll and the like",
    "to-you": "answers that speak to the reader as you",
    "you-and-we": "answers that say you and we",
    "invitation": "answers that end with an invitation",
    "everyday-words": "answers without officialese and business words",
    "says-what-to-do": "answers that say what the reader must or can do",
    "active": "answers in the active voice",
    "figure-first": "answers with a figure in the first sentence",
}
_CALM, _PLAIN_WORDS, _NO_PRAISE = _none("[!！]"), _none(_OFFICIALESE), _none(_PRAISE)
STYLES: Mapping[str, Mapping[str, Marker]] = {
    "newsroom": {
        "short-sentences": _short(20),
        "attribution": _some(_ATTRIBUTION),
        "impersonal": _none(f"{_FIRST_PERSON}|{_SECOND_PERSON}"),
        "calm": _CALM,
        "no-praise": _NO_PRAISE,
        "no-contractions": _none(_CONTRACTION),
    },
    "brand-voice": {
        "short-sentences": _short(14),
        "to-you": _some(_SECOND_PERSON),
        "contractions": _some(_CONTRACTION),
        "invitation": _ends_with_invitation,
        "calm": _CALM,
        "no-praise": _NO_PRAISE,
        "everyday-words": _PLAIN_WORDS,
    },
    "plain-language": {
        "short-sentences": _short(14),
        "you-and-we": _says_you_and_we,
        "says-what-to-do": _some(_DUTY),
        "active": _none(_PASSIVE),
        "calm": _CALM,
        "everyday-words": _PLAIN_WORDS,
        "no-contractions": _none(_CONTRACTION),
    },
    "newsroom-zh": {
        "short-sentences": _short(45),
        "attribution": _some("表示|介绍|据|通报|透露|公布|称|通知|提醒|说"),
        "impersonal": _none("我|咱|你|您|本店|本公司|本校"),
        "calm": _CALM,
        "no-praise": _none(_PRAISE_ZH),
        "figure-first": _figure_first,
    },
}
