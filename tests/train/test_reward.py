"""Reward models: TRL's own loss and gradient, scores that tell good from bad after reloading, and the critic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agentft import Host
from agentft.components import ModelRef
from agentft.contracts import CriticContext, DataContext, TrainJob
from agentft.engine.models import load_tokenizer
from agentft.engine.reward import RewardModel
from agentft.errors import DataError
from agentft.feedback.reward_model import RewardModelConfig
from agentft.persona import Persona
from agentft.records import Example, Message, Preference, Response
from agentft.render.conversation import Renderer
from agentft.render.pairs import render_pairs
from agentft.train.reward import RewardConfig, train

DEVICE = {"device": "cpu", "train_dtype": "fp32", "threads": 1}
SYSTEM = "You are a clerk."


def preferences() -> list[Preference]:
    return [
        Preference(
            f"x{n}",
            Example(f"x{n}", (Message("user", f"Where is shelf {n}?"),)),
            Message("assistant", f"Please turn left at {n}."),
            Message("assistant", f"no idea {n}"),
        )
        for n in range(12)
    ]


def job(tmp_path: Path, ref: ModelRef, name: str = "out", **options) -> TrainJob:
    rows = tmp_path / "pairs.jsonl"
    if not rows.exists():
        render_pairs(Renderer(load_tokenizer(ref), SYSTEM), preferences(), rows, max_length=400, ctx=DataContext())
    settings = {
        "strategy": {"lora": {"r": 4, "alpha": 8.0}},
        "batch_size": 4,
        "micro_batch": 4,
        "learning_rate": 1e-2,
        "epochs": 6.0,
    } | options
    return TrainJob(ref, rows, tmp_path / name, RewardConfig.model_validate(settings), seed=0, pad_token_id=2, device=DEVICE)


@pytest.mark.parametrize("center", [None, 0.01])
def test_loss_and_gradient_are_trls(tmp_path, tiny_ref, cpu, center):
    """Against TRL's RewardTrainer. Rows of equal length, one by one: with pad == eos its model reads padded rows at the wrong place."""
    import torch
    from datasets import Dataset
    from trl import RewardTrainer

    from agentft.train.loop import EpochOrder
    from agentft.train.pair_rows import read_pairs
    from agentft.train.reward_loop import Collator, ScoreTrainer, head_on
    from agentft.train.setup import arguments_for

    task = job(tmp_path, tiny_ref, strategy="full", center=center)
    rows = read_pairs(task.rows)
    args = arguments_for(
        "RewardConfig", task, cpu, 12, False, {"center_rewards_coefficient": center, "max_length": None, "eval_strategy": "no"}
    )
    row = rows.dataset[0]
    shorter = min(len(row["chosen_ids"]), len(row["rejected_ids"])) - 1
    # Cut before the stop token, so that no real token is a padding token.
    row |= {key: row[key][:shorter] for key in ("chosen_ids", "rejected_ids")}
    plain = [{key: row["prompt_ids"] + row[key] for key in ("chosen_ids", "rejected_ids")}]
    tokenizer = load_tokenizer(tiny_ref)

    class Prepared(RewardTrainer):
        def _prepare_dataset(self, dataset, *_, **__):
            return dataset

    theirs = Prepared(model=head_on(task, cpu)[0], args=args, train_dataset=Dataset.from_list(plain), processing_class=tokenizer)
    theirs.model.config.pad_token_id = 1  # never in these rows
    loss_theirs = theirs.compute_loss(theirs.model, theirs.data_collator(plain))
    loss_theirs.backward()
    ours = ScoreTrainer(
        order=EpochOrder(rows.lengths, 4, 0),
        ids=rows.ids,
        share_prefix=True,
        model=head_on(task, cpu)[0],
        args=args,
        train_dataset=rows.dataset,
        processing_class=tokenizer,
    )
    loss_ours = ours.compute_loss(ours.model, Collator(2)([row]))
    loss_ours.backward()
    assert float(loss_ours.detach()) == pytest.approx(float(loss_theirs.detach()), rel=1e-5)
    gradients = [{n: p.grad for n, p in t.model.named_parameters() if p.grad is not None} for t in (theirs, ours)]
    total = torch.cat([g.flatten() for g in gradients[0].values()]).norm()
    difference = torch.cat([(gradients[0][n] - gradients[1][n]).flatten() for n in gradients[0]]).norm()
    assert gradients[0].keys() == gradients[1].keys() and float(difference / total) < 1e-5


@pytest.mark.parametrize("strategy", ["full", {"lora": {"r": 4, "alpha": 8.0}}])
def test_a_trained_model_tells_good_from_bad_after_reloading(tmp_path, tiny_ref, strategy):
    ref = replace(tiny_ref, digest="d" * 64)
    result = train(job(tmp_path, ref, strategy=strategy))
    assert result.metrics["train_accuracy"] > 0.9 and 0 < result.trainable <= result.total
    assert (result.trainable < result.total) == (strategy != "full")
    model = RewardModel.load(tmp_path / "out", resolve=lambda name: ref, system=SYSTEM, device=DEVICE)
    new = [Example(f"q{n}", (Message("user", f"Where is book {n}?"),)) for n in range(4)]
    good, bad = (
        model.score([replace(one, messages=(*one.messages, Message("assistant", text.format(n)))) for n, one in enumerate(new)])
        for text in ("Please turn left at {}.", "no idea {}")
    )
    assert all(left > right for left, right in zip(good, bad, strict=True)), "also on prompts that it has not seen"
    alone = [model.score([replace(new[0], messages=(*new[0].messages, Message("assistant", "Please turn left at 0.")))])[0]]
    assert alone[0] == pytest.approx(good[0], rel=1e-4), "padding counts for nothing"
    with pytest.raises(DataError, match="trained on another"):
        RewardModel.load(tmp_path / "out", resolve=lambda name: tiny_ref, device=DEVICE)
    with pytest.raises(DataError, match="has no reward.json"):
        RewardModel.load(tmp_path, resolve=lambda name: ref, device=DEVICE)


def test_the_critic_scores_and_names_what_it_cannot(tmp_path, tiny_ref):
    train(job(tmp_path, tiny_ref))
    catalog = Host(allow=()).catalog
    critic = catalog.target(catalog.get("critic", "reward-model"))
    persona = Persona.from_dict({"name": "clerk", "summary": "c", "language": "en", "role": "A clerk."})
    ctx = CriticContext(persona, "en", system=SYSTEM, base=tmp_path, resolve_model=lambda name: tiny_ref, device=DEVICE)
    prompt = Example("q", (Message("user", "Where is book 3?"),))
    responses = [
        Response("a", "Please turn left at 3."),
        Response("b", "no idea 3"),
        Response("c", "", "error", 0, "gone"),
        Response("d", " "),
    ]
    found = critic([prompt] * 4, responses, RewardModelConfig(path="out"), ctx)
    assert found[0].score > found[1].score and [one.error for one in found[2:]] == ["gone", "nothing to score"]
    assert json.dumps(found[0].to_dict())
