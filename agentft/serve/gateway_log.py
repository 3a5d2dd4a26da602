"""One line per request, without personal data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TextIO

from agentft.data.pii import scrub


class RequestLog:
    """Writes a line for each request.

    Args:
        stream: where to; None: nowhere.
        as_json: a JSON object per line; else words.
        texts: the last message and the answer too, with personal data replaced by placeholders, at most 2,000 characters of each. Without
            it nothing of what anybody said is written.
    """

    def __init__(self, stream: TextIO | None, as_json: bool = False, texts: bool = False):
        self.stream, self.as_json, self.texts = stream, as_json, texts

    def write(self, *, asked: str = "", answered: str = "", **facts: Any) -> None:
        if self.stream is None:
            return
        said = {"asked": asked, "answered": answered} if self.texts else {}
        # The error may quote the caller too.
        line = {
            key: scrub(value[:2000]) if isinstance(value, str) else value
            for key, value in (facts | said).items()
            if value not in ("", None)
        }
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self.as_json:
            text = json.dumps({"time": now, **line}, ensure_ascii=False)
        else:
            text = f"{now} " + " ".join(f"{key}={_word(value)}" for key, value in line.items())
        print(text, file=self.stream, flush=True)


def _word(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=\n\r\t') or not text.isprintable() else text
