"""The text of an answer while its tokens come: what can be said already, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.records import Example, Response

REPLACEMENT = "\ufffd"  # what a decoder writes for half a character


class Speech:
    """Reads tokens one by one.

    Held back is what a later token may still change: half a character, white space at the end, the beginning of a text that ends the
    answer, a thought, and everything from where a call of a tool may begin.

    Args:
        renderer: of the agent.
        prompt: what is answered; only with tools can an answer hold calls.
        stop: texts that end the answer and are not part of it.
    """

    def __init__(self, renderer: Any, prompt: Example, stop: Sequence[str] = ()):
        self.renderer, self.prompt, self.stop = renderer, prompt, tuple(stop)
        self.ids: list[int] = []
        self.sent = ""
        self._raw, self._from, self._read = "", 0, 0
        self._cut: int | None = None  # where in the answer's text a stop begins
        form = renderer.form if prompt.tools else None
        marks = [getattr(form, name, "") for name in ("opens", "head", "first", "lead")] + [*getattr(form, "marks", ())]
        self._marks = tuple({mark.strip() for mark in marks if mark.strip()})
        scaffold = renderer.template.scaffold
        self._thought = "</think>" if "</think>" in scaffold else scaffold.strip()

    @property
    def stopped(self) -> bool:
        """A text that ends the answer has been said."""
        return self._cut is not None

    def push(self, ids: Sequence[int]) -> str:
        """What can be said after these tokens too."""
        self.ids.extend(ids)
        if self.ids and self.ids[-1] in self.renderer.stop_token_ids:
            return ""  # the rest is said at the end
        self._decode()
        shown = self._shown()
        for text in self.stop:
            # It may have begun in what was held back, never in what was said.
            place = shown.find(text)
            if place >= 0 and (self._cut is None or place < self._cut):
                self._cut = place
        if self._cut is not None:
            return ""
        return self._say(_without_beginning(shown, self.stop).rstrip())

    def response(self, id: str, ended: bool, prompt_tokens: int) -> tuple[str, Response]:
        """What is left to say, and the whole answer. ``ended``: by a stop token, and not by a limit."""
        calls: tuple[Any, ...] = ()
        malformed = ""
        if self.prompt.tools:
            found = self.renderer.reading(self.ids, self.prompt)
            text, calls, malformed = found.text, tuple(found.calls), found.malformed
        else:
            text = self.renderer.answer(self.ids)
        if self.stop and not calls:
            # What was found on the way counts too: the space that a stop ends with is not in the answer any more.
            places = [place for stop in self.stop if (place := text.find(stop)) >= 0] + ([] if self._cut is None else [self._cut])
            if places:
                self._cut = min(places)
                text = text[: self._cut]
        finish = "stop" if ended or self._cut is not None or calls else "length"
        rest = self._say(text)
        return rest, Response(id, text, finish, len(self.ids), calls=calls, malformed=malformed, prompt_tokens=prompt_tokens)

    def _say(self, text: str) -> str:
        if len(text) <= len(self.sent) or not text.startswith(self.sent):
            return ""
        new, self.sent = text[len(self.sent) :], text
        return new

    def _decode(self) -> None:
        """Adds whole characters to the raw text: the latest tokens are decoded behind a few that came before, for the spaces between."""

        def text(ids: list[int]) -> str:
            return self.renderer.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

        before, now = text(self.ids[self._from : self._read]), text(self.ids[self._from :])
        if now.endswith(REPLACEMENT):
            return
        self._raw += now[len(before) :]
        self._from, self._read = self._read, len(self.ids)

    def _shown(self) -> str:
        """The answer in the raw text, as far as it is certain to be said."""
        raw = self._raw
        if self._thought:
            _before, found, raw = raw.rpartition(self._thought)
            if not found:
                return ""
        if self.prompt.tools:
            if raw.lstrip()[:1] in ("{", "["):
                return ""
            places = [place for mark in self._marks if (place := raw.find(mark)) >= 0]
            raw = _without_beginning(raw[: min(places)] if places else raw, self._marks)
        return str(self.renderer.spoken(raw)).lstrip()


def _without_beginning(text: str, ends: Sequence[str]) -> str:
    """``text`` without what may be the beginning of one of ``ends`` at its end."""
    longest = 0
    for end in ends:
        for size in range(min(len(end) - 1, len(text)), longest, -1):
            if text.endswith(end[:size]):
                longest = size
                break
    return text[: len(text) - longest]
