"""Data sets: name to loader.

A data set of one's own, with images of any size, is a function that returns an ``ImageSet``. It is registered through
the entry-point group ``hahbench.datasets``, or in a Python file, and then named ``file.py:digits``::

    import torch
    from hahbench.data import ImageSet, register_dataset


    @register_dataset("digits")
    def digits(split, path):
        '''Scanned digits: 1 x 28 x 28, of 10 classes.'''
        images, labels = torch.load(path / f"{split}.pt")
        return ImageSet("digits", split, "own scans", tuple("0123456789"), images, labels)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hahbench.catalog import run_python_file
from hahbench.data.base import DatasetLoader, ImageSet, Split
from hahbench.errors import DataError, HahbenchError
from hahbench.registry import FOREIGN_ERRORS, Registry, one_line

__all__ = ["DATASETS", "DatasetLoader", "ImageSet", "Split", "find_dataset", "load_images", "register_dataset"]

DATASETS: Registry[DatasetLoader] = Registry("data set", "hahbench.datasets")
DATASETS.register("cifar10", "hahbench.data.cifar10:load")
DATASETS.register("shapes", "hahbench.data.shapes:load")


def register_dataset(name: str) -> Callable[[DatasetLoader], DatasetLoader]:
    """Decorator: give the loader of a data set a name.

    Raises:
        DuplicateNameError: the name is taken.
    """

    def register(loader: DatasetLoader) -> DatasetLoader:
        DATASETS.register(name, loader)
        return loader

    return register


def find_dataset(name: str) -> DatasetLoader:
    """The loader of the data set with this name.

    Args:
        name: a registered name, or ``PATH.py:NAME``, a name that this Python file registers.

    Raises:
        UnknownNameError: nothing is registered under the name.
        CatalogError: the Python file is missing or raises.
    """
    path, separator, registered = name.rpartition(".py:")
    if separator:
        run_python_file(Path(f"{path}.py"))
    return DATASETS[registered]


def load_images(name: str, split: Split, path: Path | None) -> ImageSet:
    """One split of the data set with this name, read from ``path`` where it needs one.

    Raises:
        UnknownNameError: nothing is registered under the name.
        DataError: the loader raises, or returns something else than an ``ImageSet``.
    """
    loader = find_dataset(name)
    try:
        images = loader(split, path)
    except HahbenchError:
        raise
    except FOREIGN_ERRORS as error:
        ungiven = "" if path else "; --data was not given"
        raise DataError(f"data set {name!r}: {one_line(error)}{ungiven}") from error
    if not isinstance(images, ImageSet):
        raise DataError(f"data set {name!r}: the loader returned {type(images).__name__}; allowed: an ImageSet")
    return images
