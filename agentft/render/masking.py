"""Which tokens of a text are hidden from the model, and what stands in their place. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from agentft.errors import DataError


def masked(
    ids: Sequence[int], words: Sequence[int], draw: Random, *, share: float, mask_id: int, vocabulary: Sequence[int]
) -> tuple[list[int], list[int]]:
    """A row with some tokens hidden, and the labels (-100 where nothing was chosen).

    ``share`` of the tokens, at least one, are chosen, whole words together; of the chosen tokens 80 % become the mask token, 10 % a random
    token, 10 % stay (Devlin et al. 2019, section 3.1). A word that does not fit into what is left of the share is passed over, as in
    BERT's own ``create_pretraining_data.py``; where none fits, one token of the first word is taken.

    Args:
        ids: token ids, special tokens included.
        words: number of the word that each token belongs to; -1 for tokens that are never chosen.
        draw: decides everything.
        share: share of the tokens that can be chosen, 0..1.
        mask_id: the mask token.
        vocabulary: tokens that random ones are drawn from.

    Raises:
        DataError: no token can be chosen.
    """
    places: dict[int, list[int]] = {}
    for place, number in enumerate(words):
        if number >= 0:
            places.setdefault(number, []).append(place)
    if not places:
        raise DataError("a row has no token that can be masked")
    wanted = max(1, round(share * sum(map(len, places.values()))))
    order = list(places.values())
    draw.shuffle(order)
    chosen: list[int] = []
    for word in order:
        if len(chosen) + len(word) <= wanted:
            chosen += word
        if len(chosen) >= wanted:
            break
    hidden, labels = list(ids), [-100] * len(ids)
    for place in sorted(chosen or [draw.choice(order[0])]):
        labels[place] = ids[place]
        dice = draw.random()
        if dice < 0.8:
            hidden[place] = mask_id
        elif dice < 0.9:
            hidden[place] = draw.choice(vocabulary)
    return hidden, labels
