"""Nearest points of norm balls, and steps of a given length, row by row; all tensors (N, C, H, W), radii (N,)."""

from __future__ import annotations

import torch
from torch import Tensor

from hahbench.spec import Norm

_TINY = 1e-12
_MOST_STEPS = 90
_RELATIVE_TOLERANCE = 1e-6


def per_image(values: Tensor) -> Tensor:
    """(N,) as (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def lengths(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each row, (N,); l0 counts changed colour values."""
    rows = delta.flatten(1)
    if norm == "l0":
        return rows.ne(0).sum(dim=1).to(delta.dtype)
    if norm == "linf":
        # A tenth of the time of vector_norm on a CPU.
        return rows.abs().amax(dim=1)
    length: Tensor = torch.linalg.vector_norm(rows, ord=1.0 if norm == "l1" else 2.0, dim=1)
    return length


def unit(delta: Tensor) -> Tensor:
    """Each row divided by its l2 norm; rows of zeros stay."""
    # The largest value is made 1 first: the squares of a sure model's gradient underflow.
    scaled = delta / per_image(lengths(delta, "linf").clamp_min(torch.finfo(delta.dtype).tiny))
    return scaled / per_image(lengths(scaled, "l2").clamp_min(_TINY))


def project_linf(delta: Tensor, radius: Tensor) -> Tensor:
    """The point of the l_inf ball nearest to ``delta``."""
    bound = per_image(radius)
    return delta.clamp(-bound, bound)


def project_l2(delta: Tensor, radius: Tensor) -> Tensor:
    """The point of the l2 ball nearest to ``delta``."""
    return delta * per_image((radius / lengths(delta, "l2").clamp_min(_TINY)).clamp(max=1))


def project_l1_in_box(images: Tensor, delta: Tensor, radius: Tensor) -> Tensor:
    """The nearest ``d`` to ``delta`` with ||d||_1 <= radius and ``images + d`` in [0, 1].

    Croce and Hein 2021 (https://arxiv.org/abs/2103.01208), proposition 2.1: d_i = sign(delta_i) times |delta_i| less a
    common threshold, at least 0 and at most the room that the box leaves.
    """
    size = delta.abs().flatten(1)
    room = torch.where(delta > 0, 1 - images, images).clamp_min(0).flatten(1)
    bound = radius.unsqueeze(1)
    threshold = torch.zeros_like(bound)
    low, high = torch.zeros_like(bound), size.amax(dim=1, keepdim=True)
    # The norm is piecewise linear in the threshold: Newton's method, halving the bracket where a step leaves it, where
    # the norm is flat, and every third time, as steps from a nearly flat place are too short or too long.
    for step in range(_MOST_STEPS):
        left = size - threshold
        excess = left.clamp_min(0).minimum(room).sum(dim=1, keepdim=True) - bound
        low = torch.where(excess > 0, threshold, low)
        high = torch.where(excess > 0, high, threshold)
        solved = (excess <= 0) & (excess >= -_RELATIVE_TOLERANCE * bound)
        # Neighbouring floats have no midpoint.
        if (solved | (high - low <= _RELATIVE_TOLERANCE * high)).all():
            break
        slope = ((left > 0) & (left < room)).sum(dim=1, keepdim=True)
        newton = threshold + excess / slope.clamp_min(1)
        usable = (newton > low) & (newton < high) & (slope > 0) & (step % 3 < 2)
        threshold = torch.where(usable, newton, (low + high) / 2)
    return (size - high).clamp_min(0).minimum(room).view_as(delta) * delta.sign()
