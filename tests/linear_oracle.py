"""A linear classifier whose smallest perturbations are known exactly, box included.

The images that a linear classifier assigns to another class are a union of half-spaces, one for each other class, so
the distance of an image is the smallest of its distances to these. Within the box [0, 1] the distance to one half-space
{x: w.x >= c} is a small convex problem: component i can gain at most |w_i| room_i, where room_i is how far it can move
in the direction of w_i before it meets the box.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import nn

from hahbench.outcome import Samples
from hahbench.spec import Norm

Array = NDArray[np.float64]

CLASSES = 10
SHAPE = (3, 32, 32)


@dataclasses.dataclass(frozen=True)
class LinearOracle:
    """A linear classifier and images that it classifies correctly."""

    model: nn.Module
    samples: Samples
    weight: Array
    bias: Array

    def distances(self, norm: Norm) -> Array:
        """(N,), the norm of the smallest perturbation of each image that changes its class."""
        images = self.samples.images.flatten(1).double().numpy()
        labels = self.samples.labels.numpy()
        return np.array([self._distance(norm, image, label) for image, label in zip(images, labels, strict=True)])

    def _distance(self, norm: Norm, image: Array, label: int) -> float:
        logits = self.weight @ image + self.bias
        return min(
            _HALF_SPACE_DISTANCE[norm](
                np.abs(direction := self.weight[other] - self.weight[label]),
                np.where(direction > 0, 1 - image, image),
                float(logits[label] - logits[other]),
            )
            for other in range(CLASSES)
            if other != label
        )


def linear_oracle(n: int, seed: int = 0) -> LinearOracle:
    """A random linear classifier, and ``n`` greyish images, each drawn to one class and half as far to another."""
    rng = np.random.default_rng(seed)
    dimension = int(np.prod(SHAPE))
    weight = rng.standard_normal((CLASSES, dimension)).astype(np.float32)
    bias = (-weight.sum(axis=1) / 2).astype(np.float32)
    labels = np.arange(n) % CLASSES
    pull = rng.uniform(0.012, 0.025, (n, 1))
    towards = pull * weight[labels] + pull / 2 * weight[(labels + 1) % CLASSES]
    images = (rng.uniform(0.45, 0.55, (n, dimension)) + towards).astype(np.float32).clip(0, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(dimension, CLASSES)).eval().requires_grad_(False)
    model[1].weight.data = torch.from_numpy(weight)
    model[1].bias.data = torch.from_numpy(bias)
    samples = Samples(torch.arange(n), torch.from_numpy(images).view(n, *SHAPE), torch.from_numpy(labels))
    return LinearOracle(model, samples, weight.astype(np.float64), bias.astype(np.float64))


def _l0(weight: Array, room: Array, margin: float) -> float:
    gains = np.sort(weight * room)[::-1]
    return float(np.searchsorted(np.cumsum(gains), margin) + 1)


def _l1(weight: Array, room: Array, margin: float) -> float:
    order = np.argsort(-weight)
    gained = np.concatenate([[0.0], np.cumsum((weight * room)[order])])
    moved = np.concatenate([[0.0], np.cumsum(room[order])])
    return float(np.interp(margin, gained, moved))


def _l2(weight: Array, room: Array, margin: float) -> float:
    def shortfall(scale: float) -> float:
        return float(weight @ np.minimum(scale * weight, room)) - margin

    scale = brentq(shortfall, 0, room.max() / weight.min(), xtol=1e-15)
    return float(np.linalg.norm(np.minimum(scale * weight, room)))


def _linf(weight: Array, room: Array, margin: float) -> float:
    return float(brentq(lambda size: float(weight @ np.minimum(size, room)) - margin, 0, room.max(), xtol=1e-15))


_HALF_SPACE_DISTANCE = {"l0": _l0, "l1": _l1, "l2": _l2, "linf": _linf}
