"""What happened: samples, candidates and per-sample outcomes."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

Index: TypeAlias = slice | Tensor

OUTCOME_COLUMNS: dict[str, str] = {
    "index": "int64",
    "label": "int64",
    "clean_pred": "int64",
    "adv_pred": "int64",
    "l0": "float64",
    "l1": "float64",
    "l2": "float64",
    "linf": "float64",
    "queries": "float64",
    "seconds": "float64",
}
"""The columns of an outcome table, a row per sample.

``index`` is the sample's position in the test set. ``adv_pred`` is the prediction on the perturbed image. The four
norms are those of the perturbation that broke the sample, in pixel values of [0, 1]: 0 where the model was already
wrong, infinity where it was not broken. ``queries`` are forward passes, ``seconds`` wall time, both averaged over the
batch where the attack does not report them per sample.
"""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images to attack.

    Attributes:
        index: (N,) int64, the position of each sample in its test set.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
    """

    index: Tensor
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Index) -> Samples:
        return Samples(self.index[rows], self.images[rows], self.labels[rows])

    def to(self, device: torch.device | str) -> Samples:
        """The same samples on another device."""
        return Samples(self.index.to(device), self.images.to(device), self.labels.to(device))


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What an attack proposes; only the judge says what it achieved.

    Attributes:
        images: (N, C, H, W), the perturbed images, in the order of the samples; the clean image where it found nothing.
        queries: (N,) float64, forward passes spent on each sample.
    """

    images: Tensor
    queries: Tensor


def outcome_frame(**columns: np.ndarray) -> pd.DataFrame:
    """An outcome table from its columns, each (N,); see ``OUTCOME_COLUMNS``."""
    return pd.DataFrame({name: np.asarray(columns[name], dtype) for name, dtype in OUTCOME_COLUMNS.items()})
