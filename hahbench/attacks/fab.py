"""Targeted FAB (Croce and Hein 2020, https://arxiv.org/abs/1907.02044, algorithm 1; targets as in AutoAttack,
https://arxiv.org/abs/2003.01690): steps onto the linearised decision boundary, biased towards the clean image."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn

from hahbench.attacks.engine import Lanes
from hahbench.attacks.hyperplane import towards_hyperplane
from hahbench.attacks.losses import errs, loss_and_gradient
from hahbench.attacks.projections import lengths, per_image

_LARGEST_BIAS = 0.1
_OVERSHOOT = 1.05
_RETREAT = 0.9
_SMALLEST_LENGTH = 1e-8


@dataclasses.dataclass
class FabLanes(Lanes):
    """The state of Algorithm 1, a row per lane; x is the point that the next step linearises the model at."""

    x: Tensor


class Fab:
    """FAB-T within a ball, from the clean image; a lane is done when its sample breaks.

    FAB looks for the nearest adversarial point, but one within epsilon is all that is asked for. So only points beyond
    epsilon take a forward pass of their own, which tells whether to retreat from them; those within are either what is
    looked for or where the next gradient is taken, so that its forward pass serves both.

    Args:
        norm: of the ball.
        epsilon: its radius.
        ranking: (N, classes), the classes by falling clean logit for each sample attacked; attempt k aims at column
            k + 1.
        steps: projections of each attempt.
        attempts: targets, fewer than classes.
    """

    def __init__(
        self, norm: Literal["l2", "linf"], epsilon: float, *, ranking: Tensor, attempts: int, steps: int = 100
    ) -> None:
        self.norm, self.epsilon = norm, epsilon
        self.ranking, self.attempts, self.steps = ranking, attempts, steps

    def start(self, lanes: Lanes) -> FabLanes:
        """Lanes at the clean image."""
        return FabLanes(**vars(lanes), x=lanes.images)

    def step(self, model: nn.Module, lanes: FabLanes) -> None:
        """One projection, and the retreat from where it leads if that is adversarial beyond epsilon."""
        pair = torch.stack([lanes.labels, self.ranking[lanes.row, lanes.attempt + 1]], dim=1)
        logits, lead, gradient = loss_and_gradient(
            model, lanes.x, lambda logits: logits.gather(1, pair).diff(dim=1).squeeze(1)
        )
        broken = errs(logits, lanes.labels) & self._within(lanes, lanes.x)
        x = torch.where(per_image(broken), lanes.x, self._next_point(lanes, lead, gradient))
        within, last = self._within(lanes, x), lanes.step + 1 >= self.steps
        predicted = (~within | last) & ~broken
        adversarial = torch.zeros_like(broken)
        rows = predicted.nonzero().squeeze(1)
        if len(rows) > 0:
            adversarial[rows] = errs(model(x[rows]), lanes.labels[rows])
        lanes.forwards += 1 + predicted.long()
        lanes.backwards += 1
        lanes.broken = broken | (adversarial & within)
        lanes.candidate = torch.where(per_image(lanes.broken), x, lanes.candidate)
        lanes.x = torch.where(per_image(adversarial), lanes.images + _RETREAT * (x - lanes.images), x)
        lanes.done = lanes.broken | last

    def _within(self, lanes: FabLanes, x: Tensor) -> Tensor:
        return lengths(x - lanes.images, self.norm) <= self.epsilon

    def _next_point(self, lanes: FabLanes, lead: Tensor, gradient: Tensor) -> Tensor:
        """Between the points that x and the clean image lead to on the hyperplane where the target draws level.

        Args:
            lanes: where x is.
            lead: (L,), the logit of the target less that of the label, at x.
            gradient: of ``lead``.
        """
        normal = gradient.flatten(1)
        lead_of_clean = lead + torch.linalg.vecdot(normal, (lanes.images - lanes.x).flatten(1))
        both = torch.cat([lanes.x, lanes.images])
        move = towards_hyperplane(
            both.flatten(1), torch.cat([normal, normal]), -torch.cat([lead, lead_of_clean]), self.norm
        ).view_as(both)
        length, length_of_clean = lengths(move, self.norm).clamp_min(_SMALLEST_LENGTH).chunk(2)
        bias = per_image((length / (length + length_of_clean)).clamp(max=_LARGEST_BIAS))
        from_x, from_clean = (both + _OVERSHOOT * move).chunk(2)
        return torch.lerp(from_x, from_clean, bias).clamp(0, 1)
