"""The judge: the one place where an attack's success is decided."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hahbench.device import full_float32
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples, outcome_frame
from hahbench.spec import NORMS, Norm

VERSION = "1"
"""Of the judge; raised when what it finds of the same candidates changes."""

# Images predicted together.
_BATCH_SIZE = 256
_RELATIVE_TOLERANCE = 1e-5
_PIXEL_ROUND_OFF = 2.0**-23


def judge(
    model: nn.Module,
    samples: Samples,
    candidates: Candidates,
    *,
    norm: Norm | None,
    epsilon: float | None,
    worst_case: bool,
    seconds: float,
    clean_pred: np.ndarray | None = None,
) -> pd.DataFrame:
    """What an attack achieved, whatever it says.

    Candidates are taken as float32 and clipped to [0, 1]. One with a NaN or over budget counts as the clean image, and
    its prediction is that of the clean image, even where the model's output is random. Images are predicted in float32,
    without TF32, with the model in evaluation mode, and the four norms are computed in float64.

    Args:
        model: on the device of the samples.
        samples: the clean images.
        candidates: what the attack proposes for them, in their order.
        norm: the norm that the budget is in.
        epsilon: the budget; None for attacks that have none. Round-off is let through: a relative 1e-5, and 2**-23 a
            colour value, which is the spacing of float32 below 1 and its rounding in a sum.
        worst_case: whether the attack searches for an error. Then a sample that the model already gets wrong stays
            wrong, and ``adv_pred`` is ``clean_pred`` unless the candidate broke the sample. Else ``adv_pred`` is always
            the prediction on the candidate.
        seconds: wall time of the whole attack.
        clean_pred: (N,), what ``predict`` gave for the clean images, where that has been asked already.

    Returns:
        An outcome table. The norms are 0 where the clean image is already wrong, infinite where the candidate is
        classified correctly, else those of the candidate. A prediction of -1 stands for logits that are NaN.

    Raises:
        HahbenchError: the candidates have another shape than the samples.
    """
    told = {len(told) for told in (candidates.forwards, candidates.backwards, candidates.member, candidates.step)}
    if candidates.images.shape != samples.images.shape or told != {len(samples)}:
        raise HahbenchError(
            f"the attack returned images {tuple(candidates.images.shape)} and tells of {sorted(told)} samples "
            f"for images {tuple(samples.images.shape)}"
        )
    if clean_pred is None:
        clean_pred = predict(model, samples)
    model.eval()
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("adv_pred", *NORMS)}
    for rows in torch.split(torch.arange(len(samples)), _BATCH_SIZE):
        clean = samples.images[rows].float()
        adversarial, rejected, norms = _accepted(clean, candidates.images[rows].to(clean.device), norm, epsilon)
        before = clean_pred[rows.numpy()]
        adv_pred = np.where(rejected, before, _predict(model, adversarial))
        labels = samples.labels[rows].cpu().numpy()
        already_wrong = before != labels
        if worst_case:
            adv_pred = np.where(already_wrong | (adv_pred == labels), before, adv_pred)
        columns["adv_pred"].append(adv_pred)
        for name, value in norms.items():
            columns[name].append(np.select([already_wrong, adv_pred == labels], [0.0, np.inf], value))
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    labels = samples.labels.cpu().numpy()
    broken = (clean_pred == labels) & (found["adv_pred"] != labels)
    return outcome_frame(
        index=samples.index.cpu().numpy(),
        label=labels,
        clean_pred=clean_pred,
        **found,
        member=np.where(broken, np.array(candidates.member, dtype=object), ""),
        step=np.where(broken, candidates.step.cpu().numpy(), -1),
        forwards=candidates.forwards.cpu().numpy(),
        backwards=candidates.backwards.cpu().numpy(),
        seconds=np.full(len(samples), seconds / len(samples)),
    )


def predict(model: nn.Module, samples: Samples) -> np.ndarray:
    """The class of each clean image, (N,), as the judge sees it; -1 where a logit is NaN."""
    model.eval()
    return np.concatenate([_predict(model, images.float()) for images in torch.split(samples.images, _BATCH_SIZE)])


def _accepted(
    clean: Tensor, proposed: Tensor, norm: Norm | None, epsilon: float | None
) -> tuple[Tensor, np.ndarray, dict[Norm, np.ndarray]]:
    """The candidates, the clean image in place of the rejected; which are rejected; the norms of the perturbations."""
    proposed = proposed.detach().float()
    rejected = proposed.isnan().flatten(1).any(dim=1)
    images = torch.where(rejected.view(-1, 1, 1, 1), clean, proposed.clamp(0, 1))
    norms = _norms(images, clean)
    if norm is not None and epsilon is not None:
        size = clean[0].numel()
        round_off = _PIXEL_ROUND_OFF * {"l0": 0.0, "l1": size, "l2": size**0.5, "linf": 1.0}[norm]
        beyond = torch.from_numpy(norms[norm] > epsilon * (1 + _RELATIVE_TOLERANCE) + round_off).to(images.device)
        images[beyond] = clean[beyond]
        rejected |= beyond
    return images, rejected.cpu().numpy(), norms


def _norms(images: Tensor, clean: Tensor) -> dict[Norm, np.ndarray]:
    """Each (N,), of the perturbations; l0 counts changed colour values."""
    size = (images.cpu().double() - clean.cpu().double()).flatten(1).abs().numpy()
    return {
        "l0": np.count_nonzero(size, axis=1).astype(np.float64),
        "l1": size.sum(axis=1),
        "l2": np.sqrt((size**2).sum(axis=1)),
        "linf": size.max(axis=1),
    }


def _predict(model: nn.Module, images: Tensor) -> np.ndarray:
    with full_float32(), torch.no_grad():
        logits = model(images)
    predicted: np.ndarray = logits.argmax(dim=1).masked_fill(logits.isnan().any(dim=1), -1).cpu().numpy()
    return predicted
