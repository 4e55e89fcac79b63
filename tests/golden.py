"""What golden numbers say of images."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from hahbench.corruptions import Images


def digest(images: Images, digits: int = 8) -> str:
    """The first digits of the MD5 of their bytes."""
    return hashlib.md5(images.tobytes(), usedforsecurity=False).hexdigest()[:digits]


def sum_and_digest(images: Images) -> str:
    """The sum of the pixels, and the first digits of their MD5."""
    return f"{images.sum()} {digest(images)}"


def mean_change(corrupted: Images, clean: Images) -> tuple[float, float]:
    """Mean absolute and root mean square change, in grey levels."""
    change: NDArray[np.float64] = corrupted.astype(float) - clean
    return float(np.abs(change).mean()), float(np.sqrt((change**2).mean()))


def mean_change_told(table: str, severity: int) -> tuple[float, float]:
    """The two numbers at a severity in a table such as ``1.00/7.78 2.73/12.82``."""
    absolute, square = map(float, table.split()[severity - 1].split("/"))
    return absolute, square
