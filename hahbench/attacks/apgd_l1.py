"""APGD for l1 (Croce and Hein 2021, "Mind the box", https://arxiv.org/abs/2103.01208, algorithm 1).

Steps move the colour values of largest gradient alone, fewer as the perturbation grows sparse, and the attack starts in
larger balls that shrink to the one asked for.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from hahbench.attacks import random
from hahbench.attacks.apgd import Apgd, ApgdLanes
from hahbench.attacks.engine import Lanes
from hahbench.attacks.projections import lengths, per_image, project_l1_in_box

# The radii relative to epsilon, and the share of the moves that is made in each ball.
_STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
_DENSITY_OF_SUPPORT = 1 / 1.5
_SPARSER = 0.95
_STEP_SHRINKING = 1.5
_SMALLEST_STEP = 0.1
_ROUND_OFF = 1e-5


@dataclasses.dataclass
class ApgdL1Lanes(ApgdLanes):
    """Adds to the state of APGD what its l1 version adapts.

    Attributes:
        radius: (L,), of the ball that the lane is in.
        density: (L,), the share of the colour values that a step moves.
        support: (L,), how many of them the best point had changed at the last checkpoint.
    """

    radius: Tensor
    density: Tensor
    support: Tensor


@dataclasses.dataclass(eq=False)
class ApgdL1(Apgd):
    """APGD on one loss in an l1 ball; ``norm`` is l1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Each stage evaluates the point that it starts from, too.
        ends = torch.tensor([round(share * self.iterations) + 1 for _, share in _STAGES]).cumsum(0)
        self.steps = int(ends[-1])
        self._last_of_stage = torch.zeros(self.steps, dtype=torch.bool).index_fill(0, ends - 1, True)
        stage = torch.bucketize(torch.arange(1, self.steps + 1), ends)
        self._radius_after = self.epsilon * torch.tensor([radius for radius, _ in (*_STAGES[1:], _STAGES[-1])])[stage]

    def start(self, lanes: Lanes) -> ApgdL1Lanes:
        """A random point of the largest ball, within [0, 1]."""
        radius = lanes.images.new_full((len(lanes.row),), _STAGES[0][0] * self.epsilon)
        key = random.keys(self.seed, f"apgd-{self.loss}", lanes.index, lanes.attempt)
        draw = random.normal(key, 0, lanes.images[0].numel()).view_as(lanes.images)
        x = (lanes.images + project_l1_in_box(lanes.images, draw, radius)).clamp(0, 1)
        support = lengths(x - lanes.images, "l0")
        state = {**self._state_at(lanes, x), "step_size": radius.clone()}
        return ApgdL1Lanes(**state, radius=radius, density=self._density_of(support, x), support=support)

    def step(self, model: nn.Module, lanes: ApgdL1Lanes) -> None:  # type: ignore[override]
        """Evaluate x; adapt density and step size; move x, or go on in a smaller ball."""
        within = lengths(lanes.x - lanes.images, "l1") <= self.epsilon * (1 + _ROUND_OFF)
        gradient = self.evaluate(model, lanes, within)
        gradient = self._sparsify(lanes, gradient)
        rows = per_image(lanes.step_size / gradient.ne(0).flatten(1).sum(dim=1).clamp_min(1))
        moved = lanes.x + rows * gradient.sign()
        at_end = self._last_of_stage.to(within.device)[lanes.step]
        if at_end.any():
            moved = torch.where(per_image(at_end), lanes.best, moved)
            lanes.radius = torch.where(at_end, self._radius_after.to(moved)[lanes.step], lanes.radius)
        moved = (lanes.images + project_l1_in_box(lanes.images, moved - lanes.images, lanes.radius)).clamp(0, 1)
        lanes.previous, lanes.x = lanes.x, moved
        if at_end.any():
            support = lengths(moved - lanes.images, "l0")
            lanes.support = torch.where(at_end, support, lanes.support)
            lanes.density = torch.where(at_end, self._density_of(support, moved), lanes.density)
            lanes.step_size = torch.where(at_end, lanes.radius, lanes.step_size)
            lanes.best_loss.masked_fill_(at_end, -torch.inf)
            lanes.moves.masked_fill_(at_end, 0)

    def _sparsify(self, lanes: ApgdL1Lanes, gradient: Tensor) -> Tensor:
        """Adapt density and step size to the sparsity of the best point; the gradient's largest values, the rest 0.

        Every move has a checkpoint: the reference takes 4 % of a stage's moves as the interval, which is 1.
        """
        moved = lanes.moves > 0
        lanes.moves += 1
        support = lengths(lanes.best - lanes.images, "l0")
        sparser = moved & (support < _SPARSER * lanes.support)
        smaller = (lanes.step_size / _STEP_SHRINKING).maximum(_SMALLEST_STEP * lanes.radius)
        lanes.step_size = torch.where(sparser, lanes.radius, torch.where(moved, smaller, lanes.step_size))
        lanes.density = torch.where(moved, self._density_of(support, gradient), lanes.density)
        lanes.support = torch.where(moved, support, lanes.support)
        lanes.x = torch.where(per_image(sparser), lanes.best, lanes.x)
        gradient = torch.where(per_image(sparser), lanes.best_gradient, gradient)
        size = gradient.abs().flatten(1)
        position = (lanes.density * size.shape[1]).long().clamp(1, size.shape[1])
        smallest = size.sort(dim=1, descending=True).values.gather(1, position.unsqueeze(1) - 1)
        return gradient * (gradient.abs() >= per_image(smallest.squeeze(1)))

    def _density_of(self, support: Tensor, images: Tensor) -> Tensor:
        return support * _DENSITY_OF_SUPPORT / images[0].numel()
