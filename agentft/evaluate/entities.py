"""``ner``: entities recognised exactly, type and both borders; seqeval in strict mode, scheme IOB2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agentft.contracts import EvalContext, Generate
from agentft.errors import DataError
from agentft.evaluate.classification import ratio
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.predictions import answered, groups_of_rows, note_unscored, of_kind
from agentft.evaluate.statistics import of_share, statistic_ci
from agentft.labelled import Prediction
from agentft.records import Sample, Score

Entity = tuple[str, int, int]  # type, first token, token after the last
Array = npt.NDArray[np.float64]


def ner(samples: Sequence[Prediction | Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``ner-f1``, ``ner-precision``, ``ner-recall`` over all entities, and ``ner-f1/TYPE``; bootstrap intervals by clusters.

    An entity counts when type and both borders are right. Precision is NaN where nothing was predicted, recall where there is nothing to
    find, F1 where both. Two agents are compared by F1 of each sentence (1 where there is nothing and nothing was
    found), recall by that of sentences with entities, a type by F1 in the sentences that have it; precision has no such value.

    Raises:
        DataError: a tag is not of the scheme IOB2, or there is not one predicted tag per token.
    """
    rows = of_kind(samples, "ner", "tags")
    done = answered(rows)
    for one in done:
        if len(one.label) != len(one.row.inputs["tokens"]):
            raise DataError(f"row '{one.id}': {len(one.label)} predicted tags for {len(one.row.inputs['tokens'])} tokens")
    true = {one.id: entities(one.row.label, one.id) for one in rows}
    guessed = {one.id: entities(one.label, one.id) for one in done}
    types = sorted({entity[0] for one in done for entity in true[one.id]})
    parts = entity_parts([true[one.id] for one in done], [guessed[one.id] for one in done], types)
    values = entity_values(parts.sum(axis=0, keepdims=True))[0]
    groups, note = groups_of_rows(rows), note_unscored(rows)
    labels = [groups[one.id] for one in done]
    cis = statistic_ci(entity_values, parts, labels, seed=ctx.seed) if done else [None] * len(values)
    _, found_any, true_any = np.split(parts > 0, 3, axis=1)
    either = found_any | true_any
    about = [either[:, -1], found_any[:, -1], true_any[:, -1], *either[:, :-1].T]  # the sentences that each figure speaks of
    cis = [
        of_share(ci, float(v), [g for g, has in zip(labels, a, strict=True) if has]) for ci, v, a in zip(cis, values, about, strict=True)
    ]

    def each(measure: Any, chosen: Sequence[Prediction]) -> dict[str, float]:
        return {one.id: NAN if one.label is None else measure(true[one.id], guessed[one.id]) for one in chosen}

    def score(index: int, name: str, found: dict[str, float], summary: str) -> Score:
        return score_from(name, found, groups, seed=ctx.seed, value=float(values[index]), ci=cis[index], summary=f"{summary}{note}")

    precision = score(1, "ner-precision", {}, "share of the predicted entities that are right")
    scores = [
        score(0, "ner-f1", each(sentence_f1, rows), "F1 of entities, type and borders exact; compared: F1 of each sentence"),
        Score(precision.name, precision.value, len(done), ci=precision.ci, summary=precision.summary),
        score(
            2,
            "ner-recall",
            each(lambda t, g: len(t & g) / len(t), [one for one in rows if true[one.id]]),
            "share of the entities that were found; compared: mean over sentences with entities",
        ),
    ]
    for index, kind in enumerate(types, 3):
        having = [one for one in rows if any(entity[0] == kind for entity in true[one.id])]
        found = each(lambda t, g, kind=kind: sentence_f1(_only(t, kind), _only(g, kind)), having)
        scores.append(score(index, f"ner-f1/{kind}", found, f"F1 of this type; compared: F1 of the {len(having)} sentences that have it"))
    return scores


def entities(tags: Sequence[str], where: str) -> frozenset[Entity]:
    """The entities in one sentence's tags: what begins with B- and goes on with I- of the same type (seqeval, strict, IOB2)."""
    from seqeval.scheme import IOB2, Tokens

    try:
        return frozenset((one.tag, one.start, one.end) for one in Tokens(list(tags), scheme=IOB2).entities)
    except (KeyError, ValueError, IndexError):
        wrong = next((tag for tag in tags if tag != "O" and tag[:1] not in ("B", "I")), "")
        raise DataError(f"row '{where}': tags must be O, B-TYPE or I-TYPE (IOB2), not {wrong!r}") from None


def sentence_f1(true: frozenset[Entity], guessed: frozenset[Entity]) -> float:
    """F1 of one sentence's entities; 1 where there are none and none were predicted."""
    return 2 * len(true & guessed) / (len(true) + len(guessed)) if true or guessed else 1.0


def entity_parts(true: Sequence[frozenset[Entity]], guessed: Sequence[frozenset[Entity]], types: Sequence[str]) -> Array:
    """Right, predicted and true entities of each sentence, of each type and (last column of a block) of all; ``(n, 3 * (types + 1))``."""
    place = {name: index for index, name in enumerate(types)}
    width = len(types) + 1
    parts = np.zeros((len(true), 3, width))
    for row, (one, other) in enumerate(zip(true, guessed, strict=True)):
        for block, found in enumerate((one & other, other, one)):
            for kind, *_ in found:
                parts[row, block, width - 1] += 1
                if kind in place:
                    parts[row, block, place[kind]] += 1
    return parts.reshape(len(true), 3 * width)


def entity_values(sums: Array) -> Array:
    """Sums of :func:`entity_parts` -> F1, precision, recall over all entities, then F1 of each type; NaN where not defined."""
    hits, guesses, members = np.split(sums, 3, axis=1)
    f1 = ratio(2 * hits, guesses + members)
    return np.column_stack([f1[:, -1], ratio(hits[:, -1], guesses[:, -1]), ratio(hits[:, -1], members[:, -1]), f1[:, :-1]])


def _only(found: frozenset[Entity], kind: str) -> frozenset[Entity]:
    return frozenset(one for one in found if one[0] == kind)
