"""What flows through the blocks of a network: Cekic, Bakiskan and Madhow 2022, figures 2 and 3."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hahbench.models.extractor import ActivationExtractor
from hahbench.models.layers import HaHBlock, RegularBlock
from hahbench.outcome import ACTIVATION_COLUMNS, Samples


def hoyer_ratio(x: Tensor) -> Tensor:
    """The sparsity of (N, C, H, W) over the channels, (N,), mapped linearly to [0, 1]: 0 where one channel is active at
    each location, 1 where all are equally strong.

    The ratio l1 / l2 of Hoyer 2004, which lies in [1, sqrt(C)], averaged over the locations at which any channel is
    active. NaN for an image without such a location, and where C = 1.
    """
    x = x.double()
    l1, l2 = x.abs().sum(dim=1), x.square().sum(dim=1).sqrt()
    ratio = (l1 / l2 - 1) / (math.sqrt(x.shape[1]) - 1) if x.shape[1] > 1 else torch.full_like(l1, torch.nan)
    return ratio.masked_fill(l2 == 0, torch.nan).flatten(1).nanmean(dim=1)


@torch.no_grad()
def block_activations(
    model: nn.Module, samples: Samples, perturbed: Callable[[Samples], Tensor], batch_size: int = 64
) -> pd.DataFrame:
    """What each block does with each sample, clean and perturbed.

    Blocks are hahbench's own ``HaHBlock`` and ``RegularBlock``, wherever in the model they lie, numbered from 1 in the
    order in which a forward pass goes through them. A model without any, such as one built of other layers, gives an
    empty frame.

    Args:
        model: in evaluation mode, on the device of the samples.
        samples: the clean images.
        perturbed: the perturbed images of some of the samples.
        batch_size: images that are passed at once; memory does not grow with the number of samples.

    Returns:
        ``ACTIVATION_COLUMNS``, a row per sample and block.
    """
    blocks = [module for module in model.modules() if isinstance(module, HaHBlock | RegularBlock)]
    extractor = ActivationExtractor(model, {str(place): block for place, block in enumerate(blocks)})
    # Whole from the start: results that are kept one by one between the activations keep the heap from shrinking.
    found = np.empty((len(samples), len(blocks), 3))
    passed = 0
    with extractor:
        for rows in torch.split(torch.arange(len(samples) if blocks else 0), batch_size):
            batch = samples[rows]
            model(batch.images)
            inputs, outputs = dict(extractor.inputs), dict(extractor.outputs)
            model(perturbed(batch))
            passed = len(inputs)
            for place, name in enumerate(inputs):
                columns = (
                    hoyer_ratio(outputs[name]),
                    _power(inputs[name]),
                    _power(extractor.inputs[name] - inputs[name]),
                )
                found[rows, place] = torch.stack(columns, dim=1).cpu().numpy()
    index = pd.MultiIndex.from_product([samples.index.tolist(), range(1, passed + 1)], names=["index", "block"])
    measured = found[:, :passed].reshape(-1, 3)
    frame = pd.DataFrame(measured, index, ["hoyer", "signal_power", "noise_power"])
    return frame.reset_index().astype(ACTIVATION_COLUMNS)


def _power(x: Tensor) -> Tensor:
    return x.double().square().flatten(1).sum(dim=1)
