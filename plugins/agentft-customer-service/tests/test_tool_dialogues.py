"""The drawn demonstrations: other people than in the tasks, right calls, words that can be copied, short enough for a small model."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from agentft_customer_service.shop.database import seed
from agentft_customer_service.shop.dialogues import INTENTS
from agentft_customer_service.shop.suite import rows
from agentft_customer_service.shop.tools import BY_NAME, SCHEMAS, argument_problem
from agentft_customer_service.shop.world import taken

from agentft.errors import DataError
from agentft.testing import read_source
from agentft.text import near_duplicate_share


@pytest.fixture(scope="module")
def drawn(catalog):
    return read_source(catalog, "customer-service/tool-dialogues", {"count": 480, "seed": 1})


def test_drawing(catalog, drawn):
    assert len(drawn) == 480 and len({row.id for row in drawn}) == 480 and len({row.group_key for row in drawn}) == 480
    again = read_source(catalog, "customer-service/tool-dialogues", {"count": 480, "seed": 1})
    assert [row.to_dict() for row in again] == [row.to_dict() for row in drawn]
    other = read_source(catalog, "customer-service/tool-dialogues", {"count": 60, "seed": 2})
    assert not {row.text for row in other} & {row.text for row in drawn}
    count = Counter(row.meta["intent"] for row in drawn)
    assert set(count) == set(INTENTS) and min(count.values()) >= 5
    with pytest.raises(DataError, match="return-old"):
        read_source(catalog, "customer-service/tool-dialogues", {"intents": ["return-olt"]})


def test_nobody_of_the_tasks_is_in_them(drawn):
    people = taken(seed())
    said = " ".join(row.text for row in drawn) + " ".join(str(call) for row in drawn for m in row.messages for call in m.tool_calls)
    assert not [one for one in people if one in said]
    wordings = {" ".join(say.lower().split()) for row in rows() for step in row["steps"] for say in step["say"]}
    assert not wordings & {" ".join(m.content.lower().split()) for row in drawn for m in row.messages if m.role == "user"}


def test_calls_are_right_and_can_be_copied(drawn):
    """Ids, emails, amounts and addresses in a call stand in the conversation before it: nothing has to be guessed."""
    used = Counter()
    for row in drawn:
        assert row.tools == SCHEMAS and row.messages[0].role == "user" and row.messages[-1].role == "assistant"
        before = ""
        for message in row.messages:
            for call in message.tool_calls:
                used[call["name"]] += 1
                assert not argument_problem(BY_NAME[call["name"]], call["arguments"]), call
                for name, value in call["arguments"].items():
                    if name in ("topic", "reason", "query"):
                        continue
                    for one in value if isinstance(value, list) else [value]:
                        shown = f"{one:g}" if isinstance(one, int | float) else one
                        assert shown.lower() in before, (row.id, call)
            before += " " + message.content.lower()
        roles = [message.role for message in row.messages]
        assert all(message.tool_calls or message.content for message in row.messages)
        assert all(
            roles[place - 1] == "assistant" and row.messages[place - 1].tool_calls for place, role in enumerate(roles) if role == "tool"
        )
    assert set(used) == set(BY_NAME)


def test_answers_keep_the_checklist(drawn, personas):
    desk = personas["desk"]
    failed = Counter()
    for row in drawn:
        for place, message in enumerate(row.messages):
            if message.role == "assistant" and message.content:
                asked = type(row)(row.id, row.messages[:place], row.tools, row.group, row.meta)
                failed.update(one.item for one in desk.check(message.content, asked) if one.verdict == "fail")
            assert not re.search(r"[{}]|\bNone\b", message.content), message
    assert not failed


def test_wordings_vary(drawn):
    said = [m.content for row in drawn for m in row.messages if m.role == "user" and len(m.content) > 30]
    assert near_duplicate_share(said) < 0.1


@pytest.mark.slow
def test_a_row_fits_a_small_model(drawn, personas, catalog):
    """Persona, tools and conversation in 2,048 tokens of SmolLM2."""
    from transformers import AutoTokenizer

    from agentft.host import Host
    from agentft.persona import template_path
    from agentft.render.conversation import Renderer
    from agentft.render.system import system_prompt

    tokenizer = AutoTokenizer.from_pretrained(Host().resolve_model("smollm2-135m").path)
    desk = personas["desk"]
    renderer = Renderer(tokenizer, system_prompt(desk, template_path(desk, catalog).read_text("utf-8")), tools=desk.schemas)
    drawn = [*drawn, *read_source(catalog, "customer-service/tool-dialogues", {"count": 480, "seed": 2})]
    lengths = sorted(len(one.input_ids) for row in drawn for one in renderer.training(row))
    print(f"tokens: median {lengths[len(lengths) // 2]}, longest {lengths[-1]}, persona and tools {len(renderer.prefix_ids)}")
    assert lengths[-1] <= 2048
