"""Raw texts to token rows for language models and encoders, and conversations to source and target for encoder-decoders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentft.contracts import RowsJob
from agentft.data.jsonl import read_conversations, read_texts
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example, Message
from agentft.render.messages import Disarm

MASKED = -100
MARKS = ("⟦", "⟧")
Row = dict[str, Any]
# Kind of model -> the trainers for it.
_FOR = {"causal": "clm", "encoder": "mlm", "seq2seq": "seq2seq"}
_WORDS = {"causal": "a chat model", "encoder": "an encoder", "seq2seq": "an encoder-decoder"}


class TextEncoder:
    """Turns texts into token ids, the same way for training and for evaluation; no chat template.

    Control tokens that stand in a text are made ordinary text, as in conversations (:class:`agentft.render.messages.Disarm`).

    Attributes:
        before, after: ids that the tokenizer itself puts around a text.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self._disarm = Disarm(tokenizer, "")
        bare, full = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        self.before, self.after = list(full[:at]), list(full[at + len(bare) :])

    @property
    def end(self) -> int:
        """The token between two documents.

        Raises:
            DataError: the tokenizer has none.
        """
        if self.tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no end token (eos_token), which 'clm' puts between two documents")
        return int(self.tokenizer.eos_token_id)

    @property
    def start(self) -> list[int]:
        """What a document begins with: the tokenizer's own beginning, else the end token, which then ends "the document before"."""
        return [self.end] if not self.before else self.before

    def ids(self, text: str) -> list[int]:
        """The text alone, without special tokens."""
        found: list[int] = self.tokenizer(self._disarm.text(text), add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def words(self, text: str, whole: bool) -> tuple[list[int], list[int]]:
        """Ids of the text, and the number of the word that each belongs to; -1 for an unknown token, which nobody can learn to guess.

        Without ``whole`` every token is a word of its own.

        Raises:
            DataError: the tokenizer does not know words.
        """
        encoded = self.tokenizer(self._disarm.text(text), add_special_tokens=False, verbose=False)
        ids: list[int] = encoded["input_ids"]
        if whole and not getattr(self.tokenizer, "is_fast", False):
            raise DataError("whole_words needs a fast tokenizer (tokenizer.json), which knows the words; set whole_words: false")
        numbers = encoded.word_ids() if whole else range(len(ids))
        unknown = self.tokenizer.unk_token_id
        return ids, [-1 if one == unknown or word is None else word for one, word in zip(ids, numbers, strict=True)]


def clm_rows(job: RowsJob) -> dict[str, Any]:
    """Rows for ``use: clm``: ``{"id", "group", "input_ids", "labels"}``, every token learned but the first, which nothing precedes.

    With ``pack`` the documents follow one another, each closed by the end token, and the stream is cut into blocks; a block begins
    with the last token of the one before, so that every token is learned once. A token sees what stands before it in its block, also of
    the document before, as in pre-training; ``pack: false`` keeps each document to itself.

    Raises:
        DataError: the model is no chat model, or there is no text.
    """
    need(job, "causal")
    encoder = TextEncoder(job.tokenizer)
    size = min(job.config.block, job.max_length)
    blocks = _packed if job.config.pack else _apart
    return _rows(job, "clm", lambda texts, report: blocks(encoder, texts, size, report))


def mlm_rows(job: RowsJob) -> dict[str, Any]:
    """Rows for ``use: mlm``: ``{"id", "group", "input_ids", "words"}``; what is masked is drawn in training (``words``: see
    :meth:`TextEncoder.words`).

    Raises:
        DataError: the model is no encoder with a mask token, or there is no text.
    """
    need(job, "encoder")
    need_mask(job.tokenizer)
    encoder = TextEncoder(job.tokenizer)
    size = min(job.config.max_length or job.max_length, job.max_length)
    return _rows(job, "mlm", lambda texts, report: masked_rows(encoder, texts, size, job.config.whole_words, report))


def need_mask(tokenizer: Any) -> None:
    """Raise DataError for a tokenizer without a mask token."""
    if tokenizer.mask_token_id is None:
        raise DataError("the tokenizer has no mask token: 'mlm' needs an encoder that was trained by masking, such as BERT")


def need(job: RowsJob, family: str) -> None:
    """Raise DataError, with the trainer to use instead, if the model is of another kind than the trainer needs."""
    if job.family and job.family != family:
        used, found = _FOR[family], _WORDS[job.family]
        raise DataError(f"'{used}' needs {_WORDS[family]}, and this model is {found}; use: {_FOR[job.family]}, or name another model")


@dataclass
class Report:
    """Counts as :class:`agentft.render.rows.RowsReport` gives them."""

    rows_in: int = 0
    rows_out: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    longest: int = 0
    truncated: int = 0
    sample: str = ""

    def __post_init__(self) -> None:
        self.drops: Counter[str] = Counter()

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "drops": dict(self.drops)}


