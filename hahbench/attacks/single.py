"""What attacks of one member share: they are driven over the samples that the model classifies correctly."""

from __future__ import annotations

from typing import Any

from torch import nn

from hahbench.attacks.base import Progress
from hahbench.attacks.engine import Stepper, begin, drive, merge
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples


def attack_correct(
    stepper: Stepper[Any], model: nn.Module, samples: Samples, *, batch_size: int, member: str, progress: Progress
) -> Candidates:
    """Predict the clean images once and drive ``stepper`` over those that are classified correctly.

    Args:
        stepper: the attack.
        model: maps images to logits.
        samples: on the device of the model.
        batch_size: the number of lanes.
        member: the name under which samples are recorded as broken.
        progress: told of the samples' robust accuracy, those already wrong included.
    """
    candidates, logits = begin(model, samples, batch_size)
    correct = (logits.argmax(dim=1) == samples.labels).nonzero().squeeze(1)
    share = len(correct) / len(samples)
    driven = drive(
        stepper,
        model,
        samples[correct],
        batch_size=batch_size,
        progress=lambda done, unbroken: progress(done, share * unbroken),
    )
    merge(candidates, correct, driven, member)
    progress(1.0, share - float(driven.broken.sum()) / len(samples))
    return candidates


def check_no_level(level: float | None) -> None:
    """For attacks that find their own epsilon.

    Raises:
        HahbenchError: a level is given.
    """
    if level is not None:
        raise HahbenchError(f"level = {level} is not allowed; this kind finds its own epsilon and has no levels")


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
        HahbenchError: one of them is not positive.
    """
    for name, value in values.items():
        if not value > 0:
            raise HahbenchError(f"{name} = {value} is not allowed; it must be positive")
