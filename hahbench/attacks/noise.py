"""Additive Gaussian noise."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hahbench.attacks.base import Progress
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
    """Adds independent normal noise to every colour value; the level is its standard deviation in pixel values.

    The draw of a sample depends on the seed and the sample's index alone: not on batch size, order or sharding, nor on
    the level, so that levels differ in the noise's scale only.
    """

    version: ClassVar[str] = "1"
    worst_case: ClassVar[bool] = False
    per_sample: ClassVar[bool] = True

    @property
    def passes(self) -> float:
        """No forward pass; one is counted, the judge's, so that progress moves."""
        return 1.0

    def check_level(self, level: float | None) -> None:
        """The level is a standard deviation.

        Raises:
            HahbenchError: there is no level, or it is negative.
        """
        _standard_deviation(level)

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """``samples`` plus noise, clamped to [0, 1].

        Raises:
            HahbenchError: there is no level, or it is negative.
        """
        sigma = _standard_deviation(level)
        noise = _standard_normal(samples, seed).to(samples.images.device)
        images = samples.images.float().add(noise, alpha=sigma).clamp(0, 1)
        return Candidates.untold(images, forwards=0, backwards=0)


def _standard_deviation(level: float | None) -> float:
    if level is None or not level >= 0:
        raise HahbenchError(f"level = {level} is not allowed; each of the levels must be a standard deviation >= 0")
    return level


def _standard_normal(samples: Samples, seed: int) -> Tensor:
    """(N, C, H, W) float32, each row from a Philox stream (Salmon et al. 2011) whose key is (seed, sample index)."""
    draws = np.empty(tuple(samples.images.shape), np.float32)
    for draw, index in zip(draws, samples.index.tolist(), strict=True):
        stream = np.random.Philox(key=np.array([seed, index], np.uint64))
        np.random.Generator(stream).standard_normal(dtype=np.float32, out=draw)
    return torch.from_numpy(draws)
