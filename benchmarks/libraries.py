"""The other libraries, called as their documentation says, with the parameters of hahbench's attack."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import math
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import pyautoattack
import torch
from torch import Tensor, nn

from hahbench.attacks.autoattack import AutoAttack
from hahbench.attacks.carlini_wagner import CarliniWagner
from hahbench.attacks.fmn import FastMinimumNorm
from hahbench.attacks.pgd import ProjectedGradientDescent
from hahbench.attacks.reference.foolbox_fmn import ProjectedL0, ProjectedL2
from hahbench.outcome import Samples
from hahbench.spec import Norm

with warnings.catch_warnings():
    # foolbox 3.3.4 imports from a namespace that SciPy deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from foolbox.attacks.base import Attack as FoolboxAttack
    from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
    from foolbox.attacks.fast_minimum_norm import FMNAttackLp, L1FMNAttack, LInfFMNAttack
    from foolbox.attacks.gradient_descent_base import BaseGradientDescent
    from foolbox.attacks.projected_gradient_descent import (
        L2ProjectedGradientDescentAttack,
        LinfProjectedGradientDescentAttack,
    )
    from foolbox.models.pytorch import PyTorchModel

# As in hahbench's attacks; foolbox and adv-lib have no batches, they attack what they are given.
_BATCH_SIZE = 128
_PYAUTOATTACK_NORM: dict[Norm, str] = {"l1": "L1", "l2": "L2", "linf": "Linf"}
# Unmended, foolbox's l2 and l0 perturbations are many times too long.
_FOOLBOX_FMN: dict[Norm, type[FMNAttackLp]] = {
    "l0": ProjectedL0,
    "l1": L1FMNAttack,
    "l2": ProjectedL2,
    "linf": LInfFMNAttack,
}
_FOOLBOX_PGD: dict[Norm, type[BaseGradientDescent]] = {
    "l2": L2ProjectedGradientDescentAttack,
    "linf": LinfProjectedGradientDescentAttack,
}
_ADV_LIB_NORM: dict[Norm, float] = {"l0": 0, "l1": 1, "l2": 2, "linf": math.inf}


@dataclasses.dataclass(frozen=True)
class Task:
    """What both sides are given.

    Attributes:
        samples: those to attack.
        epsilon: the budget; None for minimum-norm attacks.
        seed: of random draws.
        classes: the number of logits.
    """

    samples: Samples
    epsilon: float | None
    seed: int
    classes: int


def pyautoattack_autoattack(model: nn.Module, attack: AutoAttack, task: Task) -> Tensor:
    """AutoAttack by ``run_standard_evaluation``, in its batches of 250."""
    library = pyautoattack.AutoAttack(
        model,
        norm=_PYAUTOATTACK_NORM[attack.norm],
        eps=task.epsilon,
        seed=task.seed,
        version="rand" if attack.randomized else "standard",
    )
    if attack.members:
        library.attacks_to_run = list(attack.members)
    # In l1 its standard has five restarts and five targets, which hahbench's has not.
    library.apgd.n_restarts = 1
    for targeted in (library.apgd_targeted, library.fab):
        targeted.n_target_classes = min(9, task.classes - 1)
    images, _ = library.run_standard_evaluation(task.samples.images, task.samples.labels)
    perturbed: Tensor = images
    return perturbed


def foolbox_pgd(model: nn.Module, attack: ProjectedGradientDescent, task: Task) -> Tensor:
    """PGD by foolbox; restarts by its ``repeat``."""
    pgd = _FOOLBOX_PGD[attack.norm](
        steps=attack.steps, rel_stepsize=attack.relative_step_size, random_start=attack.random_start
    )
    return _by_foolbox(model, pgd.repeat(attack.restarts), task)


def foolbox_carlini_wagner(model: nn.Module, attack: CarliniWagner, task: Task) -> Tensor:
    """Carlini and Wagner's attack by foolbox."""
    carlini_wagner = L2CarliniWagnerAttack(
        binary_search_steps=attack.search_steps,
        steps=attack.steps,
        stepsize=attack.learning_rate,
        confidence=attack.confidence,
        initial_const=attack.initial_constant,
    )
    return _by_foolbox(model, carlini_wagner, task)


def foolbox_fmn(model: nn.Module, attack: FastMinimumNorm, task: Task) -> Tensor:
    """FMN by foolbox, with the projections of l2 and l0 put right."""
    fmn = _FOOLBOX_FMN[attack.norm](steps=attack.steps, max_stepsize=attack.max_stepsize, gamma=attack.gamma)
    return _by_foolbox(model, fmn, task)


def adv_lib_carlini_wagner(model: nn.Module, attack: CarliniWagner, task: Task) -> Tensor:
    """Carlini and Wagner's attack by adv-lib."""
    carlini_wagner = functools.partial(
        _adv_lib_attacks().carlini_wagner_l2,
        model,
        confidence=attack.confidence,
        learning_rate=attack.learning_rate,
        initial_const=attack.initial_constant,
        binary_search_steps=attack.search_steps,
        max_iterations=attack.steps,
    )
    return _of_correct(model, task.samples, carlini_wagner)


def adv_lib_fmn(model: nn.Module, attack: FastMinimumNorm, task: Task) -> Tensor:
    """FMN by adv-lib."""
    fmn = functools.partial(
        _adv_lib_attacks().fmn,
        model,
        norm=_ADV_LIB_NORM[attack.norm],
        steps=attack.steps,
        α_init=attack.max_stepsize,
        γ_init=attack.gamma,
    )
    return _of_correct(model, task.samples, fmn)


Perturb: TypeAlias = Callable[[nn.Module, Any, Task], Tensor]
"""Called with the plain model and hahbench's attack, whose parameters count; returns the perturbed images."""

LIBRARIES: dict[str, dict[str, Perturb]] = {
    "autoattack": {"pyautoattack": pyautoattack_autoattack},
    "carlini-wagner": {"foolbox": foolbox_carlini_wagner, "adv-lib": adv_lib_carlini_wagner},
    "fmn": {"foolbox": foolbox_fmn, "adv-lib": adv_lib_fmn},
    "pgd": {"foolbox": foolbox_pgd},
}
"""The libraries that have a kind of attack, by the names of their distributions."""


def is_installed(library: str) -> bool:
    """Whether the library is there; if it is, it is imported, so that no attack is charged with that."""
    if library == "adv-lib":
        if importlib.util.find_spec("adv_lib") is None:
            return False
        _adv_lib_attacks()
    return True


@functools.cache
def _adv_lib_attacks() -> ModuleType:
    with warnings.catch_warnings():
        # adv-lib 0.2.8 compares versions by distutils.
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("adv_lib.attacks")


def _by_foolbox(model: nn.Module, attack: FoolboxAttack, task: Task) -> Tensor:
    wrapped = PyTorchModel(model, bounds=(0, 1), device="cpu")

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        _, perturbed, _ = attack(wrapped, images, labels, epsilons=task.epsilon)
        return perturbed

    return _of_correct(model, task.samples, perturb)


def _of_correct(model: nn.Module, samples: Samples, perturb: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The images, those perturbed that the model classifies correctly: the others have a norm of 0 as they are."""
    candidates = samples.images.clone()
    for rows in torch.split(torch.arange(len(samples)), _BATCH_SIZE):
        with torch.no_grad():
            correct = rows[model(samples.images[rows]).argmax(dim=1) == samples.labels[rows]]
        if len(correct):
            candidates[correct] = perturb(samples.images[correct], samples.labels[correct])
    return candidates
