"""What the plugin contributes. Listing it imports none of its code."""

from __future__ import annotations

from agentft.components import CriticSpec, EnvironmentSpec, EvaluatorSpec, PersonaSpec, SourceSpec
from agentft.hookspecs import hookimpl

_PACKAGE = "agentft_tutoring"
_PACKAGED = "agentft.data.packaged:PackagedConfig"


@hookimpl
def agentft_personas() -> list[PersonaSpec]:
    return [
        PersonaSpec("math-tutor", "Arithmetic and algebra, one question at a time", f"{_PACKAGE}:personas/math-tutor.yaml"),
        PersonaSpec("reading-tutor", "Short passages: back to the words of the text", f"{_PACKAGE}:personas/reading-tutor.yaml"),
        PersonaSpec("programming-tutor", "First steps in Python, without writing the fix", f"{_PACKAGE}:personas/programming-tutor.yaml"),
        PersonaSpec("math-tutor-zh", "用中文引导学生做算术题和代数题", f"{_PACKAGE}:personas/math-tutor-zh.yaml", language="zh"),
        PersonaSpec("base", "What the English tutors share; extend it for your own", f"{_PACKAGE}:personas/base.yaml"),
    ]


@hookimpl
def agentft_sources() -> list[SourceSpec]:
    return [
        SourceSpec("sessions", "Demonstrated tutoring sessions", f"{_PACKAGE}.sources:sessions", _PACKAGED),
        SourceSpec("prompts", "Messages of students without an answer", f"{_PACKAGE}.sources:prompts", _PACKAGED, produces="prompt"),
        SourceSpec(
            "queries",
            "Messages of students to practise on in refinement rounds",
            f"{_PACKAGE}.sources:queries",
            _PACKAGED,
            produces="prompt",
            practice=True,
        ),
        SourceSpec(
            "bridge",
            "The BRIDGE data set: experts' revisions of novice tutors",
            f"{_PACKAGE}.bridge:bridge",
            f"{_PACKAGE}.bridge:BridgeConfig",
        ),
        SourceSpec(
            "bridge-revisions",
            "The BRIDGE data set as preferences: the expert's revision over the novice's turn",
            f"{_PACKAGE}.bridge:revisions",
            f"{_PACKAGE}.bridge:RevisionsConfig",
            produces="preference",
        ),
    ]


@hookimpl
def agentft_critics() -> list[CriticSpec]:
    return [CriticSpec("guidance", "No answer told, no step carried out, a question at the end", f"{_PACKAGE}.critic:guidance")]


@hookimpl
def agentft_evaluators() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec("answer-leak", "The known answer told before the student said it", f"{_PACKAGE}.leak:answer_leak"),
        EvaluatorSpec("question-ratio", "Share of sentences that ask", f"{_PACKAGE}.guidance:question_ratio"),
        EvaluatorSpec("telling-ratio", "Share of sentences that give a result or a worked step", f"{_PACKAGE}.guidance:telling_ratio"),
        EvaluatorSpec("turn-length", "Words of a tutor's turn", f"{_PACKAGE}.guidance:turn_length"),
    ]


@hookimpl
def agentft_environments() -> list[EnvironmentSpec]:
    return [
        EnvironmentSpec(
            "student",
            "Students with misconceptions, who learn from hints and not from answers",
            f"{_PACKAGE}.student.suite:student",
            f"{_PACKAGE}.student.suite:StudentConfig",
        )
    ]
