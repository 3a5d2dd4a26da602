"""Synonyms from the WordNet dictionary files (wndb(5)), where the system has them: Debian's ``wordnet-base``, or NLTK's data.

Read directly: NLTK's reader needs a file (``lexnames``) that Debian's package does not have.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

_PARTS = ("noun", "verb", "adj", "adv")
_SYSTEM = ("/usr/share/wordnet", "/usr/share/wordnet/dict", "/usr/local/share/wordnet/dict", "/usr/local/WordNet-3.0/dict")


class WordNet:
    """WordNet's index and data files. ``read(name)`` gives the bytes of one of them."""

    def __init__(self, read: Callable[[str], bytes]):
        self._data = {part: read(f"data.{part}") for part in _PARTS}
        self._index: dict[str, tuple[int, str, int]] = {}
        for part in _PARTS:
            for line in read(f"index.{part}").decode("ascii", "replace").splitlines():
                if not line.startswith(" "):  # the licence stands in front
                    # lemma pos synset_cnt p_cnt [ptr_symbol...] sense_cnt tagsense_cnt synset_offset [synset_offset...]
                    fields = line.split()
                    count = int(fields[2])
                    # "Card" is a noun in nearly all texts: the part of speech with the most senses seen in tagged texts is taken.
                    sense = (int(fields[-count - 1]), part, int(fields[-count]))
                    if fields[0] not in self._index or sense[0] > self._index[fields[0]][0]:
                        self._index[fields[0]] = sense

    def synonyms(self, word: str) -> list[str]:
        """Single words that share the most frequent meaning of ``word``; sorted, lower case.

        Only of the word as it stands: an inflected form ("cards") has none, since what replaces it would need the same form.
        """
        if word.lower() not in self._index:
            return []
        _, part, offset = self._index[word.lower()]
        fields = self._data[part][offset : self._data[part].index(b"\n", offset)].decode("ascii", "replace").split()
        # synset_offset lex_filenum ss_type w_cnt word lex_id [word lex_id...]; the count is hexadecimal
        found = {fields[4 + 2 * index].partition("(")[0].lower() for index in range(int(fields[3], 16))}
        return sorted(one for one in found - {word.lower()} if one.isalpha())


@cache
def wordnet() -> WordNet | None:
    """The WordNet of this machine, or None: in ``$WNSEARCHDIR``, ``$WNHOME/dict``, the usual folders, or NLTK's data folders."""
    folders = [os.environ.get("WNSEARCHDIR", ""), os.path.join(os.environ.get("WNHOME", ""), "dict") if os.environ.get("WNHOME") else ""]
    for folder in (Path(name) for name in (*folders, *_SYSTEM) if name):
        if (folder / "data.noun").is_file():
            return WordNet(lambda name, folder=folder: (folder / name).read_bytes())  # type: ignore[misc]
    return _of_nltk()


def _of_nltk() -> WordNet | None:
    import nltk

    for folder in (Path(name) / "corpora" for name in nltk.data.path):
        if (folder / "wordnet" / "data.noun").is_file():
            return WordNet(lambda name, folder=folder: (folder / "wordnet" / name).read_bytes())  # type: ignore[misc]
        if (folder / "wordnet.zip").is_file():
            with zipfile.ZipFile(folder / "wordnet.zip") as archive:
                return WordNet(lambda name: archive.read(f"wordnet/{name}"))
    return None
