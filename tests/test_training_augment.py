"""Each image is a window of its zero-padded version, mirrored or not; every window occurs."""

from __future__ import annotations

import numpy as np
import torch

from hahbench.training.augment import augment


def test_every_crop_is_a_window_of_the_padded_image_and_every_window_occurs_evenly() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (3, 6, 8), dtype=np.uint8)
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
    windows = {}
    for row in range(9):
        for column in range(9):
            window = padded[:, row : row + 6, column : column + 8]
            windows[window.tobytes()] = (row, column, False)
            windows[window[:, :, ::-1].tobytes()] = (row, column, True)
    assert len(windows) == 162

    n = 16_200
    images = torch.from_numpy(image).expand(n, -1, -1, -1)
    crops = augment(images, torch.Generator().manual_seed(0))

    assert crops.shape == images.shape
    assert crops.dtype == torch.uint8
    assert crops.is_contiguous(memory_format=torch.channels_last)
    counts = dict.fromkeys(windows.values(), 0)
    for crop in crops.numpy():
        counts[windows[crop.tobytes()]] += 1
    # 100 expected of each; 45 away from that is four and a half standard deviations.
    assert min(counts.values()) > 55
    assert max(counts.values()) < 145


def test_an_image_keeps_its_place_in_the_batch() -> None:
    images = torch.arange(1, 21, dtype=torch.uint8).reshape(20, 1, 1, 1).expand(-1, 3, 9, 9)
    crops = augment(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(crops.amax((1, 2, 3)), torch.arange(1, 21, dtype=torch.uint8))


def test_the_generator_decides() -> None:
    images = torch.randint(256, (30, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, again, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
