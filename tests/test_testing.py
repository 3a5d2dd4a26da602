"""The checks for plugin authors find the faults that they are for."""

from __future__ import annotations

import importlib
import itertools
import math
import sys
from pathlib import Path

import pytest

from agentft.evaluate.common import sample_score
from agentft.persona import Persona
from agentft.records import Example, Message, Score
from agentft.testing import (
    check_data,
    check_evaluator,
    check_plugin,
    check_prompts,
    eval_context,
    fake_generate,
    fake_samples,
    load_personas,
    read_source,
)

HOOKS = """
import agentft
from agentft.components import EvaluatorSpec, PersonaSpec, SourceSpec, TemplateSpec

@agentft.hookimpl
def agentft_personas():
    return [PersonaSpec("guide", "A guide", __file__.replace("plugin.py", "guide.yaml"))]

@agentft.hookimpl
def agentft_templates():
    return [TemplateSpec("plain", "One line", __file__.replace("plugin.py", "plain.j2"))]

@agentft.hookimpl
def agentft_sources():
    return [SourceSpec("tours", "Tours", "PARTS:tours"), SourceSpec("files", "Needs a path", "PARTS:files", "PARTS:Config")]

@agentft.hookimpl
def agentft_evaluators():
    return [EvaluatorSpec("asks", "Answers that ask", "PARTS:asks")]
"""
PARTS = """
from pydantic import BaseModel
from agentft.evaluate.common import sample_score
from agentft.records import Example, Message

class Config(BaseModel):
    path: str

def tours(config, ctx):
    for n in range(3):
        yield Example(f"t{n}", (Message("user", f"Where is gate {n}?"), Message("assistant", f"Gate {n} is left of the fountain.")))

def files(config, ctx):
    yield Example(config.path, (Message("user", "?"), Message("assistant", "!")))

def asks(samples, generate, config, ctx):
    return [sample_score("asks", samples, lambda s: "?" in s.text, ctx, summary="answers with a question mark")]
"""
PERSONA = """
name: guide
summary: A guide
language: en
role: You guide visitors.
template: tours/plain
policies:
  - {id: short, text: Be short., severity: hard, rule: {words: {max: 12}}}
  - {id: left, text: Say left., rule: {regex: left}}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Writes the plugin ``tours`` with some texts replaced, imports and returns its module."""
    package = "tours_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    files = {
        "plugin.py": HOOKS.replace("PARTS", f"{package}.parts"),
        "parts.py": PARTS,
        "guide.yaml": PERSONA,
        "plain.j2": "{{ role }}",
        "__init__.py": "",
    }

    def make(*changes: tuple[str, str, str]):
        (tmp_path / package).mkdir()
        for name, old, new in changes:
            assert old in files[name]
            files[name] = files[name].replace(old, new)
        for name, text in files.items():
            (tmp_path / package / name).write_text(text, "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        return importlib.import_module(f"{package}.plugin")

    yield make
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


def test_a_sound_plugin(plugin):
    module = plugin()
    catalog = check_plugin("tours", module, options={"files": {"path": "x"}})
    assert read_source(catalog, "tours/tours")[1].id == "t1"
    assert read_source(catalog, "tours/files", {"path": "y"})[0].id == "y"
    check_plugin("tours", module)  # a source that needs options which nobody gave is not read


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("plugin.py", "import agentft\n", "import agentft, numpy\n", "loads numpy: move the import"),
        ("plugin.py", ":asks", ":ask", "evaluator tours/asks: .*cannot import"),
        ("plugin.py", '"guide.yaml"', '"gone.yaml"', "persona tours/guide: the file .*gone.yaml does not exist"),
        ("guide.yaml", "name: guide", "name: scout", "calls itself 'scout'"),
        ("guide.yaml", "language: en", "language: zh", "the file has language zh, the descriptor en"),
        ("guide.yaml", "words: {max: 12}", "word: {max: 12}", "unknown rule 'word'"),
        ("guide.yaml", "tours/plain", "tours/gone", "no template 'tours/gone'"),
        ("plain.j2", "{{ role }}", "{{ role", "template tours/plain: "),
        ("plain.j2", "{{ role }}", "{{ rule }}", "the variable 'rule' is not defined"),
        ("parts.py", 'f"t{n}"', '"t"', "3 rows have the id 't'"),
        ("parts.py", "range(3)", "range(0)", "source tours/tours: no rows"),
        ("parts.py", ', Message("assistant", f"Gate {n} is left of the fountain.")', ",", "no answer to learn from"),
        ("parts.py", 'lambda s: "?" in s.text', 'lambda s: s.prompt.meta["gate"]', "evaluator tours/asks .en.: raises KeyError"),
    ],
)
def test_faults_of_a_plugin(plugin, file, old, new, message):
    module = plugin((file, old, new))
    with pytest.raises(AssertionError, match=message):
        check_plugin("tours", module)


