"""What the plugin ships: its parts, its data, and the figures that its README gives for them."""

from __future__ import annotations

from collections import Counter
from itertools import product

from agentft_tutoring import plugin
from agentft_tutoring.leak import answer_leak, forms

from agentft.data.split import prompt_key
from agentft.records import Example, Response, Sample
from agentft.testing import check_data, check_plugin, check_prompts, eval_context, read_source
from agentft.text import shingles, words

PERSONAS = ("math-tutor", "reading-tutor", "programming-tutor", "math-tutor-zh")


def test_parts_keep_their_contracts():
    check_plugin("tutoring", plugin)


def test_demonstrations(demonstrations, personas):
    facts = check_data(demonstrations, personas)
    assert facts.rows >= 240 and facts.several_turns >= 60 and facts.languages["zh"] >= 40


def test_prompts_are_others(demonstrations, prompts, personas):
    assert len(prompts) >= 150
    check_prompts(prompts, demonstrations)
    assert all(prompt.meta["persona"] in personas for prompt in prompts)


def test_queries_are_a_third_pool(catalog, demonstrations, prompts):
    """Practised on in rounds, so no query may be, or nearly be, a prompt of the gate or a demonstration."""
    queries = read_source(catalog, "tutoring/queries", {"personas": "all"})
    assert len(queries) == 80 and {query.meta["persona"] for query in queries} == {"math-tutor"}
    assert {query.meta["intent"] for query in queries} == {row.meta["intent"] for row in prompts if row.meta["persona"] == "math-tutor"}
    assert all(forms(query) and query.meta["facts"] for query in queries)
    assert {(query.meta["subject"], query.meta["level"]) for query in queries} == set(
        product(("arithmetic", "algebra"), ("beginner", "advanced"))
    )
    check_prompts(queries, demonstrations)
    others = [*demonstrations, *prompts]
    assert not {prompt_key(query) for query in queries} & {prompt_key(row) for row in others}
    assert len({row.id for row in [*others, *queries]}) == len(others) + len(queries)
    assert len({query.group_key for query in queries} - {row.group_key for row in others}) == len(queries)
    known = [(row.id, shingles(m.content)) for row in [*others, *queries] for m in row.messages if m.role == "user"]
    for query in queries:
        grams = shingles(query.last_user)
        assert not [key for key, one in known if key != query.id and len(grams & one) >= 0.5 * len(grams | one)], query.id


def test_every_row_knows_its_answer(demonstrations, prompts):
    assert all(forms(row) and row.meta["subject"] and row.meta["level"] in ("beginner", "advanced") for row in [*demonstrations, *prompts])


def test_no_demonstrated_answer_leaks(demonstrations, readme):
    """Every tutor turn, the earlier ones of a session included."""
    samples = []
    for row in demonstrations:
        for index, message in enumerate(row.messages):
            if message.role == "assistant":
                prompt = Example(f"{row.id}-{index}", row.messages[:index], meta=row.meta)
                samples.append(Sample(prompt, Response(prompt.id, message.content)))
    (score,) = answer_leak(samples, lambda _: [], None, eval_context())
    assert score.value == 0 and score.n > 250, score.details
    assert f"| 0 of {len(samples)} |" in readme


def test_readme_counts(demonstrations, prompts, readme):
    for name in PERSONAS:
        assert f"| `{name}` | {_count(demonstrations, 'persona', name)} | {_count(prompts, 'persona', name)} |" in readme
    for intent in {row.meta["intent"] for row in demonstrations}:
        assert f"| {intent} | {_count(demonstrations, 'intent', intent)} | {_count(prompts, 'intent', intent)} |" in readme
    several = [row for row in demonstrations if len(row.messages) > 2]
    answers = [m for row in demonstrations for m in row.messages if m.role == "assistant"]
    assert f"{len(demonstrations)} demonstrations ({len(answers)} tutor answers). {len(several)} (" in readme
    english = [
        len(words(m.content)) for row in demonstrations if row.meta["language"] == "en" for m in row.messages if m.role == "assistant"
    ]
    assert f"{sum(english) / len(english):.1f} ({min(english)} to {max(english)})" in readme


def _count(rows, key, value):
    return Counter(row.meta[key] for row in rows)[value]
