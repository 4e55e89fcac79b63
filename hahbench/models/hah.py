"""Hebbian/anti-Hebbian training cost: Cekic, Bakiskan and Madhow 2022, section 2.2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hahbench.errors import ModelError
from hahbench.models.layers import HaHBlock, Reading, kth_largest, top_count
from hahbench.models.vgg import VGG


def hah_cost(y: Tensor, active_fraction: float = 0.1, anti_hebbian_weight: float = 0.1) -> Tensor:
    """L_block of eq. 4, to be maximised: its mean over images and locations, a scalar.

    Args:
        y: (N, C, H, W), the ReLU outputs of a block. At each location the K = ceil(active_fraction * C) largest are
            promoted and the others demoted.
        active_fraction: in (0, 1]; 1 demotes none.
        anti_hebbian_weight: lambda, at least 0.
    """
    channels = y.shape[1]
    k = top_count(active_fraction, channels)
    demote = anti_hebbian_weight / (channels - k) if k < channels else 0.0
    promote = 1 / k
    values = y.detach()
    kth = kth_largest(values, k, dims=(1,))
    active = torch.ge(values, kth, out=torch.empty_like(values))
    # Channels that tie with the K-th largest count as active too: take what they add out of the value again.
    surplus = ((active.sum(dim=1, keepdim=True) - k) * kth).sum()
    slope = active.mul_(promote + demote).sub_(demote)
    return ((y * slope).sum() - (promote + demote) * surplus) * (channels / y.numel())


def network_hah_cost(
    model: VGG,
    images: Tensor,
    alphas: Sequence[float],
    reading: Reading = "paper",
    *,
    active_fraction: float = 0.1,
    anti_hebbian_weight: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """One forward pass: the logits (N, classes) and sum_b alpha_b * L_b of eq. 5, a scalar to be maximised.

    In the paper reading the gradient of a block's cost reaches every layer before it. In the release reading, as in the
    training of hahtorch 0.0.5, it stops at the convolution of its own block; the values are the same.

    Args:
        model: a VGG with a HaH block for each of ``alphas``.
        images: (N, 3, H, W) in [0, 1].
        alphas: the weight of each block's cost, first block first; a cost of weight 0 is not computed.
        reading: see above.
        active_fraction: see ``hah_cost``.
        anti_hebbian_weight: see ``hah_cost``.

    Raises:
        ModelError: the number of ``alphas`` is not that of the HaH blocks.
    """
    blocks = model.hah_blocks
    if len(alphas) != len(blocks):
        raise ModelError(f"alphas has {len(alphas)} values; the model has {len(blocks)} HaH blocks, each needs one")
    remaining = iter(alphas)
    x = model.standardize(images)
    total = x.new_zeros(())
    for layer in model.features:
        if isinstance(layer, HaHBlock) and (alpha := next(remaining)):
            y, cost_y = layer.activations(x, local=reading == "release")
            total = total + alpha * hah_cost(cost_y, active_fraction, anti_hebbian_weight)
            x = layer.compete(y)
        else:
            x = layer(x)
    return model.classify(x), total
