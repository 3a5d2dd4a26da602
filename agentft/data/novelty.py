"""Is a text new? ROUGE-L against all that are there (Lin 2004), as the filter of Self-Instruct (Wang et al. 2023) uses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from agentft.text import words


class _Words:
    """Our words for rouge-score, whose own tokenizer drops all Chinese."""

    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


def tokens(text: str) -> list[str]:
    """Words in lower case; every Chinese character is one."""
    return [word.lower() for word in words(text)]


class Known:
    """Texts that are there already."""

    def __init__(self, texts: Iterable[str] = ()):
        self._texts: dict[str, Counter[str]] = {}
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        self._texts.setdefault(text, Counter(tokens(text)))

    def __len__(self) -> int:
        return len(self._texts)

    def like(self, text: str, threshold: float) -> str | None:
        """A known text whose ROUGE-L F-measure with ``text`` is ``threshold`` or more; None if there is none."""
        own = Counter(tokens(text))
        for other, bag in self._texts.items():
            total = own.total() + bag.total()
            if not total:
                return other
            # A common subsequence is no longer than what the two have in common in any order, which is quick to count.
            most = sum(min(count, bag[word]) for word, count in own.items())
            if 2 * most >= threshold * total and self._scorer.score(other, text)["rougeL"].fmeasure >= threshold:
                return other
        return None

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(["rougeL"], tokenizer=_Words())
