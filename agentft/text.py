"""Splitting text into words and sentences, the same way for English and Chinese.

Everything that counts words (rules, lengths, ROUGE, distinct-2, readability) goes through here, so that "word"
means one thing in the whole product.
"""

from __future__ import annotations

import re

# Han, its extensions and the compatibility block. Kana and Hangul count too: they are written without spaces
# between the units that a length limit is about.
CJK = "㐀-䶿一-鿿豈-﫿぀-ヿ가-힯𠀀-𲎯"
_CJK_RE = re.compile(f"[{CJK}]")
# A word is one CJK character or a run of letters and digits that may be joined inside ("don't", "3.5", "e-mail").
_WORD_RE = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['’.,:/@-][^\W_{CJK}]+)*")
_LETTER_RE = re.compile(r"[^\W\d_]")
# Closing quotes, brackets and markdown marks belong to the sentence that ends before them.
_CLOSING = r"[\"'”’)\]」』》*_]*"
# A line break, fullwidth marks anywhere, ASCII marks before white space or the end (so "3.5" and "a.com/?q" stay whole);
# "!" and "?" also where the next sentence follows without a space.
_BREAK_RE = re.compile(
    rf"(?:[。！？]+|(?<![!?])[!?]++(?={_CLOSING}(?:\s|$|[{CJK}A-Z\"“]))|(?<!\.)\.++(?={_CLOSING}(?:\s|$)))[.!?。！？]*{_CLOSING}|\n"
)
_TITLE_RE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|e\.g|i\.e|cf|approx|Fig)\.$", re.IGNORECASE)
# These may stand at the end of a sentence as well as inside it.
_SHORT_RE = re.compile(r"\b(?:etc|[ap]\.m|[A-Z]\.[A-Z]|Inc|Ltd|Co|Jr|Sr)\.$", re.IGNORECASE)
_INITIAL_RE = re.compile(r"(?:^|[\s.])[A-HJ-Z]\.$")
# Words that begin a sentence and are no family names: "Zone C. It costs" are two sentences, "judge R. Lowry" is none.
_STARTER_RE = re.compile(
    r"(?:The|This|That|These|Those|It|You|We|He|She|They|I|If|What|Which|Who|Where|How|Why|When|Then|There|Here|A|An|And|But|So|Or"
    r"|In|On|At|By|For|From|To|With|As|Is|Are|Do|Does|Did|Can|Could|Will|Would|Please|Now|Not|No|Yes|All|Your|My|Our|Its|Their|Try"
    r"|Look|Check|Let)\b"
)
_LIST_NUMBER_RE = re.compile(r"\d{1,2}\.")


def words(text: str) -> list[str]:
    """Words of ``text``; every CJK character is a word of its own."""
    return _WORD_RE.findall(text)


# Words that say nothing about what a message is about. Short ones are left out by their length.
_EMPTY = frozenset(
    """
    about after again also anything because been before being both cannot could does doing dont down each even ever every from
    getting give goes going have haven having hello help here into isn itself just know last like make many more most much must
    need never next nothing only other over please really same should since some something soon still such take tell than thank
    thanks that their them then there these they thing things this those through today tomorrow under until very want wants were
    what when where which while will with without would yesterday your yours
    """.split()  # noqa: SIM905 (a list of 110 quoted words would be ten times as long to read)
)
_EMPTY_ZH = frozenset("什么怎么可以我们你们他们这个那个一个没有不是已经还是因为所以如果但是就是时候现在为何请问麻烦谢谢你好您好")


def topic_words(text: str) -> frozenset[str]:
    """Words that tell what a text is about: of four letters or more, lower case, without a plural s; pairs of Chinese characters."""
    found = {word.lower().rstrip("s") for word in words(text) if len(word) >= 4 and word.lower() not in _EMPTY and not is_chinese(word)}
    for run in re.findall(f"[{CJK}]+", text):
        found |= {run[i : i + 2] for i in range(len(run) - 1) if not set(run[i : i + 2]) & _EMPTY_ZH}
    return frozenset(found)


def sentences(text: str) -> list[str]:
    """Non-empty sentences of ``text``, stripped. A line break ends a sentence; common abbreviations do not."""
    result: list[str] = []
    start = 0
    for end in sentence_ends(text):
        piece = text[start:end].strip()
        if _has_content(piece):
            result.append(piece)
        elif piece and result:
            result[-1] += piece
        start = end
    if _has_content(rest := text[start:].strip()):
        result.append(rest)
    return result


def sentence_ends(text: str) -> list[int]:
    """Places in ``text`` where a sentence ends, in characters; the end of the text is none unless a mark stands there."""
    ends: list[int] = []
    start = 0
    for found in _BREAK_RE.finditer(text):
        end = found.end()
        if found.group().startswith(".") and _goes_on(text[start:end].strip(), text[end:].lstrip(" \t")):
            continue
        start = end
        ends.append(end)
    return ends


def _goes_on(piece: str, rest: str) -> bool:
    """Whether the full stop at the end of ``piece`` belongs to an abbreviation or a list number."""
    if not rest or rest.startswith("\n"):
        return False
    if _TITLE_RE.search(piece):
        return True
    if re.search(r"\bNo\.$", piece):
        return rest[0].isdigit()
    if _LIST_NUMBER_RE.fullmatch(piece):
        return not rest[0].islower()
    if _SHORT_RE.search(piece):
        return not rest[0].isupper()
    return bool(_INITIAL_RE.search(piece)) and not _STARTER_RE.match(rest)


def _has_content(piece: str) -> bool:
    return any(character.isalnum() for character in piece)


def cjk_share(text: str) -> float:
    """Share of the letters of ``text`` that are CJK, 0.0 when there are no letters."""
    letters = len(_LETTER_RE.findall(text))
    return len(_CJK_RE.findall(text)) / letters if letters else 0.0


def is_chinese(text: str) -> bool:
    """True when at least half of the letters are CJK."""
    return cjk_share(text) >= 0.5


def questions(text: str) -> int:
    """Number of question marks, a run such as ``??`` counted once."""
    return len(re.findall(r"[?？]+", text))


def shingles(text: str) -> frozenset[str]:
    """Character n-grams for near-duplicate search: 5 characters, 3 where the text is Chinese.

    Chinese words are one to three characters long, so that 5-character shingles miss short duplicates.
    """
    flat = " ".join(text.lower().split())
    size = 3 if is_chinese(flat) else 5
    return frozenset(flat[i : i + size] for i in range(max(1, len(flat) - size + 1)))


def near_duplicate_share(texts: list[str], threshold: float = 0.8) -> float:
    """Share of ``texts`` whose Jaccard similarity with another one is at least ``threshold``.

    Exact and quadratic: meant for the few hundred rows of a plugin's own data, not for a corpus.
    """
    sets = [shingles(text) for text in texts]
    duplicate: set[int] = set()
    for i, left in enumerate(sets):
        for j in range(i + 1, len(sets)):
            right = sets[j]
            if min(len(left), len(right)) < threshold * max(len(left), len(right)):
                continue
            common = len(left & right)
            if common >= threshold * (len(left) + len(right) - common):
                duplicate.update((i, j))
    return len(duplicate) / len(texts) if texts else 0.0
