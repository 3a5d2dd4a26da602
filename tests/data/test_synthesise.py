"""New conversations from a model that does as the test says: what is kept, what is not and why, in English and Chinese."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.contracts import DataContext
from agentft.data.novelty import Known
from agentft.data.synthesise import message_in
from agentft.errors import DataError
from agentft.host import Host
from agentft.labelled import Labelled
from agentft.persona import Persona
from agentft.records import Example, Message, Response

CATALOG = Host(allow=()).catalog
ENTRY = CATALOG.get("transform", "synthesise")
POLICIES = [
    {"id": "please", "text": "Say please.", "rule": {"contains": {"any": ["please", "请"]}}, "severity": "hard"},
    {"id": "brief", "text": "At most 12 words.", "rule": {"words": {"max": 12}}},
]
CLERK = Persona.from_dict({"name": "clerk", "summary": "A clerk", "language": "en", "role": "You are a clerk.", "policies": POLICIES})
CLERK_ZH = Persona.from_dict({"name": "clerk-zh", "summary": "柜员", "language": "zh", "role": "你是柜员。", "policies": POLICIES})
SEEDS = [
    Example(f"s{n}", (Message("user", text), Message("assistant", "Please wait.")))
    for n, text in enumerate(
        ["Where is shelf three today?", "May I keep the book longer?", "Who wrote that blue novel?", "When do you open?"]
    )
]


class Fake:
    """Answers from a list, over and over; remembers what it was asked."""

    def __init__(self, texts):
        self.texts, self.asked = list(texts), []

    def generate(self, prompts, settings, on_batch=None, done=None):
        found = []
        for prompt in prompts:
            text = self.texts[len(self.asked) % len(self.texts)]
            self.asked.append(prompt)
            finish = "error" if text is None else "length" if text.endswith("…") else "stop"
            found.append(Response(prompt.id, text or "", finish, 1, "gone" if text is None else ""))
        return found


def run(messages, answers=("Please turn left.",), persona=CLERK, seeds=SEEDS, held=(), **options):
    asker, actor = Fake(messages), Fake(answers)
    ending = "-zh" if persona.language == "zh" else ""
    ctx = DataContext(
        persona=persona,
        seed=3,
        held_out=lambda: held,
        open_model=lambda use, persona=True: actor if persona else asker,
        template=lambda name: CATALOG.path(CATALOG.get("template", name + ending)).read_text("utf-8"),
    )
    config = CATALOG.config_model(ENTRY).model_validate(options)
    rows = list(CATALOG.target(ENTRY)(iter(seeds), config, ctx))
    assert rows[: len(seeds)] == list(seeds), "what came in goes on"
    return rows[len(seeds) :], ctx, asker, actor


NEW = [
    "1. Can somebody carry these heavy boxes upstairs?",
    'Message: "Do kids get a discount on cards?"',
    "Which bus stops near here at night?",
]


def test_new_rows_have_ids_marks_and_groups_of_their_own():
    rows, ctx, asker, actor = run(NEW, count=3, seeds=SEEDS)
    assert [row.id for row in rows] == ["synth-1", "synth-2", "synth-3"] and len({row.group_key for row in rows}) == 3
    assert [row.messages[0].content for row in rows][:2] == [
        "Can somebody carry these heavy boxes upstairs?",
        "Do kids get a discount on cards?",
    ]
    assert all(row.meta["synthetic"] is True and len(row.meta["seeds"]) == 3 and len(row.messages) == 2 for row in rows)
    assert ctx.changes == {"synthesised": 3} and ctx.notes["synthesise"]["made"] == 3
    shown = {one.id: one.messages for one in SEEDS}
    request, answered = asker.asked[0].messages, actor.asked[0].messages
    assert [one.content for one in request if one.role == "assistant"] == [shown[name][0].content for name in rows[0].meta["seeds"]]
    assert {one.content for one in request if one.role == "user"} == {request[-1].content} and "clerk (A clerk)" in request[-1].content
    assert answered[:-1] == tuple(turn for name in rows[0].meta["seeds"] for turn in shown[name])


def test_everything_that_is_not_kept_is_counted_by_reason():
    messages = [None, "cut off in the…", "Hm", "你好，书在哪里？", "where is shelf three TODAY", "Could I sit in the garden?", *NEW]
    answers = ["No.", "", "Please wait here until somebody comes and shows you the way to the reading room…", "Please: " + "so " * 20]
    rows, ctx, _, _ = run(messages, answers, count=9, max_attempts=9)
    assert rows == []
    assert ctx.drops == {
        "no message: the model failed": 1,
        "message cut at the length limit": 1,
        "message shorter than min_words": 1,
        "message in another language": 1,
        "message like one that is there": 1,
        "answer fails 'please'": 1,
        "empty answer": 1,
        "answer cut at the length limit": 1,
        "answer below min_adherence": 1,
    }
    assert ctx.notes["synthesise"] == {"wanted": 9, "attempts": 9, "made": 0}


def test_a_soft_item_may_fail_where_the_recipe_says_so():
    rows, *_ = run(NEW[:1], ["Please: " + "so " * 20], count=1, min_adherence=0.5)
    assert len(rows) == 1


def test_chinese():
    seeds = [Example("z", (Message("user", "三号书架在哪里？"), Message("assistant", "请左转。")))]
    rows, ctx, asker, _ = run(
        ["2、“孩子办卡有优惠吗？”", "三号书架在哪里呢？", "where is it now"], ["请看门口的说明。"], CLERK_ZH, seeds, count=2, max_attempts=3
    )
    assert [row.messages[0].content for row in rows] == ["孩子办卡有优惠吗？"] and rows[0].meta["language"] == "zh"
    assert ctx.drops == {"message like one that is there": 1, "message in another language": 1}
    assert "请写一条" in asker.asked[0].messages[-1].content


def test_rows_that_are_evaluated_on_are_not_written_again():
    held = [
        Example("h", (Message("user", "Can somebody carry these heavy boxes upstairs?"),)),
        Labelled("l", {"text": "Do kids get a discount on cards?"}, "x"),
    ]
    rows, ctx, _, _ = run(NEW, held=held, count=3, max_attempts=3)
    assert [row.messages[0].content for row in rows] == [NEW[2]] and ctx.drops == {"message like one that is there": 2}


def test_it_is_the_same_again_and_another_seed_draws_others():
    first, second = run(NEW, count=3), run(NEW, count=3)
    assert first[0] == second[0] and [one.messages for one in first[2].asked] == [one.messages for one in second[2].asked]


def test_what_cannot_work_is_said():
    with pytest.raises(DataError, match="the model answers nothing: gone"):
        run([None], count=2)
    with pytest.raises(DataError, match="no row with an answer"):
        run(NEW, seeds=[Example("p", (Message("user", "hi"),))])
    looked = DataContext()
    assert list(CATALOG.target(ENTRY)(iter(SEEDS), CATALOG.config_model(ENTRY).model_validate({}), looked)) == SEEDS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4) Where is it?\n5) And then?", "Where is it?"),
        ("Where is it?\n#1. Here.", "Where is it?"),
        ("User: Where\nis it?\n\nClerk: There.", "Where\nis it?"),
        ("“在哪里？”", "在哪里？"),
        ('"A" and "B"', '"A" and "B"'),
        ("", ""),
        ("7", "7"),
    ],
)
def test_the_message_in_what_a_model_says(text, message):
    assert message_in(text) == message


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab c退款", max_size=12), max_size=5), st.text("ab c退款", max_size=12), st.floats(0.1, 1))
def test_novelty_is_that_of_the_longest_common_subsequence(texts, text, threshold):
    def lcs(a, b):
        row = [0] * (len(b) + 1)
        for x in a:
            new = [0]
            for j, y in enumerate(b):
                new.append(row[j] + 1 if x == y else max(new[j], row[j + 1]))
            row = new
        return row[-1]

    def split(value):
        return re.findall(r"[退款]|[a-z]+", value)

    def f(a, b):
        return 2 * lcs(a, b) / (len(a) + len(b)) if a or b else 1.0

    values = [f(split(other), split(text)) for other in texts]
    if any(abs(value - threshold) < 1e-9 for value in values):
        return
    assert (Known(texts).like(text, threshold) is not None) == any(value >= threshold for value in values)


def test_through_the_pipeline_the_model_is_part_of_the_key(tmp_path, tiny_ref):
    import shutil
    from pathlib import Path

    from agentft.pipeline import Pipeline
    from agentft.runs import Store
    from agentft.session import open_recipe

    model = Path(shutil.copytree(tiny_ref.path, tmp_path / "model"))
    (tmp_path / "talks.jsonl").write_text("\n".join(json.dumps(one.to_dict()) for one in SEEDS), "utf-8")
    options = "{use: synthesise, count: 1, seeds: 1, max_attempts: 2, max_new_tokens: 4}"
    (tmp_path / "recipe.yaml").write_text(
        f"name: s\nmodel: {model}\ndata: {{sources: [{{use: jsonl, path: talks.jsonl}}], transforms: [{options}]}}\n"
        "train: [few-shot]\nevaluate: [stop-rate]\ndevice: {device: cpu, threads: 1}\n",
        "utf-8",
    )

    def built():
        run = Pipeline(open_recipe(tmp_path / "recipe.yaml"), Store(tmp_path / "runs")).execute("data")
        return run.manifest["stages"][0]

    first = built()
    step = next(step for step in first["summary"]["steps"] if step["name"] == "synthesise")
    assert sum(step["drops"].values()) + step["rows_out"] - step["rows_in"] == 2, "a random model writes nothing of use, and it is counted"
    assert built()["reused"]
    settings_ = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps(settings_ | {"rms_norm_eps": 1e-5}), "utf-8")
    again = built()
    assert not again["reused"] and "asked.models" in again["why"]


def test_novelty_among_real_instructions(shared_data):
    files = sorted((shared_data / "self_instruct").rglob("seed_tasks.jsonl"))
    if not files:
        pytest.skip("no seed tasks of Self-Instruct")
    tasks = [json.loads(line)["instruction"] for line in files[0].read_text("utf-8").splitlines()]
    known = Known(tasks)
    assert len(tasks) > 100 and all(known.like(task, 0.7) is not None for task in tasks)
    alone = [Known(task for task in tasks if task != one).like(one, 0.7) for one in tasks[::10]]
    assert sum(one is None for one in alone) / len(alone) > 0.9, "people's seed tasks are different from each other"
