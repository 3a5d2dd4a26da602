"""The environment ``tutoring/student``: problems, students who get them wrong, and whether the tutor brought them to the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from agentft.environments import Environment, Episode, Outcome, SimTask, SuiteContext, ToolAnswer, User, Violation
from agentft.errors import UserError, did_you_mean
from agentft.records import Message
from agentft.validation import Listed, Model
from agentft_tutoring.leak import leaked
from agentft_tutoring.student.students import Student, misconceptions, problems

LEAK = "answer-leak"


class StudentConfig(Model):
    """Options of ``tutoring/student``."""

    subjects: Listed[Literal["arithmetic", "algebra", "programming"]] = Field(default=(), description="only these subjects; default: all")
    misconceptions: Listed[str] = Field(default=(), description="only these misconceptions; default: all")
    language: Literal["en", "zh", "all"] = Field(default="all", description="only students who speak this language")


class Classroom:
    """The :class:`~agentft.environments.Environment` of a student: no tools, and the tutor's leak as a violation."""

    tools: Sequence[Mapping[str, Any]] = ()

    def __init__(self) -> None:
        self.student: Student | None = None

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        return ToolAnswer("There are no tools here.", error=True)

    def state(self) -> str:
        return ""

    @property
    def violations(self) -> tuple[Violation, ...]:
        told = self.student.leaked if self.student is not None else ""
        return (Violation(LEAK, f"the tutor said '{told}' before the student did"),) if told else ()

    def close(self) -> None: ...


class StudentSuite:
    """A :class:`~agentft.environments.Suite`. Success: the student stated the result, and the tutor had not given it away."""

    policy = ""

    def __init__(self, config: StudentConfig, ctx: SuiteContext):
        known = misconceptions()
        for name in config.misconceptions:
            if name not in known:
                raise UserError(f"there is no misconception '{name}'; {did_you_mean(name, known)}")
        self._problems = {row["id"]: row for row in problems() if _wanted(row, config)}
        if not self._problems:
            raise UserError("no problem has these subjects, misconceptions and language")
        self.tasks: Sequence[SimTask] = tuple(_task(row) for row in self._problems.values())
        self._opened: dict[str, Classroom] = {}

    def open(self, task: SimTask) -> Environment:
        self._opened[task.id] = Classroom()
        return self._opened[task.id]

    def user(self, task: SimTask, seed: int) -> User:
        student = Student(self._problems[task.id], seed)
        if task.id in self._opened:  # the classroom that was opened for this conversation
            self._opened.pop(task.id).student = student
        return student

    def judge(self, task: SimTask, episode: Episode) -> Outcome:
        """From what was said alone, so that students who are played by a model are judged alike."""
        if episode.fault:
            return Outcome({}, episode.fault)
        forms = self._problems[task.id]["answer"]
        speaker, words = first_to_say(episode.messages, forms)
        checks = {"solved": speaker == "user", "policy": speaker != "assistant", "ended": episode.end == "user"}
        why = f"{LEAK}: the tutor said '{words}' first" if speaker == "assistant" else "" if speaker else "nobody said the result"
        return Outcome(checks, why)


def first_to_say(messages: Sequence[Message], forms: Sequence[str]) -> tuple[str, str]:
    """Role of whoever says the answer first, and the form that is said; two empty texts if nobody does."""
    for message in messages:
        told = leaked(message.content, forms) if message.role in ("user", "assistant") else ""
        if told:
            return message.role, told
    return "", ""


def _wanted(row: Mapping[str, Any], config: StudentConfig) -> bool:
    kind = misconceptions()[row["misconception"]]
    return (
        (not config.subjects or kind["subject"] in config.subjects)
        and (not config.misconceptions or row["misconception"] in config.misconceptions)
        and config.language in ("all", kind.get("language", "en"))
    )


def _task(row: Mapping[str, Any]) -> SimTask:
    kind = misconceptions()[row["misconception"]]
    slices = {"subject": kind["subject"], "misconception": row["misconception"], "language": kind.get("language", "en")}
    return SimTask(row["id"], slices, data={"answer": list(row["answer"])})


def student(config: StudentConfig, ctx: SuiteContext) -> StudentSuite:
    """The environment's target."""
    return StudentSuite(config, ctx)
