"""Corrupts a whole test set: the draws of an image depend on the seed, its index and the corruption alone."""

from __future__ import annotations

import zlib

import joblib
import numpy as np
from numpy.typing import NDArray

from hahbench.corruptions.base import Corruption, Generator, Images
from hahbench.errors import DataError

VERSION = "1"
"""Of the generator; raised when any image that it makes changes."""

REGENERATED = f"CIFAR-10-C (regenerated), generator {VERSION}"
"""What its images are called, to tell them from the published ones."""

# Few enough for what is computed to stay in the processor's cache.
_CHUNK = 64
# Below this many a process takes longer to start than to do its share.
_FEWEST_TO_SHARE = 1000


def corrupted(
    corruption: Corruption,
    images: Images,
    severity: int,
    *,
    index: NDArray[np.int64],
    seed: int,
) -> Images:
    """Images with a corruption, on all cores.

    Args:
        corruption: what is done to them.
        images: (N, H, W, 3) uint8.
        severity: 1 to 5.
        index: (N,), each image's position in its test set.
        seed: of the random draws, 0 or more.

    Returns:
        (N, H, W, 3) uint8.

    Raises:
        DataError: an argument is not as said above, or the corruption does not allow images of this size.
    """
    check_seed(seed)
    # Processes, not threads: the draws and much of the arithmetic on small arrays hold Python's lock.
    shares = joblib.cpu_count() if len(images) >= _FEWEST_TO_SHARE else 1
    parts = joblib.Parallel(n_jobs=shares)(
        joblib.delayed(_corrupted)(corruption, part, severity, indices, seed)
        for part, indices in zip(np.array_split(images, shares), np.array_split(index, shares), strict=True)
    )
    return np.concatenate(parts)


def check_seed(seed: int) -> None:
    """Check a seed.

    Raises:
        DataError: it is negative, or too large for the generator.
    """
    if not 0 <= seed < 2**64:
        raise DataError(f"seed {seed} is not allowed; allowed: 0 to 2**64 - 1")


def _corrupted(corruption: Corruption, images: Images, severity: int, index: NDArray[np.int64], seed: int) -> Images:
    out = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        name = corruption.__name__
        generators = [_generator(seed, int(i), name, severity) for i in index[rows]] if corruption.draws else None
        out[rows] = corruption(images[rows], severity, generators)
    return out


def _generator(seed: int, index: int, name: str, severity: int) -> Generator:
    """A stream of its own, by the counter-based Philox (Salmon et al. 2011)."""
    key = np.array([seed, index], np.uint64)
    counter = np.array([0, 0, severity, zlib.crc32(name.encode())], np.uint64)
    return Generator(np.random.Philox(key=key, counter=counter))
