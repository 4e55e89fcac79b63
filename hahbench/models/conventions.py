"""Whether a model keeps the conventions that attacks and judge rely on: images in [0, 1] in, logits out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy import stats
from torch import Tensor, nn

from hahbench.logits import ROUND_OFF
from hahbench.registry import FOREIGN_ERRORS

PROBED = 32
"""Images that are enough to tell."""

_UNLIKELY = 1e-3
_PROBABILITY_ROUND_OFF = 1e-4
_LOST_OF_LEAD = 0.01


@torch.no_grad()
def broken_conventions(model: nn.Module, images: Tensor, labels: Tensor) -> list[str]:
    """Signs that a model wants something else than images in [0, 1], or gives something else than logits.

    It is asked about the images as they are, and scaled in the ways that are common in training. A model that is right
    about more of the scaled images than chance explains (McNemar's exact test, p < 0.001) was trained on such.

    Args:
        model: a classifier in evaluation mode, on the device of the images.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) int64.

    Returns:
        What the model does, to be said after its name, such as ``returns probabilities``; empty where it keeps them, or
        where the images are too few to tell.
    """
    signs = []
    logits = model(images)
    if (logits >= 0).all() and (logits.sum(dim=1) - 1).abs().max() < _PROBABILITY_ROUND_OFF:
        signs.append(
            "returns probabilities, not logits: where it is sure its gradients vanish, and attacks look weaker than "
            "they are; leave the softmax out"
        )
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    lead, largest = float((first - second).median()), float(logits.abs().amax(dim=1).median())
    if ROUND_OFF * largest > _LOST_OF_LEAD * lead > 0:
        signs.append(
            f"has logits of up to {largest:.2g} where the largest two differ by {lead:.2g}: of that attacks take "
            f"{ROUND_OFF * largest:.2g} for round-off, and minimum norms come out too large; leave out what all "
            "logits have in common, and mask classes by numbers nearer to the other logits"
        )
    right = logits.argmax(dim=1) == labels
    best = int(right.sum())
    scaling = ""
    for name, scaled in _scalings(images):
        try:
            right_then = model(scaled).argmax(dim=1) == labels
        except FOREIGN_ERRORS:
            # It checks what it is given, and wants no such images.
            continue
        gained, lost = int((right_then & ~right).sum()), int((right & ~right_then).sum())
        if int(right_then.sum()) > best and stats.binomtest(gained, gained + lost).pvalue < _UNLIKELY:
            best, scaling = int(right_then.sum()), name
    if scaling:
        signs.append(
            f"is right about {int(right.sum())} of {len(labels)} images in [0, 1], but about {best} of the same images "
            f"{scaling}; what was done to the images in training belongs inside the model"
        )
    return signs


def _scalings(images: Tensor) -> Iterator[tuple[str, Tensor]]:
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    std = images.std(dim=(0, 2, 3), keepdim=True).clamp(min=1 / 255)
    yield "normalised by mean and standard deviation", (images - mean) / std
    yield "in [-1, 1]", 2 * images - 1
    yield "in [0, 255]", 255 * images
