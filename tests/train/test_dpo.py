"""DPO: TRL's own loss and gradient on our path, a reference that stays fixed, resume, and what moves."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from agentft.contracts import TrainJob
from agentft.errors import TrainingError
from agentft.train.dpo import DPOConfig, Loss, train
from agentft.train.words import preference_words

DEVICE = {"device": "cpu", "train_dtype": "fp32", "threads": 1}
LOSSES = list(Loss.__args__)


def write_pairs(path: Path, count: int = 12, prefix: int = 40, seed: int = 0) -> Path:
    """Pairs that share a persona-like prefix; chosen answers start alike, so that they can be learned."""
    draw = random.Random(seed)
    shared = [draw.randrange(3, 250) for _ in range(prefix)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            prompt = shared + [draw.randrange(3, 250) for _ in range(draw.randrange(3, 12))] + [7]
            chosen = [11, 12, 13] + [draw.randrange(3, 250) for _ in range(draw.randrange(1, 9))] + [2]
            rejected = [21, 22] + [draw.randrange(3, 250) for _ in range(draw.randrange(1, 9))] + [2]
            row = {"id": f"r{number}", "group": None, "prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
            file.write(json.dumps(row) + "\n")
    return path


def job(tmp_path: Path, ref, name: str = "out", **options) -> TrainJob:
    rows = tmp_path / "pairs.jsonl"
    if not rows.exists():
        write_pairs(rows)
    more = {key: options.pop(key) for key in ("adapter", "reference", "progress") if key in options}
    settings = {
        "strategy": {"lora": {"r": 4, "alpha": 8.0}},
        "batch_size": 4,
        "micro_batch": 4,
        "learning_rate": 1e-3,
        "epochs": 2.0,
    } | options
    return TrainJob(ref, rows, tmp_path / name, DPOConfig.model_validate(settings), seed=0, pad_token_id=2, device=DEVICE, **more)


def adapter(tmp_path: Path, ref, name: str = "start") -> Path:
    """A trained adapter, as SFT leaves one: its B matrices are not zero."""
    done = train(job(tmp_path, ref, name, learning_rate=5e-3))
    assert done.adapter is not None
    return done.adapter


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradient_are_trls(tmp_path, tiny_ref, cpu, loss):
    """Our path (shared prefix, reference computed beforehand) against a plain DPOTrainer with a second model, in fp32."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOTrainer

    from agentft.engine.models import load_model, load_tokenizer
    from agentft.train.loop import EpochOrder
    from agentft.train.pair_loop import Collator, PairTrainer, reference_logps
    from agentft.train.pair_rows import read_pairs
    from agentft.train.setup import arguments_for

    smoothing = 0.001 if loss == "exo_pair" else 0.0
    task = job(tmp_path, tiny_ref, loss=[loss, "sft"], loss_weights=[1.0, 0.1], label_smoothing=smoothing)
    task.out.mkdir(exist_ok=True)
    rows = read_pairs(task.rows)
    fields = {"loss_type": [loss, "sft"], "loss_weights": [1.0, 0.1], "beta": 0.1, "label_smoothing": smoothing, "max_length": None}
    tokenizer = load_tokenizer(tiny_ref)
    lora = LoraConfig(r=4, lora_alpha=8.0, target_modules="all-linear", task_type="CAUSAL_LM")
    plain = [{key: row[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in rows.dataset]

    class Prepared(DPOTrainer):
        def _prepare_dataset(self, dataset, *_, **__):
            return dataset

    def model():
        return load_model(tiny_ref, cpu, trainable=True, dtype="float32")

    args = arguments_for("DPOConfig", task, cpu, 12, False, fields | {"precompute_ref_log_probs": False})
    theirs = Prepared(model=model(), args=args, train_dataset=Dataset.from_list(plain), processing_class=tokenizer, peft_config=lora)
    torch.manual_seed(5)
    for name, parameter in theirs.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    weights = {n.replace(".default", ""): p.detach().clone() for n, p in theirs.model.named_parameters() if "lora_" in n}
    batch = theirs.data_collator(plain[:6])
    loss_theirs = theirs.compute_loss(theirs.model, dict(batch))
    loss_theirs.backward()

    args = arguments_for("DPOConfig", task, cpu, 12, False, fields | {"precompute_ref_log_probs": True})
    dataset = reference_logps(task, cpu, args, rows)
    ours = PairTrainer(
        order=EpochOrder(rows.lengths, 4, 0),
        ids=rows.ids,
        share_prefix=True,
        weights=weights,
        cast=False,
        model=model(),
        args=args,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=lora,
    )
    inputs = Collator(pad_token_id=2)([dataset[i] for i in range(6)])
    loss_ours = ours.compute_loss(ours.model, inputs)
    loss_ours.backward()
    assert loss_ours.item() == pytest.approx(loss_theirs.item(), rel=1e-5)
    gradients = [{n: p.grad for n, p in t.model.named_parameters() if p.grad is not None} for t in (theirs, ours)]
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    total = torch.cat([g.flatten() for g in gradients[0].values()]).norm()
    difference = torch.cat([(gradients[0][n] - gradients[1][n]).flatten() for n in gradients[0]]).norm()
    assert float(difference / total) < 1e-5


def test_the_adapter_moves_the_model_does_not_and_chosen_becomes_likelier(tmp_path, tiny_ref):
    from safetensors.torch import load_file

    before = {path.name: path.read_bytes() for path in Path(tiny_ref.path).glob("*.safetensors")}
    result = train(job(tmp_path, tiny_ref, epochs=6.0, learning_rate=1e-2))
    assert 0 < result.trainable < result.total and result.model is None
    weights = load_file(result.adapter / "adapter_model.safetensors")
    assert all(tensor.abs().sum() > 0 for tensor in weights.values()), "every matrix of the adapter moved"
    assert before == {path.name: path.read_bytes() for path in Path(tiny_ref.path).glob("*.safetensors")}
    assert result.metrics["accuracy"] > 0.9 and result.metrics["margin"] > 0.2
    assert result.metrics["drift_chosen"] > result.metrics["drift_rejected"]
    assert any("prefers the chosen answer" in sentence for sentence in preference_words(result.metrics))
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert abs(lines[0]["margin"]) < 1e-5, "at the start the model is its own reference"


@pytest.mark.slow
def test_an_adapter_is_continued_and_the_reference_may_be_another_one(tmp_path, tiny_ref):
    from safetensors.torch import load_file

    start = adapter(tmp_path, tiny_ref)
    result = train(job(tmp_path, tiny_ref, adapter=start, epochs=1.0))
    old, new = (load_file(path / "adapter_model.safetensors") for path in (start, result.adapter))
    assert old.keys() == new.keys() and all((old[key] != new[key]).any() for key in old)
    assert max(float((old[key] - new[key]).abs().max()) for key in old) < 0.05, "continued, not begun anew"
    margins = {}
    for name, reference in (("own", None), ("start", start)):
        train(job(tmp_path, tiny_ref, f"from-{name}", adapter=result.adapter, reference=reference, epochs=1.0))
        first = json.loads((tmp_path / f"from-{name}" / "metrics.jsonl").read_text("utf-8").splitlines()[0])
        margins[name] = first["margin"]
    assert abs(margins["own"]) < 1e-5 and abs(margins["start"]) > 1e-3, "against the fixed reference the head start shows"


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, tiny_ref):
    straight = train(job(tmp_path, tiny_ref, "straight", epochs=4.0, save_every=2))

    def die(step, total, info):
        if "loss" in info and step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(job(tmp_path, tiny_ref, "broken", epochs=4.0, save_every=2, progress=die))
    mark = (tmp_path / "broken" / "reference.jsonl").stat().st_mtime_ns
    again = train(job(tmp_path, tiny_ref, "broken", epochs=4.0, save_every=2))
    assert (tmp_path / "broken" / "reference.jsonl").stat().st_mtime_ns == mark, "the reference is computed once"
    assert (again.adapter / "adapter_model.safetensors").read_bytes() == (straight.adapter / "adapter_model.safetensors").read_bytes()


def test_mistakes_are_named(tmp_path, tiny_ref):
    rows = write_pairs(tmp_path / "pairs.jsonl", 4)
    row = json.loads(rows.read_text("utf-8").splitlines()[0]) | {"id": "alone", "rejected_ids": None}
    rows.write_text(rows.read_text("utf-8") + json.dumps(row) + "\n", "utf-8")
    with pytest.raises(TrainingError, match="1 of 5 rows have one answer only .first: 'alone'.; `use: kto`"):
        train(job(tmp_path, tiny_ref))
    rows.write_text("", "utf-8")
    with pytest.raises(TrainingError, match="not one pair"):
        train(replace(job(tmp_path, tiny_ref), out=tmp_path / "empty"))
    with pytest.raises(ValueError, match="2 numbers for 1 losses"):
        DPOConfig.model_validate({"loss": "ipo", "loss_weights": [1.0, 2.0]})
    with pytest.raises(ValueError, match="exo_pair"):
        DPOConfig.model_validate({"loss": "exo_pair"})
    with pytest.raises(ValueError, match="use beta"):
        DPOConfig.model_validate({"extra": {"beta": 0.2}})
