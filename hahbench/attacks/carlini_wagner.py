"""The l2 attack of Carlini and Wagner 2017 (https://arxiv.org/abs/1608.04644, section VI-A)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from hahbench.attacks.base import Progress, check_at_least_one, check_no_level, check_positive
from hahbench.attacks.engine import VERSION, Lanes, attack_correct
from hahbench.attacks.losses import errs_clearly, loss_and_gradient, margin
from hahbench.attacks.projections import lengths, per_image
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples

# Ten times in a search, one whose loss did not fall by this share since the last check is given up.
_CHECKS = 10
_SMALLEST_FALL = 1e-4
# Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980).
_DECAYS = (0.9, 0.999)
_ADAM_TINY = 1e-8
# Keeps the variable finite where a colour value is 0 or 1.
_SHRINKING = 0.999999
_GROWTH_WITHOUT_SUCCESS = 10.0


@dataclasses.dataclass(frozen=True)
class CarliniWagner:
    """The smallest l2 perturbation with which the model errs.

    The sum of the squared l2 norm and of a constant times the margin is minimised by Adam; a binary search finds the
    smallest constant with which that ends in an error.

    Attributes:
        norm: l2, the one that this attack minimises.
        steps: steps of Adam for each constant, at most.
        search_steps: constants tried.
        learning_rate: of Adam, on the variable whose hyperbolic tangent is the image.
        initial_constant: the first constant; it grows tenfold until an error is found.
        confidence: by how much the logit of another class must exceed the label's.
        batch_size: samples attacked together; results do not depend on it.
    """

    norm: Literal["l2"] = "l2"
    steps: int = 1000
    search_steps: int = 9
    learning_rate: float = 0.005
    initial_constant: float = 0.01
    confidence: float = 0.0
    batch_size: int = 128

    version: ClassVar[str] = f"3, engine {VERSION}"
    worst_case: ClassVar[bool] = True
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_at_least_one(steps=self.steps, search_steps=self.search_steps, batch_size=self.batch_size)
        check_positive(learning_rate=self.learning_rate, initial_constant=self.initial_constant)
        if not 0 <= self.confidence < math.inf:
            raise HahbenchError(f"confidence = {self.confidence} is not allowed; it must be at least 0 and finite")

    @property
    def passes(self) -> float:
        """One clean forward pass, then a forward and a backward pass a step."""
        return 1.0 + 2.0 * self.steps * self.search_steps

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
        return attack_correct(
            CarliniWagnerStepper(self),
            model,
            samples,
            batch_size=self.batch_size,
            member="carlini-wagner",
            progress=progress,
        )


@dataclasses.dataclass
class CarliniWagnerLanes(Lanes):
    """The state of the search, a row per lane.

    Attributes:
        variable: (L, C, H, W), whose hyperbolic tangent is the image, scaled to [-1, 1].
        mean: (L, C, H, W), Adam's running mean of the gradient.
        square: (L, C, H, W), Adam's running mean of its square.
        constant: (L,), the one that is tried.
        lower: (L,), the largest constant that failed, else 0.
        upper: (L,), the smallest that led to an error, else infinite.
        search: (L,), constants tried before.
        age: (L,), steps done with this constant.
        erred: (L,), whether this constant led to an error.
        loss_at_check: (L,).
        fell: (L,), whether the loss has fallen from one check of this constant to the next.
        smallest: (L,), the norm of the best perturbation.
    """

    variable: Tensor
    mean: Tensor
    square: Tensor
    constant: Tensor
    lower: Tensor
    upper: Tensor
    search: Tensor
    age: Tensor
    erred: Tensor
    loss_at_check: Tensor
    fell: Tensor
    smallest: Tensor


class CarliniWagnerStepper:
    """One step of Adam in each lane; when a lane's search ends, it starts the next with another constant."""

    attempts = 1

    def __init__(self, attack: CarliniWagner) -> None:
        self.attack = attack
        self.steps = attack.steps * attack.search_steps
        self.steps_between_checks = math.ceil(attack.steps / _CHECKS)

    def start(self, lanes: Lanes) -> CarliniWagnerLanes:
        """The clean image."""
        variable = _variable(lanes.images)
        unknown = variable.new_full((len(variable),), math.inf)
        return CarliniWagnerLanes(
            **vars(lanes),
            variable=variable,
            mean=torch.zeros_like(variable),
            square=torch.zeros_like(variable),
            constant=torch.full_like(unknown, self.attack.initial_constant),
            lower=torch.zeros_like(unknown),
            upper=unknown,
            search=torch.zeros_like(lanes.row),
            age=torch.zeros_like(lanes.row),
            erred=torch.zeros_like(lanes.broken),
            loss_at_check=unknown.clone(),
            fell=torch.zeros_like(lanes.broken),
            smallest=unknown.clone(),
        )

    def step(self, model: nn.Module, lanes: CarliniWagnerLanes) -> None:
        """Evaluate the point, keep it if it is the best, and move the variable."""
        point = (lanes.variable.tanh() + 1) / 2
        delta = point - lanes.images
        logits, penalty, gradient = loss_and_gradient(model, point, lambda z: self._penalty(z, lanes))
        lanes.forwards += 1
        lanes.backwards += 1
        erring = errs_clearly(logits, lanes.labels, self.attack.confidence)
        norm = lengths(delta, "l2")
        better = erring & (norm < lanes.smallest)
        lanes.candidate[better] = point[better]
        lanes.smallest = torch.where(better, norm, lanes.smallest)
        lanes.erred |= erring
        lanes.broken |= erring
        # The derivative of (tanh(w) + 1) / 2 is 2 p (1 - p).
        self._adam(lanes, (gradient + 2 * delta) * 2 * point * (1 - point))
        stalled = self._check(lanes, norm**2 + penalty, gradient)
        self._end_search(lanes, stalled | (lanes.age == self.attack.steps))

    def _penalty(self, logits: Tensor, lanes: CarliniWagnerLanes) -> Tensor:
        """The constant times f6 of the paper."""
        return lanes.constant * (margin(logits, lanes.labels) + self.attack.confidence).clamp_min(0)

    def _adam(self, lanes: CarliniWagnerLanes, gradient: Tensor) -> None:
        lanes.age += 1
        first, second = _DECAYS
        lanes.mean.lerp_(gradient, 1 - first)
        lanes.square.lerp_(gradient**2, 1 - second)
        mean = lanes.mean / per_image(1 - first**lanes.age)
        square = lanes.square / per_image(1 - second**lanes.age)
        lanes.variable -= self.attack.learning_rate * mean / (square.sqrt() + _ADAM_TINY)

    def _check(self, lanes: CarliniWagnerLanes, loss: Tensor, gradient: Tensor) -> Tensor:
        """Which lanes are due to be checked and stall, (L,); ``gradient`` is that of the penalty."""
        due = (lanes.age - 1) % self.steps_between_checks == 0
        if not due.any():
            return due
        falls = loss <= (1 - _SMALLEST_FALL) * lanes.loss_at_check
        # Colour values of 0 and 1 lie where the hyperbolic tangent is flat: hundreds of steps may pass before the loss
        # begins to fall.
        is_blind = ~gradient.flatten(1).any(dim=1)
        stalled = due & ~falls & (lanes.fell | lanes.erred | is_blind)
        lanes.fell |= due & falls & lanes.loss_at_check.isfinite()
        lanes.loss_at_check = torch.where(due, loss, lanes.loss_at_check)
        return stalled

    def _end_search(self, lanes: CarliniWagnerLanes, ending: Tensor) -> None:
        lanes.search += ending
        lanes.done = lanes.search == self.attack.search_steps
        if not ending.any():
            return
        lanes.upper = torch.where(ending & lanes.erred, lanes.constant, lanes.upper)
        lanes.lower = torch.where(ending & ~lanes.erred, lanes.constant, lanes.lower)
        middle = (lanes.lower + lanes.upper) / 2
        following = torch.where(lanes.upper.isinf(), _GROWTH_WITHOUT_SUCCESS * lanes.constant, middle)
        lanes.constant = torch.where(ending, following, lanes.constant)
        rows = per_image(ending)
        lanes.variable = torch.where(rows, _variable(lanes.images), lanes.variable)
        lanes.mean.masked_fill_(rows, 0)
        lanes.square.masked_fill_(rows, 0)
        lanes.age.masked_fill_(ending, 0)
        lanes.erred &= ~ending
        lanes.fell &= ~ending
        lanes.loss_at_check.masked_fill_(ending, math.inf)


def _variable(images: Tensor) -> Tensor:
    return torch.atanh((2 * images - 1) * _SHRINKING)
