"""For plugin authors: checks that a plugin keeps its contracts, and stand-ins for what agentft passes to its parts.

A whole test file of a plugin ``weather``::

    from agentft.testing import check_data, check_plugin, load_personas, read_source
    from agentft_weather import plugin

    def test_plugin():
        catalog = check_plugin("weather", plugin)
        check_data(read_source(catalog, "weather/reports"), load_personas(catalog, "weather"))

Every check looks at everything and raises one AssertionError that lists all problems. No model is loaded.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Any

from agentft import jinja
from agentft.catalog import Catalog, Entry
from agentft.contracts import CriticContext, DataContext, EvalContext, Generate
from agentft.data.split import known_prompts, prompt_key
from agentft.errors import AgentftError, MissingDependency
from agentft.host import CONTRIBUTIONS, GROUP, Host
from agentft.labelled import Prediction
from agentft.persona import Persona, resolver, template_path
from agentft.records import Example, Message, Response, Sample, Score
from agentft.render.system import system_prompt
from agentft.testing_labels import check_loss as check_loss
from agentft.testing_labels import fake_predictions as fake_predictions
from agentft.testing_labels import loss_problems, prediction_problems
from agentft.text import near_duplicate_share, words

# What importing plugin.py and calling its contribution hooks must not load: `agentft --help` does both for every plugin.
HEAVY = (
    *("torch", "transformers", "trl", "datasets", "evaluate", "peft", "accelerate", "numpy", "scipy", "sklearn", "matplotlib"),
    *("pydantic", "jinja2", "ruamel.yaml", "rich"),
)


# The plugin


def check_plugin(name: str, module: ModuleType, options: Mapping[str, Mapping[str, Any]] | None = None) -> Catalog:
    """Check everything that a plugin contributes, through a real host.

    Targets and option models can be imported, personas load and render, templates parse, sources yield valid and unique
    rows, evaluators keep their contract (:func:`check_evaluator`; those of predictions for every kind of label that they take), so do
    losses (:func:`check_loss`) and critics, and importing the module loads no heavy library.

    Args:
        name: the entry-point name, which is the plugin's namespace.
        module: the module with the hooks. It need not be installed.
        options: options of parts that have required ones, by bare name; a source without them is not read, an
            evaluator without them not called. Nor is an evaluator that ``requires`` further distributions: test it yourself.

    Returns: the catalog with the plugin's parts and the built-in ones.
    """
    catalog = plugin_catalog(name, module)
    problems = [f"catalog: {problem}" for problem in catalog.problems] + _heavy_imports(module)
    rows: list[Example] = []
    evaluators: list[tuple[Entry, Any]] = []
    critics: list[tuple[Entry, Any]] = []
    for kind in (spec.kind for spec in CONTRIBUTIONS.values()):
        for entry in (entry for entry in catalog.entries(kind) if entry.plugin.name == name and not entry.spec.replaces):
            try:
                if kind == "persona":
                    problems += _persona_problems(entry, catalog)
                elif kind == "template":
                    found = jinja.syntax_errors(catalog.path(entry).read_text("utf-8"))
                    problems += [f"template {entry.name}: {problem}" for problem in found]
                else:
                    catalog.target(entry)
                    usable, config = _config(catalog, entry, (options or {}).get(entry.spec.name))
                    if kind == "source" and usable:
                        examples = list(catalog.target(entry)(config, DataContext()))
                        rows += examples[:: max(1, len(examples) // 8)]
                        problems += [f"source {entry.name}: {problem}" for problem in _row_problems(examples, entry)]
                    elif kind == "evaluator" and usable and not entry.spec.requires:  # type: ignore[attr-defined]
                        evaluators.append((entry, config))
                    elif kind == "critic" and usable and not entry.spec.requires:  # type: ignore[attr-defined]
                        critics.append((entry, config))
                    elif kind == "loss" and usable and not entry.spec.requires:  # type: ignore[attr-defined]
                        found = loss_problems(catalog.target(entry), entry.spec.consumes, config)  # type: ignore[attr-defined]
                        problems += [f"loss {entry.name}: {problem}" for problem in found]
            except AgentftError as error:
                problems.append(f"{kind} {entry.name}: {error}")
    for language in sorted({persona.language for persona in load_personas(catalog, name).values()} or {"en"}):
        persona = next((one for one in load_personas(catalog, name).values() if one.language == language), language)
        for entry, config in evaluators:
            found = _evaluator_problems(entry, catalog.target(entry), eval_context(persona), config, rows)
            problems += [f"evaluator {entry.name} ({language}): {problem}" for problem in found]
        for entry, config in critics:
            found = critic_problems(catalog.target(entry), config, eval_context(persona).persona, _contract_samples(rows, entry))
            problems += [f"critic {entry.name} ({language}): {problem}" for problem in found]
    _raise(problems)
    return catalog


def critic_problems(critic: Callable[..., Any], config: Any, persona: Persona, samples: Sequence[Sample]) -> list[str]:
    """How a critic breaks its contract: one feedback per response in their order, an error for a failed generation, known verdicts,
    words for what fails, the same again when asked again."""
    prompts = [sample.prompt for sample in samples]
    responses = [*(sample.response for sample in samples[:-1]), Response("failed", "", "error", 0, "gone")] if samples else []
    ctx = CriticContext(persona, persona.language)
    try:
        found, again = (list(critic(prompts, responses, config, ctx)) for _ in range(2))
    except Exception as error:
        return [f"raises {type(error).__name__}: {error}"]
    if [one.response for one in found] != [one.id for one in responses]:
        return [f"gives {len(found)} feedbacks for {len(responses)} responses, or not in their order"]
    problems = ["differs when it is asked again"] if [one.to_dict() for one in found] != [one.to_dict() for one in again] else []
    if found and not found[-1].error:
        problems.append("judges a response that could not be generated; give a Feedback with error")
    for one in found:
        for verdict in one.verdicts:
            if verdict.verdict not in ("pass", "fail", "n.a.", "unscored") or verdict.severity not in ("hard", "soft"):
                problems.append(f"item '{verdict.item}' has verdict '{verdict.verdict}', severity '{verdict.severity}'")
        if any(verdict.verdict == "fail" for verdict in one.verdicts) and not one.critique:
            problems.append(f"fails {one.response} without saying why in words (critique)")
        json.dumps(one.to_dict())
    return list(dict.fromkeys(problems))


def plugin_catalog(name: str, module: ModuleType) -> Catalog:
    """The parts of this plugin and the built-in ones; other installed plugins are left out. A broken plugin raises."""
    installed = [ep for ep in metadata.entry_points(group=GROUP) if ep.name == name]
    assert all(ep.value == module.__name__ for ep in installed), f"another plugin '{name}' is installed: {installed[0].value}"
    if installed:
        return Host(allow=[name], strict=True).catalog
    return Host(allow=(), strict=True, extra=[(name, module)]).catalog


def load_personas(catalog: Catalog, plugin: str) -> dict[str, Persona]:
    """Bare name -> persona, with the default values of its variables, for every persona of a plugin that loads."""
    entries = [entry for entry in catalog.entries("persona") if entry.plugin.name == plugin]
    personas: dict[str, Persona] = {}
    for entry in entries:
        try:
            personas[entry.spec.name] = Persona.load(catalog.path(entry), resolve=resolver(catalog))
        except AgentftError:
            continue  # check_plugin reports it
    return personas


def read_source(
    catalog: Catalog, name: str, options: Mapping[str, Any] | None = None, persona: Persona | None = None, ctx: DataContext | None = None
) -> list[Example]:
    """The rows of a source, called as a recipe would call it; ``name`` as in a recipe, ``plugin/source``."""
    entry = catalog.get("source", name)
    model = catalog.config_model(entry)
    return list(catalog.target(entry)(model.model_validate(dict(options or {})) if model else None, ctx or DataContext(persona=persona)))


def _persona_problems(entry: Entry, catalog: Catalog) -> list[str]:
    persona = Persona.load(catalog.path(entry), resolve=resolver(catalog))
    where, spec = f"persona {entry.name}", entry.spec
    problems = [f"{where}: the file calls itself '{persona.name}'"] if persona.name != spec.name else []
    if persona.language != spec.language:  # type: ignore[attr-defined]
        problems.append(f"{where}: the file has language {persona.language}, the descriptor {spec.language}")  # type: ignore[attr-defined]
    if not system_prompt(persona, template_path(persona, catalog).read_text("utf-8")):
        problems.append(f"{where}: the system prompt is empty")
    return problems


def _config(catalog: Catalog, entry: Entry, options: Mapping[str, Any] | None) -> tuple[bool, Any]:
    """Whether the part can be called with what is known, and its options."""
    model = catalog.config_model(entry)
    if model is None:
        return True, None
    if options is None and any(one.is_required() for one in model.model_fields.values()):
        return False, None
    return True, model.model_validate(dict(options or {}))


def _row_problems(examples: Sequence[Any], entry: Entry) -> list[str]:
    if not examples:
        return ["no rows"]
    if wrong := next((row for row in examples if not isinstance(row, Example)), None):
        return [f"yields {type(wrong).__name__}, expected Example"]
    problems = [f"{count} rows have the id '{key}'" for key, count in Counter(row.id for row in examples).items() if count > 1]
    for row in examples:
        last = row.messages[-1].role if row.messages else "nobody"
        if entry.spec.produces == "prompt" and last != "user":  # type: ignore[attr-defined]
            problems.append(f"{row.id}: a prompt ends with the user, this one with {last}")
        if entry.spec.produces == "example" and not any(m.supervised and m.content.strip() for m in row.messages):  # type: ignore[attr-defined]
            problems.append(f"{row.id}: no answer to learn from")
        if Example.from_dict(json.loads(json.dumps(row.to_dict()))).to_dict() != row.to_dict():
            problems.append(f"{row.id}: does not survive being written as JSON")
    return problems


def _heavy_imports(module: ModuleType) -> list[str]:
    code = (
        "import importlib, json, sys\n"
        "module = importlib.import_module(sys.argv[1])\n"
        "for hook in json.loads(sys.argv[2]):\n"
        "    list(getattr(module, hook, tuple)())\n"
        "print(json.dumps([name for name in json.loads(sys.argv[3]) if name in sys.modules]))"
    )
    arguments = [module.__name__, json.dumps(list(CONTRIBUTIONS)), json.dumps(HEAVY)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return [f"import of {module.__name__} in a fresh process failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"]
    return [
        f"importing {module.__name__} loads {name}: move the import into the function that needs it" for name in json.loads(done.stdout)
    ]


# Data


@dataclass
class DataFacts:
    """What :func:`check_data` counted; compare it with what the README says.

    Attributes:
        several_turns: rows with more than one user message.
        personas, languages: rows by ``meta.persona`` and ``meta.language``.
        verdicts, passed: checklist items that applied to an answer, and those of them that passed.
        failures: ``id: item: evidence`` of the others.
        near_duplicates: share of near duplicates among the ``user`` messages and among the ``assistant`` messages.
    """

    rows: int = 0
    several_turns: int = 0
    answers: int = 0
    personas: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    verdicts: int = 0
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    near_duplicates: dict[str, float] = field(default_factory=dict)


def check_data(
    examples: Sequence[Example],
    personas: Persona | Mapping[str, Persona] | None = None,
    *,
    min_passed: float = 0.97,
    max_near_duplicates: float = 0.05,
) -> DataFacts:
    """Check demonstrations: form, unique ids, near duplicates, and every answer against the checklist of its persona.

    Args:
        personas: one persona for all rows, or by the name in ``meta.persona``; None = the checklist is not looked at.
        min_passed: least share of applicable checklist items that pass. A hard item may never fail.
    """
    facts = DataFacts(rows=len(examples))
    problems = [f"{count} rows have the id '{key}'" for key, count in Counter(row.id for row in examples).items() if count > 1]
    for row in examples:
        problems += [f"{row.id}: {problem}" for problem in _conversation_problems(row)]
        facts.several_turns += sum(message.role == "user" for message in row.messages) > 1
        facts.personas[str(row.meta.get("persona"))] += 1
        facts.languages[str(row.meta.get("language"))] += 1
        persona = personas.get(str(row.meta.get("persona"))) if isinstance(personas, Mapping) else personas
        if personas is not None and persona is None:
            problems.append(f"{row.id}: there is no persona '{row.meta.get('persona')}'")
        for index, message in enumerate(row.messages):
            if message.supervised:
                facts.answers += 1
                if persona is not None:
                    problems += _judge(persona, row, index, facts)
    if facts.passed < min_passed * facts.verdicts:
        problems += [f"only {facts.passed} of {facts.verdicts} checklist items pass", *facts.failures[:20]]
    for role in ("user", "assistant"):
        share = near_duplicate_share([m.content for row in examples for m in row.messages if m.role == role])
        facts.near_duplicates[role] = share
        if share > max_near_duplicates:
            problems.append(f"{share:.1%} of the {role} messages are near duplicates of another one")
    _raise(problems)
    return facts


def check_prompts(prompts: Sequence[Example], demonstrations: Sequence[Example]) -> None:
    """Check that no prompt is, word for word, one that a demonstration answers, and that ids and groups are apart."""
    known = known_prompts(demonstrations)
    problems = [f"{prompt.id}: a demonstration answers this prompt" for prompt in prompts if prompt_key(prompt) in known]
    for what, value in (("id", lambda row: row.id), ("group", lambda row: row.group_key)):
        shared = {value(row) for row in prompts} & {value(row) for row in demonstrations}
        problems += [f"the {what} '{one}' is used by prompts and by demonstrations" for one in sorted(shared)]
    _raise(problems)


def _conversation_problems(row: Example) -> list[str]:
    roles = [message.role for message in row.messages]
    problems = [] if roles and roles[-1] == "assistant" else ["a demonstration ends with the assistant"]
    if any(role != ("user", "assistant")[index % 2] for index, role in enumerate(roles)):
        problems.append(f"roles must alternate from user: {', '.join(roles)}")
    return problems + ["a message is empty" for message in row.messages if not message.content.strip()]


def _judge(persona: Persona, row: Example, index: int, facts: DataFacts) -> list[str]:
    """Count the verdicts on one answer; returns the hard items that it breaks."""
    asked = Example(row.id, row.messages[:index], row.tools, row.group, row.meta)
    decided = [v for v in persona.check_message(row.messages[index], asked) if v.verdict in ("pass", "fail")]
    failed = [v for v in decided if v.verdict == "fail"]
    facts.verdicts += len(decided)
    facts.passed += len(decided) - len(failed)
    facts.failures += [f"{row.id}: {v.item}: {v.evidence}" for v in failed]
    return [f"{row.id}: breaks the hard item {v.item}: {v.evidence}" for v in failed if v.severity == "hard"]


# Evaluators


def fake_samples(rows: Iterable[tuple[Any, ...]]) -> list[Sample]:
    """Samples ``s1``, ``s2`` ... from ``(question, answer)`` or ``(question, answer, meta)``.

    A question may be a list of messages' texts, user first; an answer of None is a failed generation; ``meta["reference"]``
    becomes the demonstrated answer.
    """
    samples = []
    for number, (question, answer, *rest) in enumerate(rows, 1):
        meta = dict(rest[0]) if rest else {}
        texts = [question] if isinstance(question, str) else question
        messages = tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))
        reference, prompt = meta.pop("reference", None), Example(f"s{number}", messages, meta=meta)
        failed = Response(prompt.id, "", "error", error="no answer")
        samples.append(Sample(prompt, failed if answer is None else Response(prompt.id, answer, tokens=len(words(answer))), reference))
    return samples


def fake_generate(answer: str | Callable[[Example], str] = "I see.") -> Generate:
    """An evaluator's second argument: answers every prompt with a text, or with what a function of the prompt says."""
    return lambda prompts: [Response(p.id, answer if isinstance(answer, str) else answer(p)) for p in prompts]


