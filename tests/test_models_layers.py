"""The blocks compute eqs. 1 to 3 of Cekic, Bakiskan and Madhow 2022; in the release reading, what hahtorch computes."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import hahtorch
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from hahbench.models.layers import (
    AdaptiveThreshold,
    DivisiveNorm2d,
    HaHBlock,
    ImplicitNormConv2d,
    Reading,
    RegularBlock,
    Threshold,
    kth_largest,
)
from hahbench.models.vgg import vgg16

Array = NDArray[np.float64]


def paper_convolution(x: Array, w: Array) -> Array:
    """Eq. 1, one location and one filter at a time."""
    n, _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((n, len(w), height, width))
    for image, k, i, j in np.ndindex(*y.shape):
        projection = np.sum(w[k] * padded[image, :, i : i + 3, j : j + 3]) / math.sqrt(np.sum(w[k] ** 2))
        y[image, k, i, j] = max(0.0, projection)
    return y


def paper_normalization(y: Array, sigma: float) -> Array:
    """Eq. 2."""
    mean = y.sum(axis=1) / y.shape[1]
    z = np.zeros_like(y)
    for image in range(len(y)):
        z[image] = y[image] / (sigma * mean[image].max() + (1 - sigma) * mean[image])
    return z


def paper_threshold(z: Array, kind: Threshold, fraction: float) -> Array:
    """Eq. 3."""
    o = z.copy()
    for plane in itertools.chain.from_iterable(o):
        if kind == "quantile":
            tau = sorted(plane.flat, reverse=True)[math.ceil(fraction * plane.size) - 1]
        elif kind == "mean":
            tau = sum(plane.flat) / plane.size
        else:
            tau = -math.inf
        plane[plane < tau] = 0
    return o


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("threshold", ["quantile", "mean", "none"])
@pytest.mark.parametrize(("sigma", "fraction"), [(0.1, 0.2), (0.5, 0.5), (1.0, 0.1)])
def test_the_paper_reading_is_equations_1_to_3(threshold: Threshold, sigma: float, fraction: float) -> None:
    block = HaHBlock(3, 5, threshold=threshold, sigma=sigma, active_fraction=fraction).double()
    x = randn(2, 3, 6, 7)
    expected = paper_convolution(x.numpy(), block.conv.weight.detach().numpy())
    expected = paper_threshold(paper_normalization(expected, sigma), threshold, fraction)
    np.testing.assert_allclose(block(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_the_release_block_is_that_of_hahtorch(size: int) -> None:
    block = HaHBlock(3, 16, reading="release").double()
    theirs = hahtorch.HaHBlock(3, 16).double()
    theirs.conv_layer.weight.data.copy_(block.conv.weight.data)
    x = randn(4, 3, size, size).requires_grad_()
    ours, expected = block(x), theirs(x)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    weight = randn(*ours.shape, seed=1)
    (grad,) = torch.autograd.grad((ours * weight).sum(), x)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-5)


def test_the_release_mean_threshold_is_that_of_hahtorch() -> None:
    z = randn(2, 4, 9, 9).relu()
    torch.testing.assert_close(AdaptiveThreshold("mean", reading="release")(z), hahtorch.AdaptiveThreshold()(z))


@given(log_scale=st.floats(-6, 6), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_block_does_not_see_the_scale_of_its_input(log_scale: float, seed: int) -> None:
    block = HaHBlock(3, 8).double()
    x = randn(2, 3, 8, 8, seed=seed)
    torch.testing.assert_close(block(x * 10**log_scale), block(x), rtol=1e-9, atol=1e-9)


def test_the_convolution_does_not_see_the_length_of_its_filters() -> None:
    conv = ImplicitNormConv2d(3, 8).double()
    x = randn(2, 3, 8, 8)
    before = conv(x)
    conv.weight.data *= torch.linspace(0.01, 100, 8, dtype=torch.float64).view(8, 1, 1, 1)
    torch.testing.assert_close(conv(x), before, rtol=1e-12, atol=1e-12)


@given(height=st.integers(1, 12), width=st.integers(1, 12), percent=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_each_filter_is_active_at_exactly_the_top_fraction_of_locations(height: int, width: int, percent: int) -> None:
    values = torch.stack([torch.randperm(height * width) + 1 for _ in range(6)]).double().view(2, 3, height, width)
    output = AdaptiveThreshold("quantile", percent / 100)(values)
    kept = -(-percent * height * width // 100)
    assert (output > 0).sum(dim=(2, 3)).unique().tolist() == [kept]
    assert output.flatten(2).topk(kept).values.equal(values.flatten(2).topk(kept).values)


@pytest.mark.parametrize(("reading", "kept"), [("paper", [9.0, 5.0, 5.0, 5.0]), ("release", [9.0])])
def test_locations_that_tie_at_the_threshold(reading: Reading, kept: list[float]) -> None:
    z = torch.tensor([9.0, 5.0, 5.0, 5.0, 1.0]).view(1, 1, 1, 5)
    output = AdaptiveThreshold("quantile", 0.4, reading)(z)
    assert output[output > 0].tolist() == kept


@pytest.mark.parametrize("reading", ["paper", "release"])
def test_an_image_without_activation_stays_zero_and_leaves_the_others_alone(reading: Reading) -> None:
    block = HaHBlock(3, 8, reading=reading)
    x = randn(3, 3, 8, 8).float()
    x[1] = 0
    x.requires_grad_()
    output = block(x)
    output.square().sum().backward()
    assert (output[1] == 0).all()
    torch.testing.assert_close(output[[0, 2]], block(x[[0, 2]]))
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert block.conv.weight.grad is not None
    assert block.conv.weight.grad.isfinite().all()


@pytest.mark.parametrize("reading", ["paper", "release"])
@pytest.mark.parametrize("threshold", ["quantile", "mean", "none"])
def test_gradients_are_those_of_finite_differences(reading: Reading, threshold: Threshold) -> None:
    block = HaHBlock(2, 4, reading=reading, threshold=threshold).double()

    def of_weight(x: Tensor, weight: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(block, {"conv.weight": weight}, (x,))
        return output

    inputs = (randn(2, 2, 5, 5).requires_grad_(), randn(4, 2, 3, 3, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(of_weight, inputs)


def test_the_gradient_of_the_local_copy_reaches_the_weight_alone() -> None:
    conv = ImplicitNormConv2d(3, 4).double()
    x = randn(2, 3, 6, 6).requires_grad_()
    g, h = randn(2, 4, 6, 6, seed=1), randn(2, 4, 6, 6, seed=2)
    output, local = conv.forward_local(x)
    grads = torch.autograd.grad((output * g + local * h).sum(), (x, conv.weight))
    whole = conv(x)
    assert output.equal(whole)
    assert local.equal(whole)
    (expected_x,) = torch.autograd.grad((whole * g).sum(), x, retain_graph=True)
    (expected_weight,) = torch.autograd.grad((whole * (g + h)).sum(), conv.weight)
    torch.testing.assert_close(grads, (expected_x, expected_weight))


@pytest.mark.parametrize("reading", ["paper", "release"])
def test_a_regular_block_is_convolution_relu_batch_norm(reading: Reading) -> None:
    block = RegularBlock(3, 5, reading=reading).double()
    x = randn(4, 3, 6, 6)
    weight = block.conv.weight.detach().clone()
    if reading == "paper":
        weight /= weight.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    y = torch.conv2d(x, weight, padding=1).relu()
    expected = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    "layer",
    [
        HaHBlock(3, 8),
        HaHBlock(3, 8, reading="release"),
        HaHBlock(3, 8, normalization="batch", threshold="mean"),
        RegularBlock(3, 8),
        nn.Sequential(DivisiveNorm2d(), AdaptiveThreshold()),
    ],
    ids=["paper", "release", "batch-mean", "regular", "no-convolution"],
)
def test_channels_last_changes_neither_output_nor_format(layer: Any) -> None:
    layer = layer.double()
    for parameter in layer.parameters():
        if parameter.dim() == 4:
            # Filters of both signs and no mean: a map that is 0 everywhere is its own mean but for round-off.
            weight = randn(*parameter.shape)
            parameter.data.copy_(weight - weight.mean(dim=(1, 2, 3), keepdim=True))
    x = randn(4, 3, 8, 8).abs()
    expected = layer(x)
    output = layer.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)
    assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("reading", ["paper", "release"])
@pytest.mark.parametrize("kind", ["quantile", "mean"])
def test_straight_through_changes_the_gradient_alone(reading: Reading, kind: Literal["quantile", "mean"]) -> None:
    """Backward pass differentiable approximation: the threshold's output, the gradient of the identity."""
    z = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    plain = AdaptiveThreshold(kind, 0.2, reading)(z)
    through = AdaptiveThreshold(kind, 0.2, reading, straight_through=True)(z)
    assert torch.equal(through, plain)
    (gradient,) = torch.autograd.grad((plain * weights).sum(), z)
    assert torch.equal(gradient, weights * (plain > 0))
    (gradient,) = torch.autograd.grad((through * weights).sum(), z)
    assert torch.equal(gradient, weights)


def test_a_network_with_straight_through_thresholds_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    plain = vgg16(width=0.125, hah_blocks=6).eval()
    through = vgg16(width=0.125, hah_blocks=6, straight_through=True).eval()
    through.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(plain(images), through(images))


@pytest.mark.parametrize("k", [1, 52, 205, 256, 257, 700])
@pytest.mark.parametrize("size", [256, 1000, 1024, 4096])
def test_the_kth_largest_of_long_rows_with_ties(k: int, size: int) -> None:
    x = torch.randn(3, 2, 1, size, generator=torch.Generator().manual_seed(k)).relu()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        values = x.to(dtype)
        if k <= size:
            expected = values.float().sort(dim=-1, descending=True).values[..., k - 1 : k].to(dtype)
            assert torch.equal(kth_largest(values, k, dims=(2, 3)), expected)
