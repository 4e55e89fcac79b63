"""Sparsity and signal-to-noise of blocks: hand-computed values, and a second computation in NumPy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from hahbench.models.activations import block_activations, hoyer_ratio
from hahbench.models.layers import HaHBlock, RegularBlock
from hahbench.models.vgg import vgg16
from hahbench.outcome import ACTIVATION_COLUMNS, Samples


def images(n: int) -> Samples:
    generator = torch.Generator().manual_seed(n)
    return Samples(torch.arange(n) + 100, torch.rand(n, 3, 32, 32, generator=generator), torch.zeros(n).long())


def brighter(samples: Samples) -> Tensor:
    return samples.images + 0.1 * samples.index.view(-1, 1, 1, 1) / 100


def column(*channels: float) -> Tensor:
    """One image of one location."""
    return torch.tensor(channels).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("channels", "ratio"),
    [
        ((0, 0, 5, 0), 0.0),
        ((2, 2, 2, 2), 1.0),
        ((-2, 2, -2, 2), 1.0),
        # l1 / l2 is 7 / 5 in [1, sqrt(2)].
        ((3, 4), 0.4 / (math.sqrt(2) - 1)),
        # 2 / sqrt(2) in [1, 2].
        ((1, 1, 0, 0), math.sqrt(2) - 1),
    ],
)
def test_hoyer_ratio_of_one_location(channels: tuple[float, ...], ratio: float) -> None:
    assert hoyer_ratio(column(*channels)).tolist() == pytest.approx([ratio], abs=1e-7)


def test_locations_are_averaged_but_for_those_where_nothing_is_active() -> None:
    locations = torch.cat([column(0, 7), column(1, 1), column(0, 0)], dim=3)
    assert hoyer_ratio(locations).tolist() == pytest.approx([0.5])
    silent = torch.cat([locations, torch.zeros_like(locations)])
    assert hoyer_ratio(silent).isnan().tolist() == [False, True]
    assert hoyer_ratio(torch.ones(2, 1, 3, 3)).isnan().all()


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(np.float64, (2, 5, 2, 2), elements=st.floats(0, 100).map(lambda value: round(value, 3))),
    st.floats(0.01, 100),
    st.permutations(range(5)),
)
def test_hoyer_ratio_knows_neither_scale_nor_order(x: npt.NDArray[np.float64], scale: float, order: list[int]) -> None:
    ratio = hoyer_ratio(torch.from_numpy(x))
    changed = hoyer_ratio(torch.from_numpy(x[:, order] * scale))
    torch.testing.assert_close(ratio, changed, equal_nan=True)
    inside = ratio[~ratio.isnan()]
    assert ((inside > -1e-9) & (inside < 1 + 1e-9)).all()


@torch.no_grad()
def test_a_vgg_is_measured_block_by_block() -> None:
    torch.manual_seed(0)
    model = vgg16(width=1 / 16, hah_blocks=2).eval()
    samples = images(5)
    found = block_activations(model, samples, brighter, batch_size=2)
    assert list(found.columns) == list(ACTIVATION_COLUMNS)
    assert found["index"].tolist() == np.repeat(np.arange(100, 105), 13).tolist()
    assert found["block"].tolist() == [*range(1, 14)] * 5

    wanted = []
    for row in range(5):
        block = 0
        clean = model.standardize(samples.images[row : row + 1])
        noisy = model.standardize(brighter(samples[slice(row, row + 1)]))
        for layer in model.features:
            after = layer(clean)
            if not isinstance(layer, nn.MaxPool2d):
                block += 1
                channels = after[0].double().numpy()
                l1, l2 = np.abs(channels).sum(axis=0), np.linalg.norm(channels, axis=0)
                size = math.sqrt(len(channels))
                hoyer = (np.mean(l1[l2 > 0] / l2[l2 > 0]) - 1) / (size - 1)
                signal = np.linalg.norm(clean.double().numpy()) ** 2
                noise = np.linalg.norm((noisy - clean).double().numpy()) ** 2
                wanted.append((100 + row, block, hoyer, signal, noise))
            clean, noisy = after, layer(noisy)
    pd.testing.assert_frame_equal(found, pd.DataFrame(wanted, columns=list(ACTIVATION_COLUMNS)), rtol=1e-4)


class Backwards(nn.Module):
    """A user's network of hahbench's blocks, the last one first, and one that no image goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.last = RegularBlock(6, 10)
        self.idle = RegularBlock(3, 3)
        self.first = nn.Sequential(nn.AvgPool2d(8), HaHBlock(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.first(x)).mean(dim=(2, 3))
        return logits


def test_blocks_count_in_the_order_of_the_forward_pass() -> None:
    model = Backwards().eval()
    found = block_activations(model, images(3), brighter).groupby("block").mean()
    assert found.index.tolist() == [1, 2]
    pooled = nn.AvgPool2d(8)(images(3).images)
    assert found["signal_power"][1] == pytest.approx(float(pooled.square().sum()) / 3, rel=1e-5)


def test_a_model_of_other_layers_has_no_blocks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    found = block_activations(model, images(2), brighter)
    assert found.empty
    assert found.dtypes.astype(str).to_dict() == ACTIVATION_COLUMNS
