"""The published files of CIFAR-10-C (https://zenodo.org/records/2535967), checked before anything is read."""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hahbench.corruptions.base import Images
from hahbench.errors import DataError
from hahbench.registry import one_line

FOLDER = "CIFAR-10-C"

_IMAGES = 10_000
_SHAPES = {"labels": (5 * _IMAGES,)}
_SHAPE = (5 * _IMAGES, 32, 32, 3)
MD5 = {
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
    "fog": "7b397314b5670f825465fbcd1f6e9ccd",
    "frost": "31f6ab3bce1d9934abfb0cc13656f141",
    "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
    "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
    "glass_blur": "7361fb4019269e02dbf6925f083e8629",
    "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
    "labels": "c439b113295ed5254878798ffe28fd54",
    "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "saturate": "1cfae0964219c5102abbb883e538cc56",
    "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
    "snow": "bb238de8555123da9c282dea23bd6e55",
    "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
    "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
}
"""Published, by file name without ``.npy``."""


def find_official(folders: Iterable[Path], labels: NDArray[np.int64]) -> Path | None:
    """The first ``CIFAR-10-C`` in one of ``folders`` that holds the published labels; None where there is none.

    Args:
        folders: where to look.
        labels: (N,), of the first N test images.

    Warns:
        UserWarning: a folder of this name holds something else, or other labels.
    """
    for folder in folders:
        if (folder / FOLDER / "labels.npy").exists():
            try:
                _check_labels(folder / FOLDER, np.arange(len(labels)), labels)
            except DataError as error:
                warnings.warn(f"{error}; corruptions are regenerated", stacklevel=2)
            else:
                return folder / FOLDER
    return None


def read_official(
    folder: Path, name: str, severity: int, *, index: NDArray[np.int64], labels: NDArray[np.int64]
) -> Images:
    """Images of the published data set.

    Args:
        folder: that of the files.
        name: of the corruption.
        severity: 1 to 5.
        index: (N,), the images' positions in the test set.
        labels: (N,), those that the images should have.

    Returns:
        (N, 32, 32, 3) uint8.

    Raises:
        DataError: a file is missing, truncated or not the published one, or the labels are others.
    """
    if len(index) and not 0 <= index.min() <= index.max() < _IMAGES:
        raise DataError(f"{folder}: has {_IMAGES} images a severity; image {index.max()} is asked for")
    _check_labels(folder, index, labels)
    images: Images = _checked(folder / f"{name}.npy")[(severity - 1) * _IMAGES + index]
    return images


def _check_labels(folder: Path, index: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    theirs = _checked(folder / "labels.npy")[index]
    if (wrong := np.flatnonzero(theirs != labels)).size:
        first = wrong[0]
        raise DataError(
            f"{folder / 'labels.npy'}: {len(wrong)} of {len(index)} labels are not those of the data set, whose images "
            f"stand in another order; the first is image {index[first]}: {theirs[first]}, not {labels[first]}"
        )


def _checked(path: Path) -> NDArray[np.uint8]:
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return _checked_at(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=2 * len(MD5))
def _checked_at(path: Path, size: int, modified: int) -> NDArray[np.uint8]:
    """The array in a file, whose size and time of modification make it another file when they change."""
    shape = _SHAPES.get(path.stem, _SHAPE)
    try:
        array: NDArray[np.uint8] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # What a damaged header makes numpy raise is of many types.
        raise DataError(f"{path}: is truncated or no .npy file: {one_line(error)}") from error
    if array.dtype != np.uint8 or array.shape != shape:
        raise DataError(f"{path}: must be uint8 of shape {shape}, not {array.dtype} of shape {array.shape}")
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    if md5 != MD5[path.stem]:
        made = " (manifest.json says that the set was regenerated)" if (path.parent / "manifest.json").exists() else ""
        raise DataError(f"{path}: is not the published file: its MD5 is {md5}, not {MD5[path.stem]}{made}")
    return array
