"""What attacks maximise: functions of logits (N, classes) with a value per sample, (N,), and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from hahbench.logits import ROUND_OFF

Loss: TypeAlias = Callable[[Tensor], Tensor]

_TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the labels (N,).

    Computed in float64: in float32 the label's probability rounds to 1 where the model is sure, and its part of the
    gradient to 0.
    """
    return functional.cross_entropy(logits.double(), labels, reduction="none").to(logits.dtype)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit less the largest other one: negative where the label (N,) is not predicted."""
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    other = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(dim=1)
    return own - other


def errs(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,), whether another class than the label (N,) is predicted, or none: a logit is NaN; as the judge has it."""
    return (logits.argmax(dim=1) != labels) | logits.isnan().any(dim=1)


def errs_clearly(logits: Tensor, labels: Tensor, confidence: float = 0.0) -> Tensor:
    """(N,), whether another class leads the label by more than round-off, and by more than ``confidence``.

    A logit that is NaN is an error too. Attacks that seek the nearest error end where two logits are all but equal;
    less of a lead is lost when the judge asks the model as it was given, in other batches.
    """
    lead = -margin(logits, labels)
    # An infinite logit leads by more than any round-off of its own.
    return ~(lead <= (ROUND_OFF * logits.abs().amax(dim=1)).clamp_min(confidence)) | (lead == torch.inf)


def difference_of_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """DLR, invariant to shifts and rescaling of the logits: Croce and Hein 2020, eq. 6; needs 3 classes."""
    top = logits.topk(3, dim=1).values
    return -margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_difference_of_logits_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted DLR: Croce and Hein 2020, eq. 7, for targets (N,); needs 4 classes."""
    top = logits.topk(4, dim=1).values
    own, target = logits.gather(1, torch.stack([labels, targets], dim=1)).unbind(dim=1)
    return (target - own) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)


def loss_and_gradient(model: nn.Module, images: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and one backward pass.

    Args:
        model: with frozen weights.
        images: (N, C, H, W).
        loss: of the logits.

    Returns:
        The logits (N, classes), the loss (N,) and its gradient (N, C, H, W), contiguous. A gradient that does not exist
        is 0, and so is one that is not finite.
    """
    with torch.enable_grad():
        point = images.detach().requires_grad_()
        logits = model(point).to(point.dtype)
        value = loss(logits)
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.sum(), point, allow_unused=True)
    if gradient is None:
        gradient = torch.zeros_like(point)
    return logits.detach(), value.detach(), gradient.contiguous().nan_to_num_(0.0, 0.0, 0.0)