def eval_context(persona: Persona | str = "en", examples: Sequence[Example] = ()) -> EvalContext:
    """A context with a persona, or a language for which an empty one is made. Log-probabilities are -1 a word."""
    if isinstance(persona, str):
        persona = Persona(name="anybody", summary="Nobody in particular", language=persona, role="You answer.")  # type: ignore[arg-type]

    def logprobs(rows: Sequence[Example]) -> list[tuple[float, int]]:
        counts = [sum(len(words(m.content)) for m in row.messages if m.supervised) for row in rows]
        return [(-float(count), count) for count in counts]

    return EvalContext(persona, persona.language, examples=examples, logprobs=logprobs)


def check_evaluator(
    evaluator: Callable[..., Any], ctx: EvalContext, samples: Sequence[Sample | Prediction], config: Any = None
) -> list[Score]:
    """Check an evaluator's contract on samples or predictions (:func:`fake_predictions`), and on none; returns its scores.

    Scores have names of their own and a known direction, speak only of the given samples, leave a failed generation unscored
    (NaN or absent, never 0), can be written as JSON, say in one line what they measure, and come out the same twice.
    """
    _raise(_contract_problems(evaluator, ctx, config, samples))
    return list(evaluator(samples, fake_generate(), config, ctx))


def _evaluator_problems(entry: Entry, evaluator: Callable[..., Any], ctx: EvalContext, config: Any, rows: Sequence[Example]) -> list[str]:
    if entry.spec.consumes == "prediction":  # type: ignore[attr-defined]

        def problems_of(samples: Sequence[Any]) -> list[str]:
            return _contract_problems(evaluator, ctx, config, samples)

        def call(samples: Sequence[Any]) -> Any:
            try:
                return evaluator(samples, fake_generate(), config, ctx)
            except MissingDependency:
                return []

        return prediction_problems(problems_of, call)
    return _contract_problems(evaluator, ctx, config, _contract_samples(rows, entry))


