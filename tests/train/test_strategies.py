"""Every strategy moves what it says and nothing else, and what it leaves behind answers as plain PEFT does."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny import SYSTEM, tiny_model, write_rows

from agentft.contracts import GenerationSettings, TrainJob
from agentft.engine.agent import LoadedAgent
from agentft.errors import TrainingError
from agentft.records import Example, Message
from agentft.train import dpo, kto, reward
from agentft.train.sft import SFTConfig, train
from agentft.train.strategies import Strategy

VIRTUAL = [
    {"prompt-tuning": {"tokens": 3}},
    {"prompt-tuning": {"tokens": 4, "init": "text", "text": "Be kind. 好。"}},
    {"prefix-tuning": {"tokens": 3}},
    {"prefix-tuning": {"tokens": 4, "init": "text", "text": "Be kind. 好。"}},
]
ADAPTERS = [
    "lora",
    {"lora": {"r": 4, "rslora": True, "dora": True, "rank_pattern": {"q_proj": 2}, "modules_to_save": ["lm_head"]}},
    *VIRTUAL,
]
FULL = [
    "full",
    {"freeze": {"layers": 1}},
    {"freeze": {"layers": 2, "embeddings": False}},
    {"freeze": "head-only"},
    {"freeze": {"patterns": [r"mlp\.", "embed"]}},
]


slow = pytest.mark.slow


def mixed(fast, all_of_them):
    """Parameters, of which only ``fast`` run in the fast group."""
    return [pytest.param(one, id=word(one), marks=() if one in fast else slow) for one in all_of_them]


def word(strategy):
    return strategy if isinstance(strategy, str) else json.dumps(strategy)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 8)


@pytest.fixture
def job(tiny_ref, cpu, tmp_path, rows):
    config = SFTConfig(epochs=1, learning_rate=2e-2, batch_size=4)
    return TrainJob(model=tiny_ref, rows=rows, out=tmp_path / "out", config=config, seed=3, pad_token_id=2, device=cpu.to_dict())


def with_config(job, out=None, **options):
    config = SFTConfig(**{"epochs": 1, "learning_rate": 2e-2, "batch_size": 4} | options)
    return replace(job, config=config, **({"out": out} if out else {}))


def weights(folder):
    from safetensors.torch import load_file

    return load_file(next(iter(Path(folder).glob("*.safetensors"))))


MOVED = {
    "full": lambda name: True,
    '{"freeze": {"layers": 1}}': lambda name: "layers.0." not in name and "embed" not in name,
    '{"freeze": {"layers": 2, "embeddings": false}}': lambda name: "layers." not in name,
    '{"freeze": "head-only"}': lambda name: "lm_head" in name,
    '{"freeze": {"patterns": ["mlp\\\\.", "embed"]}}': lambda name: "mlp." not in name and "embed" not in name,
}


@pytest.mark.parametrize("strategy", mixed([FULL[1], FULL[3], FULL[4]], FULL))
def test_frozen_weights_stay_and_the_others_move(job, strategy):
    result = train(with_config(job, strategy=strategy))
    before, after = weights(job.model.path), weights(result.model)
    assert before.keys() == after.keys() and result.adapter is None
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved == {name for name in before if MOVED[word(strategy)](name)}
    assert result.trainable == sum(before[name].numel() for name in moved)
    assert result.total == sum(tensor.numel() for tensor in before.values())


@pytest.mark.parametrize("strategy", mixed([ADAPTERS[1], VIRTUAL[0], VIRTUAL[2]], ADAPTERS))
def test_an_adapter_moves_and_the_model_below_it_stays(job, strategy, tmp_path):
    result = train(with_config(job, strategy=strategy))
    adapter = weights(result.adapter)
    assert result.model is None and 0 < result.trainable < result.total
    # A module that is trained in full is kept twice, as it was and as it is.
    assert result.trainable == sum(tensor.numel() for tensor in adapter.values())
    other = weights(train(with_config(job, tmp_path / "slow", strategy=strategy, learning_rate=1e-2)).adapter)
    # Two rates: whatever moved, differs. The first factor of LoRA has no gradient while the second one is still zero.
    assert all((adapter[name] != other[name]).any() for name in adapter if "lora_A" not in name)
    text = (result.adapter / "adapter_config.json").read_text()
    assert "Be kind" not in text and json.loads(text).get("tokenizer_name_or_path") is None


@slow
def test_seeds_decide_where_virtual_tokens_start(job, tmp_path):
    for strategy in ("prompt-tuning", "prefix-tuning"):
        one, two, three = (
            weights(train(replace(with_config(job, tmp_path / f"{strategy}{name}", strategy=strategy), seed=seed)).adapter)
            for name, seed in (("a", 3), ("b", 3), ("c", 4))
        )
        assert all((one[key] == two[key]).all() for key in one)
        assert any((one[key] != three[key]).any() for key in one)


@pytest.mark.slow
def test_virtual_tokens_start_at_the_text(job, tmp_path):
    """With a rate of next to nothing the loss of a prefix started at a text is that of the text in front of each row."""
    import torch

    from agentft.engine.models import load_model, load_tokenizer
    from agentft.engine.profile import Profile

    text = "Hello!"
    ids = load_tokenizer(job.model)(text, add_special_tokens=False).input_ids
    model = load_model(job.model, Profile())
    read = [json.loads(line) for line in job.rows.read_text().splitlines()]
    total = 0.0
    for row in read:
        given = {"input_ids": torch.tensor([ids + row["input_ids"]]), "labels": torch.tensor([[-100] * len(ids) + row["labels"]])}
        with torch.inference_mode():
            total += float(model(**given).loss)
    for strategy in ("prompt-tuning", "prefix-tuning"):
        options = {strategy: {"tokens": len(ids), "init": "text", "text": text}}
        result = train(with_config(job, tmp_path / strategy, strategy=options, batch_size=8, learning_rate=1e-12))
        assert result.metrics["first_loss"] == pytest.approx(total / len(read), rel=1e-4)


TALKS = [
    Example("a", (Message("user", "hi"), Message("assistant", "hello"))),
    Example("b", (Message("user", "one"), Message("assistant", "two"), Message("user", "three"), Message("assistant", "four, 五"))),
    Example("c", (Message("user", "a much longer question than the others, so that rows differ"), Message("assistant", "yes"))),
]


@pytest.fixture(scope="module", params=[VIRTUAL[0], VIRTUAL[2]], ids=word)
def virtual(request, tiny_ref, cpu, tmp_path_factory, rows):
    """A trained adapter with virtual tokens, as an agent, and as PEFT loads it."""
    from peft import AutoPeftModelForCausalLM

    folder = tmp_path_factory.mktemp("virtual")
    config = SFTConfig(strategy=request.param, epochs=2, learning_rate=5e-2, batch_size=4)
    result = train(TrainJob(tiny_ref, rows, folder / "out", config, 3, 2, device=cpu.to_dict()))
    plain = AutoPeftModelForCausalLM.from_pretrained(str(result.adapter)).eval()
    return LoadedAgent.load(tiny_ref, result.adapter, SYSTEM, cpu), plain, LoadedAgent.load(tiny_ref, None, SYSTEM, cpu)


@pytest.mark.parametrize("share", [True, False])
def test_logprobs_are_those_of_plain_peft(virtual, share):
    import torch

    agent, plain, base = virtual
    scored = replace(agent, profile=replace(agent.profile, share_prefix=share)).logprobs(TALKS)
    for example, (total, count) in zip(TALKS, scored, strict=True):
        (row,) = agent.renderer.training(example)
        with torch.inference_mode():
            loss = plain(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
        assert total == pytest.approx(-float(loss) * count, rel=1e-4)
    assert abs(scored[0][0] - base.logprobs(TALKS)[0][0]) > 0.01


@pytest.mark.parametrize("share", [True, False])
def test_answers_are_those_of_plain_peft_one_row_at_a_time(virtual, share):
    import torch

    agent, plain, base = virtual
    settings = GenerationSettings(max_new_tokens=16)
    questions = ["hi", "a longer question, with a comma", "三", "hi there"]
    found = replace(agent, profile=replace(agent.profile, share_prefix=share)).generate(questions, settings)
    for question, response in zip(questions, found, strict=True):
        ids = agent.renderer.prompt(Example("q", (Message("user", question),))).input_ids
        with torch.inference_mode():
            new = plain.generate(
                input_ids=torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=list(agent.renderer.stop_token_ids)
            )[0, len(ids) :].tolist()
        assert response.text == agent.renderer.answer(new), response
    assert [one.text for one in found] != [one.text for one in base.generate(questions, settings)]
    assert agent.chat([{"role": "user", "content": "hi"}], settings) == found[0].text


def test_sampling_does_not_depend_on_the_batch_and_differs_by_seed(virtual):
    agent, *_ = virtual
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0)
    together = agent.generate(["hi", "longer than that"], settings)
    assert agent.generate(["hi"], settings)[0].text == together[0].text
    assert agent.generate(["hi"], replace(settings, seed=1))[0].text != together[0].text


def test_virtual_tokens_count_towards_the_context(virtual):
    agent, *_ = virtual
    assert agent.context == 512 - 3
    (response,) = agent.generate(["x" * 400], GenerationSettings(max_new_tokens=80))
    assert response.finish == "error" and "context of 509" in response.error


@pytest.mark.parametrize("strategy", mixed([VIRTUAL[3]], [VIRTUAL[1], VIRTUAL[3], FULL[1]]))
@pytest.mark.slow
def test_resumed_training_ends_with_the_same_weights(job, tmp_path, strategy):
    whole = with_config(job, tmp_path / "whole", strategy=strategy, epochs=2, save_every=1)

    class Killed(Exception):
        pass

    def kill(step, *_):
        if step == 3:
            raise Killed

    broken = replace(whole, out=tmp_path / "broken")
    with pytest.raises(Killed):
        train(replace(broken, progress=kill))
    steps = []
    result = train(replace(broken, progress=lambda step, *_: steps.append(step)))
    expected = train(whole)
    one, two = weights(expected.adapter or expected.model), weights(result.adapter or result.model)
    assert steps == [3, 4] and all((one[key] == two[key]).all() for key in one)


@pytest.mark.parametrize("strategy", mixed([VIRTUAL[0], VIRTUAL[2]], ADAPTERS[1:]))
def test_a_later_stage_continues_the_adapter(job, tmp_path, strategy):
    first = train(with_config(job, strategy=strategy, epochs=3))
    second = train(replace(with_config(job, tmp_path / "second", strategy=strategy, epochs=3), adapter=first.adapter))
    assert second.metrics["first_loss"] < first.metrics["first_loss"]
    assert (second.trainable, second.total) == (first.trainable, first.total)
    assert weights(first.adapter).keys() == weights(second.adapter).keys()


def test_stages_that_do_not_fit_each_other_are_refused(job, tmp_path):
    prompt = train(with_config(job, tmp_path / "prompt", strategy=VIRTUAL[0])).adapter
    lora = train(with_config(job, tmp_path / "lora", strategy="lora")).adapter
    for adapter, strategy, message in (
        (prompt, {"prompt-tuning": {"tokens": 9}}, "has 3 virtual tokens, not 9"),
        (prompt, "lora", "is one of prompt-tuning, not of lora"),
        (prompt, "full", "full cannot follow a stage with virtual tokens"),
        (prompt, {"freeze": "head-only"}, "freeze cannot follow"),
        (lora, "prefix-tuning", "is one of lora, not of prefix-tuning"),
        (lora, {"lora": {"dora": True}}, "has dora False, not True"),
    ):
        with pytest.raises(TrainingError, match=message):
            train(replace(with_config(job, tmp_path / "next", strategy=strategy), adapter=adapter))


@slow
def test_freezing_after_an_adapter_starts_from_both(job, tmp_path):
    first = train(with_config(job, epochs=4, strategy="lora"))
    second = train(replace(with_config(job, tmp_path / "second", strategy={"freeze": {"layers": 1}}), adapter=first.adapter))
    assert second.metrics["first_loss"] < 0.9 * first.metrics["first_loss"]


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"freeze": {"layers": 3}}, "3 layers are to stay as they are, and the model has 2"),
        ({"freeze": {"patterns": ["mlp", "nothing_like_it"]}}, "'nothing_like_it' finds no parameter"),
        ({"freeze": {"patterns": ["."]}}, "no parameter is left to train"),
    ],
)
def test_freezing_that_does_not_fit_the_model(job, strategy, message):
    with pytest.raises(TrainingError, match=message):
        train(with_config(job, strategy=strategy))


@pytest.mark.parametrize(("strategy", "word"), [({"freeze": {"layers": 1}}, "stayed as they were"), ({"freeze": "head-only"}, "moved")])
def test_tied_embeddings_are_said(job, tmp_path, strategy, word):
    ref = tiny_model(tmp_path / "tied", tie_word_embeddings=True)
    result = train(replace(with_config(job, strategy=strategy), model=ref))
    before, after = weights(ref.path), weights(result.model)
    name = "model.embed_tokens.weight"
    assert (before[name] != after[name]).any() == (word == "moved")
    assert any("tied embeddings" in note and word in note for note in result.notes)
    assert train(replace(with_config(job, strategy=strategy), model=ref)) == result  # from result.json


def small(kind):
    import torch
    import transformers as t

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 50}
    if kind == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=50, n_positions=32))
    if kind == "bert":
        return t.BertForSequenceClassification(t.BertConfig(**sizes))
    if kind == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**sizes, num_key_value_heads=2, tie_word_embeddings=False))
    moe = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "decoder_sparse_step": 1, "head_dim": 8}
    return t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**sizes, **moe, num_key_value_heads=2))


LAYERS = {"gpt2": "transformer.h", "bert": "bert.encoder.layer", "qwen2": "model.layers", "moe": "model.layers"}
LOW = {
    "gpt2": ["transformer.wpe.weight", "transformer.wte.weight"],
    "bert": [
        "bert.embeddings.LayerNorm.bias",
        "bert.embeddings.LayerNorm.weight",
        "bert.embeddings.position_embeddings.weight",
        "bert.embeddings.token_type_embeddings.weight",
        "bert.embeddings.word_embeddings.weight",
    ],
    "qwen2": ["model.embed_tokens.weight"],
    "moe": ["model.embed_tokens.weight"],
}
HEAD = {
    "gpt2": {"transformer.wte.weight"},  # tied
    "bert": {"classifier.weight", "classifier.bias"},
    "qwen2": {"lm_head.weight"},
    "moe": {"lm_head.weight"},
}


@pytest.mark.parametrize("kind", list(LAYERS))
def test_layers_embeddings_and_heads_are_found_in_all_families(kind):
    from agentft.train.setup import with_strategy
    from agentft.train.structure import embedding_names, stacks

    model = small(kind)
    assert stacks(model) == [(LAYERS[kind], 3)]
    assert sorted(embedding_names(model)) == LOW[kind]
    frozen, none = with_strategy(model, Strategy.model_validate({"freeze": {"layers": 2}}), task_type="CAUSAL_LM")
    assert none is None
    still = {name for name, parameter in frozen.named_parameters() if not parameter.requires_grad}
    lowest = tuple(f"{LAYERS[kind]}.{number}." for number in (0, 1))
    assert still == {name for name, _ in model.named_parameters() if name.startswith(lowest) or name in LOW[kind]}
    heads = ["classifier"] if kind == "bert" else []
    only, _ = with_strategy(small(kind), Strategy.model_validate({"freeze": "head-only"}), task_type="SEQ_CLS", heads=heads)
    assert {name for name, parameter in only.named_parameters() if parameter.requires_grad} == HEAD[kind]


def test_heads_are_trained_and_saved_with_any_adapter():
    from peft import get_peft_model, get_peft_model_state_dict

    from agentft.train.setup import with_strategy

    for strategy in ("lora", "prompt-tuning"):
        chosen = Strategy.model_validate(strategy)
        assert chosen.adapter
        model, config = with_strategy(small("bert"), chosen, task_type="SEQ_CLS", heads=["classifier"], job_seed=1)
        tuned = get_peft_model(model, config)
        assert any("classifier" in name for name in get_peft_model_state_dict(tuned))
        assert any("classifier" in name for name, parameter in tuned.named_parameters() if parameter.requires_grad)
    with pytest.raises(TrainingError, match="reads in both directions; use prompt-tuning or lora"):
        with_strategy(small("bert"), Strategy.model_validate("prefix-tuning"), task_type="SEQ_CLS")


def write_pairs(path: Path, count: int = 8) -> Path:
    import random

    draw = random.Random(0)

    def some(n):
        return [draw.randrange(3, 250) for _ in range(n)]

    prompt = some(40)
    with path.open("w") as file:
        for i in range(count):
            row = {
                "id": f"p{i}",
                "prompt_ids": prompt + some(5 + i),
                "chosen_ids": [9, 9, *some(2), 2],
                "rejected_ids": [*some(3 + i % 3), 2],
            }
            file.write(json.dumps(row) + "\n")
    return path


PAIRED = {"dpo": (dpo.train, dpo.DPOConfig), "kto": (kto.train, kto.KTOConfig), "reward": (reward.train, reward.RewardConfig)}


FAST = (("dpo", VIRTUAL[0]), ("kto", VIRTUAL[2]), ("reward", VIRTUAL[2]))


@pytest.mark.parametrize(
    ("method", "strategy"),
    [
        pytest.param(method, strategy, id=f"{method}-{word(strategy)}", marks=() if (method, strategy) in FAST else slow)
        for method in PAIRED
        for strategy in (VIRTUAL[0], VIRTUAL[2], FULL[1])
    ],
)
def test_preference_methods_take_every_strategy(job, tmp_path, method, strategy, cpu):
    run, options = PAIRED[method]
    config = options(strategy=strategy, epochs=3, batch_size=4, learning_rate=2e-2)
    rows = write_pairs(tmp_path / "pairs.jsonl")
    result = run(replace(job, rows=rows, config=config))
    assert 0 < result.trainable < result.total
    margin = result.metrics.get("margin", result.metrics.get("train_margin"))
    if margin is not None:
        assert margin > 0
    if method == "reward" and result.adapter:
        scores_as_in_training(job, result, rows, cpu)


def scores_as_in_training(job, result, rows, cpu):
    """A reward model with virtual tokens gives a padded batch the scores that PEFT gives each row alone."""
    import torch
    from peft import AutoPeftModelForSequenceClassification

    from agentft.engine.reward import last_scores
    from agentft.engine.score import pad

    plain = AutoPeftModelForSequenceClassification.from_pretrained(str(result.adapter), num_labels=1).eval()
    plain.config.pad_token_id = 0  # by itself the model would take the stop token at the end of a row for padding
    ids = [row["prompt_ids"] + row["chosen_ids"] for row in map(json.loads, rows.read_text().splitlines())]
    with torch.inference_mode():
        found = last_scores(plain, pad(ids, 2), pad([[1] * len(row) for row in ids], 0)).tolist()
        assert len({round(value, 4) for value in found}) > 1
        for row, value in zip(ids, found, strict=True):
            (alone,) = last_scores(plain, torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long)).tolist()
            logits = plain(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long)).logits
            assert value == pytest.approx(alone, abs=1e-4)
            assert value == pytest.approx(float(logits), abs=1e-4)


@slow
def test_continued_preference_training_starts_from_its_reference(job, tmp_path):
    for strategy in (VIRTUAL[0], VIRTUAL[2]):
        first = train(with_config(job, tmp_path / f"sft{word(strategy)[2:8]}", strategy=strategy))
        config = dpo.DPOConfig(strategy=strategy, epochs=1, batch_size=8, learning_rate=1e-12)
        out = tmp_path / f"dpo{word(strategy)[2:8]}"
        result = dpo.train(replace(job, rows=write_pairs(tmp_path / "p.jsonl"), config=config, adapter=first.adapter, out=out))
        assert abs(result.metrics["margin"]) < 1e-4  # the same log-probabilities, once under the reference and once in training


@slow
def test_bf16_profile_and_checkpointing(job, cpu, tmp_path):
    plain = train(with_config(job, tmp_path / "plain", strategy="prompt-tuning"))
    slow = train(with_config(job, tmp_path / "slow", strategy="prompt-tuning", gradient_checkpointing=True))
    for key, tensor in weights(plain.adapter).items():
        assert weights(slow.adapter)[key].sub(tensor).abs().max() < 2e-3
    # Asked for by the machine and not by the recipe, checkpointing is left out where it would drop the prefix.
    for profile in (replace(cpu, gradient_checkpointing=True), replace(cpu, train_dtype="bfloat16")):
        result = train(replace(with_config(job, tmp_path / profile.train_dtype, strategy="prefix-tuning"), device=profile.to_dict()))
        assert {str(tensor.dtype) for tensor in weights(result.adapter).values()} == {"torch.float32"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "prompt_tunin"}, "did you mean 'prompt-tuning'"),
        ({"strategy": {"freeze": {}}}, "freeze names nothing that is to stay"),
        ({"strategy": {"freeze": "head"}}, "freeze must be head-only, or a mapping"),
        ({"strategy": {"freeze": {"only": "head", "layers": 2}}}, "freezes everything else already"),
        ({"strategy": {"freeze": {"patterns": ["("]}}}, "no regular expression"),
        ({"strategy": {"lora": {"rank_pattern": {"q_proj": 0}}}}, "rank of 'q_proj' must be at least 1"),
        ({"strategy": {"prompt-tuning": {"init": "text"}}}, "`init: text` and `text: ...` go together"),
        ({"strategy": {"prompt-tuning": {"text": "x"}}}, "go together"),
        ({"strategy": {"prompt-tuning": {"tokens": 0}}}, "prompt-tuning.tokens"),
        ({"strategy": "prefix-tuning", "gradient_checkpointing": True}, "cannot be used with prefix-tuning"),
        ({"strategy": "prompt-tuning", "layer_decay": 0.9}, "only virtual tokens move"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValidationError, match=message):
        SFTConfig(**options)


def test_weighting_of_pairs_does_not_know_virtual_tokens():
    with pytest.raises(ValidationError, match="use_weighting cannot be used with prompt-tuning"):
        dpo.DPOConfig(strategy="prompt-tuning", use_weighting=True)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_qlora_without_bitsandbytes_is_refused_at_once():
    with pytest.raises(ValidationError, match="qlora needs a CUDA GPU and bitsandbytes .pip install bitsandbytes"):
        SFTConfig(strategy={"qlora": {"r": 8}})


def test_qlora_without_cuda_is_refused_in_training(job, monkeypatch):
    from agentft.train import strategies

    monkeypatch.setattr(strategies.importlib.util, "find_spec", lambda name: object())
    config = SFTConfig(strategy={"qlora": {"r": 8, "bits": 4}})
    monkeypatch.undo()
    assert config.strategy.adapter and config.strategy.low_rank.r == 8
    with pytest.raises(TrainingError, match="qlora needs a CUDA GPU, and this job runs on cpu; use lora"):
        train(replace(job, config=config))


@given(
    st.sampled_from(["full", "lora", "prompt-tuning", "prefix-tuning", "freeze"]),
    st.integers(1, 64),
    st.one_of(st.none(), st.floats(1e-6, 1)),
)
def test_a_strategy_survives_being_written_down(name, number, rate):
    inner = {"full": {}, "lora": {"r": number}, "freeze": {"layers": number}}.get(name, {"tokens": number})
    config = SFTConfig(strategy={name: inner}, learning_rate=rate)
    assert config.strategy.name == name
    assert SFTConfig.model_validate(config.model_dump(mode="json")) == config
    assert SFTConfig.model_validate(config.model_dump(by_alias=True)) == config
    assert config.rate == rate or (rate is None and config.rate == {"full": 2e-5, "freeze": 2e-5, "lora": 2e-4}.get(name, 2e-2))


def test_virtual_tokens_learn_from_real_rows(tiny_ref, cpu, tmp_path, shared_data):
    """Published conversations: the loss falls, and the adapter likes their answers more than the base does."""
    from agentft.contracts import DataContext
    from agentft.data.chats import ChatsConfig, read_chats
    from agentft.engine.models import load_tokenizer
    from agentft.render.conversation import Renderer
    from agentft.render.rows import render_rows

    folder = shared_data / "llamafactory_demo"
    ctx, examples = DataContext(base=folder), []
    for example in read_chats(ChatsConfig.model_validate({"path": "identity.json"}), ctx):
        if len(examples) < 24 and len(str(example.messages)) < 300:
            examples.append(example)
    tokenizer, rows = load_tokenizer(tiny_ref), tmp_path / "rows.jsonl"
    report = render_rows(Renderer(tokenizer, SYSTEM), examples, rows, max_length=480, overflow="drop", ctx=ctx)
    assert report.rows_out > 12
    config = SFTConfig(strategy="prefix-tuning", epochs=4, batch_size=8, learning_rate=5e-2)
    result = train(TrainJob(tiny_ref, rows, tmp_path / "out", config, 1, tokenizer.pad_token_id, device=cpu.to_dict()))
    assert result.metrics["final_loss"] < result.metrics["first_loss"]
    tuned, base = (LoadedAgent.load(tiny_ref, adapter, SYSTEM, cpu).logprobs(examples[:4]) for adapter in (result.adapter, None))
    assert sum(total for total, _ in tuned) > sum(total for total, _ in base)


def test_preferences_with_virtual_tokens_in_several_processes_are_refused(job, monkeypatch):
    from agentft.engine.profile import Profile
    from agentft.train.setup import arguments_for

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    config = dpo.DPOConfig(strategy="prefix-tuning")
    with pytest.raises(TrainingError, match="prefix-tuning with preferences runs in one process only"):
        arguments_for("DPOConfig", replace(job, config=config), Profile(), 4, False, {})
