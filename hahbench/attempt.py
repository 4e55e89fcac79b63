"""One attempt on one model: what the attack proposes, what the judge finds of it, and what speaks against that."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import nn

from hahbench import measure
from hahbench.attacks.base import Progress
from hahbench.attacks.diagnostics import diagnose, diagnose_minimum_norm
from hahbench.device import full_float32, seeded
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples
from hahbench.plan import Job
from hahbench.registry import FOREIGN_ERRORS, one_line
from hahbench.verdict import verdict_from

_FEWEST_TO_EXAMINE = 2


def attack_and_judge(
    job: Job,
    samples: Samples,
    clean_pred: dict[str, np.ndarray],
    progress: Progress,
    warned: Callable[[str], None],
) -> tuple[Candidates, pd.DataFrame]:
    """What an attack proposes for some samples, and their outcomes.

    ``clean_pred`` keeps the predictions on the samples, by model, from one job to the next.

    Raises:
        HahbenchError: the attack or the model raises.
    """
    cell = job.cell
    started = time.perf_counter()
    try:
        given = samples.index.clone(), samples.images.clone(), samples.labels.clone()
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always")
            candidates = propose(job, samples, progress)
        if not all(map(torch.equal, given, (samples.index, samples.images, samples.labels))):
            # The judge would compare the candidates with them, and the next attack would start from them.
            raise ValueError("the attack, or the model, wrote into the images or labels that it was given")
        for message in dict.fromkeys(str(doubt.message) for doubt in doubts):
            warned(message)
        if cell.model not in clean_pred:
            # The same in every run, where the model's output is random.
            with seeded(0, samples.images.device):
                clean_pred[cell.model] = measure.predict(job.model, samples)
        with seeded(cell.seed, samples.images.device):
            return candidates, measure.judge(
                job.model,
                samples,
                candidates,
                clean_pred=clean_pred[cell.model],
                norm=cell.attack.norm,
                epsilon=cell.level if job.attack.worst_case else None,
                worst_case=job.attack.worst_case,
                seconds=time.perf_counter() - started,
            )
    except HahbenchError:
        raise
    except FOREIGN_ERRORS as error:
        raise HahbenchError(
            f"model {cell.model!r} under attack {cell.attack.name!r}: {one_line(error)}; "
            "the cells finished before are kept"
        ) from error


def propose(job: Job, samples: Samples, progress: Progress) -> Candidates:
    """What the attack proposes for some samples; whatever it or the model raises is passed on."""
    with full_float32(), seeded(job.cell.seed, samples.images.device):
        return job.attack(job.prepared, samples, job.cell.level, job.cell.seed, progress)


def verdict_on(job: Job, samples: Samples, outcomes: pd.DataFrame, models: Mapping[str, nn.Module]) -> str:
    """``ok``, or what speaks against the robust accuracy or minimum norms.

    Empty where nothing is known to look for, or there are too few samples.
    """
    cell, norm, epsilon = job.cell, job.cell.attack.norm, job.cell.level
    correct = (outcomes["clean_pred"] == outcomes["label"]).sum()
    if not job.attack.worst_case or norm is None or correct < _FEWEST_TO_EXAMINE:
        return ""
    others = {name: model for name, model in models.items() if name != cell.model}
    try:
        with full_float32():
            if epsilon is None:
                reasons = diagnose_minimum_norm(job.model, samples, outcomes, seed=cell.seed)
            elif norm != "l0":
                reasons = diagnose(
                    job.model, samples, outcomes, norm=norm, epsilon=epsilon, seed=cell.seed, others=others
                )
            else:
                return ""
    except FOREIGN_ERRORS as error:
        # What the attack found must not be lost over a probe.
        reasons = [f"the diagnostics raised {one_line(error)}"]
    return verdict_from(reasons)
