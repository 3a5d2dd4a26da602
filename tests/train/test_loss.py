"""Our loss is TRL's, token for token; the order of the rows is a function of seed and epoch."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import sft_trainer, write_rows

from agentft.train.loop import EpochOrder, Trainer
from agentft.train.rows import read_rows


@pytest.fixture
def trainer(tiny_ref, cpu, tmp_path):
    return sft_trainer(tiny_ref, cpu, read_rows(write_rows(tmp_path / "rows.jsonl", 12)), tmp_path / "o")


@pytest.mark.parametrize("items", [None, 57])
@pytest.mark.parametrize("size", [1, 5])
def test_loss_and_gradient_equal_those_of_trl(trainer, items, size):
    import torch

    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(size)])
    results = []
    for ours in (True, False):
        trainer._ours = ours  # False: the parent's compute_loss
        trainer.model.train()  # in evaluation it is always ours
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=None if items is None else torch.tensor(items))
        loss.backward()
        results.append((loss.detach(), [p.grad.clone() for p in trainer.model.parameters()]))
    (loss, gradients), (reference, expected) = results
    assert float(loss) == pytest.approx(float(reference), rel=1e-5)
    for gradient, other in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-3, atol=1e-5)


def test_labels_of_padding_do_not_count(trainer):
    """The padding token is the stop token here: a mask by token id would lose the stop, or learn the padding."""
    rows = [trainer.train_dataset[i] for i in range(4)]
    rows[0]["labels"][-1] = rows[0]["input_ids"][-1] = 2
    batch = trainer.data_collator(rows)
    lengths = [len(row["input_ids"]) for row in rows]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert [int((batch["labels"][i] != -100).sum()) for i in range(4)] == [6] * 4
    assert batch["labels"][0, lengths[0] - 1] == 2


def test_what_trl_alone_knows_goes_to_trl(trainer):
    smoothed = dataclasses.replace(trainer.args, label_smoothing_factor=0.1)
    again = Trainer(
        order=trainer._order,
        ids=trainer._ids,
        share_prefix=True,
        model=trainer.model,
        args=smoothed,
        data_collator=trainer.data_collator,
        train_dataset=trainer.train_dataset,
        processing_class=trainer.processing_class,
    )
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    ours, theirs = (one.compute_loss(one.model, dict(batch)).detach() for one in (trainer, again))
    assert float(ours) != pytest.approx(float(theirs))


lengths = st.lists(st.integers(1, 60), min_size=1, max_size=120)


@given(lengths, st.integers(1, 8), st.integers(0, 5), st.integers(0, 3))
def test_each_epoch_visits_each_row_once_in_a_repeatable_order(rows, batch, seed, epoch):
    first, second = EpochOrder(rows, batch, seed), EpochOrder(rows, batch, seed)
    first.set_epoch(epoch)
    second.set_epoch(epoch)
    order = list(first)
    assert sorted(order) == list(range(len(rows)))
    assert order == list(second) == list(second)


def test_epochs_and_seeds_differ_and_batches_hold_similar_lengths():
    import random

    draw = random.Random(0)
    rows = [draw.randrange(50, 400) for _ in range(256)]
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        order = EpochOrder(rows, 8, seed)
        order.set_epoch(epoch)
        orders.append(list(order))
    assert orders[0] != orders[1] != orders[2] != orders[0]

    def padding(order):
        batches = [[rows[i] for i in order[start : start + 8]] for start in range(0, 256, 8)]
        return sum(len(batch) * max(batch) - sum(batch) for batch in batches) / sum(rows)

    shuffled = list(range(256))
    draw.shuffle(shuffled)
    assert padding(orders[0]) < 0.15 < 0.4 < padding(shuffled)
    # Sorting must not leak into time: both halves of an epoch are about equally long.
    halves = [sum(rows[i] for i in orders[0][start : start + 128]) for start in (0, 128)]
    assert max(halves) < 1.3 * min(halves)


def test_training_really_shares_the_prefix(trainer, monkeypatch):
    """Equal losses hide that nothing is shared: TRL switches ``config.use_cache`` off, which once was taken for a reason."""
    from agentft.engine import score

    trees = []
    real = score.grow
    monkeypatch.setattr(score, "grow", lambda rows, device: trees.append(real(rows, device)) or trees[-1])
    trainer.args.max_steps = 2
    trainer.train()
    assert trees and all(tree.segments[0].stop >= 40 for tree in trees)  # write_rows gives all rows the same first 40 tokens
