"""What the plugin ships: its parts, its data, and the figures that its README gives for them."""

from __future__ import annotations

from agentft_content_style import plugin

from agentft.testing import check_data, check_plugin, check_prompts
from agentft.text import words


def test_parts_keep_their_contracts():
    check_plugin("content-style", plugin)


def test_demonstrations(demonstrations, personas, readme):
    facts = check_data(demonstrations, personas)
    assert facts.rows >= 240 and facts.several_turns >= 60 and facts.languages["zh"] >= 40
    assert f"{facts.answers} answers, {facts.verdicts} applicable verdicts, all of them pass" in readme and facts.passed == facts.verdicts


def test_prompts_are_others(demonstrations, prompts, personas):
    assert len(prompts) >= 150
    check_prompts(prompts, demonstrations)
    assert all(prompt.meta["persona"] in personas for prompt in prompts)


def test_every_text_carries_its_source_and_its_facts(demonstrations, prompts):
    for row in [*demonstrations, *prompts]:
        asked = "\n".join(message.content for message in row.messages if message.role == "user")
        assert row.meta["source"] in row.messages[0].content and row.meta["task"] in ("rewrite", "notes"), row.id
        assert all(any(one.lower() in asked.lower() for one in group) for group in row.meta["facts"]), row.id


def test_readme_counts(demonstrations, prompts, readme):
    texts, _, further = readme.partition("### `prompts.jsonl`")
    for persona in ("newsroom", "brand-voice", "plain-language", "newsroom-zh"):
        rows, asked = ([row for row in part if row.meta["persona"] == persona] for part in (demonstrations, prompts))
        assert "| `{}` | {} | {} | {} | {} |".format(persona, *_counts(rows)) in texts
        assert "| `{}` | {} | {} | {} | {} |".format(persona, *_counts(asked)) in further
        answers = [len(words(m.content)) for row in rows for m in row.messages if m.role == "assistant"]
        assert f"| {round(sum(answers) / len(answers))} ({min(answers)}-{max(answers)})" in texts


def _counts(rows):
    tasks = [row.meta["task"] for row in rows]
    return len(rows), tasks.count("rewrite"), tasks.count("notes"), sum(len(row.messages) > 2 for row in rows)
