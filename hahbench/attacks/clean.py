"""The images as they are: clean accuracy."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import nn

from hahbench.attacks.base import Progress
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples


@dataclasses.dataclass(frozen=True)
class Clean:
    """Changes nothing."""

    version: ClassVar[str] = "1"
    worst_case: ClassVar[bool] = False

    @property
    def cost(self) -> float:
        """No forward pass; one is counted, the judge's, so that progress moves."""
        return 1.0

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """The images of ``samples``.

        Raises:
            HahbenchError: a level is given.
        """
        if level is not None:
            raise HahbenchError(f"kind 'clean' has no levels; level {level} is given")
        return Candidates(samples.images, torch.zeros(len(samples), dtype=torch.float64))
