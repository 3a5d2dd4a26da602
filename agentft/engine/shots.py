"""Few-shot prompting: the most similar of the training conversations stand in front of what is asked (Brown et al. 2020;
by similarity: Liu et al. 2022). Nothing is trained.

The folder that the trainer ``few-shot`` leaves holds ``examples.jsonl`` (conversations), ``options.json`` and, where examples
are found by meaning, ``vectors.npy``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from agentft.data.jsonl import read_examples, write_examples
from agentft.data.split import known_prompts, prompt_key
from agentft.engine.retrieval import Index, best_method
from agentft.records import Example

ROWS, OPTIONS, VECTORS = "examples.jsonl", "options.json", "vectors.npy"


def write(folder: Path, examples: Sequence[Example], *, count: int, by: str, per_label: bool, seed: int) -> dict[str, Any]:
    """Write the folder; the options as written, with the way in which ``similarity`` is found on these texts."""
    folder.mkdir(parents=True)
    method = best_method([query(example) for example in examples]) if by == "similarity" else by
    options = {"count": count, "by": by, "method": method, "per_label": per_label, "seed": seed}
    write_examples(folder / ROWS, examples)
    (folder / OPTIONS).write_text(json.dumps(options), encoding="utf-8")
    if method == "minilm":
        Shots(folder)  # computes the vectors once, for every later use
    return options


class Shots:
    """Examples for prompts.

    Args:
        folder: what :func:`write` left.

    Attributes:
        account: ``prompts`` that were asked for, ``examples`` put in front of them, ``too long`` examples that the context had
            no room for.
    """

    def __init__(self, folder: Path):
        self.options: dict[str, Any] = json.loads((folder / OPTIONS).read_text("utf-8"))
        self.examples = list(read_examples(folder / ROWS))
        self.account: Counter[str] = Counter()
        method = self.options["method"]
        self._index = None if method == "random" else Index([query(one) for one in self.examples], method, folder / VECTORS)
        self._asks = [known_prompts([one]) for one in self.examples]
        self._drawn: list[int] = list(range(len(self.examples)))
        Random(self.options["seed"]).shuffle(self._drawn)

    def find(self, prompt: Example) -> list[Example]:
        """Examples for ``prompt``, the most similar last; never the prompt itself, and none that asks the same.

        ``random`` takes the same ones for every prompt. With ``per_label`` there are ``count`` of each label (``meta.label``, else
        the answer).
        """
        asked = prompt.as_prompt()[0]
        same = prompt_key(asked)
        order = self._drawn
        if self._index is not None:
            scores = self._index.scores(query(asked))
            order = sorted(range(len(self.examples)), key=lambda place: (-float(scores[place]), place))
        chosen: list[Example] = []
        taken: Counter[str] = Counter()
        labels = len({label(one) for one in self.examples}) if self.options["per_label"] else 1
        for place in order:
            example = self.examples[place]
            kind = label(example) if self.options["per_label"] else ""
            if taken[kind] == self.options["count"] or example.id == prompt.id or same in self._asks[place]:
                continue
            taken[kind] += 1
            chosen.append(example)
            if len(chosen) == labels * self.options["count"]:
                break
        return chosen[::-1]

    def before(self, prompt: Example, fits: Callable[[Example], bool]) -> Example:
        """``prompt`` with examples in front of its messages, behind a system message of its own.

        Args:
            fits: whether a conversation has room in the model's context; the least similar examples are left out until it has.
        """
        found = self.find(prompt)
        self.account["prompts"] += 1
        low, high = 0, len(found)  # how many fit: all of them, nearly always
        while low < high:
            middle = high if high == len(found) else (low + high + 1) // 2
            if fits(_joined(prompt, found[len(found) - middle :])):
                low = middle
            else:
                high = middle - 1
        self.account["examples"] += low
        self.account["too long"] += len(found) - low
        return _joined(prompt, found[len(found) - low :])


def _joined(prompt: Example, shots: Sequence[Example]) -> Example:
    own = prompt.messages[:1] if prompt.messages and prompt.messages[0].role == "system" else ()
    turns = [replace(message, train=False) for shot in shots for message in shot.messages if message.role != "system"]
    return replace(prompt, messages=(*own, *turns, *prompt.messages[len(own) :]))


def query(example: Example) -> str:
    """What an example is found by: ``meta.input`` (a text without the instruction around it), else the user's last message."""
    given = example.meta.get("input")
    return given if isinstance(given, str) else example.as_prompt()[0].last_user


def label(example: Example) -> str:
    """``meta.label`` of an example, else its answer."""
    found = example.meta.get("label")
    return str(found) if found is not None else (example.as_prompt()[1] or "")
