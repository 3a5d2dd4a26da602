"""Folders and GGUF files that ``agentft export`` wrote, recognised when they are loaded again.

An export's chat template puts the persona in front by itself, for programs that know nothing of agentft. Here the renderer does that,
so the tokenizer gets the template back that the persona was built into, and whoever opens the agent gets the persona from
``agentft.json``: it stands in front once, and the tokens are those of the agent that was exported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentft.errors import DataError

FILE = "agentft.json"
# Lies in a folder that failed its check, and says why in its first line; such a folder is not loaded.
REFUSED = "REFUSED.txt"
# Under this key a GGUF file carries the same facts, so that it can be handed around alone.
GGUF_KEY = "agentft.export"


@dataclass(frozen=True)
class Exported:
    """What ``agentft.json`` says.

    Attributes:
        form: ``merged``, ``gguf`` ...
        kind: ``model``, ``head``, ``encoder`` or ``seq2seq``.
        system: the persona's system prompt, as it was before any template.
        persona: the persona as data, or None.
        tools: of the persona, in OpenAI's form.
        source: the chat template that the persona was built into; None for models without one.
        template: sha256 of the chat template that was written.
        digest: of the agent's renderer.
        options: of an encoder-decoder.
    """

    form: str
    kind: str
    system: str = ""
    persona: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    source: Any = None
    template: str = ""
    digest: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "tools": list(self.tools)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Exported:
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**{**known, "tools": tuple(known.get("tools") or ())})


def template_hash(template: Any) -> str:
    """sha256 of a chat template; several named ones count together."""
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read(place: Path | str) -> Exported | None:
    """What was exported into this folder, or into this ``.gguf`` file; None for anything else.

    Raises:
        DataError: ``agentft.json`` cannot be read.
    """
    path = Path(place)
    if path.suffix == ".gguf":
        text = _of_gguf(path)
    else:
        file = path / FILE
        text = file.read_text("utf-8") if file.is_file() else ""
    if not text:
        return None
    try:
        return Exported.from_dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: the facts of its export ({FILE}) cannot be read: {error}") from error


def restore(folder: Path | str, tokenizer: Any) -> None:
    """Give the tokenizer of an export the chat template without the persona; any other tokenizer stays as it is.

    Raises:
        DataError: the chat template is not the one that was written.
    """
    found = read(folder)
    if found is None or found.source is None:
        return
    if not tokenizer.chat_template or template_hash(tokenizer.chat_template) != found.template:
        raise DataError(
            f"{folder}: the chat template was changed after the export, so the model would not be asked as it was taught; "
            f"export it again, or delete {FILE} to use the folder as a model without a persona"
        )
    tokenizer.chat_template = found.source


def _of_gguf(path: Path) -> str:
    from gguf import GGUFReader

    field_ = GGUFReader(path).fields.get(GGUF_KEY)
    return str(field_.contents()) if field_ is not None else ""
