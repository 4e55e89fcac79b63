"""The HaH cost is eq. 4 of Cekic, Bakiskan and Madhow 2022, and its gradient stops where the reading says."""

from __future__ import annotations

import copy
import math

import hahtorch
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hahbench.errors import ModelError
from hahbench.models.extractor import ActivationExtractor
from hahbench.models.hah import hah_cost, network_hah_cost
from hahbench.models.layers import HaHBlock, Reading
from hahbench.models.vgg import VGG, vgg16

ALPHAS = [4.5e-3, 2.5e-3, 1.3e-3, 1e-3, 8e-4, 5e-4]


def paper_cost(y: NDArray[np.float64], k: int, weight: float) -> float:
    """Eq. 4, one location at a time; an empty remainder contributes nothing."""
    costs: list[float] = []
    for image, i, j in np.ndindex(y.shape[0], y.shape[2], y.shape[3]):
        activations = sorted(y[image, :, i, j], reverse=True)
        rest = activations[k:]
        costs.append(sum(activations[:k]) / k - (weight * sum(rest) / len(rest) if rest else 0))
    return sum(costs) / len(costs)


def images(n: int, size: int = 32) -> Tensor:
    return torch.rand(n, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@given(
    # Few distinct values, so that channels tie within and across the K-th.
    y=npst.arrays(np.float64, npst.array_shapes(min_dims=4, max_dims=4, max_side=6), elements=st.integers(0, 3)),
    percent=st.integers(1, 100),
    weight=st.floats(0, 2),
)
@settings(max_examples=100, deadline=None)
def test_the_cost_is_equation_4(y: NDArray[np.float64], percent: int, weight: float) -> None:
    k = -(-percent * y.shape[1] // 100)
    cost = hah_cost(torch.from_numpy(y), percent / 100, weight)
    assert cost.item() == pytest.approx(paper_cost(y, k, weight), abs=1e-9)


def test_the_cost_is_that_of_hahtorch() -> None:
    y = torch.randn(4, 32, 8, 8, generator=torch.Generator().manual_seed(0)).relu().requires_grad_()
    ours, expected = hah_cost(y), hahtorch.HaHCost(ratio=0.1, demote=0.1)(y)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    (grad,) = torch.autograd.grad(ours, y)
    (expected_grad,) = torch.autograd.grad(expected, y)
    # At 0 the cost has a kink, and the ReLU before it no gradient.
    torch.testing.assert_close(grad[y > 0], expected_grad[y > 0])


def test_the_gradient_is_that_of_finite_differences() -> None:
    y = torch.randperm(2 * 20 * 3 * 3).double().view(2, 20, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(hah_cost, (y,))


def test_channels_last_does_not_change_the_cost() -> None:
    y = torch.rand(4, 16, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(hah_cost(y.contiguous(memory_format=torch.channels_last)), hah_cost(y))


@pytest.mark.parametrize("reading", ["paper", "release"])
def test_one_pass_gives_logits_and_weighted_costs(reading: Reading) -> None:
    model = vgg16(width=1 / 16, hah_blocks=6).double().eval()
    x = images(2)
    logits, total = network_hah_cost(model, x, ALPHAS, reading, active_fraction=0.3, anti_hebbian_weight=0.5)
    expected, flow = 0.0, model.standardize(x)
    for layer in model.features:
        if isinstance(layer, HaHBlock):
            y = layer.relu(layer.conv(flow)).detach().numpy()
            alpha = ALPHAS[model.hah_blocks.index(layer)]
            expected += alpha * paper_cost(y, math.ceil(0.3 * y.shape[1] - 1e-9), 0.5)
        flow = layer(flow)
    assert total.item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(logits, model(x))


def test_the_paper_reading_is_the_gradient_of_equation_5() -> None:
    model = vgg16(width=1 / 16, hah_blocks=2).double()
    weight = model.hah_blocks[0].conv.weight
    direction = torch.randn_like(weight)
    x = images(2)

    def total() -> Tensor:
        return network_hah_cost(model, x, [0.3, 0.7], "paper")[1]

    (grad,) = torch.autograd.grad(total(), weight)
    step = 1e-6
    with torch.no_grad():
        weight += step * direction
        above = total()
        weight -= 2 * step * direction
        below = total()
    assert (grad * direction).sum().item() == pytest.approx(((above - below) / (2 * step)).item(), rel=1e-4)


def test_the_release_reading_keeps_each_cost_to_its_own_block() -> None:
    model = vgg16(width=1 / 16, hah_blocks=3).double()
    weights = [block.conv.weight for block in model.hah_blocks]
    x = images(2).requires_grad_()
    _, third_cost = network_hah_cost(model, x, [0.0, 0.0, 1.0], "release")
    grads = torch.autograd.grad(third_cost, [x, *weights], allow_unused=True)
    assert [grad is None or not grad.any() for grad in grads] == [True, True, True, False]


def test_the_release_reading_trains_as_hahtorch_does() -> None:
    """Its recipe: from the deepest block to the first, clear the block's gradient, then add that of its own cost."""
    torch.manual_seed(0)
    model = vgg16(width=1 / 16, hah_blocks=6, reading="release").double()
    theirs = copy.deepcopy(model)
    for position, layer in enumerate(theirs.features):
        if isinstance(layer, HaHBlock):
            weight = layer.conv.weight.data
            block = hahtorch.HaHBlock(weight.shape[1], weight.shape[0]).double()
            block.conv_layer.weight.data.copy_(weight)
            theirs.features[position] = block
    x, labels = images(8), torch.arange(8)

    blocks = [layer for layer in theirs.features if isinstance(layer, hahtorch.HaHBlock)]
    with ActivationExtractor(theirs, {str(b): block.relu for b, block in enumerate(blocks)}) as extractor:
        cross_entropy = functional.cross_entropy(theirs(x), labels)
    for b in reversed(range(6)):
        blocks[b].zero_grad()
        cost = hahtorch.HaHCost(ratio=0.1, demote=0.1)(extractor.outputs[str(b)])
        torch.autograd.backward(-ALPHAS[b] * cost, retain_graph=True)
    torch.autograd.backward(cross_entropy)

    logits, total = network_hah_cost(model, x, ALPHAS, "release")
    torch.autograd.backward(functional.cross_entropy(logits, labels) - total)
    for (name, parameter), expected in zip(model.named_parameters(), theirs.parameters(), strict=True):
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-5, atol=1e-5)


def test_every_block_needs_its_alpha() -> None:
    model: VGG = vgg16(width=1 / 16, hah_blocks=2)
    with pytest.raises(ModelError, match="alphas has 6 values; the model has 2 HaH blocks"):
        network_hah_cost(model, images(1).float(), ALPHAS)
