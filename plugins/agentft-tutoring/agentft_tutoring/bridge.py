"""``bridge``: real chats of tutors with students, in which an expert wrote what the novice tutor should have said.

The data set is not part of this package: https://github.com/rosewang2008/bridge (MIT licence; Wang et al., NAACL 2024). Each
row has a piece of chat that ends with the student, the novice tutor's turn and an expert's revision of that turn. A row
becomes a conversation:

* a first user message names the lesson ("Lesson: Decomposing Figures"), because the tutor saw the topic on the screen; where
  the student speaks first, it stands above what the student says. So a conversation always starts with the user;
* messages of one speaker in a row are one message, a line each;
* the tutor's earlier turns are kept and never learned from (``train: false``): they are the novice's;
* the last message is the revision (``answer: expert``) or the novice's own turn (``answer: novice``, for comparison).

``group`` is the tutoring session, the number before the underscore of ``c_id``. About a third of the sessions have rows in two
of the data set's own files, and one turn was often revised by two experts, once for training and once for the test: with
``without: [test.json]`` a source leaves out every session that occurs there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.files import load_json_list, paths
from agentft.errors import DataError
from agentft.records import Example, Message, Preference
from agentft.validation import Listed, Model

# The data set's six kinds of error; experts also wrote free text there, most often that there was no error.
ERRORS = ("guess", "misinterpret", "careless", "right-idea", "imprecise", "diagnose")


class BridgeConfig(Model):
    """Options of the source ``bridge``."""

    path: str | Listed[str] = Field(description="`train.json`, `validation.json` or `test.json` of the data set; relative to the recipe")
    answer: Literal["expert", "novice"] = Field("expert", description="whose turn to learn: the expert's revision, or the novice's own")
    without: Listed[str] = Field((), description="files whose sessions are left out, such as the test file when reading the others")
    student: str = Field("there", description="what stands for a student's name, which the data set replaced by [STUDENT]")
    limit: int | None = Field(None, gt=0, description="take only the first rows")


def bridge(config: BridgeConfig, ctx: DataContext) -> Iterator[Example]:
    """Conversations from the files; a row that cannot be used is dropped with its reason.

    Raises:
        DataError: a file cannot be read, or no row is left.
    """
    seen: Counter[str] = Counter()
    kept = 0
    for row, where in _rows(config, ctx):
        try:
            example = _example(row, config)
        except DataError as error:
            ctx.drop(str(error), where)
            continue
        seen[example.id] += 1
        if config.answer == "novice" and seen[example.id] > 1:
            ctx.drop("the same novice turn again, revised by another expert", where)
        elif config.limit is not None and kept >= config.limit:
            ctx.drop("over the limit", where)
        else:
            kept += 1
            yield example if seen[example.id] == 1 else _renamed(example, seen[example.id])
    if not kept:
        raise DataError(f"{config.path}: no row of the BRIDGE data set is left ({dict(ctx.drops)})")


class RevisionsConfig(Model):
    """Options of the source ``bridge-revisions``."""

    path: str | Listed[str] = Field(description="files of the data set, as for `bridge`")
    without: Listed[str] = Field((), description="files whose sessions are left out, such as the test file when reading the others")
    student: str = Field("there", description="what stands for a student's name")
    limit: int | None = Field(None, gt=0, description="take only the first rows")


def revisions(config: RevisionsConfig, ctx: DataContext) -> Iterator[Preference]:
    """What the expert wrote over what the novice had said, where they differ: real human revisions.

    Raises:
        DataError: a file cannot be read, or no row is left.
    """
    options = BridgeConfig.model_validate({"path": config.path, "without": config.without, "student": config.student})
    kept: Counter[str] = Counter()
    for row, where in _rows(options, ctx):
        try:
            expert, novice = (_example(row, options.model_copy(update={"answer": who})) for who in ("expert", "novice"))
        except DataError as error:
            ctx.drop(str(error), where)
            continue
        chosen, rejected = expert.messages[-1], novice.messages[-1]
        if chosen.content == rejected.content:
            ctx.drop("the expert changed nothing", where)
        elif config.limit is not None and kept.total() >= config.limit:
            ctx.drop("over the limit", where)
        else:
            kept[expert.id] += 1
            name = expert.id if kept[expert.id] == 1 else f"{expert.id}~{kept[expert.id]}"
            prompt = Example(name, expert.messages[:-1], (), expert.group, expert.meta)
            yield Preference(name, prompt, chosen, rejected, origin="human")
    if not kept:
        raise DataError(f"{config.path}: no row of the BRIDGE data set is left ({dict(ctx.drops)})")


def _rows(config: BridgeConfig, ctx: DataContext) -> Iterator[tuple[Any, str]]:
    """Rows of the files with their places, without the sessions that are kept apart."""
    elsewhere = {_session(row) for file in config.without for path in paths(file, ctx) for row in load_json_list(path)}
    given = config.path if isinstance(config.path, str) else list(config.path)
    for path in paths(given, ctx):
        for number, row in enumerate(load_json_list(path), 1):
            if _session(row) in elsewhere:
                ctx.drop("the session is in a file that is kept apart", f"{path}:{number}")
            else:
                yield row, f"{path}:{number}"


def _example(row: Any, config: BridgeConfig) -> Example:
    if not isinstance(row, Mapping) or not isinstance(row.get("c_id"), str):
        raise DataError("not a row of the BRIDGE data set (no c_id)")
    history = _turns(row.get("c_h"), config)
    answer = _turns(row.get("c_r_" if config.answer == "expert" else "c_r"), config)
    if not history or history[-1][0] != "student":
        raise DataError("the chat does not end with the student")
    if len(answer) != 1 or answer[0][0] != "tutor":
        raise DataError(f"no answer of the {config.answer}")
    lesson = f"Lesson: {_topic(row)}"
    if history[0][0] == "student":
        history[0] = ("student", f"{lesson}\n{history[0][1]}")
    else:
        history.insert(0, ("student", lesson))
    messages = [Message("user", text) if speaker == "student" else Message("assistant", text, train=False) for speaker, text in history]
    error = str(row.get("e") or "").strip()
    meta = {
        "language": "en",
        "topic": _topic(row),
        "error": error if error in ERRORS else "other",
        "strategy": str(row.get("z_what") or "").strip(),
        "intention": str(row.get("z_why") or "").strip(),
        "source": "bridge",
    }
    return Example(f"bridge-{row['c_id']}", (*messages, Message("assistant", answer[0][1])), group=f"bridge-{_session(row)}", meta=meta)


def _turns(lines: Any, config: BridgeConfig) -> list[tuple[str, str]]:
    """Chat lines as turns of (speaker, text): empty lines left out, lines of one speaker in a row joined."""
    turns: list[tuple[str, str]] = []
    for line in lines if isinstance(lines, list) else ():
        speaker, text = (line.get("user"), line.get("text")) if isinstance(line, Mapping) else (None, None)
        if speaker not in ("student", "tutor") or not isinstance(text, str):
            raise DataError("a chat line has no speaker (student or tutor) or no text")
        text = text.replace("[STUDENT]", config.student).strip()
        if not text:
            continue
        if turns and turns[-1][0] == speaker:
            turns[-1] = (speaker, f"{turns[-1][1]}\n{text}")
        else:
            turns.append((speaker, text))
    return turns


def _topic(row: Mapping[str, Any]) -> str:
    """``Area (Review) - 1`` of ``3.6E.Area (Review) - 1``: the code of the curriculum says nothing to a model."""
    topic = re.sub(r"^(?:[A-Z]?\d\w*|[A-Z]{1,3})\.(?:(?:\w{1,3})\.)*(?=\D)", "", str(row.get("lesson_topic") or "").strip())
    return topic.strip() or "Unknown"


def _session(row: Any) -> str:
    return str(row.get("c_id")).partition("_")[0] if isinstance(row, Mapping) else ""


def _renamed(example: Example, number: int) -> Example:
    return Example(f"{example.id}-{number}", example.messages, group=example.group, meta=example.meta)
