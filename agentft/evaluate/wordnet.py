"""Synonyms from WordNet, where its files are: nltk's data, or a folder of dict files such as the package of a Linux distribution."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

# WordNet's own variable for the folder of its dict files, then where Debian's package wordnet-base puts them.
VARIABLE, SYSTEM = "WNSEARCHDIR", Path("/usr/share/wordnet")
_POS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
# What Morphy cuts off to find the base form (WordNet's manual, morphy(7)): ending -> what stands in its place.
_ENDINGS = {
    "noun": (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    "verb": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}
Synonyms = Callable[[str], frozenset[str]]


def synonyms() -> tuple[Synonyms, str] | None:
    """A function word -> its synonyms in lower case, single words only, the word itself among them; and where they come from.

    None where there are no files of WordNet.
    """
    folder = os.environ.get(VARIABLE)
    for path in ([Path(folder)] if folder else []) + [SYSTEM]:
        if (path / "index.noun").is_file() and (path / "data.noun").is_file():
            return _dict_files(path).synonyms, "WordNet's dict files"
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return None
    return _of_nltk, "nltk's WordNet"


@lru_cache(maxsize=1)
def _dict_files(folder: Path) -> DictFiles:
    return DictFiles(folder)


@lru_cache(maxsize=50_000)
def _of_nltk(word: str) -> frozenset[str]:
    from nltk.corpus import wordnet

    found = {lemma.name().lower() for synset in wordnet.synsets(word) for lemma in synset.lemmas()}
    return frozenset({name for name in found if "_" not in name} | {word})


class DictFiles:
    """WordNet's dict files (format: wndb(5WN) and morphy(7WN) of WordNet 3.0). Read once; about 20 MB of text."""

    def __init__(self, folder: Path):
        self._lemmas: dict[str, dict[str, list[int]]] = {}
        self._data: dict[str, bytes] = {}
        self._irregular: dict[str, dict[str, list[str]]] = {}
        self._known: dict[str, frozenset[str]] = {}
        for pos in _POS:
            index, data, irregular = (folder / name for name in (f"index.{pos}", f"data.{pos}", f"{pos}.exc"))
            if not index.is_file() or not data.is_file():
                continue
            self._lemmas[pos] = {}
            for line in index.read_text("utf-8").splitlines():
                if line.startswith(" "):  # the licence
                    continue
                lemma, _, senses, *rest = line.split()
                self._lemmas[pos][lemma] = [int(offset) for offset in rest[len(rest) - int(senses) :]]
            self._data[pos] = data.read_bytes()
            lines = irregular.read_text("utf-8").splitlines() if irregular.is_file() else []
            self._irregular[pos] = {form: bases for form, *bases in map(str.split, lines)}

    def synonyms(self, word: str) -> frozenset[str]:
        """Single words that share a synset with a base form of ``word`` (lower case), and ``word``."""
        if word not in self._known:
            offsets = {(pos, offset) for pos, lemmas in self._lemmas.items() for base in self._bases(pos, word) for offset in lemmas[base]}
            self._known[word] = frozenset({word}.union(*(self._words(pos, offset) for pos, offset in offsets)))
        return self._known[word]

    def _bases(self, pos: str, word: str) -> set[str]:
        forms = [word, *self._irregular[pos].get(word, ())]
        forms += [word[: -len(end)] + new for end, new in _ENDINGS[pos] if word.endswith(end) and len(word) > len(end)]
        return {form for form in forms if form in self._lemmas[pos]}

    def _words(self, pos: str, offset: int) -> set[str]:
        data = self._data[pos]
        fields = data[offset : data.index(b"\n", offset)].decode("utf-8").split()
        count = int(fields[3], 16)
        names = (fields[4 + 2 * place].partition("(")[0].lower() for place in range(count))  # "galore(ip)": a marker of its place
        return {name for name in names if "_" not in name}
