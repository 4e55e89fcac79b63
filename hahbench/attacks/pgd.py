"""Projected gradient descent (Madry et al. 2018, https://arxiv.org/abs/1706.06083) on the cross-entropy."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from torch import Tensor, nn

from hahbench.attacks import random
from hahbench.attacks.base import Progress, check_at_least_one, check_epsilon, check_positive
from hahbench.attacks.engine import VERSION, Lanes, attack_correct
from hahbench.attacks.losses import cross_entropy, errs, loss_and_gradient
from hahbench.attacks.projections import per_image, project_l2, project_linf, unit
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples


@dataclasses.dataclass(frozen=True)
class ProjectedGradientDescent:
    """Gradient steps of a fixed size within a ball, until the model errs.

    Attributes:
        norm: the norm that bounds the perturbation.
        steps: gradient steps of each start.
        relative_step_size: length of a step as a fraction of epsilon: of each colour value for l_inf, l2 length for l2.
        restarts: how often a sample that is not broken is tried.
        random_start: whether to start from a point drawn uniformly from the ball; else from the clean image.
        batch_size: samples attacked together; results do not depend on it.
    """

    norm: Literal["l2", "linf"]
    steps: int = 40
    relative_step_size: float = 0.1
    restarts: int = 1
    random_start: bool = True
    batch_size: int = 128

    version: ClassVar[str] = f"1, engine {VERSION}"
    worst_case: ClassVar[bool] = True
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_at_least_one(steps=self.steps, restarts=self.restarts, batch_size=self.batch_size)
        check_positive(relative_step_size=self.relative_step_size)
        if self.restarts > 1 and not self.random_start:
            raise HahbenchError(
                f"restarts = {self.restarts} is not allowed with random_start = false; each would find the same"
            )

    @property
    def passes(self) -> float:
        """The clean forward pass, and those of a sample that does not break: each start is evaluated too."""
        return 1.0 + 2.0 * (self.steps + 1) * self.restarts

    def check_level(self, level: float | None) -> None:
        """The level is an epsilon.

        Raises:
            HahbenchError: there is no level, or it is not positive, or in l_inf above 1.
        """
        check_epsilon(level, self.norm)

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """Perturb by at most ``level`` what the model classifies correctly.

        Raises:
            HahbenchError: there is no allowed level.
        """
        stepper = Pgd(self, check_epsilon(level, self.norm), seed)
        return attack_correct(
            stepper, model, samples, batch_size=self.batch_size, member=f"pgd-{self.norm}", progress=progress
        )


@dataclasses.dataclass
class PgdLanes(Lanes):
    """``point`` (L, C, H, W) is the perturbed image that the next step evaluates."""

    point: Tensor


class Pgd:
    """Madry et al. 2018, section 2.1, within ``epsilon``; a lane is done when its sample breaks."""

    def __init__(self, attack: ProjectedGradientDescent, epsilon: float, seed: int) -> None:
        self.attack, self.epsilon, self.seed = attack, epsilon, seed
        self.attempts = attack.restarts
        # The start is evaluated too.
        self.steps = attack.steps + 1

    def start(self, lanes: Lanes) -> PgdLanes:
        """A random point of the ball, clamped to [0, 1], or the clean image."""
        point = lanes.images
        if self.attack.random_start:
            point = (point + self._random_perturbation(lanes)).clamp(0, 1)
        return PgdLanes(**vars(lanes), point=point.clone())

    def step(self, model: nn.Module, lanes: PgdLanes) -> None:
        """Evaluate the point and move it along the gradient."""
        logits, _, gradient = loss_and_gradient(model, lanes.point, lambda z: cross_entropy(z, lanes.labels))
        lanes.forwards += 1
        lanes.backwards += 1
        lanes.broken = errs(logits, lanes.labels)
        lanes.candidate[lanes.broken] = lanes.point[lanes.broken]
        lanes.done = lanes.broken | (lanes.step + 1 == self.steps)
        linf = self.attack.norm == "linf"
        direction = gradient.sign() if linf else unit(gradient)
        delta = lanes.point - lanes.images + self.attack.relative_step_size * self.epsilon * direction
        radius = delta.new_full((len(delta),), self.epsilon)
        delta = project_linf(delta, radius) if linf else project_l2(delta, radius)
        lanes.point = (lanes.images + delta).clamp(0, 1)

    def _random_perturbation(self, lanes: Lanes) -> Tensor:
        """Uniform in the ball: for l2 a uniform direction, and a radius whose d-th power is uniform."""
        key = random.keys(self.seed, "pgd", lanes.index, lanes.attempt)
        count = lanes.images[0].numel()
        if self.attack.norm == "linf":
            return self.epsilon * (2 * random.uniform(key, 0, count) - 1).view_as(lanes.images)
        direction = unit(random.normal(key, 0, count).view_as(lanes.images))
        radius = self.epsilon * random.uniform(key, 1, 1).squeeze(1) ** (1 / count)
        return per_image(radius) * direction
