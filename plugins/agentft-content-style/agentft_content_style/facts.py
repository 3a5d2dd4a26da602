"""``facts-kept``: do the names and numbers of the source survive, and is none added?

What must survive is ``meta.facts`` where the prompt has it. Elsewhere it is read from the source: every number, and every
word with a capital inside a sentence (English only: Chinese has no capitals, so only numbers count there).

What the rules cannot see: a fact told in other words, a name swapped with another one of the source, a wrong relation
between two right facts. "Invented" means: a number in digits, or a capitalised word inside a sentence, that occurs
neither in the conversation nor in the persona's role. A sum worked out by the writer counts as invented.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import fact_groups, failed, sample_score
from agentft.evaluate.numbers import numbers, values
from agentft.records import Example, Sample, Score
from agentft.text import is_chinese, sentences

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NO_NAMES = frozenset({"i", "ok", "am", "pm", "mr", "mrs", "ms", "dr"})


def facts_kept(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``facts-kept``: share of the facts of the source that an answer tells, left out where the source has none;
    ``facts-kept/invented``: share of answers with a number or name of their own (lower is better). Details quote both."""
    lost = {s.id: missing(s.prompt, s.text) for s in samples}
    added = {s.id: invented(s.prompt, s.text, ctx.persona.role) for s in samples}
    summary = "share of the names and numbers of the source that an answer keeps"
    invented_summary = "answers with a number or name that the source does not have"
    return [
        sample_score("facts-kept", samples, lambda s: kept_share(s.prompt, s.text), ctx, summary=summary, details=_shown(samples, lost)),
        sample_score(
            "facts-kept/invented",
            samples,
            lambda s: bool(added[s.id]),
            ctx,
            direction="lower",
            summary=invented_summary,
            details=_shown(samples, added),
        ),
    ]


def source_of(prompt: Example) -> str:
    """The text or notes to write from: ``meta.source``, else the last user message."""
    source = prompt.meta.get("source")
    return source if isinstance(source, str) and source.strip() else prompt.last_user


def facts_of(prompt: Example) -> list[list[str]]:
    """Groups of alternatives that must survive."""
    if groups := fact_groups(prompt):
        return groups
    source = source_of(prompt)
    digits = [number.text for number in numbers(source) if number.digits]
    return [[fact] for fact in dict.fromkeys([*digits, *names(source)])]


def missing(prompt: Example, answer: str) -> list[str]:
    """The facts that ``answer`` does not tell."""
    return [" / ".join(group) for group in facts_of(prompt) if not any(told(one, answer) for one in group)]


def kept_share(prompt: Example, answer: str) -> float | None:
    """Share of the facts that ``answer`` tells; None where there are none."""
    facts = facts_of(prompt)
    return 1 - len(missing(prompt, answer)) / len(facts) if facts else None


def told(fact: str, answer: str) -> bool:
    """Whether ``answer`` contains ``fact``: letter case aside, numbers by value and never inside another ("9" is not in "19")."""
    fact = fact.strip()
    found = numbers(fact)
    if len(found) == 1 and found[0].text == fact and found[0].value in _values(answer):
        return True
    if _date_word(fact):
        return any(_date_word(word) == _date_word(fact) for word in _letters(answer))
    before = r"(?<!\d)(?<!\d[.,])" if fact[:1].isdigit() else ""
    after = r"(?![.,:]?\d)" if fact[-1:].isdigit() else ""
    return bool(re.search(f"{before}{re.escape(fact)}{after}", answer, re.IGNORECASE))


@lru_cache(maxsize=8)
def _values(answer: str) -> set[Fraction]:
    return values(answer)


def names(text: str) -> list[str]:
    """Words with a capital that do not begin a sentence; none for Chinese, which has no capitals."""
    if is_chinese(text):
        return []
    inside = [word for sentence in sentences(text) for word in _letters(sentence)[1:]]
    return list(dict.fromkeys(word for word in inside if word[0].isupper() and word.lower() not in _NO_NAMES))


def invented(prompt: Example, answer: str, role: str = "") -> list[str]:
    """Numbers in digits and names of ``answer`` that neither the conversation nor ``role`` has."""
    given = "\n".join([role, source_of(prompt), *(message.content for message in prompt.messages)])
    known = _known_values(given)
    added = [number.text for number in numbers(answer) if number.digits and abs(number.value) not in known]
    given_words = {word.lower() for word in _letters(given)}
    short = {word.lower() for word in _letters(given) if word[0].isupper() and len(word) <= 4}
    dates = {_date_word(word) for word in given_words}
    for name in names(answer):
        low = name.lower()
        # Compounds and plurals: "Glassworks" of "glass works", "Tuesdays" of "Tue".
        known_name = low in given_words or low in "".join(_letters(given)).lower() or (_date_word(low) or " ") in dates
        if not known_name and not any(_abbreviates(word, low) for word in short):
            added.append(name)
    return list(dict.fromkeys(added))


def _known_values(text: str) -> set[Fraction]:
    """Absolute values of the numbers; of clock times (18.30) also hour and minutes, and the hour on a 12-hour clock."""
    parts = re.sub(r"(?<!\d)(\d{1,2})\.(\d\d)(?!\d)", r"\1 \2", text)
    known = {abs(value) for value in values(text) | values(parts)}
    return known | {value - 12 for value in known if 12 < value < 24}


def _letters(text: str) -> list[str]:
    """Words of letters, possessive endings cut."""
    return re.findall(r"[^\W\d_]+", re.sub(r"['’]s\b", "", text))


def _date_word(word: str) -> str | None:
    """The month or weekday that a word or its abbreviation stands for: Feb, Sept, Saturdays."""
    low = word.lower().rstrip("s")
    return next((full for full in (*_MONTHS, *_DAYS) if len(low) >= 3 and full.startswith(low)), None)


def _abbreviates(short: str, word: str) -> bool:
    """St and Street, Rd and Road, Univ and University: the same first letter, and its letters in the same order."""
    letters = iter(word[1:])
    return len(short) >= 2 and short[0] == word[0] and len(short) < len(word) and all(letter in letters for letter in short[1:])


def _shown(samples: Sequence[Sample], found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {sample.id: found[sample.id] for sample in samples if found[sample.id] and not failed(sample)}
