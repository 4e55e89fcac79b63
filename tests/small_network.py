"""A small network with kinks, and images that it classifies correctly."""

from __future__ import annotations

import torch
from torch import nn

from hahbench.outcome import Samples


def small_network(n: int) -> tuple[nn.Module, Samples]:
    """Two convolutions and a linear layer of random weights; ``n`` images of 3 x 16 x 16, labelled by the network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten()
        ).append(nn.Linear(16 * 7 * 7, 10))
        images = 0.1 + 0.8 * torch.rand(n, 3, 16, 16)
    network.eval().requires_grad_(False)
    for layer in (network[0], network[2]):
        assert isinstance(layer, nn.Conv2d)
        layer.weight *= 3
    # Centred, so that not all images are of one class.
    last = network[5]
    assert isinstance(last, nn.Linear)
    last.bias.sub_(network(images).mean(dim=0))
    return network, Samples(torch.arange(n), images, network(images).argmax(dim=1))
