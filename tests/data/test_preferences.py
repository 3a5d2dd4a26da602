"""Preference data in all usual shapes, through the source, the data stage and back out."""

from __future__ import annotations

import gzip
import json
import math

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agentft import Host
from agentft.cli.main import cli
from agentft.contracts import DataContext
from agentft.data.pair_export import kto_rows, trl_row
from agentft.data.prepare import Step, prepare
from agentft.errors import DataError
from agentft.records import Example, Message, Preference


def read(tmp_path, rows, **options):
    """The preferences in ``rows``, and the drops by reason."""
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    catalog = Host(allow=()).catalog
    entry = catalog.get("source", "preferences")
    ctx = DataContext(base=tmp_path)
    config = catalog.config_model(entry).model_validate({"path": "pairs.jsonl"} | options)
    return list(catalog.target(entry)(config, ctx)), dict(ctx.drops)


def user(text):
    return {"role": "user", "content": text}


def says(text):
    return {"role": "assistant", "content": text}


SHAPES = {
    "trl": {"prompt": [user("Where?")], "chosen": [says("Left.")], "rejected": [says("No.")], "margin": 2},
    "trl text": {"prompt": "Where?", "chosen": "Left.", "rejected": "No."},
    "implicit": {"chosen": [user("Where?"), says("Left.")], "rejected": [user("Where?"), says("No.")]},
    "ultrafeedback binarized": {"prompt": "Where?", "chosen": [user("Where?"), says("Left.")], "rejected": [user("Where?"), says("No.")]},
    "hh": {"chosen": "\n\nHuman: Where?\n\nAssistant: Left.", "rejected": "\n\nHuman: Where?\n\nAssistant: No."},
    "scores": {
        "instruction": "Where?",
        "completions": [
            {"response": "No.", "overall_score": 1},
            {"response": "Left.", "overall_score": "4.5"},
            {"response": "Hm.", "overall_score": 2},
        ],
    },
    "kto": {"prompt": "Where?", "completion": "Left.", "label": True},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_preference(tmp_path, shape):
    (one,), drops = read(tmp_path, [SHAPES[shape]])
    assert [m.content for m in one.prompt.messages] == ["Where?"] and one.chosen.content == "Left." and not drops
    assert shape == "kto" or one.rejected.content == "No."
    assert {"trl": 2, "scores": 3.5}.get(shape, one.margin) == one.margin or math.isnan(one.margin)
    assert one.origin == "imported" and one.group_key.startswith("prompt-")


def test_rows_without_a_preference_are_dropped_and_counted(tmp_path):
    rows = [
        {"prompt": "q", "chosen": "same", "rejected": "same"},
        {"prompt": "q", "chosen": " ", "rejected": "b"},
        {"prompt": "", "chosen": "a", "rejected": "b"},
        {"chosen": [user("q"), says("a")], "rejected": [user("other"), says("b")]},
        {"instruction": "q", "completions": [{"response": "a", "score": 1}, {"response": "b", "score": 1}]},
        {"instruction": "q", "completions": [{"response": "a", "score": 1}, {"response": "b", "score": None}]},
        {"prompt": [user("q")], "chosen": [says("a"), user("more"), says("b")], "rejected": [says("c")]},
        SHAPES["trl"],
    ]
    found, drops = read(tmp_path, rows)
    assert len(found) == 1 and sum(drops.values()) == 7
    assert drops == {
        "both answers are the same": 1,
        "an answer is empty": 1,
        "no prompt that ends with the user": 1,
        "the two sides have different prompts": 1,
        "all completions have the same score": 1,
        "fewer than two completions with a score": 1,
        "chosen is not one message of the assistant": 1,
    }


def test_bad_rows_are_named_by_line_and_may_be_skipped(tmp_path):
    rows = [{"a": 1}, SHAPES["trl"], {"prompt": "q", "completion": "a", "label": "yes"}, {"prompt": "q", "chosen": 3, "rejected": "b"}]
    with pytest.raises(DataError) as error:
        read(tmp_path, rows)
    lines = str(error.value).splitlines()
    assert "pairs.jsonl:1: no preference in the keys a (name them with columns:" in lines[0]
    assert "pairs.jsonl:3: 'label' must be true or false, not 'yes'" in lines[1] and "pairs.jsonl:4: 'chosen' must be a text" in lines[2]
    found, drops = read(tmp_path, rows, on_bad="skip")
    assert len(found) == 1 and drops == {"row cannot be used": 3}


def test_columns_groups_limits_and_gzip(tmp_path):
    rows = [{"q": f"Question {n}?", "good": "a", "bad": "b", "customer": f"c{n // 2}"} for n in range(6)]
    found, _ = read(tmp_path, rows, columns={"prompt": "q", "chosen": "good", "rejected": "bad"}, group="customer", limit=4)
    assert [one.group_key for one in found] == ["c0", "c0", "c1", "c1"]
    with gzip.open(tmp_path / "z.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write(json.dumps(SHAPES["hh"]))
    assert read(tmp_path, [], path="z.jsonl.gz")[0][0].chosen.content == "Left."
    with pytest.raises(DataError, match="no column 'gut'"):
        read(tmp_path, rows, columns={"chosen": "gut"})


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)


@given(st.lists(st.tuples(texts, texts, texts), max_size=6))
def test_export_and_import_are_inverse(tmp_path_factory, rows):
    pairs = [
        Preference(str(n), Example(str(n), (Message("user", q),)), Message("assistant", a), Message("assistant", b))
        for n, (q, a, b) in enumerate(rows)
        if a != b
    ]
    found, drops = read(tmp_path_factory.mktemp("x"), [trl_row(one) for one in pairs])
    assert [(o.prompt.messages, o.chosen, o.rejected) for o in found] == [
        (o.prompt.messages, o.chosen, o.rejected) for o in pairs
    ] and not drops
    single = [row for one in pairs for row in kto_rows(one)]
    found, _ = read(tmp_path_factory.mktemp("y"), single)
    assert [one.paired for one in found] == [False] * len(single)


def test_trl_takes_what_is_exported(tmp_path, tiny_ref):
    """TRL's own preparation of our export gives TRL's own tokens."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    path = tmp_path / "out.jsonl"
    pairs = [
        Preference(str(n), Example(str(n), (Message("user", f"Q{n}?"),)), Message("assistant", f"a{n}"), Message("assistant", "b"))
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(trl_row(one)) + "\n" for one in pairs), "utf-8")
    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    args = DPOConfig(output_dir=str(tmp_path / "o"), use_cpu=True, bf16=False, report_to="none")
    tokenizer = AutoTokenizer.from_pretrained(tiny_ref.path)
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_ref.path), args=args, train_dataset=data, processing_class=tokenizer
    )
    row = trainer.train_dataset[0]
    assert tokenizer.decode(row["chosen_ids"]).startswith("a0") and "Q0?" in tokenizer.decode(row["prompt_ids"])


def pair(n: int, group: str = "", chosen: str = "good", rejected: str = "bad") -> Preference:
    return Preference(
        f"x{n}",
        Example(f"x{n}", (Message("user", f"Question {n}?"),), group=group or f"g{n}"),
        Message("assistant", chosen),
        Message("assistant", rejected),
    )


def account(tmp_path, preferences, examples=(), prompts=()):
    def step(name, rows):
        return Step(name, lambda ctx: iter(rows))

    done = prepare(
        tmp_path,
        sources=[step("p", list(preferences)), step("e", list(examples))],
        transforms=[],
        prompts=[step("q", list(prompts))] if prompts else [],
        split_options={"validation": 0.2, "test": 0.0, "by": "group", "seed": 1},
        max_prompts=None,
        ctx=DataContext(),
    )
    parts = {
        part: [Preference.from_dict(json.loads(line)) for line in (tmp_path / f"pairs.{part}.jsonl").read_text("utf-8").splitlines()]
        for part in ("train", "validation")
    }
    return done, parts


def test_preferences_and_demonstrations_are_split_together_by_group(tmp_path):
    examples = [Example(f"e{n}", (Message("user", f"Hello {n}"), Message("assistant", "Hi")), group=f"g{n}") for n in range(10)]
    done, parts = account(tmp_path, [pair(n) for n in range(20)], examples)
    groups = {part: {one.group_key for one in found} for part, found in parts.items()}
    assert len(parts["train"]) + len(parts["validation"]) == 20 and parts["validation"] and not groups["train"] & groups["validation"]
    held = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text("utf-8").splitlines()]
    assert not {row["group"] for row in held} & groups["train"], "one customer's demonstrations and preferences stay together"
    assert done.splits["pairs.train"] == len(parts["train"])


def test_contradictions_and_duplicates_go(tmp_path):
    done, parts = account(tmp_path, [pair(1), pair(1), pair(2), pair(2, chosen="bad", rejected="good"), pair(3), pair(4), pair(5)])
    kept = [one.id for found in parts.values() for one in found]
    assert sorted(kept) == ["x1", "x3", "x4", "x5"]
    step = next(step for step in done.steps if step["name"] == "preferences")
    assert step["drops"] == {"duplicate preference": 1, "preferred both ways": 2} and step["rows_in"] == step["rows_out"] + 3


def test_a_preference_in_training_is_no_question_of_the_examination(tmp_path):
    asked = [Example(f"q{n}", (Message("user", f"question  {n}?"),)) for n in range(8)]
    done, parts = account(tmp_path, [pair(n) for n in range(5)], prompts=asked)
    trained = sum(len(found) for found in parts.values())
    assert next(step for step in done.steps if step["name"] == "prompts")["drops"] == {"prompt is in the training data": trained}


def test_hh_and_its_pairs_with_two_prompts(shared_data):
    catalog = Host(allow=()).catalog
    entry = catalog.get("source", "preferences")
    path = str(shared_data / "hh_rlhf_harmless_test" / "harmless-base-test.jsonl.gz")
    ctx = DataContext()
    found = list(catalog.target(entry)(catalog.config_model(entry).model_validate({"path": path}), ctx))
    assert len(found) + sum(ctx.drops.values()) == 2312 and ctx.drops["the two sides have different prompts"] >= 5
    assert len(found) > 2280 and {m.role for one in found for m in one.prompt.messages} == {"user", "assistant"}


def test_show_and_export_from_the_command_line(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(pair(n).to_dict()) for n in range(3)), "utf-8")
    shown = CliRunner().invoke(cli, ["pairs", "show", str(path)], catch_exceptions=False)
    assert "3 pairs: 3 imported" in shown.output and "Question 1?" in shown.output
    out = tmp_path / "out.jsonl"
    done = CliRunner().invoke(cli, ["pairs", "export", str(path), "--to", str(out), "--format", "kto", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["rows"] == 6 and len(out.read_text("utf-8").splitlines()) == 6
