"""Built-in sources and transforms."""

from __future__ import annotations

from agentft.components import SourceSpec, TransformSpec
from agentft.hookspecs import hookimpl

_SOURCES = "agentft.data.files"
_DATA = "agentft.data"


@hookimpl
def agentft_sources() -> list[SourceSpec]:
    return [
        SourceSpec("jsonl", "Conversations or labelled rows from JSON-lines files", f"{_SOURCES}:read_jsonl", f"{_SOURCES}:JsonlConfig"),
        SourceSpec("json", "The same from a JSON file (a list of rows)", f"{_SOURCES}:read_json", f"{_SOURCES}:JsonlConfig"),
        SourceSpec(
            "preferences",
            "Preference pairs and thumbs: TRL, implicit prompt, HH transcripts, scores, KTO",
            "agentft.data.preferences:read_preferences",
            "agentft.data.preferences:PreferencesConfig",
            produces="preference",
        ),
        SourceSpec(
            "served-feedback",
            "What people said about an agent in use: prompts to practise on, edits as demonstrations, preferences",
            "agentft.feedback.served_data:read_served",
            "agentft.feedback.served_data:ServedConfig",
            produces="prompt",
        ),
        SourceSpec(
            "chats",
            "Conversations as published for fine-tuning: OpenAI messages, ShareGPT, Alpaca",
            "agentft.data.chats:read_chats",
            "agentft.data.chats:ChatsConfig",
        ),
        SourceSpec("csv", "Conversations or labelled rows from CSV and TSV files", f"{_SOURCES}:read_csv", f"{_SOURCES}:CsvConfig"),
        SourceSpec(
            "parquet",
            "Conversations or labelled rows from Parquet files, read batch by batch",
            "agentft.data.parquet:read_parquet",
            "agentft.data.parquet:ParquetConfig",
        ),
        SourceSpec(
            "hub",
            "Data sets of the Hugging Face hub, and folders that `datasets` wrote or can read",
            "agentft.data.hub:read_hub",
            "agentft.data.hub:HubConfig",
        ),
        SourceSpec(
            "text",
            "Plain text and Markdown: folders of documents by file, section, paragraph or line",
            "agentft.data.texts:read_texts",
            "agentft.data.texts:TextConfig",
            produces="text",
        ),
        SourceSpec(
            "conll",
            "Sentences of tagged tokens: CoNLL column files, any entity scheme as BIO2",
            "agentft.data.conll:read_conll",
            "agentft.data.conll:ConllConfig",
            produces="labelled",
        ),
        SourceSpec(
            "spans",
            "Questions with the places of their answers in a text: SQuAD, its flat form, slots of dialogues",
            "agentft.data.spans:read_spans",
            "agentft.data.spans:SpansConfig",
            produces="labelled",
        ),
        SourceSpec(
            "tmx",
            "Translations from translation memories (TMX)",
            "agentft.data.tmx:read_tmx",
            "agentft.data.tmx:TmxConfig",
        ),
    ]


@hookimpl
def agentft_transforms() -> list[TransformSpec]:
    parts = (
        ("normalize", "Repaired encoding, Unicode NFC, no control characters, tidy white space", "normalize:normalize", "NormalizeConfig"),
        ("filter", "Keep rows by length, language, number of turns, patterns or meta values", "filtering:filter_rows", "FilterConfig"),
        ("dedup", "Drop duplicates by normalised text; with a threshold near-duplicates too", "dedup:dedup", "DedupConfig"),
        ("pii", "Replace personal data (e-mail, phone, card, IBAN, ids, IP) by placeholders", "pii:pii", "PiiConfig"),
        ("decontaminate", "Drop rows that share text with held-out rows", "decontaminate:decontaminate", "DecontaminateConfig"),
        ("augment", "Add changed copies: synonyms, insertion, swap, deletion, typos, case, templates", "augment:augment", "AugmentConfig"),
        ("balance", "Repeat rows of small classes, or leave out rows of large ones", "balance:balance", "BalanceConfig"),
    )
    return [
        *(
            TransformSpec(
                name,
                summary,
                f"{_DATA}.{target}",
                f"{_DATA}.{target.split(':')[0]}:{config}",
                consumes="any",
                produces="any",
                everywhere=name in ("normalize", "pii"),
            )
            for name, summary, target, config in parts
        ),
        TransformSpec(
            "label",
            "Conversations as rows with a class or a number, by a key of their meta data",
            f"{_DATA}.labelling:label",
            f"{_DATA}.labelling:LabelConfig",
            produces="labelled",
            everywhere=True,
        ),
        TransformSpec(
            "instruct",
            "Labelled rows as instructions and answers, for a chat model",
            f"{_DATA}.instruct:instruct",
            f"{_DATA}.instruct:InstructConfig",
            consumes="labelled",
            everywhere=True,
        ),
        TransformSpec(
            "synthesise",
            "A model writes further conversations, held to the persona's rules (Self-Instruct)",
            "agentft.data.synthesise:synthesise",
            "agentft.data.synthesise:SynthesiseConfig",
            asks=True,
        ),
    ]
