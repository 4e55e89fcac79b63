"""What a data set is."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from hahbench.errors import DataError
from hahbench.outcome import Samples

Split = Literal["train", "test"]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a data set, in memory.

    Attributes:
        name: the name that results are reported under.
        split: ``train`` or ``test``.
        source: where the images come from, such as ``class folders``.
        classes: the names of the classes, in the order of the labels.
        images: (N, C, H, W) uint8 on the CPU, not to be modified in place.
        labels: (N,) int64 in [0, len(classes)) on the CPU, not to be modified in place.

    Raises:
        DataError: something is not as said above.
    """

    name: str
    split: Split
    source: str
    classes: tuple[str, ...]
    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        where = f"data set {self.name!r} ({self.split})"
        for field in ("name", "source"):
            if not isinstance(getattr(self, field), str):
                raise DataError(f"{where}: {field} must be a string, not {type(getattr(self, field)).__name__}")
        if not _is(self.images, torch.uint8) or self.images.ndim != 4 or not self.images.numel():
            raise DataError(
                f"{where}: images must be a uint8 tensor of shape (N, C, H, W) on the CPU, not {_kind(self.images)}"
            )
        if not _is(self.labels, torch.int64) or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"{where}: labels must be an int64 tensor of shape ({len(self.images)},) on the CPU, "
                f"not {_kind(self.labels)}"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(f"{where}: labels must lie in 0..{len(self.classes) - 1}, not {low}..{high}")

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, as 64 hexadecimal digits, of the images' shape, the images and the labels."""
        sha256 = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        sha256.update(self.images.numpy(force=True).tobytes())
        sha256.update(self.labels.numpy(force=True).astype("<i8").tobytes())
        return sha256.hexdigest()

    def first(self, n: int) -> Samples:
        """The first ``n`` images, as float32 in [0, 1].

        Raises:
            DataError: ``n`` is not in [1, N].
        """
        self.check_count(n)
        return Samples(torch.arange(n), self.images[:n].float() / 255, self.labels[:n].clone())

    def check_count(self, n: int) -> int:
        """``n``, when the set has so many images.

        Raises:
            DataError: ``n`` is not in [1, N].
        """
        if not 1 <= n <= len(self):
            raise DataError(f"n must be in 1..{len(self)}, the size of {self.name!r} ({self.split}), not {n}")
        return n


DatasetLoader: TypeAlias = Callable[[Split, Path | None], ImageSet]
"""Called with the split and the path that the user gave, None if none."""


def _is(tensor: object, dtype: torch.dtype) -> bool:
    return isinstance(tensor, Tensor) and tensor.dtype == dtype and tensor.device.type == "cpu"


def _kind(tensor: object) -> str:
    if not isinstance(tensor, Tensor):
        return f"a {type(tensor).__name__}"
    where = "" if tensor.device.type == "cpu" else f" on {tensor.device}"
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}{where}"
