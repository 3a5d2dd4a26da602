"""Text to token ids, in pieces, so that a prompt's ids are always the beginning of the row that was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

Ids = list[int]


class PieceTokenizer:
    """Tokenises texts that are cut where an assistant's turn begins.

    A model that answers has read ``ids(prompt)`` and adds tokens of its own. Tokenising prompt and answer together can
    merge the prompt's last characters with the answer's first (a line break with a line break, say); then the model
    would be trained on tokens that it never meets. So each piece is tokenised for itself, but behind a short context:
    the text since the last *added* token, across which nothing merges. The context's ids are taken off again. Where
    nothing merges, this gives exactly the ids of the whole text; where something does, the cut wins.

    Args:
        tokenizer: a fast tokenizer.
        anchors: added tokens at which a context may begin; the nearest one is taken, the whole text if there is none.
        prefix: what most texts begin with (the persona), tokenised only once. It has to end right before an added token.

    Attributes:
        prefix_ids: the prefix as token ids.
    """

    def __init__(self, tokenizer: Any, anchors: Iterable[str], prefix: str = ""):
        self._tokenizer = tokenizer
        self._fast = self._backend()
        self._anchors = [anchor for anchor in anchors if anchor]
        self._prefix = prefix
        self.prefix_ids = self._batch([prefix])[0] if prefix else []

    def encode(self, texts: Sequence[tuple[str, Sequence[int]]]) -> list[list[Ids]]:
        """Ids of the pieces of each ``(text, cuts)``; ``cuts`` are ascending character positions inside the text."""
        plans = [self._plan(text, cuts) for text, cuts in texts]
        wanted = list({part for plan in plans for context, piece in plan for part in (context, context + piece) if part})
        ids = {"": [], **dict(zip(wanted, self._batch(wanted), strict=True))}
        rows = [[self._after(ids, context, piece) for context, piece in plan] for plan in plans]
        for (text, cuts), row in zip(texts, rows, strict=True):
            if self._skip(text, cuts):
                row[0] = self.prefix_ids + row[0]
        return rows

    def _skip(self, text: str, cuts: Sequence[int]) -> int:
        """Length of the prefix if ``text`` begins with it and no cut lies inside."""
        return len(self._prefix) if text.startswith(self._prefix) and all(cut >= len(self._prefix) for cut in cuts[:1]) else 0

    def _plan(self, text: str, cuts: Sequence[int]) -> list[tuple[str, str]]:
        """``(context, piece)`` for each piece."""
        start = self._skip(text, cuts)
        plan = [("", text[start : cuts[0] if cuts else len(text)])]
        for begin, end in pairwise([*cuts, len(text)]):
            anchor = max((text.rfind(anchor, 0, begin) for anchor in self._anchors), default=0)
            plan.append((text[max(anchor, 0) : begin], text[begin:end]))
        return plan

    def _after(self, known: dict[str, Ids], context: str, piece: str) -> Ids:
        both, before = known[context + piece], known[context]
        return both[len(before) :] if both[: len(before)] == before else self._batch([piece])[0]

    def _batch(self, texts: list[str]) -> list[Ids]:
        if not texts:
            return []
        if self._fast is not None:
            # Only where it is needed: the setters fail while another thread encodes.
            if self._fast.truncation is not None:
                self._fast.no_truncation()
            if self._fast.padding is not None:
                self._fast.no_padding()
            return [found.ids for found in self._fast.encode_batch_fast(texts, add_special_tokens=False)]
        encoded = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False)
        return encoded["input_ids"]

    def _backend(self) -> Any:
        """The tokenizer beneath that of transformers: it leaves out the offsets, which nobody reads here.

        None where it has no such call or where transformers' call does more than to pass the texts on.
        """
        from transformers import PreTrainedTokenizerFast

        kind, backend = type(self._tokenizer), getattr(self._tokenizer, "backend_tokenizer", None)
        as_it_is = getattr(kind, "_encode_plus", None) is PreTrainedTokenizerFast._encode_plus and not self._tokenizer.split_special_tokens
        return backend if as_it_is and hasattr(backend, "encode_batch_fast") else None
