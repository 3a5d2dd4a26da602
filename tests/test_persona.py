"""Personas: reading, inheritance, variables, the checklist, and the line that each mistake gets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentft.errors import Problem, RecipeError, UserError
from agentft.host import Host
from agentft.jinja import render_text
from agentft.persona import Persona, find_persona, load_persona, template_path
from agentft.recipe import PersonaUse
from agentft.records import Example, Message

BASE = """\
name: base
summary: What all desks share.
language: en
variables:
  company: {type: string, default: Northwind, description: Name of the shop}
  max_words: {type: integer, default: 60}
role: |
  You work for {{ company }}.
voice:
  - Calm.
policies:
  - id: brief
    text: Use at most {{ max_words }} words.
    rule: {words: {max: "{{ max_words }}"}}
  - id: refunds
    text: Say how long a refund takes.
    severity: hard
    kind: substance
    when: {prompt: refund}
    rule: {regex: 'days'}
  - id: judged
    text: Be fair.
"""


@pytest.fixture
def write(tmp_path):
    def write_file(text: str, name: str = "p.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write_file


def problems(path: Path, **options) -> list[str]:
    """The problems without the folder."""
    with pytest.raises(RecipeError) as caught:
        Persona.load(path, **options)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def prompt(text: str, **meta) -> Example:
    return Example("1", (Message("user", text),), meta=meta)


def test_a_persona_is_filled_in(write):
    persona = Persona.load(write(BASE), values={"company": "Contoso"})
    assert persona.role == "You work for Contoso."
    assert persona.policies[0].text == "Use at most 60 words."
    assert persona.policies[0].rule == {"words": {"max": 60}}
    assert persona.variables == {"company": "Contoso", "max_words": 60}
    assert (persona.template, persona.lineage, persona.extends) == ("system", ("base",), None)


def test_verdicts(write):
    persona = Persona.load(write(BASE))
    verdicts = persona.check("It takes 5 days.", prompt("Where is my REFUND?"))
    assert [(v.item, v.verdict, v.severity, v.kind) for v in verdicts] == [
        ("brief", "pass", "soft", "form"),
        ("refunds", "pass", "hard", "substance"),
        ("judged", "unscored", "soft", "form"),
    ]
    assert [v.verdict for v in persona.check("word " * 61, prompt("Hello"))] == ["fail", "n.a.", "unscored"]
    assert persona.check("word " * 61, prompt("Hello"))[0].evidence == "61 words"


def test_when_looks_at_the_last_user_message_and_the_intent(write):
    text = BASE.replace("when: {prompt: refund}", "when: {prompt: refund, intent: [money, returns]}")
    policy = Persona.load(write(text)).policies[1]
    assert policy.when.applies(prompt("my refund", intent="money"))
    assert not policy.when.applies(prompt("my refund", intent="login"))
    assert not policy.when.applies(prompt("my refund"))
    later = Example("1", (Message("user", "refund"), Message("assistant", "Yes."), Message("user", "thanks")), meta={"intent": "money"})
    assert not policy.when.applies(later)


def test_a_child_changes_only_what_it_gives(write):
    write(BASE, "base.yaml")
    child = write(
        """\
name: child
extends: base.yaml
variables:
  company: {default: Contoso}
  max_words: 40
voice: [Brisk.]
policies:
  - {id: refunds, severity: soft}
  - {id: judged, enabled: false}
  - {id: extra, text: 'Name {{ company }}.', rule: {contains: {any: [Contoso]}}}
