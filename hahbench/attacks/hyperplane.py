"""The nearest point of a hyperplane within the box [0, 1], which FAB (Croce and Hein 2020,
https://arxiv.org/abs/1907.02044) projects onto, found without sorting."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

# Normals are scaled to a largest entry of 1, so only entries below the round-off of the sums ask for more than this.
_LARGEST = 1e12


def towards_hyperplane(points: Tensor, normals: Tensor, values: Tensor, norm: Literal["l2", "linf"]) -> Tensor:
    """The smallest ``d`` with <normal, d> = value and ``point + d`` in [0, 1], row by row.

    Component i moves by min(t s_i, room_i) in the direction that gains, with s_i = 1 for l_inf and |normal_i| for l2,
    where room_i is how far the box lets it. What is gained grows with t, piecewise linear and concave, so Newton's
    method from 0 approaches the root from below and meets it when the components held by the box no longer change.

    Args:
        points: (N, D) in [0, 1].
        normals: (N, D).
        values: (N,), of either sign.
        norm: in which ``d`` is the smallest.

    Returns:
        (N, D); where the box does not reach the hyperplane, ``d`` leads to its corner nearest to it. Components whose
        normal is 0 do not move.
    """
    weight = normals.abs()
    scale = weight.amax(dim=1)
    scale = torch.where(scale > 0, scale, 1.0)
    weight /= scale.unsqueeze(1)
    wanted = values.abs() / scale
    direction = normals.sign() * torch.where(values < 0, -1.0, 1.0).unsqueeze(1)
    room = direction.clamp_min(0) - direction * points
    gain_at_wall = weight * room
    speed, growth = (weight, weight.square()) if norm == "l2" else (torch.ones_like(weight), weight)
    t = torch.where(wanted < gain_at_wall.sum(dim=1), 0.0, _LARGEST)
    while True:
        # In-place comparisons give 0 and 1 as floats, which torch multiplies much faster than it does booleans.
        held = (t.unsqueeze(1) * speed).ge_(room)
        short = wanted - torch.linalg.vecdot(held, gain_at_wall)
        slope = torch.linalg.vecdot(1 - held, growth)
        newton = torch.where(slope > 0, short / slope, 0.0).clamp_max(_LARGEST)
        if not (newton > t).any():
            return direction * torch.minimum(t.unsqueeze(1) * speed, room)
        t = torch.fmax(t, newton)  # which a value of NaN leaves as it is
