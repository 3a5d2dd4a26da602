"""Which of many texts are like a given one: by meaning, by words, or by runs of characters.

``minilm``: cosine of MiniLM embeddings, English only. ``characters``: cosine of TF-IDF vectors over runs of 1 to 3 characters, right
for Chinese, where words have no blanks between them. ``bm25``: Okapi BM25 (Robertson and Zaragoza 2009) over words, pairs of
characters where the text is Chinese.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from agentft.engine import embedding
from agentft.engine.optional import need
from agentft.text import is_chinese, words

Method = Literal["minilm", "characters", "bm25"]
K1, B = 1.5, 0.75  # BM25: how soon a repeated word stops counting, how much a long text is discounted
SAMPLE = 200  # texts that decide whether MiniLM can read them


def best_method(texts: Sequence[str]) -> Method:
    """``minilm`` where the package is there and can read the texts (nine of ten of the first 200), else ``characters``."""
    some = texts[:SAMPLE]
    if not some or not embedding.installed():
        return "characters"
    return "minilm" if sum(map(embedding.readable, some)) >= 0.9 * len(some) else "characters"


class Index:
    """Texts to be searched.

    Args:
        texts: what is searched.
        method: how.
        vectors: file that keeps MiniLM embeddings; written if it is not there.
    """

    def __init__(self, texts: Sequence[str], method: Method, vectors: Path | None = None):
        import numpy as np

        self.texts, self.method = list(texts), method
        self._vectors: Any = None
        if method == "minilm":
            need(embedding.PACKAGE, embedding.EXTRA, "finding examples by meaning")
            if vectors is not None and vectors.is_file():
                self._vectors = np.load(vectors)
            else:
                self._vectors = embedding.embed(self.texts)
                if vectors is not None:
                    np.save(vectors, self._vectors)
        elif method == "characters":
            from sklearn.feature_extraction.text import TfidfVectorizer

            self._characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), lowercase=True, sublinear_tf=True)
            self._characters.fit([*self.texts, "."])  # one text that is not empty, whatever they are
            self._vectors = self._characters.transform(self.texts)
        else:
            self._fit_bm25()

    def scores(self, query: str) -> Any:
        """Likeness of each text with ``query``, a float array of length ``len(texts)``; higher is more alike."""
        import numpy as np

        if self.method == "minilm":
            return self._vectors @ embedding.embed([query])[0]
        if self.method == "characters":
            return (self._vectors @ self._characters.transform([query]).T).toarray()[:, 0]
        known = sorted(self._words.vocabulary_[word] for word in set(terms(query)) if word in self._words.vocabulary_)
        return np.asarray(self._vectors[:, known].sum(axis=1)).ravel()

    def _fit_bm25(self) -> None:
        import numpy as np
        from sklearn.feature_extraction.text import CountVectorizer

        self._words = CountVectorizer(analyzer=terms)
        try:
            counts = self._words.fit_transform(self.texts).tocoo()
        except ValueError:  # no text has a word
            self._words = CountVectorizer(analyzer=lambda text: [text])
            counts = self._words.fit_transform(self.texts).tocoo()
        rows, length = counts.shape[0], np.asarray(counts.sum(axis=1)).ravel()
        having = np.bincount(counts.col, minlength=counts.shape[1])
        rare = np.log(1 + (rows - having + 0.5) / (having + 0.5))
        norm = K1 * (1 - B + B * length / max(length.mean(), 1e-9))
        counts.data = rare[counts.col] * counts.data * (K1 + 1) / (counts.data + norm[counts.row])
        self._vectors = counts.tocsc()


def terms(text: str) -> list[str]:
    """Words in lower case; of Chinese, each character and each pair of neighbours."""
    found = [word.lower() for word in words(text)]
    return found + [left + right for left, right in pairwise(found) if is_chinese(left) and is_chinese(right)]
