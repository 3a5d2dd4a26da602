"""Built-in sources and transforms."""

from __future__ import annotations

from agentft.components import SourceSpec, TransformSpec
from agentft.hookspecs import hookimpl

_SOURCES = "agentft.data.files"
_TRANSFORMS = "agentft.data.transforms"


@hookimpl
def agentft_sources() -> list[SourceSpec]:
    return [
        SourceSpec("jsonl", "Conversations from JSON-lines files", f"{_SOURCES}:read_jsonl", f"{_SOURCES}:JsonlConfig"),
        SourceSpec("json", "Conversations from a JSON file (a list of rows)", f"{_SOURCES}:read_json", f"{_SOURCES}:JsonlConfig"),
        SourceSpec(
            "preferences",
            "Preference pairs and thumbs: TRL, implicit prompt, HH transcripts, scores, KTO",
            "agentft.data.preferences:read_preferences",
            "agentft.data.preferences:PreferencesConfig",
            produces="preference",
        ),
        SourceSpec(
            "chats",
            "Conversations as published for fine-tuning: OpenAI messages, ShareGPT, Alpaca",
            "agentft.data.chats:read_chats",
            "agentft.data.chats:ChatsConfig",
        ),
        SourceSpec("csv", "Prompts or question-answer rows from a CSV or TSV file", f"{_SOURCES}:read_csv", f"{_SOURCES}:CsvConfig"),
    ]


@hookimpl
def agentft_transforms() -> list[TransformSpec]:
    return [
        TransformSpec("normalize", "Unicode NFC, no control characters, tidy white space", f"{_TRANSFORMS}:normalize"),
        TransformSpec("dedup", "Drop exact duplicates by normalised text", f"{_TRANSFORMS}:dedup"),
        TransformSpec(
            "filter", "Keep rows by length, number of turns or meta values", f"{_TRANSFORMS}:filter_rows", f"{_TRANSFORMS}:FilterConfig"
        ),
    ]
