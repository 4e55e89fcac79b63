"""What several test files need."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch

from hahbench.corruptions import Images
from hahbench.data import cifar10


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Weights that a test leaves to chance are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_images() -> Images:
    """The first 846 test images of CIFAR-10 with their original pixels, (846, 32, 32, 3)."""
    folder = os.environ.get("HAHBENCH_CIFAR10_ORIGINAL")
    if folder is None:
        pytest.skip("HAHBENCH_CIFAR10_ORIGINAL names no folder of original CIFAR-10 images")
    images: Images = cifar10.load("test", Path(folder)).images[:846].permute(0, 2, 3, 1).contiguous().numpy()
    assert hashlib.md5(images.tobytes(), usedforsecurity=False).hexdigest() == "f33dfd29c5f14ade87fb510a5b7b2c2d"
    return images
