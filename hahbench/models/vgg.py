"""VGG-16 for small images, whose first blocks may be HaH blocks: Cekic, Bakiskan and Madhow 2022, figure 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hahbench.errors import ModelError
from hahbench.models.layers import (
    NORMALIZATIONS,
    READINGS,
    THRESHOLDS,
    HaHBlock,
    Normalization,
    Reading,
    RegularBlock,
    Threshold,
)

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of each block at width 1; a 2 x 2 max-pool follows each stage."""
BLOCKS = sum(len(stage) for stage in STAGES)

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2471, 0.2435, 0.2616)


class Standardize(nn.Module):
    """(x - mean) / std of CIFAR-10's colour channels, on (N, 3, H, W) in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class VGG(nn.Module):
    """Blocks with max-pools in between, the mean over the locations that are left, one linear layer.

    Maps images in [0, 1] of shape (N, 3, H, W), H and W at least 32, to logits (N, classes).
    """

    def __init__(self, features: nn.Sequential, channels: int, classes: int) -> None:
        super().__init__()
        self.standardize = Standardize()
        self.features = features
        self.classifier = nn.Linear(channels, classes)

    @property
    def hah_blocks(self) -> list[HaHBlock]:
        """The HaH blocks, first one first."""
        return [layer for layer in self.features if isinstance(layer, HaHBlock)]

    def classify(self, features: Tensor) -> Tensor:
        """The logits from the output of ``features``."""
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(self.standardize(images)))


def vgg16(
    *,
    width: float = 1.0,
    classes: int = 10,
    hah_blocks: int = 0,
    reading: Reading = "paper",
    normalization: Normalization = "divisive",
    threshold: Threshold = "quantile",
    active_fraction: float = 0.2,
    sigma: float = 0.1,
    straight_through: bool = False,
) -> VGG:
    """VGG-16 with its first ``hah_blocks`` blocks replaced by HaH blocks.

    Args:
        width: factor on the number of channels of every block.
        classes: number of logits.
        hah_blocks: 0 to 13; 0 is the paper's Standard, 6 its HaH.
        reading: the paper's equations or the authors' release, see ``hahbench.models.layers``.
        normalization: of the HaH blocks; ``"batch"`` is an ablation.
        threshold: of the HaH blocks; ``"none"`` is an ablation.
        active_fraction: of the locations that the quantile threshold keeps, in (0, 1].
        sigma: of the divisive normalisation, in [0, 1].
        straight_through: whether gradients pass through the thresholds as if nothing were zeroed, for an attack that is
            adapted to them; the outputs are the same.

    Raises:
        ModelError: an argument that is not allowed; the message names it.
    """
    _check("width", width, "a number above 0", _is_number(width) and 0 < width < float("inf"))
    _check("classes", classes, "a whole number of at least 2", _is_whole(classes) and classes >= 2)
    _check("hah_blocks", hah_blocks, f"0 to {BLOCKS}", _is_whole(hah_blocks) and 0 <= hah_blocks <= BLOCKS)
    _check("reading", reading, " or ".join(READINGS), reading in READINGS)
    _check("normalization", normalization, " or ".join(NORMALIZATIONS), normalization in NORMALIZATIONS)
    _check("threshold", threshold, ", ".join(THRESHOLDS), threshold in THRESHOLDS)
    fraction_allowed = _is_number(active_fraction) and 0 < active_fraction <= 1
    _check("active_fraction", active_fraction, "above 0 and at most 1", fraction_allowed)
    _check("straight_through", straight_through, "true or false", isinstance(straight_through, bool))
    _check("sigma", sigma, "0 to 1", _is_number(sigma) and 0 <= sigma <= 1)

    layers: list[nn.Module] = []
    in_channels = 3
    blocks = 0
    for stage in STAGES:
        for base_channels in stage:
            channels = max(1, round(base_channels * width))
            if blocks < hah_blocks:
                block: nn.Module = HaHBlock(
                    in_channels,
                    channels,
                    reading=reading,
                    normalization=normalization,
                    threshold=threshold,
                    active_fraction=active_fraction,
                    sigma=sigma,
                    straight_through=straight_through,
                )
            else:
                block = RegularBlock(in_channels, channels, reading=reading)
            layers.append(block)
            in_channels = channels
            blocks += 1
        layers.append(nn.MaxPool2d(2))
    return VGG(nn.Sequential(*layers), in_channels, classes)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_whole(value)


def _check(argument: str, given: object, allowed: str, ok: bool) -> None:
    if not ok:
        raise ModelError(f"vgg16: {argument} is {given!r}; allowed: {allowed}")
