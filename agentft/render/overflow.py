"""Conversations that are too long: shorter rows that keep the system prompt and whole exchanges.

An exchange is a user message with everything that follows up to the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from agentft.records import Example, Message
from agentft.render.conversation import Encoded, Renderer

Exchange = tuple[Message, ...]


def truncate(renderer: Renderer, example: Example, max_length: int) -> tuple[list[Encoded], int]:
    """The row of the last exchanges of ``example``, as many as fit into ``max_length`` tokens.

    Returns: the row in a list, which is empty if not even the last supervised exchange fits, and the number of supervised turns
    that are lost.
    """
    exchanges = _exchanges(example.messages)
    window = _last_that_fit(renderer, example, exchanges, max_length)
    return renderer.training(_part(example, window)), _turns(exchanges) - _turns(window)


def split(renderer: Renderer, example: Example, max_length: int) -> tuple[list[Encoded], int]:
    """Rows of at most ``max_length`` tokens in which every supervised turn of ``example`` is supervised exactly once.

    The last row holds as many of the last exchanges as fit, and so on towards the beginning. The first exchange of a row is only
    context there, and supervised in the row before, unless the row has no other.

    Returns: rows in the order of the conversation, and the number of supervised turns in exchanges that are too long alone.
    """
    exchanges = _exchanges(example.messages)
    rows: list[Encoded] = []
    lost = 0
    while _turns(exchanges):
        window = _last_that_fit(renderer, example, exchanges, max_length)
        if not window:
            lost += _turns(exchanges[-1:])
            exchanges = exchanges[:-1]
            continue
        context = 1 if 1 < len(window) < len(exchanges) else 0
        rows += renderer.training(_part(example, [*map(_unsupervised, window[:context]), *window[context:]]))
        exchanges = exchanges[: len(exchanges) - len(window) + context]
    return [replace(row, id=f"{example.id}#{number}") for number, row in enumerate(reversed(rows), 1)], lost


def only_turn(example: Example, number: int) -> Example:
    """``example`` up to its ``number``-th supervised turn (from 0), with that one alone supervised."""
    index = [place for place, message in enumerate(example.messages) if message.supervised][number]
    history = _unsupervised(example.messages[:index])
    return replace(example, id=f"{example.id}#{number + 1}", messages=(*history, example.messages[index]))


def _last_that_fit(renderer: Renderer, example: Example, exchanges: Sequence[Exchange], max_length: int) -> Sequence[Exchange]:
    """The longest run at the end of ``exchanges`` whose rows fit; empty if the last exchange alone is too long."""
    fitting = len(exchanges)
    for start in range(len(exchanges) - 1, -1, -1):
        rows = renderer.training(_part(example, exchanges[start:]))
        if any(len(row.input_ids) > max_length for row in rows):
            break
        fitting = start
    return exchanges[fitting:]


def _part(example: Example, exchanges: Iterable[Exchange]) -> Example:
    system = tuple(message for message in example.messages[:1] if message.role == "system")
    return replace(example, messages=(*system, *chain.from_iterable(exchanges)))


def _exchanges(messages: Sequence[Message]) -> list[Exchange]:
    """All messages but a system message at the beginning. What precedes the first user message is an exchange too."""
    exchanges: list[list[Message]] = []
    for place, message in enumerate(messages):
        if place == 0 and message.role == "system":
            continue
        if message.role == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    return [tuple(exchange) for exchange in exchanges]


def _unsupervised(exchange: Exchange) -> Exchange:
    return tuple(replace(message, train=False) if message.supervised else message for message in exchange)


def _turns(exchanges: Sequence[Exchange]) -> int:
    return sum(message.supervised for exchange in exchanges for message in exchange)
