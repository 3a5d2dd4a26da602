"""The model card of an export: what it is, what it was made from, what was measured, and what it must not be used for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentft.contracts import ExportJob
from agentft.export.check import Agreement

_USE = {
    "merged": {
        "model": """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = "."  # where these files lie
tokenizer, model = AutoTokenizer.from_pretrained(FOLDER), AutoModelForCausalLM.from_pretrained(FOLDER)
inputs = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=80)[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```

The chat template puts the persona in front of every conversation; a system message of the caller's follows it. With agentft:
`agentft.agents.open_agent(FOLDER)`.""",
        "head": "Load it with `AutoModelForSequenceClassification` / `TokenClassification` / `QuestionAnswering`; `task.json` says which "
        "classes there are and on which scale numbers are.",
        "encoder": "Load it with `AutoModel` or `AutoModelForMaskedLM`.",
        "seq2seq": "Load it with `AutoModelForSeq2SeqLM`.",
    },
    "adapter": {
        "model": """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)  # its chat template puts the persona in front
```""",
    },
    "gguf": {"model": "`llama-server -m FILE --jinja`: the chat template in the file puts the persona in front of every conversation."},
    "ollama": {"model": "`ollama create NAME -f Modelfile`, then `ollama run NAME`."},
    "int8": {"model": "As any folder of transformers: `AutoModelForCausalLM.from_pretrained(FOLDER)`, with torchao installed."},
    "onnx": {
        kind: """\
```python
import numpy, onnxruntime
from transformers import AutoTokenizer

session, tokenizer = onnxruntime.InferenceSession("model.onnx"), AutoTokenizer.from_pretrained(".")
rows = tokenizer(["a text", "another one"], padding=True, return_tensors="np")
nothing = numpy.zeros_like(rows["input_ids"])  # for token types, where the tokenizer makes none
feed = {one.name: rows.get(one.name, nothing).astype(numpy.int64) for one in session.get_inputs()}
print(session.run(None, feed)[0])
```"""
        for kind in ("head", "encoder")
    },
}


def write(job: ExportJob, form: str, agreements: Sequence[Agreement], notes: Sequence[str], versions: Mapping[str, str]) -> str:
    """The text of ``README.md``."""
    return "\n".join(_lines(job, form, agreements, notes, versions)) + "\n"


def _lines(job: ExportJob, form: str, agreements: Sequence[Agreement], notes: Sequence[str], versions: Mapping[str, str]) -> Iterator[str]:
    facts, model = job.facts, job.facts.get("model", {})
    licence = str(model.get("licence") or "")
    yield from ("---", f"license: {licence.lower() or 'unknown'}")
    if model.get("origin") == "hub":
        yield f"base_model: {model['reference']}"
    yield f"library_name: {'onnxruntime' if form == 'onnx' else 'gguf' if form in ('gguf', 'ollama') else 'transformers'}"
    if job.persona is not None:
        yield f"language: {job.persona.language}"
    yield from ("tags: [agentft]", "---", "", f"# {job.name}", "")
    if job.persona is not None:
        yield from (f"{job.persona.summary.rstrip('.')}. Exported by agentft as `{form}`.", "")
    else:
        yield from (f"Exported by agentft as `{form}`.", "")
    yield from ("## Use", "", _USE.get(form, {}).get(job.kind, "See the files."), "")
    for note in notes:
        yield f"- {note}"
    yield from ("", "## Agreement with the agent", "", *_agreement(agreements), "")
    if job.system:
        yield from ("## Persona", "", "Its system prompt, which the chat template has built in:", "")
        yield from (*(f"> {line}" for line in job.system.splitlines()), "")
        if job.persona is not None and job.persona.tools:
            yield from (f"Its tools are in `tools.json`: {', '.join(str(one.get('name', '')) for one in job.persona.tools)}.", "")
    yield from _made_of(facts, model, licence)
    yield from _limits(job, facts)
    if versions:
        yield from ("", "## Versions", "", ", ".join(f"{name} {value}" for name, value in versions.items()))


def _agreement(agreements: Sequence[Agreement]) -> Iterator[str]:
    yield "Read back from these files and compared on held-out rows (KL in nats per position; the same greedy choice):"
    yield ""
    yield "| read with | rows | positions | KL | same choice | same answers | same prompt tokens | largest difference |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in agreements:
        cells = [one.reading, one.probes, one.positions or "", _number(one.kl), _share(one.agreement), _share(one.same_answers)]
        yield f"| {' | '.join(map(str, [*cells, _share(one.prompts), _number(one.difference)]))} |"


def _made_of(facts: Mapping[str, Any], model: Mapping[str, Any], licence: str) -> Iterator[str]:
    yield from ("## Where it comes from", "")
    if model:
        known = f"licence {licence}" if licence else "its licence is not known: look it up before you hand this on"
        yield f"- Base model: `{model['reference']}` (sha256 {model['digest'][:16]}), {known}."
    if "run" in facts:
        version = f", version `{facts['version']}`" if facts.get("version") else ""
        yield f"- Run `{facts['run']}` of the recipe `{facts['recipe']}`{version}; trained with {', '.join(facts['train']) or 'nothing'}."
        data = facts["data"]
        sources = ", ".join(f"{one['name']} ({one['rows']} rows)" for one in data["sources"]) or "none"
        yield f"- Data: {sources}; {', '.join(f'{name} {count}' for name, count in data['splits'].items())}."
        for row in facts["rounds"]:
            yield f"- Round {row['round']}: {row['state']}. {row['sentence'] or ''}".rstrip()
        yield "- Stages: " + ", ".join(f"{one['name']} `{one['key']}`" for one in facts["stages"])
    yield ""
    if facts.get("metrics"):
        yield from ("## Metrics on held-out prompts", "", "| metric | base model | this agent |", "|---|---|---|")
        yield from (f"| {row['name']} | {_number(row.get('base'))} | {_number(row.get('agent'))} |" for row in facts["metrics"])
        yield ""


def _limits(job: ExportJob, facts: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Limits", "")
    if job.kind == "model":
        yield "- It is a language model: it can state what is false, and its persona's rules are learned and not enforced."
        yield "- A caller's system message is read after the persona; what must not happen has to be prevented outside of the model."
    else:
        yield "- It was measured on rows like those that it was trained on; elsewhere it can be worse."
    worse = [row["name"] for row in facts.get("metrics", ()) if row["name"] == "hard-violations" and (row.get("agent") or 0) > 0]
    if worse:
        value = next(row["agent"] for row in facts["metrics"] if row["name"] == "hard-violations")
        yield f"- {value:.1%} of its answers to held-out prompts broke a hard rule of the persona."
    if not facts.get("metrics"):
        yield "- Nothing was measured of this agent but that the export agrees with it."


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, (int, float)) else json.dumps(value)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
