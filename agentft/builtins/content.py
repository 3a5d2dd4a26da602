"""Built-in personas and templates: neutral ones that belong to no domain."""

from __future__ import annotations

from agentft.builtins import shipped
from agentft.components import PersonaSpec, TemplateSpec
from agentft.hookspecs import hookimpl


@hookimpl
def agentft_personas() -> list[PersonaSpec]:
    return [
        PersonaSpec("assistant", "A concise and honest assistant", shipped("personas", "assistant.yaml")),
        PersonaSpec("assistant-zh", "简洁、诚实的中文助手", shipped("personas", "assistant-zh.yaml"), language="zh"),
    ]


_FEEDBACK = {
    "critique": "How a judge holds an answer against the checklist",
    "refine": "How an answer is revised after feedback",
    "judge-pair": "How a judge compares two answers",
    "synthesise": "How a model is asked for a new message of a user",
    "simulated-user": "How a model plays a user in a simulation",
}
_LANGUAGES = (("", ", in English"), ("-zh", ", in Chinese"))


@hookimpl
def agentft_templates() -> list[TemplateSpec]:
    return [
        TemplateSpec("system", "System prompt in English", shipped("templates", "system.j2")),
        TemplateSpec("system-zh", "System prompt in Chinese", shipped("templates", "system-zh.j2")),
        *(
            TemplateSpec(name + end, summary + words, shipped("templates", f"{name.replace('-', '_')}{end}.j2"))
            for name, summary in _FEEDBACK.items()
            for end, words in _LANGUAGES
        ),
    ]
