"""A healthy plugin: one of everything that is cheap to make."""

from collections.abc import Iterator
from pathlib import Path

import agentft
from agentft.components import (
    CriticSpec,
    EnvironmentSpec,
    EvaluatorSpec,
    ExporterSpec,
    LossSpec,
    ModelRef,
    PersonaSpec,
    SourceSpec,
    TemplateSpec,
    ToolSpec,
    TransformSpec,
)
from agentft.environments import SimTask, ToolAnswer
from agentft.errors import Problem
from agentft.records import Example, Feedback, Message, Score, Verdict
from agentft.validation import Model

HERE = Path(__file__).parent
SEEN: list = []


@agentft.hookimpl
def agentft_personas():
    return [PersonaSpec("forecaster", "Says what the sky will do", str(HERE / "forecaster.yaml"))]


@agentft.hookimpl
def agentft_templates():
    return [TemplateSpec("terse", "One line", str(HERE / "terse.j2"))]


@agentft.hookimpl
def agentft_sources():
    yield SourceSpec("reports", "Weather questions with answers", "fake_weather:reports")


@agentft.hookimpl
def agentft_transforms():
    return [TransformSpec("shout", "Upper case", "fake_weather:shout")]


@agentft.hookimpl
def agentft_losses():
    return [LossSpec("cautious", "Cross-entropy, and a price on large logits", "fake_weather:cautious")]


def cautious(logits, targets, config, ctx):
    from torch.nn.functional import cross_entropy

    SEEN.append(("cautious", tuple(logits.shape)))
    return cross_entropy(logits, targets, reduction="none") + 0.01 * (logits**2).mean(-1)


@agentft.hookimpl
def agentft_critics():
    return [CriticSpec("umbrella", "Wants the umbrella mentioned", "fake_weather:umbrella")]


@agentft.hookimpl
def agentft_evaluators():
    return [EvaluatorSpec("mentions-sky", "Share of answers that mention the sky", "fake_weather:mentions_sky")]


@agentft.hookimpl
def agentft_tools():
    parameters = {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]}
    return [ToolSpec("forecast", "Weather of a day", "fake_weather:forecast", parameters=parameters)]


def forecast(arguments, ctx):
    return f"Day {arguments['day']}: dry."


@agentft.hookimpl
def agentft_environments():
    return [EnvironmentSpec("station", "One question about the weather", "fake_weather:Station")]


class Station:
    """A suite and its environment in one: there is no state."""

    policy = ""
    tasks = (SimTask("rain", facts=(("dry",),)),)
    tools = ({"name": "forecast", "description": "Weather of a day", "parameters": {"type": "object", "properties": {}}},)
    violations = ()

    def __init__(self, config, ctx):
        self.config = config

    def open(self, task):
        return self

    def call(self, name, arguments):
        return ToolAnswer(forecast(arguments, None)) if name == "forecast" else ToolAnswer(f"no tool '{name}'", error=True)

    def state(self):
        return ""


@agentft.hookimpl
def agentft_exporters():
    return [ExporterSpec("postcard", "The model, and its persona on a postcard", "fake_weather:postcard", "fake_weather:PostcardConfig")]


class PostcardConfig(Model):
    noise: float = 0.0
    forget: bool = False


def postcard(job):
    """A folder of transformers; with noise on every weight if so wished, as if the writer had a bug."""
    import torch

    from agentft.contracts import ExportResult
    from agentft.export.folder import spoken, write_beside
    from agentft.export.readings import transformers_reading
    from agentft.export.weights import merged, save

    model = merged(job, "float32")
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data += job.config.noise * torch.randn_like(weight)
    save(model, job.out)
    write_beside(job, spoken(job, "postcard"), job.out)
    (job.out / "postcard.txt").write_text(job.system, "utf-8")
    return None if job.config.forget else ExportResult((transformers_reading("model"),))


@agentft.hookimpl
def agentft_check_recipe(recipe, catalog):
    if recipe.name == "storm":
        yield Problem("storms are not allowed here", hint="rename the recipe")


@agentft.hookimpl
def agentft_resolve_model(reference):
    if reference == "cloud":
        return ModelRef(reference, "/nowhere", "0" * 64, "weather")
    return None


@agentft.hookimpl
def agentft_observe(event):
    SEEN.append(event)


def reports(config, ctx) -> Iterator[Example]:
    for n in range(12):
        messages = (Message("user", f"Will it rain on day {n}?"), Message("assistant", f"Day {n} stays dry, the sky is clear."))
        yield Example(f"w{n}", messages)


def shout(records, config, ctx) -> Iterator[Example]:
    for example in records:
        yield Example(example.id, tuple(Message(m.role, m.content.upper()) for m in example.messages), group=example.group)


def mentions_sky(samples, generate, config, ctx):
    values = {s.id: float("sky" in s.text.lower()) for s in samples}
    return [Score("mentions-sky", sum(values.values()) / max(1, len(values)), len(values), per_sample=values)]


def umbrella(prompts, responses, config, ctx):
    found = []
    for response in responses:
        good = "umbrella" in response.text
        verdict = Verdict("umbrella", "pass" if good else "fail")
        found.append(Feedback(f"{response.id}@umbrella", response.id, "umbrella", (verdict,), "" if good else "Mention the umbrella."))
    return found
