"""What every kind of attack is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from torch import nn

from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples
from hahbench.spec import Norm

# The difference-of-logits-ratio losses read the third largest logit or, when targeted, the fourth.
_FEWEST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}

Progress: TypeAlias = Callable[[float, float], None]
"""Called now and then with the fraction of the work done and the attack's own idea of the robust accuracy so far."""


def check_epsilon(level: float | None, norm: Norm) -> float:
    """``level`` as the epsilon that bounds a perturbation.

    Raises:
        HahbenchError: there is no level, or it is not positive, or infinite, or in l_inf above 1.
    """
    if level is None or not 0 < level < math.inf:
        raise HahbenchError(f"level = {level} is not allowed; each of the levels must be an epsilon > 0")
    if norm == "linf" and level > 1:
        raise HahbenchError(
            f"level = {level:g} is not allowed; in l_inf each of the levels must be an epsilon of 1 or less, for pixel "
            f"values lie in [0, 1]; did you mean '{level:g}/255'?"
        )
    return level


def check_no_level(level: float | None) -> None:
    """For attacks without levels.

    Raises:
        HahbenchError: a level is given.
    """
    if level is not None:
        raise HahbenchError(f"level = {level} is not allowed; this kind has no levels")


def check_at_least_one(**values: int) -> None:
    """Check parameters that count something.

    Raises:
        HahbenchError: one of them is less than 1.
    """
    for name, value in values.items():
        if value < 1:
            raise HahbenchError(f"{name} = {value} is not allowed; it must be at least 1")


def check_positive(**values: float) -> None:
    """Check parameters that are sizes.

    Raises:
        HahbenchError: one of them is not positive, or infinite.
    """
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise HahbenchError(f"{name} = {value} is not allowed; it must be positive and finite")


def check_classes(members: Sequence[str], classes: int) -> None:
    """Check that AutoAttack's members can be run on a model.

    Raises:
        HahbenchError: one of them needs more classes.
    """
    for member in members:
        if classes < (fewest := _FEWEST_CLASSES.get(member, 2)):
            others = ["apgd-ce", *(["apgd-dlr"] if classes >= _FEWEST_CLASSES["apgd-dlr"] else [])]
            others += [other for other in members if other not in _FEWEST_CLASSES and other not in others]
            raise HahbenchError(
                f"AutoAttack's member {member!r} needs at least {fewest} classes, there are {classes}; choose others "
                f"in an attack file: members = {json.dumps(others)}"
            )


@runtime_checkable
class ParticularAboutData(Protocol):
    """An attack that not every data set allows."""

    def check_data(self, channels: int, classes: int) -> None:
        """Check a data set before anything is run.

        Args:
            channels: of its images.
            classes: that it has.

        Raises:
            HahbenchError: the attack cannot be run on it.
        """
        ...


class Attack(Protocol):
    """An attack with its parameters; construction holds them, the call is stateless.

    A kind is a frozen dataclass whose fields are ``norm`` (where it has one) and the parameters that a spec may set.

    Attributes:
        version: of the code, with that of the library which does the work; raised when results change.
        worst_case: whether the attack searches for an error, so that a sample the model already gets wrong stays wrong.
        per_sample: whether what comes of a sample, but for the passes spent on it, depends on its image, label and
            index and on the seed alone. Then a run on more samples attacks only those that an earlier one did not.
    """

    version: ClassVar[str]
    worst_case: ClassVar[bool]
    per_sample: ClassVar[bool]

    @property
    def passes(self) -> float:
        """Forward and backward passes expected per sample, to weigh progress."""
        ...

    def check_level(self, level: float | None) -> None:
        """Check a level before anything is run.

        Args:
            level: one that is asked for; None where none is.

        Raises:
            HahbenchError: the attack cannot be run at this level.
        """
        ...

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """Perturb ``samples``.

        Args:
            model: in evaluation mode with frozen weights, on the device of the samples.
            samples: images in [0, 1].
            level: epsilon, sigma or severity, one that ``check_level`` accepts; None for kinds that have no levels.
            seed: of every random draw; the same seed gives the same candidates.
            progress: called as the work goes on.
        """
        ...