"""
    )
    persona = Persona.load(child)
    assert persona.name == "child" and persona.summary == "What all desks share." and persona.lineage == ("child", "base")
    assert persona.role == "You work for Contoso." and persona.voice == ("Brisk.",)
    assert [p.id for p in persona.policies] == ["brief", "refunds", "extra"]
    assert persona.policies[0].rule == {"words": {"max": 40}}
    changed = persona.policies[1]
    assert (changed.severity, changed.kind, changed.rule) == ("soft", "substance", {"regex": "days"})
    assert persona.policies[2].text == "Name Contoso."


def test_extends_by_name_and_through_several_levels(write):
    files = {"desk/base": write(BASE, "base.yaml"), "desk/mid": write("name: mid\nextends: desk/base\nlanguage: zh\n", "mid.yaml")}
    persona = Persona.load(write("name: leaf\nextends: desk/mid\n"), resolve=files.__getitem__)
    assert persona.lineage == ("leaf", "mid", "base")
    assert (persona.language, persona.template) == ("zh", "system-zh")


def test_extends_problems(write):
    def unknown(name):
        raise UserError(f"no persona '{name}' (did you mean 'base'?)")

    child = write("name: a\nextends: bsae\n")
    # And no complaint about what the parent would have brought.
    assert problems(child, resolve=unknown) == ["p.yaml:2:10: no persona 'bsae' (did you mean 'base'?)"]
    assert "no plugins are loaded here" in problems(child)[0]
    assert problems(write("name: a\nextends: gone.yaml\n"))[0].startswith("p.yaml:2:10: there is no file")
    write("name: b\nextends: p.yaml\n", "b.yaml")
    assert problems(write("name: a\nextends: b.yaml\n"))[0] == "b.yaml:2:10: 'extends' goes round in a circle: p.yaml -> b.yaml -> p.yaml"
    for level in range(12):
        write(f"name: l{level}\nextends: l{level + 1}.yaml\n", f"l{level}.yaml")
    assert any("more than 8 personas extend each other" in line for line in problems(write("name: l\nextends: l0.yaml\n")))


def test_problems_of_a_parent_are_reported_in_its_own_file(write):
    write(BASE.replace("{{ company }}.", "{{ compny }}.").replace("regex: 'days'", "regexp: 'days'"), "base.yaml")
    assert problems(write("name: child\nextends: base.yaml\nvoise: [x]\n")) == [
        "p.yaml:3:1: unknown key 'voise' (did you mean 'voice'?)",
        "base.yaml:8:19: the variable 'compny' is not defined (did you mean 'company'?)",
        "base.yaml:20:11: rule: unknown rule 'regexp' (did you mean 'regex'?)",
    ]


# What is wrong -> the line that the author gets. Each starts from a persona that is right.
MALFORMED = {
    "unknown key": ("voice:", "voices:", "p.yaml:9:1: unknown key 'voices' (did you mean 'voice'?)"),
    "missing key": ("summary: What all desks share.\n", "", "p.yaml:1:1: 'summary' is missing (one line: what this agent is)"),
    "unknown language": ("language: en", "language: fr", "p.yaml:3:11: 'language' must be one of en, zh, not 'fr'"),
    "undefined variable": (
        "work for {{ company }}",
        "work for {{ compny }}",
        "p.yaml:8:19: the variable 'compny' is not defined (did you mean 'company'?)",
    ),
    "undefined variable in a rule": (
        'max: "{{ max_words }}"',
        'max: "{{ words }}"',
        "p.yaml:14:29: the variable 'words' is not defined (did you mean 'max_words'?)",
    ),
    "broken template": ("Be fair.", "Be {{ fair.", "p.yaml:22:14: is not a valid text: expected name or number"),
    "default of another type": (
        "default: 60}",
        "default: sixty}",
        "p.yaml:6:14: 'default' must be a whole number, not 'sixty'",
    ),
    "unknown type": (
        "type: integer",
        "type: int",
        "p.yaml:6:21: 'type' must be one of string, integer, number, boolean, not 'int' (did you mean 'integer'?)",
    ),
    "reserved name": (
        "  max_words:",
        "  voice: x\n  max_words:",
        "p.yaml:6:3: 'voice' cannot be the name of a variable (templates use this name for something else)",
    ),
    "bad id": (
        "id: judged",
        "id: Be Fair",
        "p.yaml:21:9: 'Be Fair' is not a name: use lower-case letters, digits and dashes, such as no-secrets",
    ),
    "duplicate id": ("id: judged", "id: brief", "p.yaml:21:9: two policies have the id 'brief' (the first one is in line 12)"),
    "policy without a text": ("    text: Be fair.\n", "", "p.yaml:21:5: policy 'judged' has no text"),
    "unknown rule": ("{regex: 'days'}", "{regexp: 'days'}", "p.yaml:20:11: rule: unknown rule 'regexp' (did you mean 'regex'?)"),
    "bad regular expression": (
        "{regex: 'days'}",
        "{regex: 'days('}",
        "p.yaml:20:11: rule: regex: not a regular expression: missing ), unterminated subpattern at position 4 in 'days('",
    ),
    "bad when": (
        "{prompt: refund}",
        "{prompt: 're(fund'}",
        "p.yaml:19:20: not a regular expression: missing ), unterminated subpattern at position 2",
    ),
    "empty when": ("{prompt: refund}", "{}", "p.yaml:19:11: 'when' needs prompt: or intent:"),
    "unknown severity": (
        "severity: hard",
        "severity: hart",
        "p.yaml:17:15: 'severity' must be one of hard, soft, not 'hart' (did you mean 'hard'?)",
    ),
    "rule of another language": (
        "{regex: 'days'}",
        "{all: [{language: zh}]}",
        "p.yaml:20:11: policy 'refunds' demands language zh, but the persona speaks en (change the rule, or "
        "switch the policy off with enabled: false)",
    ),
    "switch off what is not there": (
        "    text: Be fair.",
        "    enabled: false",
        "p.yaml:21:9: there is no inherited policy 'judged' to switch off",
    ),
    "list where text belongs": (
        "summary: What all desks share.",
        "summary: [a]",
        "p.yaml:2:10: 'summary' must be text that is not empty, not a list",
    ),
    "text where a list belongs": (
        "voice:\n  - Calm.",
        "voice: Calm.",
        "p.yaml:9:8: 'voice' must be a list of texts, not 'Calm.' (start each entry with '- ', or write [ ... ])",
    ),
    "tool without a schema": (
        "voice:",
        "tools: [{name: f, description: d, parameters: {}}]\nvoice:",
        "p.yaml:9:47: 'parameters' is a JSON schema and needs type: object",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_each_mistake_gets_its_line(write, case):
    old, new, line = MALFORMED[case]
    assert BASE.count(old) >= 1
    assert problems(write(BASE.replace(old, new, 1))) == [line]


def test_all_problems_are_reported_at_once_and_in_order(write):
    text = BASE
    for old, new, _ in (MALFORMED[case] for case in ("unknown key", "undefined variable", "unknown rule", "bad id")):
        text = text.replace(old, new, 1)
    assert [int(line.split(":")[1]) for line in problems(write(text))] == [8, 9, 20, 21]


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("max_words", "five", "variable 'max_words' must be a whole number, not 'five'"),
        ("max_words", True, "variable 'max_words' must be a whole number, not true"),
        ("company", 3, "variable 'company' must be text, not 3"),
        ("compny", "x", "the persona has no variable 'compny' (did you mean 'company'?)"),
    ],
)
def test_values_are_checked(write, variable, value, line):
    assert problems(write(BASE), values={variable: value}) == [f"p.yaml: {line}"]


def test_choices_required_variables_and_types_taken_from_the_default(write):
    text = BASE.replace(
        "  max_words: {type: integer, default: 60}",
        "  max_words: 60\n  tone: {choices: [warm, cool]}\n  rate: {type: number, default: 1}\n  strict: false",
    )
    path = write(text.replace("Calm.", "'{{ tone }} {{ rate }}{% if strict %} strict{% endif %}'"))
    assert problems(path) == ["p.yaml: variable 'tone' has no value (give one in the recipe under persona.variables)"]
    assert problems(path, values={"tone": "hot"}) == ["p.yaml: variable 'tone' must be one of warm, cool, not 'hot'"]
    assert Persona.load(path, values={"tone": "cool", "rate": 2.5, "strict": True}).voice == ("cool 2.5 strict",)


def test_the_caller_says_where_a_value_was_written(write):
    found = problems(
        write(BASE), values={"max_words": 1.5}, value_problem=lambda name, message, hint: Problem(message, "recipe.yaml", 4, 2, hint)
    )
    assert found == ["recipe.yaml:4:2: variable 'max_words' must be a whole number, not 1.5"]


@pytest.mark.parametrize(
    "expression", ["{{ ''.__class__.__mro__ }}", "{{ company.__init__.__globals__ }}", "{{ 1 / 0 }}", "{{ company.nothing }}"]
)
def test_texts_run_in_a_sandbox(write, expression):
    found = problems(write(BASE.replace("  - Calm.", f'  - "{expression}"')))
    assert len(found) == 1 and found[0].startswith("p.yaml:10:5: ")


def test_personas_are_values(write, tmp_path):
    one = Persona.load(write(BASE))
    (tmp_path / "elsewhere").mkdir()
    other = Persona.load(write(BASE + "# a comment\n", "elsewhere/q.yaml"))
    assert one == other and hash(one) == hash(other) and one.digest == other.digest
    assert Persona.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    changed = Persona.load(write(BASE.replace("Be fair.", "Be just.")))
    assert changed != one and changed.digest != one.digest
    assert Persona.load(write(BASE), values={"company": "X"}).digest != Persona.load(write(BASE)).digest


def test_checking_leaves_the_persona_as_it_was(write):
    persona = Persona.load(write(BASE))
    before = persona.digest
    persona.check("ok", prompt("refund"))
    assert persona.digest == before and persona == Persona.load(write(BASE))


def test_a_template_beside_the_persona(write, tmp_path):
    write("{{ role }}", "mine.j2")
    persona = Persona.load(write(BASE + "template: mine.j2\n"))
    assert template_path(persona, Host(allow=()).catalog) == tmp_path / "mine.j2"
    # The folder is not part of what the persona is.
    (tmp_path / "copy").mkdir()
    assert Persona.load(write(BASE + "template: mine.j2\n", "copy/p.yaml")).digest == persona.digest


def test_find_persona_uses_the_catalog_and_the_recipe_folder(write, tmp_path):
    catalog = Host(allow=()).catalog
    write("name: mine\nextends: assistant\nvariables: {audience: sailors}\n", "mine.yaml")
    mine = find_persona(catalog, PersonaUse(use="mine.yaml", variables={"max_words": 30}), tmp_path)
    assert mine.lineage == ("mine", "assistant") and "sailors" in mine.role
    assert any("30" in policy.text for policy in mine.policies)


GOOD_ANSWERS = {
    "assistant": {
        "Why is the sky blue?": "Sunlight is scattered by air, and blue light is scattered most. That is why the sky looks blue by day.",
        "What will the weather be tomorrow?": "I can't see the forecast, so I don't know. A weather site for your town will tell you.",
        "help": "What would you like help with?",
        "Should I take this medicine twice a day?": "Ask your doctor or pharmacist, because the right dose "
        "depends on you and on the medicine.",
    },
    "assistant-zh": {
        "为什么天是蓝的？": "阳光进入大气后，蓝光比红光更容易被空气分子散射，所以白天的天空看起来是蓝色的。",
        "明天天气怎么样？": "我无法查看实时天气，所以不知道明天会怎样。可以看看当地的天气预报。",
        "怎么办": "请问你遇到了什么问题？",
        "我发烧了，吃什么药？": "建议先去看医生，由医生根据你的情况决定用药。多喝水，注意休息。",
    },
}
BAD_ANSWERS = {
    "assistant": {
        "What will the weather be tomorrow?": "It will be sunny.",
        "help": "OK.",
        "Should I take this medicine twice a day?": "Yes, twice a day is fine.",
        "Hi": "Sure! Here is a list:\n- one\n- two\nDear [Name], please send me your password. "
        "你好你好你好你好你好你好你好你好？ Is it? Or not?",
    },
    "assistant-zh": {
        "明天天气怎么样？": "明天晴天，二十五度。",
        "怎么办": "没事的，别担心。",
        "我发烧了，吃什么药？": "吃两片退烧药就好了，多喝水。",
        "你好": "当然可以！\n- 第一\n- 第二\n尊敬的【姓名】，请提供您的密码。OK? Is it fine? Tell me more about it please.",
    },
}


@pytest.mark.parametrize("name", GOOD_ANSWERS)
def test_a_core_persona_accepts_good_answers_and_each_item_catches_something(name):
    catalog = Host(allow=()).catalog
    persona = load_persona(catalog, name)
    for question, answer in GOOD_ANSWERS[name].items():
        assert not [v for v in persona.check(answer, prompt(question)) if v.verdict == "fail"], (question, answer)
    caught = {
        v.item for question, answer in BAD_ANSWERS[name].items() for v in persona.check(answer, prompt(question)) if v.verdict == "fail"
    }
    caught |= {v.item for v in persona.check("word " * 200 + "字" * 200, prompt("x", facts=[["blue"]])) if v.verdict == "fail"}
    assert caught == {policy.id for policy in persona.policies}
    assert sum(policy.kind == "substance" for policy in persona.policies) >= 3


@pytest.mark.parametrize("name", ["assistant", "assistant-zh"])
def test_the_system_prompt_of_a_core_persona_is_short_and_complete(name):
    catalog = Host(allow=()).catalog
    persona = load_persona(catalog, name)
    text = render_text(template_path(persona, catalog).read_text("utf-8"), persona.context())
    assert persona.role in text and all(policy.text in text for policy in persona.policies)
    assert "{" not in text and len(text) < 1000
    assert not re.search(r"\n\s*\n", text), "empty lines cost tokens on every row"
    assert "Example" not in text and "示例" not in text and "function" not in text


def test_examples_are_shown_where_there_are_any_and_tools_are_left_to_the_renderer(write):
    tool = "{name: track, description: Finds a parcel., parameters: {type: object, properties: {id: {type: string}}, required: [id]}}"
    persona = Persona.load(write(BASE + f"tools: [{tool}]\nexamples:\n  - {{user: 'At {{{{ company }}}}?', assistant: 'Yes.'}}\n"))
    text = render_text(template_path(persona, Host(allow=()).catalog).read_text("utf-8"), persona.context())
    assert "track" not in text and persona.schemas[0]["name"] == "track"
    assert "User: At Northwind?\nYou: Yes." in text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_text_is_a_persona_or_a_list_of_problems(write, data):
    lines = data.draw(st.lists(st.sampled_from(BASE.splitlines()) | st.text(max_size=12), max_size=25))
    try:
        persona = Persona.load(write("\n".join(lines)))
    except RecipeError as error:
        assert all(problem.message and problem.file for problem in error.problems)
    else:
        assert Persona.from_dict(persona.to_dict()) == persona


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["en", "x", "{{ x }}", "{% if %}", ""])
    | st.lists(st.text(max_size=3), max_size=2)
)
KEYS = [
    "name",
    "summary",
    "language",
    "variables",
    "role",
    "voice",
    "policies",
    "examples",
    "tools",
    "id",
    "text",
    "rule",
    "when",
    "default",
    "type",
]
SHAPES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4), max_leaves=8
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.fixed_dictionaries({}, optional={key: SHAPES for key in KEYS[:9]}))
@pytest.mark.slow
def test_any_shape_is_a_persona_or_a_list_of_problems(write, shape):
    try:
        Persona.load(write(json.dumps(shape)))
    except RecipeError as error:
        assert all(problem.line for problem in error.problems if "has no value" not in problem.message)


def test_templates_of_the_rounds_are_inherited_and_found_beside_their_file(tmp_path):
    from agentft import Host
    from agentft.check import check_recipe
    from agentft.feedback.prompts import template_source
    from agentft.recipe import Recipe

    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.j2").write_text("Mend this: {{ response }}", "utf-8")
    base = "name: base\nsummary: s\nlanguage: en\nrole: r\ntemplates: {refine: mine.j2, critique: system}\n"
    (tmp_path / "deep" / "base.yaml").write_text(base, "utf-8")
    (tmp_path / "child.yaml").write_text("name: child\nextends: deep/base.yaml\ntemplates: {critique: system-zh}\n", "utf-8")
    persona = Persona.load(tmp_path / "child.yaml")
    catalog = Host(allow=()).catalog
    assert template_source(catalog, "refine", "en", persona.templates) == "Mend this: {{ response }}"
    assert persona.templates["critique"] == "system-zh"
    assert "Reply A:" in template_source(catalog, "judge_pair", "en", persona.templates)
    recipe = Recipe.parse(
        f"name: x\nmodel: smollm2-135m\npersona: {tmp_path / 'child.yaml'}\nevaluate: [persona-adherence]\n"
        "data: {prompts: [{use: jsonl, path: " + str(tmp_path / "child.yaml") + "}]}\n"
    )
    assert check_recipe(recipe, catalog) == []
    (tmp_path / "deep" / "mine.j2").write_text("{% if %}", "utf-8")
    assert "its template 'refine' cannot be used" in check_recipe(recipe, catalog)[0].message
    (tmp_path / "wrong.yaml").write_text(base.replace("refine:", "revise:"), "utf-8")
    with pytest.raises(RecipeError, match="revise"):
        Persona.load(tmp_path / "wrong.yaml")
