"""What an agent and its export are both asked: held-out prompts or rows with the agent's own answers, by kind of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentft.contracts import ExportJob, GenerationSettings, Probe
from agentft.data.jsonl import read_records
from agentft.errors import DataError, UserError
from agentft.export.check import Reference
from agentft.export.readings import Language, encoder_outputs, head_outputs, pair_outputs
from agentft.labelled import Labelled
from agentft.records import Example, Message

ANSWER = 48  # tokens of an answer that is compared
GENERIC = {
    "en": (
        "Hello, who are you?",
        "Explain in two sentences why the sky is blue.",
        "Write a short thank-you note to a neighbour.",
        "What is 17 plus 25?",
        "List three things to pack for a day in the mountains.",
        "My order arrived damaged. What should I do?",
        "Translate to French: good morning.",
        "Give me a recipe with eggs and tomatoes.",
    ),
    "zh": (
        "你好，你是谁？",
        "请用两句话解释天空为什么是蓝色的。",
        "给邻居写一张简短的感谢卡。",
        "17加25等于多少？",
        "列出三样爬山要带的东西。",
        "我收到的商品坏了，怎么办？",
        "把“早上好”翻译成英文。",
        "用鸡蛋和西红柿做一道菜。",
    ),
}

Report = Callable[[int, int], None]


def records(data: Path | None, file: Path | None, language: str, number: int) -> list[Example | Labelled]:
    """Up to ``number`` held-out rows, evenly spread: of ``file``, else of a run's ``data`` folder, else generic questions.

    Raises:
        UserError: the file has no row that can be used.
    """
    rows: list[Example | Labelled] = []
    if file is not None:
        rows = list(read_records(file))
        if not rows:
            raise UserError(f"{file} has no rows to check the export on")
    elif data is not None:
        rows = [row for name in ("test", "prompts") if (data / f"{name}.jsonl").is_file() for row in read_records(data / f"{name}.jsonl")]
    rows = rows or [Example(f"generic-{place}", (Message("user", text),)) for place, text in enumerate(GENERIC[language], 1)]
    step = max(1.0, len(rows) / number)
    return [rows[int(place * step)] for place in range(min(number, len(rows)))]


def reference(job: ExportJob, rows: Sequence[Example | Labelled], folder: Path, expected: str, report: Report) -> Reference:
    """The agent's own outputs on ``rows``, in ``folder``. Its model is in memory only meanwhile.

    Args:
        expected: digest of the renderer that it was trained with; empty: not known.

    Raises:
        UserError: the chat template is not the one that it was trained with, or no row can be used.
    """
    makers = {"model": _talking, "head": _head, "encoder": _encoder, "seq2seq": _pairs}
    found = makers[job.kind](job, rows, folder, expected, report)
    if not found.probes:
        reason = f" ({found.skipped})" if found.skipped else ""
        raise UserError(f"none of the held-out rows can be used to check the export{reason}; give some with --prompts FILE")
    return found


def _talking(job: ExportJob, rows: Sequence[Example | Labelled], folder: Path, expected: str, report: Report) -> Reference:
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.profile import detect

    tools = job.persona.schemas if job.persona is not None else ()
    loaded = LoadedAgent.load(job.model, job.adapter, job.system, detect(job.device), examples=job.examples, tools=tools)
    if expected and loaded.renderer.digest != expected:
        raise UserError(f"'{job.name}' was trained with another chat template; run the recipe again")
    prompts = [row.as_prompt()[0] for row in rows if isinstance(row, Example)]
    # Answers are not held to `meta.choices`: the distributions are compared as they are.
    asked = [replace(prompt, meta={key: value for key, value in prompt.meta.items() if key != "choices"}) for prompt in prompts]
    responses = loaded.generate(asked, GenerationSettings(max_new_tokens=ANSWER))
    tokenizer = loaded.tokenizer
    found, ask = Reference(folder, distributions=True), Language()
    for done, (prompt, response) in enumerate(zip(asked, responses, strict=True), 1):
        report(done, len(asked))
        if response.finish == "error":
            found.skipped = response.error
            continue
        history = tuple(replace(message, train=False) for message in prompt.messages)
        try:
            whole = loaded.shown(replace(prompt, messages=(*history, response.message)), 0)
            row = loaded.renderer.training(whole)[-1]
            said = loaded.renderer.prompt(loaded.shown(prompt, len(row.input_ids)))
        except DataError as error:
            found.skipped = str(error)
            continue
        start = next(place for place, label in enumerate(row.labels) if label != -100)
        if loaded.context and len(row.input_ids) > loaded.context:
            continue
        if not said.disarmed:  # a caller's typed control tokens are made harmless by us only
            found.prompts[prompt.id] = tokenizer(said.text, add_special_tokens=False)["input_ids"]
        probe = Probe(prompt.id, row.input_ids, start, example=None if said.disarmed else prompt, text=said.text)
        found.add(probe, ask(loaded.model, probe))
    return found


def _head(job: ExportJob, rows: Sequence[Example | Labelled], folder: Path, expected: str, report: Report) -> Reference:
    from agentft.engine.heads import HeadModel
    from agentft.engine.profile import detect
    from agentft.render.heads import HeadEncoder

    assert job.trained is not None
    loaded = HeadModel.load(job.model, job.trained, detect(job.device))
    task, encoder = loaded.task, HeadEncoder(loaded.tokenizer, loaded.task)
    found = Reference(folder, distributions=task.name != "regress")
    for done, row in enumerate(rows, 1):
        report(done, len(rows))
        try:
            windows = encoder.windows(_labelled(row, task.name))
        except (DataError, KeyError) as error:
            found.skipped = str(error)
            continue
        for number, window in enumerate(windows, 1):
            probe = Probe(f"{row.id}#{number}", window.input_ids, types=window.types)
            found.add(probe, head_outputs(loaded.model, task, probe))
    return found


def _labelled(row: Example | Labelled, task: str) -> Labelled:
    """A row that a task with a head can read."""
    if isinstance(row, Labelled):
        return row
    text = row.last_user
    special: dict[str, dict[str, Any]] = {"tag": {"tokens": text.split()}, "span": {"question": "What is it?", "context": text}}
    inputs = special.get(task, {"text": text})
    return Labelled(row.id, inputs)


def _encoder(job: ExportJob, rows: Sequence[Example | Labelled], folder: Path, expected: str, report: Report) -> Reference:
    from agentft.engine.models import load_tokenizer
    from agentft.engine.profile import detect
    from agentft.export.weights import encoder

    profile = detect(job.device)
    profile.apply()
    model, tokenizer = encoder(job, profile), load_tokenizer(job.model)
    limit = getattr(model.config, "max_position_embeddings", None) or 512
    found = Reference(folder, distributions=model.get_output_embeddings() is not None)
    for done, row in enumerate(rows, 1):
        report(done, len(rows))
        ids = tokenizer(row.text, truncation=True, max_length=min(limit, 256))["input_ids"]
        probe = Probe(row.id, ids, types=[0] * len(ids))
        found.add(probe, encoder_outputs(model, probe))
    return found


def _pairs(job: ExportJob, rows: Sequence[Example | Labelled], folder: Path, expected: str, report: Report) -> Reference:
    from types import SimpleNamespace

    from agentft.engine.profile import detect
    from agentft.engine.seq2seq import Seq2SeqAgent

    options = dict(job.options)
    agent = Seq2SeqAgent.load(job.model, job.adapter, detect(job.device), SimpleNamespace(**options), options.get("max_length", 512))
    prompts = [row.as_prompt()[0] for row in rows if isinstance(row, Example)]
    responses = agent.generate(prompts, GenerationSettings(max_new_tokens=ANSWER))
    found = Reference(folder, distributions=True)
    for done, (prompt, response) in enumerate(zip(prompts, responses, strict=True), 1):
        report(done, len(prompts))
        if response.finish == "error":
            found.skipped = response.error
            continue
        probe = Probe(prompt.id, agent.encoder.source(prompt.messages)[0], target=agent.encoder.target(response.text)[0])
        found.add(probe, pair_outputs(agent.model, probe))
    return found
