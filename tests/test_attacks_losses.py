"""Losses against their equations, and gradients of models that give none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hahbench.attacks.losses import (
    cross_entropy,
    difference_of_logits_ratio,
    errs,
    errs_clearly,
    loss_and_gradient,
    margin,
    targeted_difference_of_logits_ratio,
)


@settings(deadline=None)
@given(
    logits=st.lists(st.lists(st.integers(-20, 20), min_size=6, max_size=6, unique=True), min_size=1, max_size=4),
    label=st.integers(0, 5),
    shift=st.integers(1, 5),
)
def test_losses_are_their_equations(logits: list[list[int]], label: int, shift: int) -> None:
    z = np.array(logits, dtype=np.float64)
    target = (label + shift) % 6
    ranked = -np.sort(-z, axis=1)
    labels = torch.full((len(z),), label)
    others = np.delete(z, label, axis=1).max(axis=1)
    expected = {
        "cross-entropy": np.log(np.exp(z).sum(axis=1)) - z[:, label],
        "margin": z[:, label] - others,
        "dlr": -(z[:, label] - others) / (ranked[:, 0] - ranked[:, 2]),
        "targeted": -(z[:, label] - z[:, target]) / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2),
    }
    tensor = torch.from_numpy(z)
    found = {
        "cross-entropy": cross_entropy(tensor, labels),
        "margin": margin(tensor, labels),
        "dlr": difference_of_logits_ratio(tensor, labels),
        "targeted": targeted_difference_of_logits_ratio(tensor, labels, torch.full_like(labels, target)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, atol=1e-9, err_msg=name)


def test_an_infinite_logit_leads_clearly() -> None:
    logits = torch.tensor([[0.0, torch.inf], [torch.inf, 0.0], [1.0, 1.0 + 1e-6]])
    labels = torch.zeros(3, dtype=torch.long)
    assert errs(logits, labels).tolist() == [True, False, True]
    assert errs_clearly(logits, labels).tolist() == [True, False, False]


def total(logits: Tensor) -> Tensor:
    return logits.sum(dim=1)


class Model(nn.Module):
    """A function of the images as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.function(images)  # type: ignore[operator]
        return logits


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_per_image_and_contiguous(memory_format: torch.memory_format) -> None:
    images = torch.rand(3, 3, 4, 4).contiguous(memory_format=memory_format)
    logits, loss, gradient = loss_and_gradient(Model(lambda x: (x**2).flatten(1)), images, total)
    torch.testing.assert_close(gradient, 2 * images)
    torch.testing.assert_close(loss, (images**2).sum(dim=(1, 2, 3)))
    assert gradient.is_contiguous()
    assert not any(tensor.requires_grad for tensor in (logits, loss, gradient))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.ones(len(x), 2),
        lambda x: x.detach().flatten(1),
        lambda x: torch.ones(len(x), 2, requires_grad=True),
        lambda x: torch.sqrt(x - x).flatten(1),
    ],
    ids=["constant", "detached", "unused", "infinite"],
)
def test_a_gradient_that_does_not_exist_or_is_not_finite_is_zero(function: object) -> None:
    images = torch.rand(2, 3, 4, 4)
    with torch.no_grad():
        _, _, gradient = loss_and_gradient(Model(function), images, total)
    assert torch.equal(gradient, torch.zeros_like(images))


def test_errors_are_those_of_the_judge_and_clear_ones_lead_by_more_than_round_off() -> None:
    nan, inf = float("nan"), float("inf")
    logits = torch.tensor([[2.0, 1.0], [1.0, 2.0], [nan, nan], [3.0, nan], [1.0, 1.0 + 1e-6], [inf, 0.0]])
    labels = torch.zeros(6, dtype=torch.int64)
    assert errs(logits, labels).tolist() == [False, True, True, True, True, False]
    assert errs_clearly(logits, labels).tolist() == [False, True, True, True, False, False]