def test_all_faults_are_listed_at_once(plugin):
    module = plugin(("parts.py", 'f"t{n}"', '"t"'), ("guide.yaml", "name: guide", "name: scout"))
    with pytest.raises(AssertionError, match=r"(?s)problems.*scout.*3 rows"):
        check_plugin("tours", module)


def talk(key, *texts, **meta):
    return Example(key, tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)), meta=meta)


@pytest.fixture
def guide(plugin) -> Persona:
    from agentft.testing import plugin_catalog

    return load_personas(plugin_catalog("tours", plugin()), "tours")["guide"]


def test_facts_of_good_data(guide):
    rows = [
        talk("a", "Where is the exit?", "It is on the left.", persona="guide"),
        talk("b", "Toilets?", "Left.", "And food?", "Also left, by the gate."),
    ]
    facts = check_data(rows, guide)
    assert (facts.rows, facts.several_turns, facts.answers, facts.verdicts, facts.passed) == (2, 1, 3, 6, 6)
    assert facts.near_duplicates == {"user": 0, "assistant": 0} and facts.personas == {"guide": 1, "None": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([talk("a", "Hi", "Left."), talk("a", "Ho", "It is left.")], "2 rows have the id 'a'"),
        ([talk("a", "Where?")], "ends with the assistant"),
        ([Example("a", (Message("system", "Be nice"), Message("user", "Where?"), Message("assistant", "Left.")))], "roles must alternate"),
        ([talk("a", "Where?", "Left.", " ", "Left there.")], "a message is empty"),
        ([talk("a", "Where?", "left " * 13)], "breaks the hard item short: 13 words"),
        ([talk("a", "Where is it?", "Right.")], "(?s)only 1 of 2 checklist items pass.*a: left: nothing matches"),
        (
            [talk(key, "Where is the big fountain?", f"It is left of gate {key}.") for key in "abc"],
            "100.0% of the user messages are near duplicates",
        ),
    ],
)
def test_faults_of_data(guide, rows, message):
    with pytest.raises(AssertionError, match=message):
        check_data(rows, guide)


def test_rows_of_an_unknown_persona(guide):
    with pytest.raises(AssertionError, match="there is no persona 'scout'"):
        check_data([talk("a", "Where?", "Left.", persona="scout")], {"guide": guide})


def test_prompts_that_are_answered():
    known = [talk("a", "Where is it?", "Left.", "And now?", "Left again.")]
    check_prompts([talk("p", "Where is the lion?")], known)
    with pytest.raises(AssertionError, match="p: a demonstration answers"):
        check_prompts([talk("p", "where  is IT?")], known)
    with pytest.raises(AssertionError, match="the id 'a' is used by prompts and by demonstrations"):
        check_prompts([talk("a", "Hello?")], known)


def test_fake_samples():
    good, failed, later = fake_samples(
        [("Hi", "Hello there", {"reference": "Hello", "escalate": True}), ("Hi", None), (["Hi", "Hello", "Bye"], "See you")]
    )
    assert good.reference == "Hello" and good.prompt.meta == {"escalate": True} and good.response.tokens == 2
    assert failed.response.finish == "error" and failed.reference is None
    assert [m.role for m in later.prompt.messages] == ["user", "assistant", "user"] and later.id == "s3"


