"""Losses of heads against values that were computed by hand."""

from __future__ import annotations

import math

import pytest

from agentft.contracts import LossContext
from agentft.errors import TrainingError
from agentft.train.losses import CrossEntropyOptions, FocalOptions, HuberOptions, class_weights, cross_entropy, focal, huber, mae, mse

torch = pytest.importorskip("torch")
CLASSES = LossContext("classify", ("a", "b", "c"), (6, 3, 1))
SEVERAL = LossContext("classify", ("a", "b"), (1, 1), multi=True)
LOGITS = [[0.0, math.log(2), math.log(5)]]  # probabilities 1/8, 2/8, 5/8


def value(loss, logits, targets, options=None, ctx=CLASSES):
    return loss(torch.tensor(logits), torch.tensor(targets), options, ctx).tolist()


def test_cross_entropy():
    assert value(cross_entropy, LOGITS, [1]) == pytest.approx([math.log(4)])


def test_label_smoothing():
    # 0.9 of the target, 0.1 spread over the three classes
    expected = -(0.9 * math.log(2 / 8) + 0.1 / 3 * (math.log(1 / 8) + math.log(2 / 8) + math.log(5 / 8)))
    assert value(cross_entropy, LOGITS, [1], CrossEntropyOptions(label_smoothing=0.1)) == pytest.approx([expected])


def test_several_classes_are_several_binary_losses():
    # sigmoid(log 3) = 3/4; targets 1 and 0
    assert value(cross_entropy, [[math.log(3), math.log(3)]], [[1.0, 0.0]], ctx=SEVERAL) == pytest.approx(
        [-(math.log(3 / 4) + math.log(1 / 4)) / 2]
    )
    smooth = CrossEntropyOptions(label_smoothing=0.2)
    expected = -(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4) + 0.1 * math.log(3 / 4) + 0.9 * math.log(1 / 4)) / 2
    assert value(cross_entropy, [[math.log(3), math.log(3)]], [[1.0, 0.0]], smooth, SEVERAL) == pytest.approx([expected])


@pytest.mark.parametrize(("alpha", "weight"), [(None, 1.0), (0.25, 0.25), ((0.5, 2.0, 1.0), 2.0), ({"b": 3.0}, 3.0), ({"a": 3.0}, 1.0)])
def test_focal(alpha, weight):
    expected = weight * (1 - 2 / 8) ** 2 * math.log(4)
    assert value(focal, LOGITS, [1], FocalOptions(gamma=2.0, alpha=alpha)) == pytest.approx([expected])


def test_focal_with_gamma_0_is_cross_entropy_and_its_default_gamma_is_2():
    assert value(focal, LOGITS, [2], FocalOptions(gamma=0.0)) == pytest.approx(value(cross_entropy, LOGITS, [2]))
    assert value(focal, LOGITS, [2]) == pytest.approx([(1 - 5 / 8) ** 2 * -math.log(5 / 8)])


def test_focal_of_several_classes():
    # positive: alpha (1-p)^2 -log p with p = 3/4; negative: (1-alpha) p^2 -log (1-p)
    expected = (0.75 * (1 / 4) ** 2 * -math.log(3 / 4) + 0.25 * (3 / 4) ** 2 * -math.log(1 / 4)) / 2
    assert value(focal, [[math.log(3), math.log(3)]], [[1.0, 0.0]], FocalOptions(alpha=0.75), SEVERAL) == pytest.approx([expected])


def test_numbers():
    number = LossContext("regress")
    assert value(mse, [[1.5], [0.0]], [1.0, 3.0], ctx=number) == pytest.approx([0.25, 9.0])
    assert value(mae, [[1.5], [0.0]], [1.0, 3.0], ctx=number) == pytest.approx([0.5, 3.0])
    assert value(huber, [[1.5], [0.0]], [1.0, 3.0], HuberOptions(delta=2.0), number) == pytest.approx([0.125, 2.0 * (3.0 - 1.0)])
    assert value(huber, [[1.5], [0.0]], [1.0, 3.0], None, number) == pytest.approx([0.125, 2.5])


def test_class_weights_are_those_of_scikit_learn():
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    rows = ["a"] * 6 + ["b"] * 3 + ["c"]
    assert class_weights("balanced", CLASSES) == pytest.approx(
        list(compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=rows))
    )
    assert class_weights({"c": 5.0}, CLASSES) == [1.0, 1.0, 5.0]
    with pytest.raises(TrainingError, match="'C', which is no class"):
        class_weights({"C": 5.0}, CLASSES)
    with pytest.raises(TrainingError, match="use `loss"):
        class_weights("balanced", SEVERAL)
