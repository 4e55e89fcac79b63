"""The model."""

from __future__ import annotations

import torch
from torch import nn


def network(num_classes: int = 10) -> nn.Module:
    """Two convolutions and a linear layer, for images in [0, 1] of shape (N, 3, H, W).

    The weights are random, the same each time: load yours here.

    Args:
        num_classes: the number of logits; hahbench gives that of the data set.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, num_classes),
        )