def _rows(job: RowsJob, name: str, render: Callable[[Iterator[Labelled], Report], Iterable[Row]]) -> dict[str, Any]:
    found: dict[str, Any] = {"task": {"name": name}}
    for part, path in (("train", job.train), ("validation", job.validation)):
        report = Report()
        write(job.out / f"{part}.jsonl", render(read_texts(path), report), report, job.tokenizer)
        found[part] = report.to_dict()
    if not found["train"]["rows_out"]:
        raise DataError(f"there is no text for '{name}' to learn from; `agentft data RECIPE` shows where rows were dropped")
    return found


def write(path: Path, rows: Iterable[Row], report: Report, tokenizer: Any) -> None:
    """Rows as JSON lines, counted in ``report``."""
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
            size = len(row["input_ids"])
            learned = sum(one >= 0 for one in row["words"]) if "words" in row else sum(one != MASKED for one in row["labels"])
            report.rows_out += 1
            report.tokens += size
            report.supervised_tokens += learned
            report.longest = max(report.longest, size)
            report.sample = report.sample or _show(tokenizer, row)


def _show(tokenizer: Any, row: Row) -> str:
    """The row as its tokens say it, what is learned between marks."""

    def said(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    ids, labels = row["input_ids"], row.get("labels")
    if labels is None:
        return said(ids)
    if len(labels) != len(ids) or labels[1:] != ids[1:]:
        return f"{said(ids)}\n{MARKS[0]}{said(labels)}{MARKS[1]}"
    return f"{said(ids[:1])}{MARKS[0]}{said(ids[1:])}{MARKS[1]}"


def _block(name: str, group: str | None, ids: list[int]) -> Row:
    return {"id": name, "group": group, "input_ids": ids, "labels": [MASKED, *ids[1:]]}


def _packed(encoder: TextEncoder, texts: Iterator[Labelled], size: int, report: Report) -> Iterator[Row]:
    stream = list(encoder.start)
    first, last, number = "", "", 0

    def name() -> str:
        return f"block {number}: {first}" + (f" .. {last}" if last != first else "")

    for text in texts:
        report.rows_in += 1
        first, last = first or text.id, text.id
        # After the first document the end token of the one before is already there.
        stream += ([] if report.rows_in == 1 else encoder.before) + encoder.ids(text.text) + [encoder.end]
        at = 0
        while len(stream) - at > size:
            yield _block(name(), None, stream[at : at + size])
            at, first, number = at + size - 1, text.id, number + 1
        stream = stream[at:]
    if report.rows_in and len(stream) > 1:
        yield _block(name(), None, stream)


def _apart(encoder: TextEncoder, texts: Iterator[Labelled], size: int, report: Report) -> Iterator[Row]:
    for text in texts:
        report.rows_in += 1
        ids = [*encoder.start, *encoder.ids(text.text), encoder.end]
        starts = range(0, max(1, len(ids) - 1), size - 1)
        report.truncated += len(starts) > 1
        for number, start in enumerate(starts):
            name = text.id if len(starts) == 1 else f"{text.id}#{number}"
            yield _block(name, text.group_key, ids[start : start + size])


def masked_rows(encoder: TextEncoder, texts: Iterable[Labelled], size: int, whole: bool, report: Report) -> Iterator[Row]:
    """Texts in pieces of up to ``size`` tokens, with the tokenizer's special tokens around each; ``of``: the text that it is from."""
    room = size - len(encoder.before) - len(encoder.after)
    for text in texts:
        report.rows_in += 1
        ids, words = encoder.words(text.text, whole)
        if max(words, default=-1) < 0:
            report.drops["nothing that can be masked"] += 1
            continue
        starts = range(0, len(ids), room)
        report.truncated += len(starts) > 1
        for number, start in enumerate(starts):
            piece, of = ids[start : start + room], words[start : start + room]
            if max(of) < 0:
                continue
            yield {
                "id": text.id if len(starts) == 1 else f"{text.id}#{number}",
                "of": text.id,
                "group": text.group_key,
                "input_ids": [*encoder.before, *piece, *encoder.after],
                "words": [-1] * len(encoder.before) + of + [-1] * len(encoder.after),
            }


class PairEncoder:
    """A conversation as source and target of an encoder-decoder: no persona, no chat template.

    The source is ``prefix`` and everything that was said before the answer, a line each; where it is too long, its oldest part is cut.
    """

    def __init__(self, tokenizer: Any, prefix: str, max_length: int, max_target: int):
        self.tokenizer, self.max_length, self.max_target = tokenizer, max_length, max_target
        self._text = TextEncoder(tokenizer)
        self._prefix = tokenizer(prefix, add_special_tokens=False)["input_ids"] if prefix else []
        self.prefix = prefix

    def source(self, messages: Iterable[Message]) -> tuple[list[int], bool]:
        """Ids of the source, and whether it was cut."""
        text = "\n".join(message.content for message in messages if message.content.strip())
        around = [*self._text.before, *self._text.after]
        whole = [*self._text.before, *self._text.ids(self.prefix + text), *self._text.after]
        if len(whole) <= self.max_length:
            return whole, False
        room = max(1, self.max_length - len(around) - len(self._prefix))
        return [*self._text.before, *self._prefix, *self._text.ids(text)[-room:], *self._text.after], True

    def target(self, text: str) -> tuple[list[int], bool]:
        """Ids of the target with its end token, and whether it was cut."""
        ids: list[int] = self.tokenizer(text_target=text, verbose=False)["input_ids"]
        if len(ids) <= self.max_target:
            return ids, False
        return [*ids[: self.max_target - 1], ids[-1]], True


def seq2seq_rows(job: RowsJob) -> dict[str, Any]:
    """Rows for ``use: seq2seq``: ``{"id", "group", "input_ids", "labels"}`` with the source and the target, one per supervised answer.

    Raises:
        DataError: the model is no encoder-decoder, there is no answer, or a message has a weight.
    """
    need(job, "seq2seq")
    encoder = PairEncoder(job.tokenizer, job.config.prefix, job.max_length, min(job.config.max_target, job.max_length))
    found: dict[str, Any] = {"task": {"name": "seq2seq"}}
    for part, path in (("train", job.train), ("validation", job.validation)):
        report = Report()
        write(job.out / f"{part}.jsonl", _pairs(encoder, read_conversations(path), report), report, job.tokenizer)
        found[part] = report.to_dict()
    if not found["train"]["rows_out"]:
        raise DataError("there is no answer for 'seq2seq' to learn from; `agentft data RECIPE` shows where rows were dropped")
    return found


def _pairs(encoder: PairEncoder, examples: Iterator[Example], report: Report) -> Iterator[Row]:
    for example in examples:
        report.rows_in += 1
        answers = [place for place, message in enumerate(example.messages) if message.supervised and message.content.strip()]
        if not answers:
            report.drops["no answer in words"] += 1
        if any(message.weighted for message in example.messages):
            raise DataError(f"{example.id}: a message has a weight ('train' is a number), which 'seq2seq' does not know; use true or false")
        for place in answers:
            if not any(message.content.strip() for message in example.messages[:place]):
                report.drops["an answer to nothing"] += 1
                continue
            source, cut = encoder.source(example.messages[:place])
            target, short = encoder.target(example.messages[place].content)
            report.truncated += cut or short
            name = example.id if len(answers) == 1 else f"{example.id}#{place}"
            yield {"id": name, "group": example.group_key, "input_ids": source, "labels": target}
