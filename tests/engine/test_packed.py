"""Reordered weights: the same products, to rounding; a row's do not depend on its company; the model is left as it was."""

from __future__ import annotations

import pytest
import torch

from agentft.engine import packed as module
from agentft.engine.packed import Packed

pytestmark = pytest.mark.skipif(not module._fits(torch.nn.Linear(2, 2)), reason="torch without oneDNN, or another processor")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(40, 96), torch.nn.SiLU(), torch.nn.Linear(96, 200, bias=False))


def calls(net):
    """How often oneDNN and how often torch multiplies in a forward pass."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        net(torch.ones(1, 40))
    names = [event.name for event in seen.events()]
    return names.count("mkldnn::_linear_pointwise"), names.count("aten::linear")


@torch.inference_mode()
def test_products_are_the_same_to_rounding_and_independent_of_the_number_of_rows(net):
    x = torch.randn(33, 1, 40)
    expected = net(x)
    with Packed(net).used():
        assert calls(net) == (2, 0)
        found = net(x)
        for rows in (1, 2, 7, 16):
            assert torch.equal(net(x[:rows]), found[:rows])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert calls(net) == (0, 2)
    assert torch.equal(net(x), expected)


@torch.inference_mode()
def test_copies_are_made_once_and_again_when_a_weight_has_changed(net, monkeypatch):
    made = []
    room = module._room
    monkeypatch.setattr(module, "_room", lambda layers: made.append(len(layers)) or room(layers))
    copies = Packed(net)
    with copies.used(worth=False):
        assert calls(net) == (0, 2), "not worth it"
    with copies.used():
        pass
    with copies.used(worth=False):
        assert calls(net) == (2, 0), "they are there"
    assert made == [2]
    with torch.inference_mode(False), torch.no_grad():
        net[0].weight.mul_(2)
    expected = net(torch.ones(1, 40))
    with copies.used():
        torch.testing.assert_close(net(torch.ones(1, 40)), expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_no_copies_without_memory_or_in_other_precisions(net, monkeypatch):
    monkeypatch.setattr(module, "_room", lambda layers: False)
    with Packed(net).used():
        assert calls(net) == (0, 2)
    monkeypatch.undo()
    with Packed(net.bfloat16()).used():
        assert all("forward" not in vars(layer) for layer in net)


@torch.inference_mode()
def test_the_model_is_left_as_it_was_when_something_fails(net):
    with pytest.raises(RuntimeError), Packed(net).used():
        net(torch.ones(1, 41))
    assert calls(net) == (0, 2)
