"""Exhibits: what figures show of a model beside its scores."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from hahbench.attacks.noise import GaussianNoise
from hahbench.models.activations import block_activations
from hahbench.outcome import EXAMPLE_COLUMNS, Candidates, Samples
from hahbench.spec import Norm

VERSION = "1"
"""Of what exhibits show; raised when it changes."""

NOISE_STD = 0.1
"""Of the noise under which signal-to-noise ratios are measured: Cekic, Bakiskan and Madhow 2022, figure 3."""

EXAMPLES = 3
"""Adversarial examples that are kept of each model and attack."""


def activations(model: nn.Module, samples: Samples) -> pd.DataFrame:
    """``block_activations`` under Gaussian noise, the first draw of those under which accuracies are measured.

    Args:
        model: in evaluation mode, on the device of the samples.
        samples: the clean images.
    """

    def noisy(batch: Samples) -> Tensor:
        return GaussianNoise()(model, batch, NOISE_STD, 0, lambda fraction, robust_accuracy: None).images

    return block_activations(model, samples, noisy)


def most_fragile(outcomes: pd.DataFrame, norm: Norm) -> Tensor:
    """The places in ``outcomes`` of the samples that the smallest perturbations broke, at most ``EXAMPLES``, int64.

    Samples that the model had wrong from the start do not count.
    """
    norms = outcomes[norm].to_numpy()
    broken = np.flatnonzero((outcomes["clean_pred"] == outcomes["label"]) & np.isfinite(norms))
    return torch.from_numpy(broken[np.argsort(norms[broken], kind="stable")[:EXAMPLES]])


def adversarial_examples(
    samples: Samples, candidates: Candidates, outcomes: pd.DataFrame, norm: Norm, classes: Sequence[str]
) -> pd.DataFrame:
    """The candidates that broke their samples, to look at.

    Args:
        samples: the clean images, with one, three or any number of channels, of which the mean is shown.
        candidates: what an attack proposed for them.
        outcomes: what the judge found.
        norm: of the attack.
        classes: the names of the classes.

    Returns:
        ``EXAMPLE_COLUMNS``.
    """
    images = candidates.images.cpu().float().clamp(0, 1)
    change = images - samples.images.cpu().float()
    rows = [
        {
            "index": outcome["index"],
            "label": classes[outcome["label"]],
            "predicted": classes[outcome["adv_pred"]],
            "size": outcome[norm],
            "image": _png(image),
            "perturbation": _png(0.5 + perturbation / (2 * perturbation.abs().max())),
        }
        for outcome, image, perturbation in zip(outcomes.to_dict("records"), images, change, strict=True)
        if 0 < outcome[norm] < np.inf and outcome["adv_pred"] >= 0
    ]
    shown = pd.DataFrame(rows, columns=list(EXAMPLE_COLUMNS)).astype(EXAMPLE_COLUMNS)
    return shown.sort_values("size", kind="stable", ignore_index=True)


def _png(image: Tensor) -> bytes:
    """A PNG file of (C, H, W) in [0, 1]."""
    shown = image if len(image) == 3 else image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    pixels = shown.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()
