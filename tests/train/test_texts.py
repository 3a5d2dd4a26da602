"""Training on raw texts and on sources with targets: what moves, that interruptions change nothing, that it learns, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from tiny import tiny_encoder, tiny_seq2seq

from agentft.contracts import GenerationSettings, RowsJob, TrainJob
from agentft.engine.heads import family
from agentft.engine.models import load_tokenizer
from agentft.errors import DataError, TrainingError
from agentft.labelled import Labelled
from agentft.records import Example, Message
from agentft.render import texts as rows_of
from agentft.train import clm, mlm, seq2seq

DEVICE = {"device": "cpu", "train_dtype": "fp32", "threads": 1}
TEXTS = [Labelled(f"t{n}", {"text": f"note {n}: please wait, the card is on its way"}) for n in range(16)]
SAID = ["abc", "bcd", "cde", "def"]
TALKS = [Example(f"c{n}", (Message("user", f"say {n % 4}"), Message("assistant", SAID[n % 4]))) for n in range(16)]
FROZEN = {"freeze": {"layers": 1}}
ASKED = [talk.as_prompt()[0] for talk in TALKS]
KINDS = {
    "clm": (clm.ClmConfig, clm.train, TEXTS),
    "mlm": (mlm.MlmConfig, mlm.train, TEXTS),
    "t5": (seq2seq.Seq2SeqConfig, seq2seq.train, TALKS),
    "bart": (seq2seq.Seq2SeqConfig, seq2seq.train, TALKS),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_ref):
    folder = tmp_path_factory.mktemp("models")
    found = {kind: tiny_seq2seq(folder / kind, kind) for kind in ("t5", "bart")}
    return {"clm": tiny_ref, "mlm": tiny_encoder(folder / "mlm"), **found}


def job_for(kind: str, ref, folder: Path, records=None, max_length=64, **options) -> TrainJob:
    """Rows rendered as the pipeline renders them, and the job."""
    config_model, _, made = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    for part, found in (("train", records or made), ("validation", made[:4])):
        (folder / f"in-{part}.jsonl").write_text("".join(json.dumps(row.to_dict()) + "\n" for row in found), "utf-8")
    config = config_model.model_validate({"epochs": 2, "batch_size": 4, "learning_rate": 1e-2} | options)
    tokenizer = load_tokenizer(ref)
    render = getattr(rows_of, f"{kind if kind in ('clm', 'mlm') else 'seq2seq'}_rows")
    files = [folder / f"in-{part}.jsonl" for part in ("train", "validation")]
    kindred = family(ref.path)
    render(RowsJob(*files, folder, tokenizer, config, max_length, kindred == "causal", family=kindred))
    rows = [folder / f"{part}.jsonl" for part in ("train", "validation")]
    return TrainJob(ref, rows[0], folder / "out", config, 3, tokenizer.pad_token_id, validation=rows[1], device=DEVICE)


def train(kind: str, job: TrainJob):
    return KINDS[kind][1](job)


def weights(folder: Path):
    from safetensors.torch import load_file

    return load_file(next(folder.glob("*.safetensors")))


@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping_without_validation_is_refused(kind, models, tmp_path):
    job = job_for(kind, models[kind], tmp_path, early_stopping=2)
    with pytest.raises(TrainingError, match=r"needs validation rows; set data\.split\.validation"):
        train(kind, replace(job, validation=None))


@pytest.mark.parametrize("kind", KINDS)
def test_full_training_moves_the_weights_and_lowers_the_loss(kind, models, tmp_path):
    import torch

    result = train(kind, job_for(kind, models[kind], tmp_path, epochs=4, strategy="full"))
    assert result.model is not None and result.adapter is None and result.trainable == result.total
    assert result.metrics["final_loss"] < result.metrics["first_loss"] and result.metrics["eval_loss"] > 0
    before = weights(Path(models[kind].path))
    prefix = "bert." if kind == "mlm" else ""
    after = weights(result.model)
    same = [name for name in before if torch.equal(before[name], after[prefix + name])]
    # Nothing is learned of what masking does not use, and nothing of it is lost.
    assert all("pooler" in name for name in same) if kind == "mlm" else same in ([], ["final_logits_bias"])  # BART keeps a buffer of zeros
    assert kind != "mlm" or any("pooler" in name for name in same)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind == "clm" else pytest.mark.slow) for kind in KINDS])
def test_lora_moves_an_adapter_only(kind, models, tmp_path):
    import torch

    result = train(kind, job_for(kind, models[kind], tmp_path, strategy={"lora": {"r": 4}}))
    assert 0 < result.trainable < result.total
    if kind != "mlm":
        kept = weights(result.adapter)
        assert result.model is None and all("lora_" in name for name in kept)
        assert all(bool(value.abs().sum()) for name, value in kept.items() if "lora_B" in name)  # they start at 0
        return
    assert result.adapter is None, "the adapter is merged: the next stage starts from a plain encoder"
    before, after = weights(Path(models[kind].path)), weights(result.model)
    moved = {name for name in before if not torch.equal(before[name], after[f"bert.{name}"])}
    assert moved and all(name.endswith("weight") and ("attention" in name or "dense" in name) for name in moved)
    assert not any("lora" in name for name in after) and (result.model / "tokenizer.json").is_file()
    assert "drawn anew" in result.warnings[0]


# What stays where the lowest layer and the embeddings are frozen, in both halves of an encoder-decoder.
LOWEST = {
    "mlm": ("bert.embeddings.", "bert.encoder.layer.0.", "bert.pooler."),
    "t5": ("shared.", "encoder.block.0.", "decoder.block.0."),
    "bart": (
        "model.shared.",
        *(f"model.{side}.{what}" for side in ("encoder", "decoder") for what in ("embed_", "layernorm_embedding.", "layers.0.")),
    ),
}


@pytest.mark.parametrize("kind", LOWEST)
def test_frozen_layers_stay_and_all_others_move(kind, models, tmp_path):
    import torch

    result = train(kind, job_for(kind, models[kind], tmp_path, strategy=FROZEN, weight_decay=0.1, epochs=4))
    before, after = weights(Path(models[kind].path)), weights(result.model)
    prefix = "bert." if kind == "mlm" else ""
    before = {prefix + name: tensor for name, tensor in before.items()}
    same = {name for name in before if torch.equal(before[name], after[name])} - {"final_logits_bias"}
    assert same == {name for name in before if name.startswith(LOWEST[kind])} != set()
    assert 0 < result.trainable < result.total and result.metrics["final_loss"] < result.metrics["first_loss"]
    assert "stayed as they were" in result.notes[0]


def test_of_an_encoder_the_head_alone_can_learn_to_guess(models, cpu, tmp_path):
    import torch

    from agentft.engine.masked import load_masked

    job = job_for("mlm", models["mlm"], tmp_path, strategy={"freeze": "head-only"})
    result = train("mlm", job)
    before, after = weights(Path(models["mlm"].path)), weights(result.model)
    assert all(torch.equal(before[name], after[f"bert.{name}"]) for name in before)
    drawn, names = load_masked(models["mlm"], cpu, "float32", job.seed)
    fresh = dict(drawn.named_parameters())
    assert names and all(not torch.equal(fresh[name], after[name]) for name in names if name in after and name in fresh)


def test_of_lora_an_encoder_gets_all_that_the_recipe_says(models, tmp_path):
    """DoRA has lengths of its own, a rank by pattern fewer parameters, and a module in full more."""
    base = train("mlm", job_for("mlm", models["mlm"], tmp_path / "a", strategy={"lora": {"r": 4}}, epochs=1)).trainable
    found = {
        name: train("mlm", job_for("mlm", models["mlm"], tmp_path / name, strategy={"lora": {"r": 4} | more}, epochs=1)).trainable
        for name, more in {"d": {"dora": True}, "p": {"rank_pattern": {"query": 2}}, "m": {"modules_to_save": ["LayerNorm"]}}.items()
    }
    assert found["d"] > base > found["p"] and found["m"] > base


@pytest.mark.parametrize("strategy", ["prompt-tuning", "prefix-tuning"])
def test_what_cannot_be_merged_is_refused_for_masking(strategy):
    with pytest.raises(ValidationError, match=f"strategy: {strategy} cannot be used with 'mlm'.* use full, freeze or lora"):
        mlm.MlmConfig.model_validate({"strategy": strategy})


def test_what_an_encoder_decoder_cannot_have_is_refused(models, tmp_path):
    with pytest.raises(ValidationError, match="use prompt-tuning or lora"):
        seq2seq.Seq2SeqConfig.model_validate({"strategy": "prefix-tuning"})
    with pytest.raises(TrainingError, match=r"in every step; write `cache: auto`"):
        train("t5", job_for("t5", models["t5"], tmp_path, strategy={"freeze": {"layers": 1, "cache": "on"}}))
    with pytest.raises(TrainingError, match="3 layers are to stay as they are, and the model has 2"):
        train("t5", job_for("t5", models["t5"], tmp_path / "many", strategy={"freeze": {"layers": 3}}))


@pytest.mark.parametrize("kind", [pytest.param("t5", marks=pytest.mark.slow), "bart"])
def test_virtual_tokens_stand_in_front_of_a_source(kind, models, cpu, tmp_path):
    import torch

    from agentft.engine.seq2seq import Seq2SeqAgent

    strategy = {"prompt-tuning": {"tokens": 3, "init": "text", "text": "say abc"}}
    job = job_for(kind, models[kind], tmp_path, strategy=strategy, epochs=8, learning_rate=0.3)
    result = train(kind, job)
    assert result.trainable == 3 * 32 == sum(tensor.numel() for tensor in weights(result.adapter).values())
    assert result.metrics["final_loss"] < result.metrics["first_loss"]
    agent = Seq2SeqAgent.load(models[kind], result.adapter, cpu, job.config, 64)
    # By hand, without PEFT: the learned vectors before those of the source.
    base = Seq2SeqAgent.load(models[kind], None, cpu, job.config, 64).model
    (prompt,) = weights(result.adapter).values()
    ids = torch.tensor([agent.encoder.source(TALKS[0].messages[:1])[0]])
    embedded = torch.cat((prompt[None], base.get_input_embeddings()(ids)), dim=1)
    labels = torch.tensor([agent.encoder.target(SAID[0])[0]])
    with torch.inference_mode():
        loss = base(inputs_embeds=embedded, labels=labels).loss
        said = [base.config.decoder_start_token_id]
        while len(said) < 6 and base.config.eos_token_id not in said:
            said.append(int(base(inputs_embeds=embedded, decoder_input_ids=torch.tensor([said])).logits[0, -1].argmax()))
    logprob, count = agent.logprobs(TALKS[:1])[0]
    assert abs(-logprob - float(loss) * count) < 1e-3
    (answer,) = agent.generate(ASKED[:1], GenerationSettings(max_new_tokens=5))
    assert answer.text == agent.tokenizer.decode(said, skip_special_tokens=True).strip()


def test_virtual_tokens_leave_room_for_themselves(models, cpu, tmp_path):
    """BART here has 128 positions: a longer source loses its beginning to the virtual tokens too."""
    from agentft.engine.heads import readable_length
    from agentft.engine.seq2seq import Seq2SeqAgent

    config = seq2seq.Seq2SeqConfig.model_validate({"strategy": {"prompt-tuning": {"tokens": 28}}, "epochs": 1})
    size = readable_length(models["bart"].path, load_tokenizer(models["bart"]), 1000, config)
    assert size == 100
    assert readable_length(models["bart"].path, load_tokenizer(models["bart"]), 50, config) == 50
    crowded = seq2seq.Seq2SeqConfig.model_validate({"strategy": {"prompt-tuning": {"tokens": 128}}})
    with pytest.raises(DataError, match="128 virtual tokens leave no room for a text in the 128 tokens"):
        readable_length(models["bart"].path, load_tokenizer(models["bart"]), 1000, crowded)
    long = [Example(f"l{n}", (Message("user", "so " * 200), Message("assistant", SAID[n % 4]))) for n in range(4)]
    job = job_for("bart", models["bart"], tmp_path, records=long, max_length=size, strategy=config.strategy.model_dump(by_alias=True))
    result = train("bart", job)
    agent = Seq2SeqAgent.load(models["bart"], result.adapter, cpu, job.config, 1000)
    (answer,) = agent.generate([long[0].as_prompt()[0]], GenerationSettings(max_new_tokens=4))
    assert not answer.error


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        ("clm", "lora"),
        ("mlm", "full"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (
                *(("mlm", "lora"), ("t5", "full"), ("bart", "lora"), ("t5", "lora")),
                *(("mlm", FROZEN), ("t5", FROZEN), ("bart", "prompt-tuning")),
            )
        ),
    ],
)
def test_an_interrupted_job_ends_with_the_same_weights(kind, strategy, models, tmp_path):
    import torch

    options = {"save_every": 1, "epochs": 2, "strategy": strategy}
    whole = train(kind, job_for(kind, models[kind], tmp_path / "whole", **options))
    job = job_for(kind, models[kind], tmp_path / "cut", **options)

    def stop(step, total, numbers):
        if step == min(5, total - 1):  # in the second epoch, where there are enough steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(kind, replace(job, progress=stop))
    assert list((job.out / "checkpoints").glob("checkpoint-*"))
    again = train(kind, job)
    left, right = (weights(one.model or one.adapter) for one in (whole, again))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    assert again.metrics["eval_loss"] == whole.metrics["eval_loss"]


@pytest.mark.parametrize("kind", ["mlm", "t5"])
def test_micro_batches_change_nothing(kind, models, tmp_path):
    found = []
    for size in (4, 1):
        options = {"micro_batch": size, "epochs": 1, "strategy": "full", "learning_rate": 1e-3, "extra": {"optim": "sgd"}}
        found.append(weights(train(kind, job_for(kind, models[kind], tmp_path / str(size), **options)).model))
    assert max(float((found[0][name] - found[1][name]).abs().max()) for name in found[0]) < 1e-5


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in ("t5", "bart")])
def test_an_encoder_decoder_learns_and_answers_by_beam_search(kind, models, cpu, tmp_path):
    from agentft.engine.seq2seq import Seq2SeqAgent, target_losses

    options = {"epochs": 80, "batch_size": 16, "prefix": "do: ", "num_beams": 2, "strategy": "full"}
    job = job_for(kind, models[kind], tmp_path, **options)
    result = train(kind, job)
    ref = replace(models[kind], path=str(result.model))
    agent = Seq2SeqAgent.load(ref, None, cpu, job.config, 64)
    found = agent.generate(ASKED[:4], GenerationSettings(max_new_tokens=8, batch_size=3))
    assert [one.text for one in found] == SAID and {one.finish for one in found} == {"stop"}
    assert agent.generate(ASKED[:4], GenerationSettings(max_new_tokens=2))[0].finish == "length"
    assert agent.chat([{"role": "user", "content": "say 2"}], GenerationSettings(max_new_tokens=8)) == SAID[2]
    with pytest.raises(DataError, match="temperature"):
        agent.generate(["say 1"], GenerationSettings(temperature=0.7))
    # Log-probabilities against transformers' own loss.
    import torch

    row = torch.tensor([agent.encoder.source(TALKS[0].messages[:1])[0]])
    labels = torch.tensor([agent.encoder.target(SAID[0])[0]])
    own = agent.model(input_ids=row, labels=labels).loss.item() * labels.shape[1]
    logprob, count = agent.logprobs(TALKS[:1])[0]
    assert count == 4 and abs(-logprob - own) < 1e-4
    smooth, _ = target_losses(agent.model, row, torch.ones_like(row), labels, smoothing=0.2)
    logits = agent.model(input_ids=row, labels=labels).logits[0].log_softmax(-1)
    by_hand = [-(0.8 * step[one] + 0.2 * step.mean()) for step, one in zip(logits, labels[0], strict=True)]
    assert torch.allclose(smooth, torch.stack(by_hand), atol=1e-5)


def test_the_masked_loss_is_that_of_transformers(models, cpu, tmp_path):
    import torch

    from agentft.engine.masked import load_masked, masked_losses

    model, drawn = load_masked(models["mlm"], cpu, "float32", 0)
    again, _ = load_masked(models["mlm"], cpu, "float32", 0)
    assert drawn and all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)), "drawn by seed"
    ids, labels = (
        torch.tensor([[2, 7, 4, 9, 3], [2, 4, 3, 0, 0]]),
        torch.tensor([[-100, -100, 8, -100, -100], [-100, 11, -100, -100, -100]]),
    )
    mask = (ids != 0).long()
    losses, owner, best = masked_losses(model.eval(), ids, mask, labels)
    assert abs(losses.mean().item() - model(input_ids=ids, attention_mask=mask, labels=labels).loss.item()) < 1e-5
    assert owner.tolist() == [0, 1] and best.shape == (2,)


def test_a_masked_model_that_was_adapted_starts_with_its_head(models, cpu, tmp_path):
    from agentft.engine.masked import load_masked
    from agentft.train.heads import ClassifyConfig
    from agentft.train.heads import train as train_head

    result = train("mlm", job_for("mlm", models["mlm"], tmp_path / "mlm"))
    adapted = replace(models["mlm"], path=str(result.model))
    assert load_masked(adapted, cpu, "float32", 0)[1] == []
    rows = [Labelled(f"r{n}", {"text": f"{'red' if n % 2 else 'blue'} {n}"}, "warm" if n % 2 else "cold") for n in range(8)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows), "utf-8")
    from agentft.render.heads import classify_rows

    config = ClassifyConfig.model_validate({"epochs": 1, "learning_rate": 1e-4})
    classify_rows(RowsJob(tmp_path / "in.jsonl", tmp_path / "in.jsonl", tmp_path, load_tokenizer(adapted), config, 64, False))
    head = train_head(TrainJob(adapted, tmp_path / "train.jsonl", tmp_path / "head", config, 0, 0, device=DEVICE))
    name = "bert.encoder.layer.0.output.dense.weight"
    first, base = weights(result.model)[name], weights(Path(models["mlm"].path))[name.removeprefix("bert.")]
    last = weights(head.model)[name]
    assert float((last - first).abs().max()) < 1e-3 < float((first - base).abs().max())


@pytest.mark.parametrize(
    ("kind", "model", "says"),
    [
        ("clm", "mlm", "'clm' needs a chat model, and this model is an encoder; use: mlm"),
        ("clm", "t5", "'clm' needs a chat model, and this model is an encoder-decoder; use: seq2seq"),
        ("mlm", "clm", "'mlm' needs an encoder, and this model is a chat model; use: clm"),
        ("mlm", "bart", "'mlm' needs an encoder, and this model is an encoder-decoder"),
        ("t5", "clm", "'seq2seq' needs an encoder-decoder, and this model is a chat model; use: clm"),
    ],
)
def test_a_model_of_another_kind_is_refused_in_one_line(kind, model, says, models, tmp_path):
    with pytest.raises(DataError, match=says) as error:
        job_for(kind, models[model], tmp_path)
    assert "\n" not in str(error.value)
