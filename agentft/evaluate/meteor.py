"""``meteor``: words shared with the demonstrated answer, also as another form or a synonym, and how much their order differs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import failed, sample_score, with_reference
from agentft.evaluate.wordnet import Synonyms, synonyms
from agentft.records import Sample, Score
from agentft.text import CJK, sentences, words

_CJK = re.compile(f"[{CJK}]")


def meteor(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """METEOR (Banerjee and Lavie 2005; nltk with its defaults alpha 0.9, beta 3, gamma 0.5), 0 to 1, mean over samples.

    English words match when they are equal, have one stem (Porter), or are synonyms where WordNet is installed; the summary says whether
    it was. Text with Chinese in its reference is cut into characters, which match when they are equal.
    """
    chosen = with_reference(samples)
    score_of = Meteor()
    found = {one.id: score_of(one.text, one.reference or "") for one in chosen if not failed(one)}
    return [
        sample_score("meteor", chosen, lambda one: found[one.id], ctx, summary=score_of.summary([one.reference or "" for one in chosen]))
    ]


class Meteor:
    """METEOR of one answer against one reference, with the synonyms that this machine has."""

    def __init__(self) -> None:
        self._synonyms = synonyms()

    def __call__(self, answer: str, reference: str) -> float:
        from nltk.translate.meteor_score import single_meteor_score

        if _CJK.search(reference):
            both = [[word.lower() for word in words(text)] for text in (reference, answer)]
            return float(single_meteor_score(*both, stemmer=_Whole(), wordnet=_Synonyms(None)))
        source = self._synonyms[0] if self._synonyms else None
        return float(single_meteor_score(tokens(reference), tokens(answer), stemmer=_Stemmer(), wordnet=_Synonyms(source)))

    def summary(self, references: Sequence[str]) -> str:
        """What was matched, for the reader of a score."""
        chinese = [bool(_CJK.search(text)) for text in references]
        english = f"equal words, stems and synonyms ({self._synonyms[1]})" if self._synonyms else "equal words and stems (no WordNet here)"
        what = "equal characters" if chinese and all(chinese) else f"{english}{'; Chinese: equal characters' if any(chinese) else ''}"
        return f"METEOR over {what}"


def tokens(text: str) -> list[str]:
    """Words and punctuation as nltk cuts them, sentence by sentence; needs none of nltk's data."""
    from nltk.tokenize import NLTKWordTokenizer

    cut = NLTKWordTokenizer()
    return [token for sentence in sentences(text) or [text] for token in cut.tokenize(sentence)]


class _Stem(str):
    """A stem that remembers its word: nltk looks for synonyms of what its stemmer returned ("larg"), where there are none."""

    word: str


class _Stemmer:
    def stem(self, word: str) -> str:
        stem = _Stem(_porter(word))
        stem.word = word
        return stem


class _Whole:
    """Leaves words as they are."""

    def stem(self, word: str) -> str:
        return word


class _Synonyms:
    """What ``single_meteor_score`` asks of a WordNet: one synset with the stems of all synonyms as its lemmas."""

    def __init__(self, source: Synonyms | None):
        self._source = source

    def synsets(self, stem: str) -> list[_Synonyms._Synset]:
        if not self._source or not isinstance(stem, _Stem):
            return []
        return [self._Synset(frozenset(_porter(word) for word in self._source(stem.word)))]

    class _Synset:
        def __init__(self, names: frozenset[str]):
            self._names = names

        def lemmas(self) -> list[_Synonyms._Lemma]:
            return [_Synonyms._Lemma(name) for name in self._names]

    class _Lemma:
        def __init__(self, name: str):
            self._name = name

        def name(self) -> str:
            return self._name


@lru_cache(maxsize=100_000)
def _porter(word: str) -> str:
    return str(_stemmer().stem(word))


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()