def test_fake_generate():
    prompts = [talk("a", "Hi"), talk("b", "Bye")]
    assert [r.text for r in fake_generate(lambda p: p.last_user.upper())(prompts)] == ["HI", "BYE"]
    assert [r.id for r in fake_generate("x")(prompts)] == ["a", "b"]


def test_eval_context():
    context = eval_context("zh")
    assert context.language == context.persona.language == "zh"
    assert context.logprobs([talk("a", "Hi", "one two three")]) == [(-3.0, 3)]


COUNTER = itertools.count()
SAMPLES = fake_samples([("Hi", "Hello?"), ("Hi", "Hello."), ("Hi", None)])


def one(**changes):
    fields = {"name": "m", "value": 0.5, "n": 2, "per_sample": {"s1": 1.0, "s2": 0.0, "s3": math.nan}, "summary": "what it is"}
    return Score(**{**fields, **changes})


def test_a_sound_evaluator():
    (score,) = check_evaluator(
        lambda samples, generate, config, ctx: [sample_score("asks", samples, lambda s: "?" in s.text, ctx, summary="asks")],
        eval_context(),
        SAMPLES,
    )
    assert score.value == 0.5 and score.unscored == 1


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (lambda *_: one(), "returns Score, expected a list"),
        (lambda *_: [one(), one()], "two scores are called 'm'"),
        (lambda *_: [one(direction="up")], "direction 'up'"),
        (lambda *_: [one(per_sample={"s9": 1.0})], "scores 's9', which is no sample"),
        (lambda *_: [one(per_sample={"s3": 0.0})], "gives the failed generation 's3' a number"),
        (lambda *_: [one(summary="")], "needs a summary"),
        (lambda *_: [one(details={"s1": object()})], "cannot be written as JSON"),
        (lambda samples, *_: [one(value=sum(s.response.tokens for s in samples) / len(samples))], "raises ZeroDivisionError"),
        (lambda *_: [one(value=float(next(COUNTER)))], "a second call gives other scores"),
    ],
)
def test_faults_of_an_evaluator(evaluator, message):
    with pytest.raises(AssertionError, match=message):
        check_evaluator(evaluator, eval_context(), SAMPLES)


def test_a_critic_that_breaks_its_contract_is_told_how():
    from agentft.persona import Persona
    from agentft.records import Feedback, Response, Sample, Verdict
    from agentft.testing import critic_problems

    persona = Persona.from_dict({"name": "x", "summary": "x", "language": "en", "role": "x"})
    samples = [Sample(Example(f"p{n}", (Message("user", "?"),)), Response(f"p{n}", "yes")) for n in range(3)]

    def shuffled(prompts, responses, config, ctx):
        return [Feedback(one.id, one.id, "x") for one in reversed(responses)]

    def silent(prompts, responses, config, ctx):
        return [Feedback(one.id, one.id, "x", (Verdict("kind", "fail"), Verdict("odd", "maybe"))) for one in responses]

    def good(prompts, responses, config, ctx):
        return [Feedback(one.id, one.id, "x", error=one.error) for one in responses]

    assert "not in their order" in critic_problems(shuffled, None, persona, samples)[0]
    found = critic_problems(silent, None, persona, samples)
    assert any("could not be generated" in problem for problem in found) and any("'maybe'" in problem for problem in found)
    assert any("without saying why in words" in problem for problem in found)
    assert critic_problems(good, None, persona, samples) == []


