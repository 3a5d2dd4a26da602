"""Preference data in all usual shapes, through the source, the data stage and back out."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft import Host
from agentft.cli.main import cli
from agentft.contracts import DataContext
from agentft.data.pair_export import kto_rows, trl_row
from agentft.data.prepare import Step, prepare
from agentft.errors import DataError, UserError
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


WRONG = {
    "no id": ({"prompt": {"messages": [user("q")]}, "chosen": says("a"), "rejected": says("b")}, None),
    "margin": (
        {"id": "1", "prompt": {"messages": [user("q")]}, "chosen": says("a"), "rejected": says("b"), "margin": "much"},
        "not a preference as agentft writes them: could not convert string to float: 'much'",
    ),
    "answer of a user": (
        {"id": "1", "prompt": {"messages": [user("q")]}, "chosen": user("a"), "rejected": says("b")},
        "'chosen' and 'rejected' must be messages of the assistant",
    ),
    "list of texts": ({"prompt": "q", "chosen": ["a"], "rejected": "b"}, "a message must be an object with role and content, not str"),
    "tools": ({"prompt": "q", "chosen": "a", "rejected": "b", "tools": "{"}, "'tools' must be a list of JSON schemas"),
    "no completions": ({"prompt": "q", "completions": None}, "'completions' must be a list"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_row_is_said(tmp_path, case):
    row, message = WRONG[case]
    if message is None:
        assert read(tmp_path, [row])[0][0].id == "pairs-1"
    else:
        with pytest.raises(DataError) as error:
            read(tmp_path, [row])
        assert str(error.value).startswith(f"{tmp_path / 'pairs.jsonl'}:1: {message}")


def test_a_prompt_that_is_repeated_in_both_sides_is_told_from_an_answer_of_two_messages(tmp_path):
    turns = [user("q"), says("and?"), user("more")]
    repeated = {"prompt": turns, "chosen": [*turns, says("a")], "rejected": [*turns, says("b")]}
    twice = {"prompt": turns, "chosen": [says("a"), user("ok"), says("c")], "rejected": [says("b")]}
    (one,), drops = read(tmp_path, [repeated, twice])
    assert [m.content for m in one.prompt.messages] == ["q", "and?", "more"] and one.chosen.content == "a"
    assert drops == {"chosen is not one message of the assistant": 1}


def test_one_speaker_twice_in_a_transcript_is_one_turn(tmp_path):
    start = "\n\nHuman: Hi.\n\nAssistant: Yes?\n\nAssistant: Tell me.\n\nHuman: Where?\n\nAssistant:"
    (one,), _ = read(tmp_path, [{"chosen": f"{start} Left.", "rejected": f"{start} No."}])
    assert [(m.role, m.content) for m in one.prompt.messages] == [("user", "Hi."), ("assistant", "Yes?\n\nTell me."), ("user", "Where?")]


def test_a_group_must_be_a_column_and_an_empty_one_falls_back_to_the_prompt(tmp_path):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "c": value} for value in ("x", None, "", 0)]
    groups = [one.group_key for one in read(tmp_path, rows, group="c")[0]]
    assert groups[0] == "x" and groups[1] == groups[2] != "None" and groups[1].startswith("prompt-") and groups[3] == "0"
    with pytest.raises(DataError, match=r"pairs.jsonl:1: no column 'customer' \(columns: prompt, chosen, rejected, c\)"):
        read(tmp_path, rows, group="customer")


def test_scores_that_are_no_numbers_do_not_count(tmp_path):
    rated = [("a", float("inf")), ("b", "N/A"), ("c", None), ("d", 2), ("e", "5")]
    (one,), _ = read(tmp_path, [{"prompt": "q", "completions": [{"text": text, "rating": value} for text, value in rated]}])
    assert (one.chosen.content, one.rejected.content, one.margin) == ("e", "d", 3)


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


calls = st.builds(
    lambda name, arguments: Message("assistant", "", tool_calls=({"name": name, "arguments": arguments},)),
    st.sampled_from(["look_up", "cancel"]),
    st.dictionaries(st.sampled_from(["order", "city"]), st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=2),
)
answers = st.one_of(texts.map(lambda text: Message("assistant", text)), calls)
before = st.lists(
    st.one_of(
        texts.map(lambda text: Message("user", text)),
        answers,
        texts.map(lambda text: Message("tool", text, name="look_up")),
        texts.map(lambda text: Message("system", text)),
    ),
    max_size=4,
)
schemas = st.sampled_from([(), ({"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}},)])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(before, texts, answers, answers, schemas), max_size=4))
def test_conversations_with_tools_come_back_as_they_went(tmp_path_factory, rows):
    pairs = [
        Preference(str(n), Example(str(n), (*turns, Message("user", ask)), tools), chosen, rejected)
        for n, (turns, ask, chosen, rejected, tools) in enumerate(rows)
        if chosen != rejected
    ]

    def compared(one):
        return one.prompt.messages, one.prompt.tools, one.chosen, one.rejected

    found, drops = read(tmp_path_factory.mktemp("x"), [trl_row(one) for one in pairs])
    assert [compared(one) for one in found] == [compared(one) for one in pairs] and not drops
    found, drops = read(tmp_path_factory.mktemp("y"), [row for one in pairs for row in kto_rows(one)])
    both = [(side(one), up) for one in pairs for side, up in ((lambda o: o.chosen, True), (lambda o: o.rejected, False))]
    assert [(one.chosen or one.rejected, one.chosen is not None) for one in found] == both and not drops
    own, drops = read(tmp_path_factory.mktemp("z"), [one.to_dict() for one in pairs])
    assert [one.to_dict() for one in own] == [one.to_dict() for one in pairs] and not drops


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["prompt", "chosen", "rejected", "completion", "completions", "label", "role", "content", "messages", "score", "text"]
                ),
                x,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(["auto", "trl", "implicit", "hh", "scores", "kto", "agentft"]),
)
def test_whatever_is_in_a_row_gives_a_line_and_never_a_traceback(tmp_path_factory, row, form):
    found, drops = read(tmp_path_factory.mktemp("x"), [row], format=form, on_bad="skip")
    assert len(found) + sum(drops.values()) == 1


@settings(max_examples=50, deadline=None)
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


def account(tmp_path, preferences, examples=(), prompts=(), weight=1.0):
    def step(name, rows, weight=1.0):
        return Step(name, lambda ctx: iter(rows), weight)

    done = prepare(
        tmp_path,
        sources=[step("p", list(preferences), weight), step("e", list(examples))],
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


def test_the_weight_of_a_source_multiplies_its_preferences_and_its_duplicates_go_all_the_same(tmp_path):
    done, parts = account(tmp_path, [pair(1), pair(1), pair(2), pair(3), pair(4)], weight=2)
    kept = [one for found in parts.values() for one in found]
    assert len(kept) == 8 and len({one.id for one in kept}) == 8
    assert next(step for step in done.steps if step["name"] == "preferences")["drops"] == {"duplicate preference": 2}
    assert not {one.group_key for one in parts["train"]} & {one.group_key for one in parts["validation"]}


def test_other_tool_calls_and_another_history_are_other_preferences(tmp_path):
    def call(n):
        return Message("assistant", "", tool_calls=({"name": "cancel", "arguments": {"order": n}},))

    ask = Message("user", "Cancel it.")
    rows = [Preference(f"c{n}", Example(f"c{n}", (ask,)), call(n), call(9)) for n in range(3)]
    rows += [
        Preference(f"h{n}", Example(f"h{n}", (ask, Message("assistant", f"Order {n}?"), ask)), Message("assistant", "a"), call(9))
        for n in range(3)
    ]
    done, _ = account(tmp_path, rows)
    assert next(step for step in done.steps if step["name"] == "preferences")["rows_out"] == 6


def test_a_thumb_up_and_a_thumb_down_for_one_answer_contradict_each_other(tmp_path):
    up, down = (pair(n, chosen="same", rejected="same") for n in (1, 1))
    rows = [replace(up, rejected=None), replace(down, id="down", chosen=None), pair(2), pair(3), pair(4)]
    done, _ = account(tmp_path, rows)
    assert next(step for step in done.steps if step["name"] == "preferences")["drops"] == {"preferred both ways": 2}


def test_transforms_see_demonstrations_only(tmp_path):
    seen = []

    def note(records, ctx):
        for record in records:
            seen.append(record)
            yield record

    talk = Example("e", (Message("user", "Hello"), Message("assistant", "Hi")))
    options = {"validation": 0.0, "test": 0.0, "by": "group", "seed": 1}
    sources = [Step("both", lambda ctx: iter([pair(1), talk, pair(2)]))]
    done = prepare(
        tmp_path, sources=sources, transforms=[Step("t", note)], prompts=[], split_options=options, max_prompts=None, ctx=DataContext()
    )
    assert seen == [talk] and done.splits["pairs.train"] == 2 and done.splits["train"] == 1


def test_without_preferences_there_is_no_file_and_no_count(tmp_path):
    talk = Example("e", (Message("user", "Hello"), Message("assistant", "Hi")))
    options = {"validation": 0.0, "test": 0.0, "by": "group", "seed": 1}
    done = prepare(
        tmp_path,
        sources=[Step("e", lambda ctx: iter([talk]))],
        transforms=[],
        prompts=[],
        split_options=options,
        max_prompts=None,
        ctx=DataContext(),
    )
    assert done.splits == {"train": 1, "validation": 0, "test": 0, "prompts": 0} and not list(tmp_path.glob("pairs*"))


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
    # What was written can be looked at again, and written again as pairs: thumbs are left out and counted.
    again = CliRunner().invoke(cli, ["pairs", "export", str(out), "--to", str(tmp_path / "a.jsonl"), "--json"], catch_exceptions=False)
    assert json.loads(again.stdout)["reasons"] == {"a thumb without a partner (--format kto has them)": 6}


def test_a_file_that_holds_no_preferences_is_named_with_its_line(tmp_path):
    path = tmp_path / "talks[1].jsonl"
    path.write_text(json.dumps({"messages": [user("q"), says("a")]}), "utf-8")
    for arguments in (["show", str(path)], ["export", str(path), "--to", str(tmp_path / "out.jsonl")]):
        with pytest.raises(DataError, match=r"talks\[1\].jsonl:1: no preference in the keys messages"):
            CliRunner().invoke(cli, ["pairs", *arguments], catch_exceptions=False)
    path.write_text(json.dumps(SHAPES["trl"]), "utf-8")
    with pytest.raises(UserError, match="cannot write .*No such file or directory"):
        CliRunner().invoke(cli, ["pairs", "export", str(path), "--to", str(tmp_path / "no" / "out.jsonl")], catch_exceptions=False)
    with pytest.raises(UserError, match="--round is for runs"):
        CliRunner().invoke(cli, ["pairs", "show", str(path), "--round", "1"], catch_exceptions=False)


def test_pairs_of_a_run_are_those_of_its_latest_round_else_of_its_data(tmp_path):
    def store(folder, name, *pairs):
        place = tmp_path / "runs" / "stages" / folder
        place.mkdir(parents=True)
        (place / name).write_text("".join(json.dumps(one.to_dict()) + "\n" for one in pairs), "utf-8")
        return folder

    def shown(*arguments):
        done = CliRunner().invoke(cli, ["pairs", "show", *arguments, "--json"], catch_exceptions=False)
        return [row["id"] for row in json.loads(done.stdout)]

    run = tmp_path / "runs" / "clerk-1"
    run.mkdir(parents=True)
    manifest = {"id": "clerk-1", "name": "clerk", "started": "2026-01-01", "updated": "2026-01-01", "status": "complete"}
    stages = [{"name": "data", "folder": store("data-a", "pairs.train.jsonl", pair(1))}]
    (run / "run.json").write_text(json.dumps(manifest | {"stages": stages}), "utf-8")
    runs = ("--runs", str(tmp_path / "runs"))
    assert shown("clerk", *runs) == shown("clerk-1", *runs) == ["x1"]
    rounds = [
        {"stages": {f"round-{n}-pairs": store(f"round-{n}-pairs-a", "pairs.jsonl", pair(n)), f"round-{n}-lock": f"lock-{n}"}}
        for n in (2, 9, 10)
    ]
    (run / "rounds.json").write_text(json.dumps({"current": "start", "versions": [], "rounds": rounds, "moves": []}), "utf-8")
    assert shown("clerk", *runs) == shown(str(run)) == ["x10"], "the latest round by number; a folder says itself where its store is"
    assert shown("clerk", "--round", "2", *runs) == ["x2"]
    with pytest.raises(UserError, match="clerk-1 has no pairs of round 3"):
        shown("clerk", "--round", "3", *runs)
    (tmp_path / "runs" / "stages" / "data-a" / "pairs.train.jsonl").unlink()
    (run / "rounds.json").unlink()
    with pytest.raises(UserError, match="clerk-1 has no pairs; `agentft refine` makes some"):
        shown("clerk", *runs)
