"""What lies beside the weights in an export: tokenizer, chat template with the persona, generation settings, ``agentft.json``."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentft.contracts import ExportJob
from agentft.engine.exported import FILE, Exported, template_hash
from agentft.errors import UserError
from agentft.export.template import with_persona
from agentft.render.messages import Chat, to_chat, to_tools

SHOWN = "examples"


@dataclass(frozen=True)
class Spoken:
    """How a chat model is asked: its tokenizer with the chat template that has the persona built in, and the facts about both.

    Attributes:
        tokenizer: to be saved, or written in another form.
        template: the chat template with the persona.
        source: the template that it was built from.
        stops: token ids at which an answer ends, the template's own first.
        shots: messages that stand before every conversation.
        facts: for ``agentft.json``.
    """

    tokenizer: Any
    template: Any
    source: Any
    stops: tuple[int, ...]
    shots: Chat
    facts: Exported


def spoken(job: ExportJob, form: str) -> Spoken:
    """Tokenizer, template and facts of a chat model.

    Raises:
        UserError: the agent looks up examples for each prompt, which no template can.
    """
    from agentft.engine.models import load_tokenizer
    from agentft.render.conversation import Renderer

    tokenizer = load_tokenizer(job.model)
    tools = job.persona.schemas if job.persona is not None else ()
    renderer = Renderer(tokenizer, job.system, tools=tools)
    shots = shown(job.examples, job.name)
    source = tokenizer.chat_template
    template = with_persona(renderer, shots)
    facts = Exported(
        form,
        job.kind,
        system=job.system,
        persona=job.persona.to_dict() if job.persona is not None else None,
        tools=tuple(to_tools(tools) or ()),
        source=source,
        template=template_hash(template),
        digest=renderer.digest,
    )
    tokenizer.chat_template = template
    return Spoken(tokenizer, template, source, tuple(renderer.stop_token_ids), shots, facts)


def shown(folder: Path | None, name: str) -> Chat:
    """The messages that an agent shows before every conversation, the same ones each time; none if it shows none.

    Raises:
        UserError: it looks for others each time.
    """
    if folder is None:
        return []
    from agentft.engine.shots import Shots
    from agentft.records import Example, Message

    shots = Shots(folder)
    if shots.options["method"] != "random":
        raise UserError(
            f"'{name}' shows the training conversations that are most like each prompt, which no other program does; "
            "train it (sft), or use `by: random`, which shows the same ones every time"
        )
    found = shots.find(Example("", (Message("user", ""),)))
    return to_chat([message for one in found for message in one.messages if message.role != "system"])


def write_beside(job: ExportJob, how: Spoken, folder: Path) -> None:
    """Tokenizer, template, generation settings, facts and the base model's licence text, of a chat model."""
    for licence in Path(job.model.path).glob("LICENSE*"):
        shutil.copy2(licence, folder / licence.name)
    how.tokenizer.save_pretrained(folder)
    _generation(job, how, folder)
    write_facts(how.facts, folder)
    if how.facts.tools:
        (folder / "tools.json").write_text(json.dumps(list(how.facts.tools), ensure_ascii=False, indent=1), "utf-8")
    if job.examples is not None:
        shutil.copytree(job.examples, folder / SHOWN)


def write_facts(facts: Exported, folder: Path) -> None:
    (folder / FILE).write_text(json.dumps(facts.to_dict(), ensure_ascii=False, indent=1), "utf-8")


def _generation(job: ExportJob, how: Spoken, folder: Path) -> None:
    """``generation_config.json``: where an answer ends, and how tokens are drawn; no limit of length, which is the caller's."""
    from transformers import GenerationConfig

    drawn: dict[str, Any] = {"do_sample": False}
    if job.settings.temperature:
        drawn = {"do_sample": True, "temperature": job.settings.temperature, "top_p": job.settings.top_p, "top_k": 0}
    tokenizer = how.tokenizer
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=list(how.stops), pad_token_id=tokenizer.pad_token_id, **drawn
    ).save_pretrained(folder)
