"""``preferences``: pairs of answers, and single answers with a thumb, in the shapes in which they are usually published.

| format | row |
|---|---|
| ``trl`` | ``prompt``, ``chosen``, ``rejected``: texts, or lists of messages |
| ``implicit`` | ``chosen``, ``rejected``: whole conversations as messages; what they begin with alike is the prompt |
| ``hh`` | ``chosen``, ``rejected``: transcripts, ``\\n\\nHuman: ...\\n\\nAssistant: ...`` |
| ``scores`` | ``prompt`` or ``instruction``, ``completions``: ``response`` and a score each (UltraFeedback); the best against the worst |
| ``kto`` | ``prompt``, ``completion``, ``label``: true or false |
| ``agentft`` | as agentft itself writes them |

A weight on a message (``train: 0.5``) is an error: what is learned from a preference is which answer is better.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.files import FileOptions, Left, converted, rows_of
from agentft.errors import DataError
from agentft.records import Example, Message, Preference

Format = Literal["auto", "trl", "implicit", "hh", "scores", "kto", "agentft"]
_TURN = re.compile(r"\n\n(Human|Assistant):")
_SCORES = ("score", "overall_score", "rating", "fine-grained_score", "reward")
_TEXTS = ("response", "text", "content", "completion", "answer")


class PreferencesConfig(FileOptions):
    """Options of the source ``preferences``."""

    format: Format = Field("auto", description="shape of the rows; `auto`: told from each row's keys")
    columns: dict[str, str] = Field(
        default_factory=dict, description="our name -> the file's name for it, such as `{chosen: good, rejected: bad}`"
    )
    group: str | None = Field(None, description="column that a split must not separate; default: rows with the same prompt")


def read_preferences(config: PreferencesConfig, ctx: DataContext) -> Iterator[Preference]:
    """Preferences from files; rows without one (equal sides, a tie, no common prompt) are dropped and counted by reason.

    Raises:
        DataError: with file and line of every row that cannot be used, unless ``on_bad: skip``.
    """
    return converted(config, ctx, rows_of, lambda row, name: preference(row, name, config))


def preference(row: Any, default_id: str, config: PreferencesConfig) -> Preference:
    """One row as a preference.

    Raises:
        Left: there is no preference in it.
        DataError: it cannot be read.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"a row must be an object, not {type(row).__name__}")
    renamed = {**row, **{ours: row[theirs] for ours, theirs in config.columns.items() if theirs in row}}
    if missing := next((theirs for theirs in config.columns.values() if theirs not in row), None):
        raise DataError(f"no column '{missing}' (columns: {', '.join(map(str, row))})")
    shape = config.format if config.format != "auto" else shape_of(renamed)
    name = str(renamed.get("id") or default_id)
    if shape == "agentft":
        return _checked(_own(renamed, name))
    if config.group is not None and config.group not in row:
        raise DataError(f"no column '{config.group}' (columns: {', '.join(map(str, row))})")
    value = row[config.group] if config.group is not None else None
    group = None if value is None or value == "" else str(value)
    prompt, chosen, rejected, margin = _READERS[shape](renamed)
    # Rows with one prompt belong together, or the same question would be on both sides of a split.
    key = group or _short("\x1e".join(f"{message.role}:{message.content}" for message in prompt))
    example = Example(name, tuple(prompt), _tools(renamed.get("tools")), key, {"source": "preferences"})
    return _checked(Preference(name, example, chosen, rejected, margin, "imported"))


def shape_of(row: Mapping[str, Any]) -> str:
    """The format that a row's keys tell.

    Raises:
        DataError: none that we know.
    """
    keys = row.keys()
    if "label" in keys and "completion" in keys:
        return "kto"
    if "completions" in keys:
        return "scores"
    if {"chosen", "rejected"} <= keys:
        if isinstance(row.get("prompt"), Mapping):
            return "agentft"
        sides = (row["chosen"], row["rejected"])
        if all(isinstance(side, str) and _TURN.match(side) for side in sides):
            return "hh"
        return "trl" if "prompt" in keys and not _starts_with(row["chosen"], row["prompt"]) else "implicit"
    raise DataError(f"no preference in the keys {', '.join(map(str, keys))} (name them with columns:, or set format:)")


def _starts_with(side: Any, prompt: Any) -> bool:
    """UltraFeedback's binarised form repeats the prompt inside of both sides."""
    if isinstance(side, str) or not isinstance(side, Sequence) or len(side) < 2:
        return False
    return isinstance(prompt, str) or (isinstance(prompt, Sequence) and bool(prompt) and list(side[: len(prompt)]) == list(prompt))


def _own(row: Mapping[str, Any], name: str) -> Preference:
    try:
        one = Preference.from_dict({**row, "id": name})
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"not a preference as agentft writes them: {what}") from None
    if any(side is not None and side.role != "assistant" for side in (one.chosen, one.rejected)):
        raise DataError("'chosen' and 'rejected' must be messages of the assistant")
    unweighted(one)
    return one


def unweighted(one: Preference) -> None:
    """Raise :class:`DataError` if a message of ``one`` has a weight."""
    _unweighted([*one.prompt.messages, *(side for side in (one.chosen, one.rejected) if side is not None)])


def _unweighted(messages: list[Message]) -> list[Message]:
    if found := next((message for message in messages if message.weighted), None):
        raise DataError(f"a message has the weight {found.train:g} ('train'), which means nothing in a preference: remove it")
    return messages