def test_the_built_in_evaluators_of_predictions_and_losses_keep_their_contract():
    from agentft.host import Host
    from agentft.testing import _evaluator_problems, check_loss

    catalog = Host(allow=(), strict=True).catalog
    evaluators = [entry for entry in catalog.entries("evaluator") if entry.spec.consumes == "prediction"]
    assert {entry.name for entry in evaluators} >= {
        "accuracy",
        "f1",
        "auc",
        "ranking",
        "calibration",
        "confusion",
        "regression",
        "ner",
        "qa",
    }
    for entry in evaluators:
        model = catalog.config_model(entry)
        config = model.model_validate({}) if model else None
        assert _evaluator_problems(entry, catalog.target(entry), eval_context(), config, []) == [], entry.name
    for entry in catalog.entries("loss"):
        model = catalog.config_model(entry)
        check_loss(catalog.target(entry), entry.spec.consumes, model.model_validate({}) if model else None)


LABEL_HOOKS = """
import agentft
from agentft.components import EvaluatorSpec, LossSpec

@agentft.hookimpl
def agentft_evaluators():
    return [EvaluatorSpec("sure", "How sure", "PARTS:sure", consumes="prediction", probabilities=True)]

@agentft.hookimpl
def agentft_losses():
    return [LossSpec("hinge", "Hinge", "PARTS:hinge", consumes="class")]
"""
LABEL_PARTS = """
from agentft.errors import TrainingError
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.predictions import groups_of_rows, of_kind

def sure(samples, generate, config, ctx):
    rows = of_kind(samples, "sure", "class")
    values = {one.id: max(one.scores.values()) if one.scores and one.label is not None else NAN for one in rows}
    return [score_from("sure", values, groups_of_rows(rows), seed=ctx.seed, summary="largest probability")]

def hinge(logits, targets, config, ctx):
    if ctx.multi:
        raise TrainingError("hinge is for one class a row")
    right = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], float("-inf"))
    return (1 + others - right).clamp(min=0).sum(-1)
"""


@pytest.fixture
def labels_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Writes the plugin ``sureness``, some of its text replaced, and imports its module."""
    package = "sure_" + "".join(c if c.isalnum() else "_" for c in request.node.name)

    def make(old: str = "", new: str = ""):
        assert old in LABEL_PARTS + LABEL_HOOKS
        (tmp_path / package).mkdir()
        hooks = LABEL_HOOKS.replace("PARTS", f"{package}.parts")
        for name, text in {"__init__.py": "", "plugin.py": hooks, "parts.py": LABEL_PARTS}.items():
            (tmp_path / package / name).write_text(text.replace(old, new) if old else text, "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        return importlib.import_module(f"{package}.plugin")

    yield make
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


def test_a_sound_plugin_of_predictions_and_losses(labels_plugin):
    check_plugin("sureness", labels_plugin())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("if one.scores and one.label is not None else", "if one.scores or one.label is not None else", "a class: raises ValueError"),
        ("one.label is not None else NAN", "one.label is not None else 0.0", "sure: gives the failed prediction 'failed' a number"),
        ('of_kind(samples, "sure", "class")', "list(samples)", "a class, from a chat model: raises AttributeError"),
        ('"sure", "class")', '"sure")', "takes no kind of label"),
        ('summary="largest probability"', "", "sure: needs a summary"),
        (".clamp(min=0).sum(-1)", ".clamp(min=0).sum(-1).mean()", r"one class: gives \(\) for 4 rows; .*not averaged"),
        (".clamp(min=0).sum(-1)", ".clamp(min=0).sum(-1) / len(logits)", "depends on the other rows"),
        ("(1 + others - right)", "(1 - others + right)", "one class: "),
        (".clamp(min=0).sum(-1)", ".clamp(min=0).sum(-1).detach()", "has no gradient"),
        ("return (1 + others - right).clamp(min=0).sum(-1)", "return -logits.softmax(-1).gather(1, targets[:, None])[:, 0].log()", "apart"),
        ("return (1 +", "logits.data.mul_(2)\n    return (1 +", "changes its inputs"),
        ('raise TrainingError("hinge is for one class a row")', "pass", "several classes: raises "),
    ],
)  # fmt: skip
def test_faults_of_evaluators_of_predictions_and_losses(labels_plugin, old, new, message):
    with pytest.raises(AssertionError, match=message):
        check_plugin("sureness", labels_plugin(old, new))
