"""Which language a text is in: by its script where that decides, else by py3langid where it is long enough."""

from __future__ import annotations

import re

from agentft import text as text_tools

# On 10,003 English bank queries py3langid was wrong in 2.0 % of those under 30 characters, 0.5 % of those with 30 to 39, none above.
MIN_CHARACTERS = 40

_KANA = re.compile(r"[\u3041-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")


def language(text: str, min_characters: int = MIN_CHARACTERS) -> str:
    """ISO 639-1 code of the language of ``text``, or an empty text where that is not sure.

    At least half of the letters CJK: ``ja`` with kana among them, ``ko`` with Hangul, else ``zh``, however short the text is.
    Another script: py3langid (97 languages), unless the text is shorter than ``min_characters``.
    """
    text = text.strip()
    if text_tools.is_chinese(text):
        letters = len(text)
        if len(_HANGUL.findall(text)) * 4 > letters:
            return "ko"
        # One kana may be a quotation in a Chinese text; Japanese has one in five characters at the least.
        return "ja" if len(_KANA.findall(text)) * 10 > letters else "zh"
    if len(text) < min_characters or not any(character.isalpha() for character in text):
        return ""
    from py3langid import langid

    return str(langid.classify(text[:2000])[0])
