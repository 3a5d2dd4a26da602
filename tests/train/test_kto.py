"""KTO: TRL's own loss and gradient on our path, single answers and pairs, resume, and what moves."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from agentft.contracts import TrainJob
from agentft.train.kto import KTOConfig, train

DEVICE = {"device": "cpu", "train_dtype": "fp32", "threads": 1}


def write(path: Path, count: int = 10, prefix: int = 40, seed: int = 0) -> Path:
    """Pairs, and every third row with a thumb only."""
    draw = random.Random(seed)
    shared = [draw.randrange(3, 250) for _ in range(prefix)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            prompt = shared + [draw.randrange(3, 250) for _ in range(draw.randrange(3, 12))] + [7]
            chosen = [11, 12, 13] + [draw.randrange(3, 250) for _ in range(draw.randrange(1, 9))] + [2]
            rejected = [21, 22] + [draw.randrange(3, 250) for _ in range(draw.randrange(1, 9))] + [2]
            row = {"id": f"r{number}", "group": None, "prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
            if number % 3 == 2:
                row["chosen_ids" if number % 2 else "rejected_ids"] = None
            file.write(json.dumps(row) + "\n")
    return path


def job(tmp_path: Path, ref, name: str = "out", **options) -> TrainJob:
    rows = tmp_path / "pairs.jsonl"
    if not rows.exists():
        write(rows)
    more = {key: options.pop(key) for key in ("adapter", "reference", "progress") if key in options}
    settings = {
        "strategy": {"lora": {"r": 4, "alpha": 8.0}},
        "batch_size": 4,
        "micro_batch": 4,
        "learning_rate": 1e-3,
        "epochs": 2.0,
    } | options
    return TrainJob(ref, rows, tmp_path / name, KTOConfig.model_validate(settings), seed=0, pad_token_id=2, device=DEVICE, **more)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_loss_and_gradient_are_trls(tmp_path, tiny_ref, cpu, loss):
    """Our path against a plain KTOTrainer that pairs the KL answers and runs the reference itself, in fp32."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import KTOTrainer

    from agentft.engine.models import load_model, load_tokenizer
    from agentft.train.kto_loop import AnswerTrainer, Collator, reference_logps
    from agentft.train.pair_rows import read_answers
    from agentft.train.setup import arguments_for

    task = job(tmp_path, tiny_ref, loss=loss)
    task.out.mkdir(exist_ok=True)
    rows = read_answers(task.rows, random.Random(0))
    fields = {"loss_type": loss, "beta": 0.1, "max_length": None}
    tokenizer = load_tokenizer(tiny_ref)
    lora = LoraConfig(r=4, lora_alpha=8.0, target_modules="all-linear", task_type="CAUSAL_LM")
    plain = [{key: row[key] for key in ("prompt_ids", "completion_ids", "label")} for row in rows.dataset]

    class Prepared(KTOTrainer):
        def _prepare_dataset(self, dataset, processing_class, args, name):
            # The parent's own pairing for the KL term; the rest of its preparation is tokenisation.
            def pair(examples):
                return {**examples, "KL_completion_ids": [examples["completion_ids"][-1], *examples["completion_ids"][:-1]]}

            return dataset.map(pair, batched=True, batch_size=4) if self.calculate_KL else dataset

    def model():
        return load_model(tiny_ref, cpu, trainable=True, dtype="float32")

    args = arguments_for("KTOConfig", task, cpu, len(plain), False, fields | {"precompute_ref_log_probs": False})
    theirs = Prepared(model=model(), args=args, train_dataset=Dataset.from_list(plain), processing_class=tokenizer, peft_config=lora)
    torch.manual_seed(5)
    for name, parameter in theirs.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    weights = {n.replace(".default", ""): p.detach().clone() for n, p in theirs.model.named_parameters() if "lora_" in n}
    loss_theirs = theirs.compute_loss(theirs.model, theirs.data_collator([theirs.train_dataset[i] for i in range(4)]))
    loss_theirs.backward()

    args = arguments_for("KTOConfig", task, cpu, len(plain), False, fields | {"precompute_ref_log_probs": True})
    dataset = reference_logps(task, cpu, args, rows)
    ours = AnswerTrainer(
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
    loss_ours = ours.compute_loss(ours.model, Collator(pad_token_id=2)([dataset[i] for i in range(4)]))
    loss_ours.backward()
    assert float(loss_ours.detach()) == pytest.approx(float(loss_theirs.detach()), rel=1e-5)
    gradients = [{n: p.grad for n, p in t.model.named_parameters() if p.grad is not None} for t in (theirs, ours)]
    total = torch.cat([g.flatten() for g in gradients[0].values()]).norm()
    difference = torch.cat([(gradients[0][n] - gradients[1][n]).flatten() for n in gradients[0]]).norm()
    assert gradients[0].keys() == gradients[1].keys() and float(difference / total) < 1e-5


def test_good_answers_become_likelier_and_only_the_adapter_moves(tmp_path, tiny_ref):
    from safetensors.torch import load_file

    before = {path.name: path.read_bytes() for path in Path(tiny_ref.path).glob("*.safetensors")}
    result = train(job(tmp_path, tiny_ref, epochs=8.0, learning_rate=1e-2))
    weights = load_file(result.adapter / "adapter_model.safetensors")
    assert all(tensor.abs().sum() > 0 for tensor in weights.values())
    assert before == {path.name: path.read_bytes() for path in Path(tiny_ref.path).glob("*.safetensors")}
    assert result.metrics["rows"] == 17, "10 rows, 3 of them with one answer"
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text("utf-8").splitlines()]
    last = [line for line in lines if "reward_chosen" in line and "reward_rejected" in line][-1]  # the last batch may have one side only
    assert last["reward_chosen"] > last["reward_rejected"] and last["loss"] < lines[0]["loss"]


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, tiny_ref):
    straight = train(job(tmp_path, tiny_ref, "straight", save_every=2))

    def die(step, total, info):
        if "loss" in info and step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(job(tmp_path, tiny_ref, "broken", save_every=2, progress=die))
    again = train(job(tmp_path, tiny_ref, "broken", save_every=2))
    assert (again.adapter / "adapter_model.safetensors").read_bytes() == (straight.adapter / "adapter_model.safetensors").read_bytes()


def test_a_batch_of_one_has_no_neighbour():
    with pytest.raises(ValueError, match="at least two rows"):
        KTOConfig.model_validate({"batch_size": 1})
