"""Answers that have to be one of a few texts: the tokens that may come next, and the probability of each text.

A prompt says in ``meta.choices`` which answers there are. Each is tokenised as the renderer would write it as an answer, stop
token included, so that the model says it in the tokens in which it was trained, and a choice that is the beginning of another
one can end there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentft.errors import DataError
from agentft.records import Example

CHOICES = "choices"


def choices_of(prompt: Example) -> tuple[str, ...]:
    """The texts that ``prompt`` may be answered with, empty if any text may be.

    Raises:
        DataError: ``meta.choices`` is no list of different texts that are not empty.
    """
    given = prompt.meta.get(CHOICES)
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise DataError(f"{prompt.id}: meta.choices must be a list of texts")
    if not all(isinstance(text, str) and text.strip() for text in given):
        raise DataError(f"{prompt.id}: meta.choices must hold texts that are not empty")
    twice = sorted({text for text in given if sum(other.strip() == text.strip() for other in given) > 1})
    if twice:
        raise DataError(f"{prompt.id}: meta.choices has '{twice[0].strip()}' twice")
    return tuple(given)


def closest(text: str, choices: Sequence[str]) -> str:
    """The choice that ``text`` is, upper and lower case, quotes and a full stop aside; ``text`` itself if it is none."""

    def plain(value: str) -> str:
        return " ".join(value.split()).strip(" \"'.。“”‘’").casefold()

    return next((choice for choice in choices if plain(choice) == plain(text)), text)


@dataclass(eq=False, repr=False)
class Node:
    """A place in the trie: next token -> next place. ``text`` is set where a choice has ended.

    ``longest``: at the root, tokens of the longest choice.
    """

    next: dict[int, Node] = field(default_factory=dict)
    text: str | None = None
    longest: int = 0


def trie(answers: Mapping[str, Sequence[int]]) -> Node:
    """All ways to say one of ``answers`` (text -> its tokens, the stop token last).

    Raises:
        DataError: two texts have the same tokens, or one ends inside of another (its tokens do not end with a stop token).
    """
    root = Node()
    for text, tokens in answers.items():
        node = root
        for token in tokens:
            if node.text is not None:
                raise DataError(f"the choice '{text}' goes on where '{node.text}' has ended")
            node = node.next.setdefault(token, Node())
        if node.text is not None or node.next or node is root:
            raise DataError(f"the choice '{text}' cannot be told from '{node.text or next(iter(answers))}' by its tokens")
        node.text = text
        root.longest = max(root.longest, len(tokens))
    return root


class Walk:
    """Where each row of a batch stands in its trie.

    Args:
        roots: one trie per row of the batch.
        choose: picks a token per row from masked logits, see :func:`agentft.engine.decode.decode`.
    """

    def __init__(self, roots: Sequence[Node], choose: Callable[[Any, Sequence[int]], Any]):
        self.at = list(roots)
        self._choose = choose

    def __call__(self, logits: Any, rows: Sequence[int]) -> Any:
        """A token for each row, allowed where it stands. Rows that have ended get any; nobody looks at it."""
        masked = mask(logits, [self.at[row] for row in rows])
        chosen = self._choose(masked, rows)
        best = masked.argmax(-1)
        for place, row in enumerate(rows):
            node = self.at[row]
            if node.text is None:
                # The end of a sampler's cumulative sum is not exactly 1: a draw may fall behind the last token that is allowed.
                if int(chosen[place]) not in node.next:
                    chosen[place] = best[place]
                self.at[row] = node.next[int(chosen[place])]
        return chosen

    def forced(self, row: int) -> list[int]:
        """The tokens up to the end of the row where only one choice is left; empty where there are several."""
        node, found = self.at[row], []
        while len(node.next) == 1:
            token, node = next(iter(node.next.items()))
            found.append(token)
        if node.text is None:
            return []
        self.at[row] = node
        return found


def mask(logits: Any, nodes: Sequence[Node]) -> Any:
    """``logits`` (rows, vocabulary) with minus infinity where a token is not allowed at the row's place."""
    import torch

    masked = torch.full_like(logits, -torch.inf)
    for row, node in enumerate(nodes):
        if node.next:
            allowed = torch.tensor(list(node.next), device=logits.device)
            masked[row, allowed] = logits[row, allowed]
        else:
            masked[row] = logits[row]
    return masked


def processor(roots: Sequence[Node], prompt_tokens: int) -> Any:
    """The same as a LogitsProcessor of transformers; prompts have ``prompt_tokens`` tokens each, padding included."""
    from transformers import LogitsProcessor

    class OnlyChoices(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            return mask(scores, [_follow(root, ids[prompt_tokens:].tolist()) for root, ids in zip(roots, input_ids, strict=True)])

    return OnlyChoices()


def said(root: Node, tokens: Sequence[int]) -> str:
    """The choice that ``tokens`` are, whatever stands behind its stop token."""
    return _follow(root, tokens).text or ""


def _follow(node: Node, tokens: Sequence[int]) -> Node:
    for token in tokens:
        if node.text is not None:
            break  # padding behind the stop token
        node = node.next[token]
    return node
