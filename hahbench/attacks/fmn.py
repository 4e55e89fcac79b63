"""Fast minimum-norm attacks (Pintor, Roli, Brendel and Biggio 2021, https://arxiv.org/abs/2102.12827, algorithm 1)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from hahbench.attacks.base import Progress, check_at_least_one, check_no_level, check_positive
from hahbench.attacks.engine import VERSION, Lanes, attack_correct
from hahbench.attacks.losses import errs_clearly, loss_and_gradient, margin
from hahbench.attacks.projections import lengths, per_image, project_l2, project_linf, unit
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples
from hahbench.spec import Norm

_MOST_IN_ONE_CYCLE = 100
# A norm that falls by less than this share in a cycle has settled.
_SETTLED = 0.01
# Of the first and of later cycles, in units of the largest step size. An l0 ball bounds no magnitude, and long steps
# find fewer values to change; in other norms a sample settles sooner where later cycles stay closer to its best point.
_STEPSIZES: dict[Norm, tuple[float, float]] = {
    "l0": (10.0, 10.0),
    "l1": (1.0, 0.3),
    "l2": (1.0, 0.3),
    "linf": (1.0, 0.3),
}
_LAST_STEPSIZE = 0.01
_LAST_GAMMA = 0.001
_TINY = 1e-12
_ROUND_OFF = 1e-6
_DUAL_ORDER = {"l1": math.inf, "l2": 2.0, "linf": 1.0}


@dataclasses.dataclass(frozen=True)
class FastMinimumNorm:
    """The smallest perturbation, in one norm, with which the model errs.

    More than 100 steps are spent in three cycles, a half and two quarters: each anneals the step size and gamma anew,
    and the later ones start from the best point so far. A sample leaves after the second if its norm fell in it by less
    than a hundredth. After a shorter first cycle the norms stay larger, whatever follows it.

    Attributes:
        norm: the norm that is minimised.
        steps: gradient steps at most.
        max_stepsize: l2 length of the first gradient step; for l0 it is ten times as long. Later cycles of l1, l2 and
            l_inf start with 0.3 of it, and each cycle ends with a hundredth of what it starts with.
        gamma: the first relative change of epsilon in a cycle; the last is 0.001.
        batch_size: samples attacked together; results do not depend on it.
    """

    norm: Norm
    steps: int = 100
    max_stepsize: float = 1.0
    gamma: float = 0.05
    batch_size: int = 128

    version: ClassVar[str] = f"3, engine {VERSION}"
    worst_case: ClassVar[bool] = True
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_at_least_one(steps=self.steps, batch_size=self.batch_size)
        check_positive(max_stepsize=self.max_stepsize)
        if not 0 < self.gamma < 1:
            raise HahbenchError(f"gamma = {self.gamma} is not allowed; it must lie between 0 and 1")

    @property
    def passes(self) -> float:
        """One clean forward pass, then a forward and a backward pass a step."""
        return 1.0 + 2.0 * self.steps

    def check_level(self, level: float | None) -> None:
        """There are no levels: the attack finds its own epsilon.

        Raises:
            HahbenchError: a level is given.
        """
        check_no_level(level)

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """Perturb what the model classifies correctly; nothing here is random."""
        stepper = Fmn(self.norm, self.steps, self.max_stepsize, self.gamma)
        return attack_correct(
            stepper, model, samples, batch_size=self.batch_size, member=f"fmn-{self.norm}", progress=progress
        )


@dataclasses.dataclass
class FmnLanes(Lanes):
    """The state of Algorithm 1, a row per lane.

    Attributes:
        point: (L, C, H, W), the perturbed image that the next step evaluates.
        epsilon: (L,), the radius of the ball that it lies in.
        smallest: (L,), the norm of the best perturbation; infinite where none is found.
        smallest_before: (L,), the same at the start of the cycle.
    """

    point: Tensor
    epsilon: Tensor
    smallest: Tensor
    smallest_before: Tensor


class Fmn:
    """Algorithm 1 in cycles; the arguments are those of ``FastMinimumNorm``.

    Unlike in the paper, epsilon grows by gamma at least where a fifth of the first cycle found no error: the linear
    estimate of the boundary's distance alone can stall in front of a curved one.
    """

    attempts = 1

    def __init__(self, norm: Norm, steps: int, max_stepsize: float, gamma: float) -> None:
        self.norm, self.max_stepsize, self.gamma = norm, max_stepsize, gamma
        self.steps = self.first_cycle = self.later_cycle = steps
        if steps > _MOST_IN_ONE_CYCLE:
            self.later_cycle = steps // 4
            self.first_cycle = steps - 2 * self.later_cycle

    def start(self, lanes: Lanes) -> FmnLanes:
        """The clean image, within no ball; for l0 a ball of one colour value."""
        unknown = lanes.images.new_full((len(lanes.row),), math.inf)
        return FmnLanes(
            **vars(lanes),
            point=lanes.images.clone(),
            epsilon=torch.ones_like(unknown) if self.norm == "l0" else unknown.clone(),
            smallest=unknown,
            smallest_before=unknown.clone(),
        )

    def step(self, model: nn.Module, lanes: FmnLanes) -> None:
        """Evaluate the point, adapt epsilon to whether it is an error, and move the point."""
        logits, loss, gradient = loss_and_gradient(model, lanes.point, lambda z: -margin(z, lanes.labels))
        lanes.forwards += 1
        lanes.backwards += 1
        erring = errs_clearly(logits, lanes.labels)
        delta = lanes.point - lanes.images
        norm = lengths(delta, self.norm)
        better = erring & (norm < lanes.smallest)
        lanes.candidate[better] = lanes.point[better]
        lanes.smallest = torch.where(better, norm, lanes.smallest)
        lanes.broken |= erring
        # Cosine annealing (algorithm 1, lines 14 and 15).
        place, cycle = self._place_in_cycle(lanes)
        annealing = (1 + torch.cos(math.pi * place / cycle)) / 2
        first, later = _STEPSIZES[self.norm]
        largest = self.max_stepsize * torch.where(lanes.step < self.first_cycle, first, later)
        stepsize = largest * (_LAST_STEPSIZE + (1 - _LAST_STEPSIZE) * annealing)
        gamma = _LAST_GAMMA + (self.gamma - _LAST_GAMMA) * annealing
        if self.norm == "l0":
            lanes.epsilon = _next_count(lanes, erring, gamma)
        else:
            dual = torch.linalg.vector_norm(gradient.flatten(1), ord=_DUAL_ORDER[self.norm], dim=1)
            boundary = norm + loss.abs() / dual.clamp_min(_TINY)
            late = lanes.step >= max(1, self.first_cycle // 5)
            boundary = torch.where(late, boundary.maximum(lanes.epsilon * (1 + gamma)), boundary)
            lanes.epsilon = _next_radius(lanes, erring, gamma, boundary)
        farthest = torch.maximum(lanes.images, 1 - lanes.images)
        lanes.epsilon = lanes.epsilon.minimum(lengths(farthest, self.norm))
        delta = _PROJECT[self.norm](delta + per_image(stepsize) * unit(gradient), lanes.epsilon)
        lanes.point = (lanes.images + delta).clamp(0, 1)
        self._end_cycle(lanes, place + 1 == cycle)

    def _place_in_cycle(self, lanes: FmnLanes) -> tuple[Tensor, Tensor]:
        """Each (L,): the steps since the cycle began, and how many it has."""
        since_first = lanes.step - self.first_cycle
        place = torch.where(since_first < 0, lanes.step, since_first % self.later_cycle)
        return place, torch.where(since_first < 0, self.first_cycle, self.later_cycle)

    def _end_cycle(self, lanes: FmnLanes, ending: Tensor) -> None:
        settled = lanes.broken & (lanes.smallest > (1 - _SETTLED) * lanes.smallest_before)
        lanes.done = (ending & settled) | (lanes.step + 1 == self.steps)
        restarting = ending & lanes.broken
        lanes.point = torch.where(per_image(restarting), lanes.candidate, lanes.point)
        lanes.epsilon = torch.where(restarting, lanes.smallest, lanes.epsilon)
        lanes.smallest_before = torch.where(ending, lanes.smallest, lanes.smallest_before)


def _next_radius(lanes: FmnLanes, erring: Tensor, gamma: Tensor, boundary: Tensor) -> Tensor:
    """Epsilon of l1, l2 and l_inf (lines 6 to 10), given the estimated norm of the boundary (L,)."""
    smaller = (lanes.epsilon * (1 - gamma)).minimum(lanes.smallest)
    larger = torch.where(lanes.broken, lanes.epsilon * (1 + gamma), boundary)
    return torch.where(erring, smaller, larger)


def _next_count(lanes: FmnLanes, erring: Tensor, gamma: Tensor) -> Tensor:
    """Epsilon of l0, a whole number that changes by one at least."""
    epsilon = lanes.epsilon
    fewer = (epsilon - 1).minimum((epsilon * (1 - gamma)).floor()).minimum(lanes.smallest)
    more = (epsilon + 1).maximum((epsilon * (1 + gamma)).floor())
    return torch.where(erring, fewer, more).clamp_min(1)


def project_l0(delta: Tensor, count: Tensor) -> Tensor:
    """The ``count`` (N,) components of each row that are farthest from 0; the others are 0."""
    rows = delta.flatten(1)
    largest = rows.abs().topk(int(count.max()), dim=1).indices
    kept = torch.arange(largest.shape[1], device=delta.device) < count.unsqueeze(1)
    return torch.zeros_like(rows).scatter(1, largest, rows.gather(1, largest) * kept).view_as(delta)


def project_l1(delta: Tensor, radius: Tensor) -> Tensor:
    """The point of the l1 ball nearest to ``delta``: sizes less a common threshold (Duchi et al. 2008), at least 0."""
    size = delta.flatten(1).abs()
    threshold = torch.zeros_like(radius).unsqueeze(1)
    while True:
        # The norm is convex in the threshold, so Newton's method rises to the solution without a step too far.
        left = (size - threshold).clamp_min(0)
        excess, slope = left.sum(dim=1) - radius, left.count_nonzero(dim=1).clamp_min(1)
        higher = threshold + (excess / slope).unsqueeze(1)
        if not (higher > threshold * (1 + _ROUND_OFF)).any():
            return left.view_as(delta) * delta.sign()
        threshold = threshold.maximum(higher)


_PROJECT: dict[Norm, Callable[[Tensor, Tensor], Tensor]] = {
    "l0": project_l0,
    "l1": project_l1,
    "l2": project_l2,
    "linf": project_linf,
}
