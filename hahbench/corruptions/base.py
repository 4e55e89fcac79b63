"""What a corruption of CIFAR-10-C is (Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from hahbench.errors import DataError

Images: TypeAlias = NDArray[np.uint8]
"""(N, H, W, 3), RGB."""

Generator: TypeAlias = np.random.RandomState
"""Numpy's legacy generator: its streams are frozen, and they are those of the original draws."""

SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(Protocol):
    """One corruption, at any severity.

    Attributes:
        draws: whether it needs a generator.
    """

    __name__: str
    draws: bool

    def __call__(
        self, images: Images, severity: int, generator: Generator | Sequence[Generator] | None = None
    ) -> Images:
        """Corrupt each image.

        Args:
            images: (N, H, W, 3) uint8, RGB; not modified.
            severity: 1 to 5.
            generator: of the random draws: one for all images, which then draw from it in turn as in the original
                program, or one for each, so that the result of an image does not depend on those before it. Corruptions
                without random draws need none.

        Returns:
            (N, H, W, 3) uint8.

        Raises:
            DataError: an argument is not as said above.
        """
        ...


def deterministic(corrupt: Callable[[Images, int], Images]) -> Corruption:
    """Decorator of a corruption without random draws, called with images and severity that have been checked."""

    @functools.wraps(corrupt)
    def checked(images: Images, severity: int, generator: Generator | Sequence[Generator] | None = None) -> Images:
        _check(corrupt.__name__, images, severity)
        return corrupt(images, severity)

    return _as_corruption(checked, draws=False)


def random(corrupt: Callable[[Images, int, Sequence[Generator]], Images]) -> Corruption:
    """Decorator of a corruption that draws, called with one generator for each image, which may be the same."""

    @functools.wraps(corrupt)
    def checked(images: Images, severity: int, generator: Generator | Sequence[Generator] | None = None) -> Images:
        _check(corrupt.__name__, images, severity)
        if generator is None:
            raise DataError(f"corruption {corrupt.__name__!r} draws random numbers; give it a numpy.random.RandomState")
        generators = [generator] * len(images) if isinstance(generator, Generator) else generator
        if not isinstance(generators, Sequence) or not all(isinstance(each, Generator) for each in generators):
            raise DataError(
                f"corruption {corrupt.__name__!r}: generator {generator!r} is not allowed; allowed: a "
                "numpy.random.RandomState, or one for each image"
            )
        if len(generators) != len(images):
            raise DataError(
                f"corruption {corrupt.__name__!r}: {len(generators)} generators for {len(images)} images; allowed: one "
                "for all, or one for each"
            )
        return corrupt(images, severity, generators)

    return _as_corruption(checked, draws=True)


def to_uint8(images: NDArray[np.floating]) -> Images:
    """Images in [0, 1], clipped, as uint8; truncated, not rounded, as the original casts them."""
    clipped: Images = (np.clip(images, 0, 1) * 255).astype(np.uint8)
    return clipped


def _as_corruption(function: Any, *, draws: bool) -> Corruption:
    function.draws = draws
    return cast(Corruption, function)


def _check(name: str, images: Images, severity: int) -> None:
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] != 3
        or 0 in images.shape[1:]
    ):
        given = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(f"corruption {name!r}: images must be uint8 of shape (N, H, W, 3), not {given}")
    if type(severity) is not int or severity not in SEVERITIES:
        raise DataError(f"corruption {name!r}: severity {severity!r} is not allowed; allowed: 1 to 5")
