"""What the plugin ships: its parts, its data, and the figures that its README gives for them."""

from __future__ import annotations

import re
from collections import Counter

from agentft_customer_service import plugin

from agentft.contracts import DataContext
from agentft.data.split import prompt_key
from agentft.testing import check_data, check_plugin, check_prompts, read_source
from agentft.text import shingles, words

COLUMNS = ("support", "support-zh", "banking", "escalation-desk")


def test_parts_keep_their_contracts():
    check_plugin("customer-service", plugin)


def test_demonstrations(demonstrations, personas, readme):
    facts = check_data(demonstrations, personas)
    assert facts.rows >= 240 and facts.several_turns >= 60 and facts.languages["zh"] >= 40
    assert f"{facts.passed:,} of {facts.verdicts:,} applicable verdicts pass" in readme


def test_prompts_are_others(demonstrations, prompts, personas):
    assert len(prompts) >= 150
    check_prompts(prompts, demonstrations)
    assert all(prompt.meta["persona"] in personas and prompt.meta["facts"] for prompt in prompts)
    assert len({row.group_key for row in [*demonstrations, *prompts]}) == len(demonstrations) + len(prompts)


def test_queries_are_a_third_pool(catalog, demonstrations, prompts, personas):
    """Practised on in rounds, so no query may be, or nearly be, a prompt of the gate or a demonstration."""
    queries = read_source(catalog, "customer-service/queries", {"personas": "all"})
    assert len(queries) >= 260 and all(query.meta["persona"] in personas and query.meta["facts"] for query in queries)
    check_prompts(queries, demonstrations)
    others = [*demonstrations, *prompts]
    assert not {prompt_key(query) for query in queries} & {prompt_key(row) for row in others}
    assert len({row.id for row in [*others, *queries]}) == len({row.group_key for row in [*others, *queries]}) == len(others) + len(queries)
    known = [(row.id, shingles(m.content)) for row in [*others, *queries] for m in row.messages if m.role == "user"]
    for query in queries:
        grams = shingles(query.last_user)
        assert not [key for key, one in known if key != query.id and len(grams & one) >= 0.5 * len(grams | one)], query.id


def test_queries_spread_like_the_prompts(catalog, prompts, personas):
    """Every intent of the persona's prompts is practised; what must be handed over is what the persona's rule says."""
    for name, rows in (("support", 220), ("support-zh", 40)):
        queries = read_source(catalog, "customer-service/queries", {"personas": [name]})
        assert len(queries) == rows
        asked, practised = ({row.meta["intent"] for row in pool if row.meta["persona"] == name} for pool in (prompts, queries))
        assert practised == asked
        (escalate,) = (policy for policy in personas[name].policies if policy.id == "escalate")
        assert [q.id for q in queries if escalate.when.applies(q)] == [q.id for q in queries if q.meta["escalate"]]
        assert all(q.meta["escalate"] == (q.meta["intent"] == "escalation") for q in queries)
        assert any(len(q.messages) > 2 for q in queries)


def test_readme_counts(demonstrations, prompts, readme):
    assert _row("Demonstrations", demonstrations) in readme
    assert _row("of these that escalate", [e for e in demonstrations if e.meta["escalate"]]) in readme
    assert _row("Prompts", prompts) in readme
    assert _row("of these that must escalate", [e for e in prompts if e.meta["escalate"]]) in readme
    for rows in (demonstrations, prompts):
        assert _row("of these with several turns", [e for e in rows if len(e.messages) > 2]).rstrip(" |") in readme
    said = {
        name: [len(words(m.content)) for e in demonstrations if e.meta["persona"] == name for m in e.messages if m.role == "assistant"]
        for name in COLUMNS
    }
    assert "| Mean words of an answer | " + " | ".join(f"{sum(n) / len(n):.1f}" for n in said.values()) in readme


def _row(label, rows):
    counts = [sum(row.meta["persona"] == name for row in rows) for name in COLUMNS]
    return f"| {label} | {' | '.join(map(str, [*counts, len(rows)]))} |"


def test_readme_intents(demonstrations, prompts, readme):
    listed = {name: (int(a), int(b)) for name, a, b in re.findall(r"\| ([a-z-]+) \| (\d+) \| (\d+) (?=\|)", readme)}
    counted, asked = (Counter(e.meta["intent"] for e in rows) for rows in (demonstrations, prompts))
    assert listed == {name: (counted[name], asked[name]) for name in counted | asked}


def test_a_recipe_gets_the_rows_of_its_persona(catalog, personas):
    ctx = DataContext(persona=personas["support-zh"])
    rows = read_source(catalog, "customer-service/dialogues", {"intents": ["refund-status", "escalation"]}, ctx=ctx)
    assert rows and all(row.meta["language"] == "zh" and row.meta["intent"] in ("refund-status", "escalation") for row in rows)
    assert len(rows) + sum(ctx.drops.values()) == 269


def test_variables_reach_the_system_prompt(catalog):
    from agentft.persona import Persona, resolver, template_path
    from agentft.render.system import system_prompt

    entry = catalog.get("persona", "customer-service/support")
    persona = Persona.load(catalog.path(entry), resolve=resolver(catalog), values={"company": "Kiln & Co", "return_days": 14})
    text = system_prompt(persona, template_path(persona, catalog).read_text("utf-8"))
    assert "the support agent of Kiln & Co" in text and "14 days" in text and "Northwind" not in text