def _contract_problems(evaluator: Callable[..., Any], ctx: EvalContext, config: Any, samples: Sequence[Sample | Prediction]) -> list[str]:
    try:
        evaluator([], fake_generate(), config, ctx)
        scores = evaluator(samples, fake_generate(), config, ctx)
        again = evaluator(samples, fake_generate(), config, ctx)
    except MissingDependency:
        return []  # an optional package is absent, and the part says which
    except Exception as error:
        return [f"raises {type(error).__name__}: {error}"]
    if not isinstance(scores, list) or not all(isinstance(score, Score) for score in scores):
        return [f"returns {type(scores).__name__}, expected a list of Score"]
    problems = [f"two scores are called '{name}'" for name, count in Counter(s.name for s in scores).items() if count > 1]
    known, predicted = {s.id for s in samples}, any(isinstance(s, Prediction) for s in samples)
    failed = {s.id for s in samples if (s.label is None if isinstance(s, Prediction) else s.response.finish == "error")}
    for score in scores:
        if score.direction not in ("higher", "lower", "none"):
            problems.append(f"{score.name}: direction '{score.direction}' is not higher, lower or none")
        if unknown := set(score.per_sample) - known:
            problems.append(f"{score.name}: scores '{min(unknown)}', which is no sample")
        if zero := {key for key in failed & set(score.per_sample) if not math.isnan(score.per_sample[key])}:
            problems.append(f"{score.name}: gives the failed {'prediction' if predicted else 'generation'} '{min(zero)}' a number")
        if not score.summary or "\n" in score.summary:
            problems.append(f"{score.name}: needs a summary of one line")
    try:
        if [_json(score) for score in scores] != [_json(score) for score in again]:
            problems.append("a second call gives other scores; take randomness from ctx.seed")
    except (TypeError, ValueError) as error:
        problems.append(f"scores cannot be written as JSON: {error}")
    return problems


