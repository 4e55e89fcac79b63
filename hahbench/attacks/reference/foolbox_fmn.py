"""Fast minimum-norm attacks (Pintor, Roli, Brendel and Biggio 2021, https://arxiv.org/abs/2102.12827).

The work is done by foolbox. Two of its projections are put right here, without which its l2 and l0 perturbations are
many times too long.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import warnings
from typing import ClassVar

import torch
from eagerpy.astensor import astensor
from eagerpy.tensor.tensor import Tensor as EagerTensor
from torch import Tensor, nn

from hahbench.attacks.base import Progress, check_at_least_one, check_no_level, check_positive
from hahbench.attacks.reference.watched import WatchedModel
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples
from hahbench.spec import Norm

with warnings.catch_warnings():
    # foolbox 3.3.4 imports from a namespace that SciPy deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from foolbox.attacks.fast_minimum_norm import FMNAttackLp, L0FMNAttack, L1FMNAttack, L2FMNAttack, LInfFMNAttack
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel

_BATCH_SIZE = 128
# Until an error is found, epsilon is the estimated distance of the boundary (Algorithm 1). Where that is exact, it
# ends on the boundary and round-off alone decides: of a linear classifier's samples, one in twenty never breaks.
_OVERSHOOT = 1e-5


class ProjectedL2(L2FMNAttack):
    """foolbox's attack with a projection; its own scales the perturbation by one."""

    def project(self, x: EagerTensor, x0: EagerTensor, epsilon: EagerTensor) -> EagerTensor:
        """The point nearest to ``x`` of the l2 ball around ``x0`` with radius ``epsilon``, up to ``_OVERSHOOT``."""
        delta = (x - x0).raw
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12)
        scale = (epsilon.raw * (1 + _OVERSHOOT) / length).clamp(max=1)
        projected: EagerTensor = x0 + astensor(delta * scale.view(-1, 1, 1, 1))
        return projected


class ProjectedL0(L0FMNAttack):
    """foolbox's attack with an exact projection; its own keeps one component more than ``epsilon``, and ties."""

    def project(self, x: EagerTensor, x0: EagerTensor, epsilon: EagerTensor) -> EagerTensor:
        """``x0`` with the ``epsilon`` components of ``x`` that lie farthest from it."""
        delta = (x - x0).raw.flatten(1)
        largest_first = delta.abs().argsort(dim=1, descending=True)
        rank = torch.arange(delta.shape[1], device=delta.device).expand_as(delta)
        kept = torch.zeros_like(delta, dtype=torch.bool).scatter(1, largest_first, rank < epsilon.raw.view(-1, 1))
        projected: EagerTensor = x0 + astensor((delta * kept).view(x.shape))
        return projected


_ATTACKS: dict[Norm, type[FMNAttackLp]] = {
    "l0": ProjectedL0,
    "l1": L1FMNAttack,
    "l2": ProjectedL2,
    "linf": LInfFMNAttack,
}


@dataclasses.dataclass(frozen=True)
class FoolboxFastMinimumNorm:
    """The smallest perturbation, in one norm, with which the model errs.

    Attributes:
        norm: the norm that is minimised.
        steps: gradient steps.
        max_stepsize: l2 length of the first gradient step; the last has a hundredth of it.
        gamma: the first relative change of epsilon; the last is 0.001.
    """

    norm: Norm
    steps: int = 100
    max_stepsize: float = 1.0
    gamma: float = 0.05

    version: ClassVar[str] = f"1, foolbox {importlib.metadata.version('foolbox')}"
    worst_case: ClassVar[bool] = True
    per_sample: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_at_least_one(steps=self.steps)
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
        attack = _ATTACKS[self.norm](steps=self.steps, max_stepsize=self.max_stepsize, gamma=self.gamma)
        watched = WatchedModel(model)
        foolbox_model = PyTorchModel(watched, bounds=(0, 1), device=samples.images.device)
        candidates = samples.images.clone()
        queries = torch.ones(len(samples), dtype=torch.int64)
        robust = 0
        for start in range(0, len(samples), _BATCH_SIZE):
            rows = torch.arange(start, min(start + _BATCH_SIZE, len(samples)), device=samples.images.device)
            correct = rows[_predict(model, samples.images[rows]) == samples.labels[rows]]
            done = int(rows[-1]) + 1
            if len(correct):
                accuracy = (robust + len(correct)) / done
                watched.start(self.steps, functools.partial(_report, progress, accuracy, start, done, len(samples)))
                images, labels = samples.images[correct], samples.labels[correct]
                found = attack.run(foolbox_model, images, Misclassification(labels))
                candidates[correct] = found
                queries[correct.cpu()] += self.steps
                robust += int((found == images).flatten(1).all(dim=1).sum())
            progress(done / len(samples), robust / done)
        return Candidates.untold(candidates, forwards=queries, backwards=queries - 1)


def _report(progress: Progress, accuracy: float, start: int, end: int, n: int, part: float) -> None:
    progress((start + (end - start) * part) / n, accuracy)


@torch.no_grad()
def _predict(model: nn.Module, images: Tensor) -> Tensor:
    prediction: Tensor = model(images).argmax(dim=1)
    return prediction
