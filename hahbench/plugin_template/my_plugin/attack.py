"""The attack."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from hahbench.attacks.base import Progress, check_no_level, check_positive
from hahbench.outcome import Candidates, Samples


@dataclasses.dataclass(frozen=True)
class UniformNoise:
    """Adds noise that is uniform in [-epsilon, epsilon] to every colour value.

    Attributes:
        epsilon: in pixel values of [0, 1].
    """

    epsilon: float = 8 / 255

    # Raise it with every change of the results, so that those of older code are not taken for them.
    version: ClassVar[str] = "1"
    # Random noise, and no search for an error.
    worst_case: ClassVar[bool] = False
    # What comes of a sample depends on that sample and the seed alone, so that no run does it twice.
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_positive(epsilon=self.epsilon)

    @property
    def passes(self) -> float:
        """Forward and backward passes expected per sample, to weigh progress; one is the judge's."""
        return 1.0

    def check_level(self, level: float | None) -> None:
        """There are no levels."""
        check_no_level(level)

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """``samples`` plus noise; a sample's noise depends on the seed and its index alone, not on batches or order."""
        noise = np.stack(
            [
                np.random.default_rng([seed, index]).uniform(-self.epsilon, self.epsilon, samples.images.shape[1:])
                for index in samples.index.tolist()
            ]
        )
        images = samples.images + torch.from_numpy(noise).to(samples.images)
        return Candidates.untold(images.clamp(0, 1), forwards=0, backwards=0)
