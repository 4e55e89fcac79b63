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
    "member": "str",
    "step": "int64",
    "forwards": "int64",
    "backwards": "int64",
    "seconds": "float64",
}
"""The columns of an outcome table, a row per sample.

``index`` is the sample's position in the test set. ``adv_pred`` is the prediction on the perturbed image. The four
norms are those of the perturbation that broke the sample, in pixel values of [0, 1]: 0 where the model was already
wrong, infinity where it was not broken. ``member`` is the part of the attack that broke the sample, such as
``square``, and ``step`` the step at which it first did, counted from 1 in that restart; empty and -1 where nothing
broke it. ``forwards`` and ``backwards`` are passes of the model, -1 where the attack does not tell. ``seconds`` is wall
time, averaged over the samples.
"""

ACTIVATION_COLUMNS: dict[str, str] = {
    "index": "int64",
    "block": "int64",
    "hoyer": "float64",
    "signal_power": "float64",
    "noise_power": "float64",
}
"""The columns of an activation table, a row per sample and block of the network.

``block`` counts from 1. ``hoyer`` is the sparsity of the block's output over the channels, in [0, 1], lower is sparser;
NaN where all of it is 0. ``signal_power`` is the squared l2 norm of the block's input, ``noise_power`` that of its
change under noise.
"""

EXAMPLE_COLUMNS: dict[str, str] = {
    "index": "int64",
    "label": "str",
    "predicted": "str",
    "size": "float64",
    "image": "object",
    "perturbation": "object",
}
"""The columns of a table of adversarial examples, a row per sample, the smallest perturbation first.

``label`` and ``predicted`` are names of classes, ``size`` is the attack's norm of the perturbation. ``image`` and
``perturbation`` are PNG files; the perturbation is scaled so that its largest change is black or white, on grey.
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


@dataclasses.dataclass
class Candidates:
    """What an attack proposes; only the judge says what it achieved.

    Attributes:
        images: (N, C, H, W), the perturbed images, in the order of the samples; the clean image where it found nothing.
        forwards: (N,) int64, forward passes spent on each sample; -1 where the attack does not tell.
        backwards: (N,) int64, backward passes likewise.
        member: N names of the parts of the attack that say they broke the sample; empty where none does.
        step: (N,) int64, at which it did, from 1; -1 where none does.
    """

    images: Tensor
    forwards: Tensor
    backwards: Tensor
    member: list[str]
    step: Tensor

    @classmethod
    def untold(cls, images: Tensor, *, forwards: int | Tensor = -1, backwards: int | Tensor = -1) -> Candidates:
        """The candidates of an attack that does not tell how it came to them."""
        unknown = torch.full((len(images),), -1)
        return cls(
            images,
            unknown.new_zeros(len(images)) + forwards,
            unknown.new_zeros(len(images)) + backwards,
            [""] * len(images),
            unknown,
        )


def outcome_frame(**columns: np.ndarray) -> pd.DataFrame:
    """An outcome table from its columns, each (N,); see ``OUTCOME_COLUMNS``."""
    return pd.DataFrame({name: np.asarray(columns[name], dtype) for name, dtype in OUTCOME_COLUMNS.items()})
