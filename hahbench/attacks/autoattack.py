"""AutoAttack (Croce and Hein 2020, https://arxiv.org/abs/2003.01690): four attacks, one after the other."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from hahbench.attacks.apgd import Apgd, ApgdLoss
from hahbench.attacks.apgd_l1 import ApgdL1
from hahbench.attacks.base import Progress, check_at_least_one, check_classes, check_epsilon
from hahbench.attacks.engine import VERSION, Stepper, begin, count_workers, drive, merge
from hahbench.attacks.fab import Fab
from hahbench.attacks.losses import errs
from hahbench.attacks.square import Square
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples

Member: TypeAlias = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square"]

STANDARD: tuple[Member, ...] = ("apgd-ce", "apgd-t", "fab-t", "square")
RAND: tuple[Member, ...] = ("apgd-ce", "apgd-dlr")

_MOST_TARGETS = {"l1": 5, "l2": 9, "linf": 9}
_RESTARTS = {"l1": 5, "l2": 1, "linf": 1}
_GRADIENTS_WHEN_RANDOMIZED = 20
# These attack the model in low precision where it has been prepared for that; every break is confirmed in float32.
# Square, which is told of both, confirms for itself.
_IN_LOW_PRECISION: tuple[Member, ...] = ("apgd-t", "fab-t")
_L1: tuple[Member, ...] = ("apgd-ce", "apgd-dlr", "apgd-t")
# Forward and backward passes on a sample that does not break, for ten classes, in l2 and l_inf.
_PASSES: dict[Member, int] = {"apgd-ce": 202, "apgd-dlr": 202, "apgd-t": 1818, "fab-t": 2000, "square": 5000}


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """An ensemble of attacks within a budget, each tried on the samples that those before it did not break.

    Attributes:
        norm: the norm that bounds the perturbation.
        members: the attacks that are run, in this order; empty for all of the version, in l1 for its APGD members.
        randomized: whether the model's output is random: AutoAttack's version "rand", which averages each gradient over
            20 passes, and not "standard".
        batch_size: samples attacked together; results do not depend on it.
    """

    norm: Literal["l1", "l2", "linf"]
    members: tuple[Member, ...] = ()
    randomized: bool = False
    batch_size: int = 128

    version: ClassVar[str] = f"2, engine {VERSION}"
    worst_case: ClassVar[bool] = True
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_at_least_one(batch_size=self.batch_size)
        for member in self._members:
            if self.randomized and member not in RAND:
                raise HahbenchError(f"member {member!r} cannot be randomized; allowed: {', '.join(map(repr, RAND))}")
            if self.norm == "l1" and member not in _L1:
                raise HahbenchError(f"member {member!r} has no norm 'l1'; allowed: {', '.join(map(repr, _L1))}")

    @property
    def _members(self) -> tuple[Member, ...]:
        if self.members:
            return self.members
        if self.randomized:
            return RAND
        return STANDARD if self.norm != "l1" else tuple(member for member in STANDARD if member in _L1)

    @property
    def passes(self) -> float:
        """The clean forward pass, and all passes of the members on a sample that does not break."""
        return 1.0 + sum(self._passes_of(member) for member in self._members)

    def _passes_of(self, member: Member) -> int:
        if self.randomized:
            return _PASSES[member] * _GRADIENTS_WHEN_RANDOMIZED
        if member == "apgd-t":
            return _PASSES[member] * _MOST_TARGETS[self.norm] // _MOST_TARGETS["linf"]
        return _PASSES[member] * (_RESTARTS[self.norm] if member == "apgd-ce" else 1)

    def check_level(self, level: float | None) -> None:
        """The level is an epsilon.

        Raises:
            HahbenchError: there is no level, or it is not positive, or in l_inf above 1.
        """
        check_epsilon(level, self.norm)

    def check_data(self, channels: int, classes: int) -> None:
        """Losses that compare several classes need them.

        Raises:
            HahbenchError: there are too few classes for a member.
        """
        check_classes(self._members, classes)

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """Perturb by at most ``level``.

        Raises:
            HahbenchError: there is no allowed level, or the model has too few classes for a member.
        """
        epsilon = check_epsilon(level, self.norm)
        candidates, logits = begin(model, samples, self.batch_size)
        check_classes(self._members, logits.shape[1])
        # Where the output is random one pass does not tell which samples the judge will find correct.
        attacked = ~errs(logits, samples.labels) | self.randomized
        robust = attacked.nonzero().squeeze(1)
        # The label comes first also where another class ties with it.
        ranking = logits.scatter(1, samples.labels.unsqueeze(1), torch.inf).argsort(dim=1, descending=True)
        approximate = getattr(model, "low_precision", None)
        if not isinstance(approximate, nn.Module):
            approximate = None
        finished = 0.0
        for member in self._members:
            if len(robust) == 0:
                break
            stepper = self._stepper(member, epsilon, ranking[robust], seed, approximate)
            share = self._passes_of(member) / (self.passes - 1)
            part = functools.partial(_report, progress, finished, share, len(robust) / len(samples))
            driven = drive(
                stepper,
                model,
                samples,
                batch_size=self.batch_size,
                rows=robust,
                candidates=candidates.images,
                progress=part,
                approximate=approximate if member in _IN_LOW_PRECISION else None,
                # Threads would take the numbers of a random model in any order.
                workers=1 if self.randomized else None,
            )
            merge(candidates, robust, driven, member)
            robust = robust[~driven.broken]
            finished += share
        progress(1.0, len(robust) / len(samples))
        return candidates

    def _stepper(
        self, member: Member, epsilon: float, ranking: Tensor, seed: int, approximate: nn.Module | None
    ) -> Stepper[Any]:
        targets = min(_MOST_TARGETS[self.norm], ranking.shape[1] - 1)
        passes = _GRADIENTS_WHEN_RANDOMIZED if self.randomized else 1
        apgd = ApgdL1 if self.norm == "l1" else Apgd
        if member == "apgd-t":
            return apgd(self.norm, epsilon, "dlr-targeted", ranking=ranking, seed=seed, attempts=targets, passes=passes)
        if member in ("apgd-ce", "apgd-dlr"):
            loss: ApgdLoss = "ce" if member == "apgd-ce" else "dlr"
            restarts = 1 if self.randomized or member != "apgd-ce" else _RESTARTS[self.norm]
            # Whatever the last member finds is the judge's to try; those before it leave a sample to the next.
            best = self.randomized and member == self._members[-1]
            return apgd(
                self.norm,
                epsilon,
                loss,
                ranking=ranking,
                seed=seed,
                attempts=restarts,
                passes=passes,
                proposes_best=best,
            )
        assert self.norm != "l1"
        if member == "fab-t":
            return Fab(self.norm, epsilon, ranking=ranking, attempts=targets)
        rows = self.batch_size // count_workers(ranking.device, min(self.batch_size, len(ranking)))
        return Square(self.norm, epsilon, seed=seed, batch_size=rows, approximate=approximate)


def _report(progress: Progress, finished: float, share: float, robust: float, part: float, unbroken: float) -> None:
    progress(finished + share * part, robust * unbroken)
