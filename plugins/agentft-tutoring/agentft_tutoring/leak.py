"""``answer-leak``: does the tutor tell the known answer before the student has said it?

The known answer is ``meta.answer``: a text, or a list of accepted forms. It leaks when one of its forms stands in the
tutor's answer:

* a number by value: ``12`` is told by "12", "12.0" and "twelve", not by "120", "3.12", "12/5", "12x" or "x^12". A number word
  up to ten counts only where it is listed as a form, because "the two sides" gives nothing away; a fraction is not
  told by another fraction of the same value, because reducing it may be the task.
* anything else (words, algebra, code) as a whole, letter case and spacing aside: ``snow`` is not told by "snowman".

What this cannot see: an answer in other words, and a number that means something else ("try 12 first"), which counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.errors import DataError
from agentft.evaluate.common import failed, sample_score
from agentft.evaluate.numbers import Number, numbers
from agentft.records import Example, Sample, Score

_COEFFICIENT = re.compile(r"\d+(?=[xyzabcnktm]\b(?!['’]))|\^\s*-?\d+")
_SMALLEST_WORD = 11  # number words below are too common to be the answer


def answer_leak(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Share of answers that tell the known answer (lower is better); ``details``: the words that do.

    Prompts without ``meta.answer``, and those in which the student has said the answer already, are left out.
    """
    asked = [s for s in samples if forms(s.prompt) and not _said_by_student(s.prompt)]
    told = {s.id: leaked(s.text, forms(s.prompt)) for s in asked if not failed(s)}
    summary = "answers that tell the result before the student has said it"
    details = {key: word for key, word in told.items() if word}
    return [sample_score("answer-leak", asked, lambda s: bool(told[s.id]), ctx, direction="lower", summary=summary, details=details)]


def leak_of(text: str, prompt: Example) -> str | None:
    """The words that tell the known answer, empty if none do; None where the prompt names none, or the student has said it."""
    accepted = forms(prompt)
    return None if not accepted or _said_by_student(prompt) else leaked(text, accepted)


def forms(prompt: Example) -> list[str]:
    """The accepted forms of the known answer, empty if there is none.

    Raises:
        DataError: ``meta.answer`` is neither a text, a number nor a list of them.
    """
    answer = prompt.meta.get("answer")
    listed = answer if isinstance(answer, (list, tuple)) else [] if answer is None else [answer]
    if any(isinstance(one, bool) or not isinstance(one, (str, int, float)) for one in listed):
        raise DataError(f"prompt '{prompt.id}': meta.answer must be a text or a list of texts, such as ['12', 'twelve']")
    return [text for one in listed if (text := str(one).strip())]


def leaked(text: str, accepted: Sequence[str]) -> str:
    """The first of the accepted forms that ``text`` tells, else an empty string."""
    found = numbers(_COEFFICIENT.sub(" ", text))
    for form in accepted:
        known = numbers(form)
        if len(known) == 1 and known[0].text == form and known[0].digits:
            if any(_same(known[0], number) for number in found):
                return form
        elif _stands_in(form, text):
            return form
    return ""


def _said_by_student(prompt: Example) -> bool:
    return any(leaked(message.content, forms(prompt)) for message in prompt.messages if message.role == "user")


def _same(known: Number, found: Number) -> bool:
    if "/" in known.text and "/" in found.text:
        return known.text == found.text
    return known.value == found.value and (found.digits or abs(found.value) >= _SMALLEST_WORD)


def _stands_in(form: str, text: str) -> bool:
    wanted, whole = _tight(form), _tight(text)
    before = r"(?<!\w)" if wanted[0].isalnum() else f"(?<!{re.escape(wanted[0])})"
    after = r"(?!\w)" if wanted[-1].isalnum() else f"(?!{re.escape(wanted[-1])})"
    if re.search(r"[㐀-鿿]", wanted):  # Chinese has no word ends
        before = after = ""
    return bool(re.search(before + re.escape(wanted) + after, whole))


def _tight(text: str) -> str:
    """Lower case, one space between words, none around signs: ``x + 3`` and ``x+3`` are the same."""
    plain = " ".join(text.lower().replace("，", ",").replace("（", "(").replace("）", ")").split())
    return re.sub(r"\s*([=+*/^()\[\],<>-])\s*", r"\1", plain)
