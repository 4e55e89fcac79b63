"""The images as they are: clean accuracy."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import nn

from hahbench.attacks.base import Progress, check_no_level
from hahbench.outcome import Candidates, Samples


@dataclasses.dataclass(frozen=True)
class Clean:
    """Changes nothing."""

    version: ClassVar[str] = "1"
    worst_case: ClassVar[bool] = False
    per_sample: ClassVar[bool] = True

    @property
    def passes(self) -> float:
        """No forward pass; one is counted, the judge's, so that progress moves."""
        return 1.0

    def check_level(self, level: float | None) -> None:
        """There are no levels.

        Raises:
            HahbenchError: a level is given.
        """
        check_no_level(level)

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """The images of ``samples``."""
        return Candidates.untold(samples.images, forwards=0, backwards=0)
