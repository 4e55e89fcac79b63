"""One attack on one model and images at hand, without a store."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from hahbench import catalog, metrics
from hahbench.attacks import build_attack
from hahbench.attacks.base import ParticularAboutData
from hahbench.attempt import attack_and_judge, verdict_on
from hahbench.device import full_float32
from hahbench.errors import HahbenchError
from hahbench.models.load import copy_of
from hahbench.models.ready import make_ready
from hahbench.outcome import Samples
from hahbench.plan import Job, code_version
from hahbench.registry import FOREIGN_ERRORS, one_line
from hahbench.spec import Cell, ModelCard


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an attack achieved, as the judge found.

    Attributes:
        metric: ``accuracy``, or ``median_norm`` of an attack without a level that searches for the smallest
            perturbation.
        value: the accuracy in [0, 1], or the norm in pixel values of [0, 1].
        low: the lower end of its 95 % interval.
        high: the upper end.
        verdict: ``ok``; ``suspect:`` and why the attack may have failed; or empty where nothing is known to look for.
        images: (N, C, H, W) float32, the perturbed images that broke a sample, and the clean image where none did; of
            noise and corruptions, every perturbed image.
        outcomes: a row per image, in their order, with ``hahbench.outcome.OUTCOME_COLUMNS``.
    """

    metric: str
    value: float
    low: float
    high: float
    verdict: str
    images: Tensor
    outcomes: pd.DataFrame


@full_float32()
def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: str | Path,
    level: float | str | None = None,
    *,
    seed: int = 0,
) -> Evaluation:
    """Attack a model, and judge what came of it.

    Args:
        model: maps images in [0, 1] to logits, on the device of the images; it is copied, and stays as it is.
        images: (N, C, H, W), floating point in [0, 1].
        labels: (N,), whole numbers.
        attack: one of ``hahbench attacks``, such as ``autoattack-linf``, or the path of an attack file, of which kind,
            norm and parameters count.
        level: epsilon, sigma or severity, a number or a fraction such as ``"8/255"``; None for an attack without
            levels.
        seed: of what the attack draws, 0 or more.

    Raises:
        HahbenchError: the images, the labels, the attack or its level are not allowed, or the model raises or returns
            no logits.
    """
    samples = _samples(images, labels)
    attack = str(attack)
    spec = catalog.read_attack(Path(attack)) if attack.endswith(".toml") else catalog.attacks()[attack]
    built = build_attack(spec)
    level = None if level is None else catalog.read_number(level, f"attack {attack!r}: level")
    built.check_level(level)
    if seed < 0:
        raise HahbenchError(f"seed = {seed}; allowed: 0 or more")
    name = type(model).__name__
    copied = copy_of(model).eval().requires_grad_(False)
    classes = _classes(copied, samples, name)
    prepared = make_ready(copied, samples, classes, name)
    if isinstance(built, ParticularAboutData):
        built.check_data(images.shape[1], classes)
    spec = dataclasses.replace(spec, levels=() if level is None else (level,))
    cell = Cell(name, "", "", spec, code_version(built), level, seed)
    job = Job(cell, ModelCard(name, lambda: copied), copied, prepared, built)
    candidates, outcomes = attack_and_judge(
        job, samples, {}, lambda *_: None, lambda message: warnings.warn(message, stacklevel=5)
    )
    proposed = candidates.images.detach().to(samples.images).clamp(0, 1)
    if built.worst_case:
        is_broken = (outcomes["clean_pred"] == outcomes["label"]) & (outcomes["adv_pred"] != outcomes["label"])
        kept = torch.tensor(is_broken.to_numpy()).to(images.device).view(-1, 1, 1, 1)
        proposed = torch.where(kept, proposed, samples.images)
    if built.worst_case and spec.norm and level is None:
        metric, score = "median_norm", metrics.median_norm(outcomes[spec.norm].to_numpy())
    else:
        metric, score = "accuracy", metrics.accuracy((outcomes["adv_pred"] == outcomes["label"]).to_numpy(float))
    verdict = verdict_on(job, samples, outcomes, {name: job.prepared})
    return Evaluation(metric, *score[:3], verdict, proposed, outcomes)


def _samples(images: Tensor, labels: Tensor) -> Samples:
    for what, given in (("images", images), ("labels", labels)):
        if not isinstance(given, Tensor):
            raise HahbenchError(f"{what}: {type(given).__name__}; allowed: a torch.Tensor")
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise HahbenchError(f"images: {tuple(images.shape)} {images.dtype}; allowed: (N, C, H, W), floating point")
    if not (images.min() >= 0 and images.max() <= 1):
        raise HahbenchError(f"images: {images.min():g} to {images.max():g}; allowed: 0 to 1")
    if labels.shape != (len(images),) or labels.is_floating_point() or labels.is_complex():
        found = f"{tuple(labels.shape)} {labels.dtype}"
        raise HahbenchError(f"labels: {found}; allowed: {(len(images),)}, whole numbers")
    index = torch.arange(len(images), device=images.device)
    return Samples(index, images.detach().float().clone(), labels.to(images.device, torch.int64, copy=True))


def _classes(model: nn.Module, samples: Samples, name: str) -> int:
    """The number of logits, among which the labels must be; of what returns no logits, as many as the labels need."""
    classes = int(samples.labels.max()) + 1
    try:
        with torch.no_grad():
            logits = model(samples.images[:1].clone())
    except FOREIGN_ERRORS as error:
        given = f"float32 images {tuple(samples.images[:1].shape)} on {samples.images.device}"
        raise HahbenchError(f"model {name!r}: {given} make it raise {one_line(error)}") from error
    if isinstance(logits, Tensor) and logits.ndim == 2:
        found = logits.shape[1]
        if classes > found or int(samples.labels.min()) < 0:
            raise HahbenchError(f"labels: {int(samples.labels.min())} to {classes - 1}; allowed: 0 to {found - 1}")
        classes = found
    return classes
