"""Random crops and flips, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

PADDING = 4
"""Pixels of black added on each side before the crop, as is usual for CIFAR-10."""


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Crop each image at random from its zero-padded version, and mirror every second one on average.

    Args:
        images: (N, C, H, W) of any type and on any device.
        generator: on the CPU, so that the draws do not depend on the device.

    Returns:
        (N, C, H, W) in channels-last memory format.
    """
    n, _, height, width = images.shape
    offsets = torch.randint(2 * PADDING + 1, (2, n, 1), generator=generator)
    flipped = torch.randint(2, (n, 1), generator=generator, dtype=torch.bool)
    rows = offsets[0] + torch.arange(height)
    columns = offsets[1] + torch.where(flipped, torch.arange(width).flip(0), torch.arange(width))
    padded = functional.pad(images, (PADDING,) * 4)
    sample, rows, columns = (index.to(images.device) for index in (torch.arange(n), rows, columns))
    # Indices around a slice put the sliced dimension last: the crop comes out as (N, H, W, C).
    crops = padded[sample[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2)