def _json(score: Score) -> str:
    return json.dumps(score.to_dict(), allow_nan=False, sort_keys=True)


def _contract_samples(rows: Sequence[Example], entry: Entry) -> list[Sample]:
    """The plugin's own rows answered as demonstrated, with nothing, and not at all; and a prompt without any meta."""
    asked = [row.as_prompt() for row in {row.id: row for row in rows}.values() if row.messages]
    samples = [Sample(prompt, Response(prompt.id, reference or prompt.last_user), reference) for prompt, reference in asked]
    bare = Example("bare", (Message("user", "Hello?"),))
    samples += [Sample(bare, Response("bare", "Good morning. How are you?"), "Hello there.")]
    first = samples[0].prompt
    for key, response in (("empty", Response("empty", "")), ("failed", Response("failed", "", "error", error="out of memory"))):
        prompt = Example(key, first.messages, meta=first.meta)
        samples.append(Sample(prompt, response, "Hello there."))
    wants_reference = entry.spec.consumes == "reference"  # type: ignore[attr-defined]
    return [sample for sample in samples if sample.reference is not None or not wants_reference]


def _raise(problems: Sequence[str]) -> None:
    if problems:
        shown = list(dict.fromkeys(problems))
        more = [f"... and {len(shown) - 40} more"] if len(shown) > 40 else []
        raise AssertionError("\n".join([f"{len(shown)} problems:", *shown[:40], *more]))
