"""Weights of messages in training: read from the rows, and the loss that is computed by hand."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tiny import SYSTEM, sft_trainer, write_rows

from agentft.contracts import DataContext
from agentft.engine.models import load_tokenizer
from agentft.errors import TrainingError
from agentft.records import Example, Message
from agentft.render import Renderer, render_rows
from agentft.train.loop import Collator
from agentft.train.rows import read_rows


def conversation(name, *trains):
    turns = [("退款多久到账？", "稍等。"), ("And now?", "Five days, " + name), ("好的", "Bye.")]
    pairs = [(Message("user", q), Message("assistant", a, train=train)) for (q, a), train in zip(turns, trains, strict=False)]
    return Example(name, tuple(message for pair in pairs for message in pair))


def rows_of(tmp_path, tiny_ref, *examples):
    path = tmp_path / "rows.jsonl"
    render_rows(
        Renderer(load_tokenizer(tiny_ref), SYSTEM), examples, path, max_length=512, overflow="error", ctx=DataContext(), max_dropped=1
    )
    return read_rows(path)


def loss_and_gradient(trainer, rows, items=None):
    import torch

    batch = trainer.data_collator([rows.dataset[i] for i in range(len(rows.ids))])
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=None if items is None else torch.tensor(items))
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in trainer.model.parameters()]


def test_rows_come_back_with_a_weight_for_every_token(tmp_path, tiny_ref):
    rows = rows_of(tmp_path, tiny_ref, conversation("plain", None, None), conversation("mixed", 0.5, None, 2))
    assert set(rows.dataset.column_names) == {"input_ids", "labels", "weights", "row"}
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert rows.dataset[0]["weights"] == [1.0] * rows.lengths[0] and rows.dataset[1]["weights"] == written[1]["weights"]
    assert set(written[1]["weights"]) == {0.5, 1.0, 2.0}
    batch = Collator(2)([rows.dataset[i] for i in range(2)])
    assert batch["weights"].shape == batch["input_ids"].shape and str(batch["weights"].dtype) == "torch.float32"
    assert set(batch["weights"][0].tolist()) == {1.0}  # padding too


def test_without_weights_there_is_no_column(tmp_path, tiny_ref):
    rows = rows_of(tmp_path, tiny_ref, conversation("plain", None, True), conversation("one", 1, 1.0))
    assert "weights" not in rows.dataset.column_names
    assert "weights" not in Collator(2)([rows.dataset[0]])


@pytest.mark.parametrize(("weights", "problem"), [([1.0, 2.0], "not one weight per token"), ("negative", "not a number from 0 on")])
def test_a_file_with_wrong_weights_is_refused(tmp_path, weights, problem):
    path = write_rows(tmp_path / "rows.jsonl", 3)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines[1]["weights"] = [-1.0] * len(lines[1]["input_ids"]) if weights == "negative" else weights
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    with pytest.raises(TrainingError, match=f"row 'r1' has .*{problem}"):
        read_rows(path)


@pytest.mark.parametrize("items", [None, 97])
@pytest.mark.parametrize("share", [True, False])
def test_the_loss_is_the_weighted_sum_over_the_number_of_supervised_tokens(tmp_path, tiny_ref, cpu, items, share):
    import torch

    rows = rows_of(tmp_path, tiny_ref, conversation("a", 0.5, None, 3), conversation("b", None, 0.1), conversation("c", False, 2))
    trainer = sft_trainer(tiny_ref, cpu, rows, tmp_path / "o")
    trainer._share = share
    expected, count = 0.0, 0
    with torch.no_grad():
        for index in range(3):
            row = rows.dataset[index]
            logs = trainer.model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
            for place, label in enumerate(row["labels"]):
                if label != -100:
                    expected -= row["weights"][place] * float(logs[place - 1, label])
                    count += 1
    loss, _ = loss_and_gradient(trainer, rows, items)
    assert float(loss) == pytest.approx(expected / (items or count), rel=1e-5)
    trainer.model.eval()  # validation too
    batch = trainer.data_collator([rows.dataset[i] for i in range(3)])
    assert float(trainer.compute_loss(trainer.model, batch).detach()) == pytest.approx(expected / count, rel=1e-5)


def test_a_weight_of_one_half_halves_the_gradient_of_its_message_and_of_no_other(tmp_path, tiny_ref, cpu):
    import torch

    found = {}
    for name, trains in {"both": (None, None), "half": (0.5, None), "first": (None, False), "second": (False, None)}.items():
        rows = rows_of(tmp_path, tiny_ref, conversation("a", *trains))
        found[name] = loss_and_gradient(sft_trainer(tiny_ref, cpu, rows, tmp_path / "o"), rows, items=20)
    for one in range(len(found["both"][1])):
        first, second = found["first"][1][one], found["second"][1][one]
        assert torch.allclose(found["half"][1][one], 0.5 * first + second, rtol=1e-3, atol=1e-6)
    assert float(found["half"][0]) == pytest.approx(0.5 * float(found["first"][0]) + float(found["second"][0]), rel=1e-5)
    assert float(found["half"][0]) < float(found["both"][0])


def test_what_only_the_parent_knows_is_refused_with_weights(tmp_path, tiny_ref, cpu):
    rows = rows_of(tmp_path, tiny_ref, conversation("a", 0.5, None))
    trainer = sft_trainer(tiny_ref, cpu, rows, tmp_path / "o")
    trainer._ours = False  # as with several processes
    with pytest.raises(TrainingError, match="messages with a weight"):
        loss_and_gradient(trainer, rows)
    dft = sft_trainer(tiny_ref, cpu, rows, tmp_path / "o", loss_type="dft")
    with pytest.raises(TrainingError, match="messages with a weight"):
        loss_and_gradient(dft, rows)


def test_training_with_weights_moves_the_model_and_other_weights_move_it_elsewhere(tmp_path, tiny_ref, cpu):
    from safetensors.torch import load_file

    from agentft.contracts import TrainJob
    from agentft.train.sft import SFTConfig, train

    tensors = []
    for index, trains in enumerate([(0.2, None), (None, None)]):
        folder = tmp_path / str(index)
        folder.mkdir()
        rows_of(folder, tiny_ref, *(conversation(f"c{i}", *trains) for i in range(8)))
        config = SFTConfig(epochs=1, batch_size=4, learning_rate=1e-2, strategy={"lora": {"r": 4}})
        result = train(
            TrainJob(
                tiny_ref, folder / "rows.jsonl", folder, config, 0, 2, validation=folder / "rows.jsonl", device=dataclasses.asdict(cpu)
            )
        )
        tensors.append(load_file(result.adapter / "adapter_model.safetensors"))
    moved = [name for name in tensors[0] if "lora_B" in name]
    assert moved and all(bool(tensors[0][name].any()) for name in moved)
    assert any(bool((tensors[0][name] != tensors[1][name]).any()) for name in moved)
