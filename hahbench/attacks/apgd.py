"""Auto-PGD (Croce and Hein 2020, https://arxiv.org/abs/2003.01690, algorithm 1).

Projected gradient ascent with momentum, whose step size halves where the loss stalls.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from hahbench.attacks import random
from hahbench.attacks.engine import Lanes
from hahbench.attacks.losses import (
    cross_entropy,
    difference_of_logits_ratio,
    errs,
    loss_and_gradient,
    targeted_difference_of_logits_ratio,
)
from hahbench.attacks.projections import lengths, per_image, project_l2, project_linf, unit

ApgdLoss: TypeAlias = Literal["ce", "dlr", "dlr-targeted"]

_MOMENTUM = 0.75
_INCREASES_WANTED = 0.75
_TINY = 1e-12


@dataclasses.dataclass
class ApgdLanes(Lanes):
    """The state of algorithm 1.

    Attributes:
        x: (L, C, H, W), the point that the next step evaluates.
        previous: (L, C, H, W), the point before it.
        best: (L, C, H, W), the point of the largest loss.
        best_gradient: (L, C, H, W), the gradient there.
        best_loss: (L,).
        last_loss: (L,), at the point evaluated last.
        step_size: (L,).
        increases: (L,), how often the loss rose since the last checkpoint.
        moves: (L,), since the last checkpoint.
        interval: (L,), moves between the last checkpoint and the next.
        loss_at_check: (L,), the best loss at the last checkpoint.
        halved_at_check: (L,) bool, whether the step size was halved there.
        candidate_loss: (L,), at ``candidate``; minus infinity where none is found.
    """

    x: Tensor
    previous: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    last_loss: Tensor
    step_size: Tensor
    increases: Tensor
    moves: Tensor
    interval: Tensor
    loss_at_check: Tensor
    halved_at_check: Tensor
    candidate_loss: Tensor


@dataclasses.dataclass(eq=False)
class Apgd:
    """APGD on one loss, in an l2 or l_inf ball, for l1 see ``ApgdL1``; a lane is done when its sample breaks.

    Attributes:
        norm: of the ball.
        epsilon: its radius.
        loss: cross-entropy, DLR or targeted DLR; the last tries the most likely other classes one after the other.
        ranking: (N, classes), the classes of each sample attacked by falling clean logit.
        seed: of the random starts.
        attempts: restarts, or targets.
        iterations: moves of each attempt.
        passes: the passes that each gradient is averaged over, for models whose output is random.
        proposes_best: whether an attempt that finds no error proposes the point of the largest loss, which may be one
            when a model whose output is random is asked again.
    """

    norm: Literal["l1", "l2", "linf"]
    epsilon: float
    loss: ApgdLoss
    _: dataclasses.KW_ONLY
    ranking: Tensor
    seed: int
    attempts: int = 1
    iterations: int = 100
    passes: int = 1
    proposes_best: bool = False

    def __post_init__(self) -> None:
        # The start is evaluated too.
        self.steps = self.iterations + 1
        self.first_interval = max(int(0.22 * self.iterations), 1)
        self.shortest_interval = max(int(0.06 * self.iterations), 1)
        self.interval_decrement = max(int(0.03 * self.iterations), 1)

    def start(self, lanes: Lanes) -> ApgdLanes:
        """A random point of the ball, as far from its centre as the ball reaches, clamped to [0, 1]."""
        x = (lanes.images + self._random_perturbation(lanes)).clamp(0, 1)
        return ApgdLanes(**self._state_at(lanes, x))

    def _state_at(self, lanes: Lanes, x: Tensor) -> dict[str, Tensor]:
        moves = torch.zeros_like(lanes.row)
        unknown = x.new_full((len(x),), -torch.inf)
        return dict(
            **vars(lanes),
            x=x,
            previous=x.clone(),
            best=x.clone(),
            best_gradient=torch.zeros_like(x),
            best_loss=unknown,
            last_loss=unknown.clone(),
            step_size=torch.full_like(unknown, 2 * self.epsilon),
            increases=moves,
            moves=moves.clone(),
            interval=torch.full_like(moves, self.first_interval),
            loss_at_check=unknown.clone(),
            halved_at_check=torch.ones_like(lanes.broken),
            candidate_loss=unknown.clone(),
        )

    def step(self, model: nn.Module, lanes: ApgdLanes) -> None:
        """Evaluate x, adapt the step size at a checkpoint, move x."""
        gradient = self.evaluate(model, lanes, torch.ones_like(lanes.broken))
        started = lanes.step == 0
        gradient = self._adapt(lanes, gradient, started)
        x = self._clip(lanes.images, lanes.x + per_image(lanes.step_size) * self._direction(gradient))
        # The first move has no momentum.
        weight = per_image(torch.where(started, 1.0, _MOMENTUM))
        x = self._clip(lanes.images, lanes.x + weight * (x - lanes.x) + (1 - weight) * (lanes.x - lanes.previous))
        lanes.previous, lanes.x = lanes.x, x

    def evaluate(self, model: nn.Module, lanes: ApgdLanes, within: Tensor) -> Tensor:
        """The gradient at x, (L, C, H, W), from as many passes as asked for; keeps the best point.

        A lane is done when its point is misclassified and ``within`` (L,) epsilon, or its steps are spent. Of several
        passes the mean counts, and of the points that err that of the largest mean loss is sought to the end: where a
        model's output is random, the first one is one that it may well get right when it is asked again.
        """
        logits, loss, gradient = loss_and_gradient(model, lanes.x, lambda z: self._loss(z, lanes))
        for _ in range(self.passes - 1):
            again = loss_and_gradient(model, lanes.x, lambda z: self._loss(z, lanes))
            logits, loss, gradient = logits + again[0], loss + again[1], gradient + again[2]
        lanes.forwards += self.passes
        lanes.backwards += self.passes
        improved = loss > lanes.best_loss
        found = within & errs(logits, lanes.labels)
        last = lanes.step + 1 == self.steps
        if self.passes == 1:
            lanes.broken, lanes.done = found, found | last
        else:
            found &= loss > lanes.candidate_loss
            lanes.broken, lanes.done = lanes.broken | found, last
        lanes.candidate[found] = lanes.x[found]
        lanes.candidate_loss = torch.where(found, loss, lanes.candidate_loss)
        lanes.best[improved] = lanes.x[improved]
        lanes.best_gradient[improved] = gradient[improved]
        lanes.best_loss = torch.where(improved, loss, lanes.best_loss)
        if self.proposes_best:
            left = last & ~lanes.broken
            lanes.candidate[left] = lanes.best[left]
            lanes.broken = lanes.broken | left
        lanes.increases += loss > lanes.last_loss
        lanes.last_loss = loss
        return gradient

    def _loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        if self.loss == "ce":
            return cross_entropy(logits, lanes.labels)
        if self.loss == "dlr":
            return difference_of_logits_ratio(logits, lanes.labels)
        return targeted_difference_of_logits_ratio(logits, lanes.labels, self.ranking[lanes.row, lanes.attempt + 1])

    def _adapt(self, lanes: ApgdLanes, gradient: Tensor, started: Tensor) -> Tensor:
        """At a checkpoint, halve the step size where the loss stalls and go back to the best point; its gradient."""
        lanes.increases.masked_fill_(started, 0)
        lanes.moves += ~started
        lanes.loss_at_check = torch.where(started, lanes.best_loss, lanes.loss_at_check)
        at_check = lanes.moves == lanes.interval
        halve = at_check & (
            (lanes.increases <= _INCREASES_WANTED * lanes.interval)
            | (~lanes.halved_at_check & (lanes.loss_at_check >= lanes.best_loss))
        )
        lanes.step_size = torch.where(halve, lanes.step_size / 2, lanes.step_size)
        lanes.halved_at_check = torch.where(at_check, halve, lanes.halved_at_check)
        lanes.loss_at_check = torch.where(at_check, lanes.best_loss, lanes.loss_at_check)
        lanes.interval = torch.where(
            at_check, (lanes.interval - self.interval_decrement).clamp_min(self.shortest_interval), lanes.interval
        )
        lanes.increases.masked_fill_(at_check, 0)
        lanes.moves.masked_fill_(at_check, 0)
        if halve.any():
            rows = per_image(halve)
            lanes.x = torch.where(rows, lanes.best, lanes.x)
            gradient = torch.where(rows, lanes.best_gradient, gradient)
        return gradient

    def _random_perturbation(self, lanes: Lanes) -> Tensor:
        key = random.keys(self.seed, f"apgd-{self.loss}", lanes.index, lanes.attempt)
        count = lanes.images[0].numel()
        draw = 2 * random.uniform(key, 0, count) - 1 if self.norm == "linf" else random.normal(key, 0, count)
        draw = draw.view_as(lanes.images)
        return draw * per_image(self.epsilon / lengths(draw, self.norm).clamp_min(_TINY))

    def _direction(self, gradient: Tensor) -> Tensor:
        return gradient.sign() if self.norm == "linf" else unit(gradient)

    def _clip(self, images: Tensor, x: Tensor) -> Tensor:
        radius = x.new_full((len(x),), self.epsilon)
        project = project_linf if self.norm == "linf" else project_l2
        return (images + project(x - images, radius)).clamp(0, 1)
