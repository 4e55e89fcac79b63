"""Data sets: name to loader.

A data set of one's own is a function that returns an ``ImageSet``, registered here or through the entry-point group
``hahbench.datasets``::

    def load(split: Split, path: Path | None) -> ImageSet:
        images, labels = torch.load(f"digits-{split}.pt")
        return ImageSet("digits", split, "own scans", tuple("0123456789"), images, labels)


    DATASETS.register("digits", load)
"""

from __future__ import annotations

from hahbench.data.base import DatasetLoader, ImageSet, Split
from hahbench.registry import Registry

__all__ = ["DATASETS", "DatasetLoader", "ImageSet", "Split"]

DATASETS: Registry[DatasetLoader] = Registry("data set", "hahbench.datasets")
DATASETS.register("cifar10", "hahbench.data.cifar10:load")
DATASETS.register("shapes", "hahbench.data.shapes:load")