def _checked(one: Preference) -> Preference:
    if not one.prompt.messages or one.prompt.messages[-1].role not in ("user", "tool"):
        raise Left("no prompt that ends with the user")
    sides = [side for side in (one.chosen, one.rejected) if side is not None]
    if any(side.empty for side in sides):
        raise Left("an answer is empty")
    if one.chosen is not None and one.rejected is not None and one.chosen.to_dict() == one.rejected.to_dict():
        raise Left("both answers are the same")
    return one


Parts = tuple[list[Message], Message | None, Message | None, float]


def _trl(row: Mapping[str, Any]) -> Parts:
    prompt = _messages(row, "prompt", "user")
    return prompt, _answer(row, "chosen"), _answer(row, "rejected"), _margin(row)


def _implicit(row: Mapping[str, Any]) -> Parts:
    chosen, rejected = _messages(row, "chosen", "assistant"), _messages(row, "rejected", "assistant")
    return (*_common(chosen, rejected), _margin(row))


def _hh(row: Mapping[str, Any]) -> Parts:
    chosen, rejected = (_transcript(row.get(side), side) for side in ("chosen", "rejected"))
    prompt, better, worse = _common(chosen, rejected)
    return _joined(prompt), better, worse, _margin(row)


def _scores(row: Mapping[str, Any]) -> Parts:
    key = next((key for key in ("prompt", "instruction", "question") if key in row), None)
    if key is None:
        raise DataError("no 'prompt' or 'instruction'")
    rated: list[tuple[float, str]] = []
    listed = row.get("completions")
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise DataError("'completions' must be a list")
    for one in listed:
        text = next((one[name] for name in _TEXTS if isinstance(one.get(name), str)), None) if isinstance(one, Mapping) else None
        value = next((one[name] for name in _SCORES if name in one), None) if isinstance(one, Mapping) else None
        if text is None:
            raise DataError(f"a completion needs one of {', '.join(_TEXTS)}")
        try:
            number = float(value) if value is not None else math.nan
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            rated.append((number, text))
    if len(rated) < 2:
        raise Left("fewer than two completions with a score")
    best, worst = max(rated, key=lambda one: one[0]), min(rated, key=lambda one: one[0])
    if best[0] == worst[0]:
        raise Left("all completions have the same score")
    return _messages(row, key, "user"), Message("assistant", best[1]), Message("assistant", worst[1]), best[0] - worst[0]


def _kto(row: Mapping[str, Any]) -> Parts:
    label = row.get("label")
    if not isinstance(label, (bool, int)) or label not in (0, 1):
        raise DataError(f"'label' must be true or false, not {label!r}")
    answer = _answer(row, "completion")
    return _messages(row, "prompt", "user"), answer if label else None, None if label else answer, math.nan


_READERS = {"trl": _trl, "implicit": _implicit, "hh": _hh, "scores": _scores, "kto": _kto}


def _messages(row: Mapping[str, Any], key: str, role: str) -> list[Message]:
    """A list of messages, or a text as one message of ``role``."""
    value = row.get(key)
    if isinstance(value, str):
        return [Message(role, value)] if value.strip() else []
    if not isinstance(value, Sequence):
        raise DataError(f"'{key}' must be a text or a list of messages" if key in row else f"no '{key}'")
    return _unweighted([Message.from_dict(_plain(message)) for message in value])


def _plain(message: Any) -> Any:
    """Without keys that are null: Arrow writes them into every row."""
    return {key: value for key, value in message.items() if value is not None} if isinstance(message, Mapping) else message


def _answer(row: Mapping[str, Any], key: str) -> Message:
    messages = _messages(row, key, "assistant")
    if len(messages) != 1 or messages[0].role != "assistant":
        raise Left(f"{key} is not one message of the assistant" if messages else "an answer is empty")
    return messages[0]


def _common(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], Message, Message]:
    """What both conversations begin with, and the one message in which they end."""
    if not chosen or not rejected:
        raise Left("an answer is empty")
    if chosen[:-1] != rejected[:-1]:
        raise Left("the two sides have different prompts")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise Left("a side does not end with the assistant")
    return chosen[:-1], chosen[-1], rejected[-1]


def _transcript(text: Any, side: str) -> list[Message]:
    if not isinstance(text, str) or not _TURN.match(text):
        raise DataError(f"'{side}' must be a transcript that begins with '\\n\\nHuman:'")
    parts = _TURN.split(text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [Message(roles[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)]


def _joined(messages: list[Message]) -> list[Message]:
    """What one speaker says in several turns in a row as one turn: many chat templates refuse anything else."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            message = Message(message.role, f"{joined.pop().content}\n\n{message.content}")
        joined.append(message)
    return joined


def _margin(row: Mapping[str, Any]) -> float:
    for key in ("margin", "score_margin"):
        if (value := _number(row.get(key))) is not None:
            return value
    chosen, rejected = (_number(row.get(key)) for key in ("score_chosen", "score_rejected"))
    return math.nan if chosen is None or rejected is None else chosen - rejected


def _number(value: Any) -> float | None:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not value:
        return ()
    try:
        listed = json.loads(value) if isinstance(value, str) else value
        return tuple(dict(one) for one in listed)
    except (ValueError, TypeError):
        raise DataError("'tools' must be a list of JSON schemas, or that list as JSON text") from None


def _short(key: str) -> str:
    import hashlib

    return f"prompt-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
