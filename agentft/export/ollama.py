"""``--to ollama``: a GGUF file and a Modelfile, for ``ollama create NAME -f Modelfile``.

Ollama reads a conversation through a Go template of its own and not through the chat template. The families below are known in both
forms; which one a model belongs to is found out by rendering the same conversations both ways and comparing the texts, so a template is
only written where it says exactly what the model was taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentft.contracts import ExportJob, ExportResult
from agentft.errors import DataError
from agentft.export import gguf
from agentft.export.folder import Spoken, spoken, write_facts
from agentft.export.go_template import render
from agentft.records import Example, Message

if TYPE_CHECKING:
    from agentft.render.conversation import Renderer

# Every message in its frame; an answer that is still to come has no end yet. In Ollama's terms: .Messages with the system message first.
_EACH = """\
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
"""
FAMILIES = {
    "chatml": _EACH
    + """\
{{- "<|im_start|>" }}{{ .Role }}
{{ .Content }}{{ "<|im_end|>" }}
{{ if and $last (ne .Role "assistant") }}{{ "<|im_start|>assistant" }}
{{ end }}
{{- end }}""",
    "llama3": _EACH
    + """\
{{- "<|start_header_id|>" }}{{ .Role }}{{ "<|end_header_id|>" }}

{{ .Content }}{{ "<|eot_id|>" }}
{{- if and $last (ne .Role "assistant") }}{{ "<|start_header_id|>assistant<|end_header_id|>" }}

{{ end }}
{{- end }}""",
    "llama3.1": _EACH
    + """\
{{- "<|start_header_id|>" }}{{ .Role }}{{ "<|end_header_id|>" }}

{{ if eq .Role "system" }}{{ "Cutting Knowledge Date: December 2023" }}
{{ "Today Date: 26 Jul 2024" }}

{{ end }}{{ .Content }}{{ "<|eot_id|>" }}
{{- if and $last (ne .Role "assistant") }}{{ "<|start_header_id|>assistant<|end_header_id|>" }}

{{ end }}
{{- end }}""",
    "phi3": _EACH
    + """\
{{- "<|" }}{{ .Role }}{{ "|>" }}
{{ .Content }}{{ "<|end|>" }}
{{ if and $last (ne .Role "assistant") }}{{ "<|assistant|>" }}
{{ end }}
{{- end }}""",
    "zephyr": _EACH
    + """\
{{- "<|" }}{{ .Role }}{{ "|>" }}
{{ .Content }}{{ "</s>" }}
{{ if and $last (ne .Role "assistant") }}{{ "<|assistant|>" }}
{{ end }}
{{- end }}""",
    # No system role: the persona stands above the first message of the user.
    "gemma": _EACH
    + """\
{{- if eq .Role "user" }}{{ "<start_of_turn>user" }}
{{ if and (eq $i 1) $.System }}{{ $.System }}

{{ end }}{{ .Content }}{{ "<end_of_turn>" }}
{{ else if eq .Role "assistant" }}{{ "<start_of_turn>model" }}
{{ .Content }}{{ "<end_of_turn>" }}
{{ end }}
{{- if and $last (ne .Role "assistant") }}{{ "<start_of_turn>model" }}
{{ end }}
{{- end }}""",
}

PROBES = (
    (Message("user", "Where is my parcel?"),),
    (Message("user", "我的包裹在哪里？"), Message("assistant", "您的包裹明天送达。"), Message("user", "Thanks!")),
    tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(("One", "Two\n\nthree", "Four", "Five", "6"))),
)


def estimate(job: ExportJob) -> int:
    """Bytes of the GGUF file."""
    return gguf.estimate(job)


def export(job: ExportJob) -> ExportResult:
    """See :data:`agentft.contracts.ExportJob`.

    Raises:
        DataError: Ollama's template of the model's family is not known.
    """
    how = spoken(job, "ollama")
    family = family_of(_renderer(job))
    file = gguf.written(job, how)
    write_facts(gguf.single(how).facts, job.out)
    (job.out / "Modelfile").write_text(modelfile(job, how, file.name, family), "utf-8")
    found = gguf.result(job)
    notes = (
        f"Ollama's template is that of the family '{family}': on conversations of one to three turns it gives the chat template's text.",
        "In Ollama a caller's own system message replaces the persona (SYSTEM); with the chat template in the GGUF file it follows it.",
    )
    return ExportResult(found.readings, found.tolerance, (*found.notes, *notes), found.warnings)


def family_of(renderer: Renderer) -> str:
    """The family whose Go template gives the same texts as the renderer's chat template.

    Raises:
        DataError: there is none.
    """
    wanted = [_without_bos(renderer, renderer.prompt(Example("probe", probe)).text) for probe in PROBES]
    for name, template in FAMILIES.items():
        made = [render(template, conversation(renderer.shown_system, probe)) for probe in PROBES]
        if made == wanted:
            return name
    if renderer.tools and renderer.tool_mode == "template":
        raise DataError("the chat template shows the persona's tools, which none of Ollama's templates known here does; use --to gguf")
    raise DataError(
        f"agentft knows Ollama's template of the families {', '.join(FAMILIES)}, and this model's chat template is none of them; "
        "use --to gguf and write a Modelfile for it"
    )


def conversation(system: str, messages: Sequence[Message]) -> dict[str, Any]:
    """What Ollama gives to a template: SYSTEM of the Modelfile first, then the messages."""
    rows = [{"Role": "system", "Content": system}] if system else []
    return {"System": system, "Messages": rows + [{"Role": one.role, "Content": one.content} for one in messages]}


def modelfile(job: ExportJob, how: Spoken, file: str, family: str) -> str:
    """The text of the Modelfile."""
    added = how.tokenizer.added_tokens_decoder
    lines = [f"# {job.name}, exported by agentft. Use: ollama create {job.name} -f Modelfile", f"FROM ./{file}"]
    lines.append(f"TEMPLATE {_quoted(FAMILIES[family])}")
    if shown := _renderer(job).shown_system:
        lines.append(f"SYSTEM {_quoted(shown)}")
    for index in how.stops:
        text = added[index].content if index in added else how.tokenizer.convert_ids_to_tokens(index)
        lines.append(f'PARAMETER stop "{text}"')
    lines.append(f"PARAMETER temperature {job.settings.temperature:g}")
    if job.settings.temperature:
        lines.append(f"PARAMETER top_p {job.settings.top_p:g}")
    else:
        lines.append("PARAMETER repeat_penalty 1.0")  # Ollama's own default changes greedy answers
    lines += [f"MESSAGE {one['role']} {_quoted(one['content'])}" for one in how.shots]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A text of several lines in a Modelfile; three quotes in a row would end it."""
    if '"""' in text:
        raise DataError('a Modelfile cannot hold three quotes in a row ("""); take them out of the persona')
    return f'"""{text}"""'


def _renderer(job: ExportJob) -> Renderer:
    from agentft.engine.models import load_tokenizer
    from agentft.render.conversation import Renderer

    tools = job.persona.schemas if job.persona is not None else ()
    return Renderer(load_tokenizer(job.model), job.system, tools=tools)


def _without_bos(renderer: Renderer, text: str) -> str:
    """llama.cpp, which Ollama runs, puts the BOS token in front by itself where the tokenizer does."""
    tokenizer = renderer.tokenizer
    bos = tokenizer.bos_token
    added = bos and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(bos) if added else text
