"""Bright shapes on textured backgrounds, drawn on request, so that a first run needs no download.

A person names them at a glance, and a small network trained on them is right on nearly all; but like networks for
natural images it loses about half of its accuracy to Gaussian noise of 0.1 or to an l_inf change of 2/255.

The images are the same to the bit on every platform: they are made of raw words of a counter-based generator (Philox,
Salmon et al. 2011) by float64 arithmetic that IEEE 754 rounds correctly (+ - * / sqrt), element by element.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hahbench.data.base import ImageSet, Split
from hahbench.errors import DataError

Array = npt.NDArray[np.float64]

SIZES: dict[Split, int] = {"train": 10_000, "test": 2_000}
SIDE = 32
RADIUS = (8.0, 12.0)
"""Of a shape, in pixels."""
CONTRAST = (0.2, 0.68)
"""How much brighter a shape is than its background; the less, the more easily a trained network is fooled."""
TINT = (0.6, 1.0)
"""The part of the contrast that each colour channel gets."""
BACKGROUND = (0.2, 0.6)
"""The mean of each colour channel of a background."""
TEXTURE = {4: 0.25, 8: 0.08, 16: 0.04}
"""Amplitude of the background's value noise, by the number of its cells along a side."""

_SCALARS = 11
_WORDS = _SCALARS + 3 * sum((cells + 1) ** 2 for cells in TEXTURE)
_KEYS: dict[Split, int] = {"train": 1, "test": 2}
_CHUNK = 200


def _disc(u: Array, v: Array) -> Array:
    return np.sqrt(u * u + v * v) - 0.9


def _ring(u: Array, v: Array) -> Array:
    return np.abs(np.sqrt(u * u + v * v) - 0.75) - 0.2


def _square(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) - 0.8


def _frame(u: Array, v: Array) -> Array:
    return np.abs(np.maximum(np.abs(u), np.abs(v)) - 0.65) - 0.2


def _triangle(u: Array, v: Array) -> Array:
    return np.maximum(-v, 0.5 * v + 0.8660254037844386 * np.abs(u)) - 0.55


def _cross(u: Array, v: Array) -> Array:
    long, short = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return np.maximum(long - 1.0, short - 0.28)


def _star(u: Array, v: Array) -> Array:
    # The five lines of a pentagram: a point is inside if it lies beyond at most one of them.
    x = np.abs(u)
    lines = [
        -v,
        0.9510565162951535 * x - 0.30901699437494745 * v,
        -0.9510565162951535 * x - 0.30901699437494745 * v,
        0.5877852522924731 * x + 0.8090169943749475 * v,
        -0.5877852522924731 * x + 0.8090169943749475 * v,
    ]
    second_highest: Array = np.sort(lines, axis=0)[-2]
    return second_highest - 0.33


def _crescent(u: Array, v: Array) -> Array:
    return np.maximum(np.sqrt(u * u + v * v) - 1.0, 0.8 - np.sqrt((u - 0.5) * (u - 0.5) + v * v))


def _bar(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u) - 1.1, np.abs(v) - 0.25)


def _bow_tie(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u) - 0.95, 0.75 * (np.abs(v) - np.abs(u)) - 0.05)


SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "frame": _frame,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "crescent": _crescent,
    "bar": _bar,
    "bow tie": _bow_tie,
}
"""For each class, about the signed distance to the shape's edge, negative inside, in units of its radius."""


def load(split: Split, path: Path | None) -> ImageSet:
    """Drawn by hahbench itself: 10,000 train and 2,000 test images, 3 x 32 x 32, of 10 classes in turn.

    They are drawn once in a process, and shared by all that ask for them.

    Raises:
        DataError: a path is given; there is nothing to read.
    """
    if path is not None:
        raise DataError(f"data set 'shapes' is drawn and takes no path, not {path}")
    return _whole(split)


@functools.cache
def _whole(split: Split) -> ImageSet:
    return draw(split, SIZES[split])


def draw(split: Split, n: int) -> ImageSet:
    """The first ``n`` images of a split; image i depends on the split and on i alone."""
    labels = np.arange(n) % len(SHAPES)
    words = np.random.Philox(key=_KEYS[split])
    images = np.empty((n, 3, SIDE, SIDE), np.uint8)
    for start in range(0, n, _CHUNK):
        chunk = slice(start, min(start + _CHUNK, n))
        size = chunk.stop - chunk.start
        uniforms = (words.random_raw(size * _WORDS) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        images[chunk] = _draw(uniforms.reshape(size, _WORDS), labels[chunk])
    return ImageSet("shapes", split, "drawn", tuple(SHAPES), torch.from_numpy(images), torch.from_numpy(labels))


def _draw(uniforms: Array, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    x, y, size, turn, contrast, *colours = uniforms[:, :_SCALARS].T[:, :, None, None]
    background = _between(BACKGROUND, np.stack(colours[:3], axis=1))
    tint = _between(TINT, np.stack(colours[3:], axis=1))
    step = _between(CONTRAST, contrast)[:, None] * tint
    coverage = _coverage(labels, x, y, _between(RADIUS, size), turn)
    pixels = background + _texture(uniforms[:, _SCALARS:]) + coverage[:, None] * step
    return (np.clip(pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _between(bounds: tuple[float, float], uniform: Array) -> Array:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


def _coverage(labels: npt.NDArray[np.int64], x: Array, y: Array, radius: Array, turn: Array) -> Array:
    """The part of each pixel that the shape covers, (N, SIDE, SIDE) in [0, 1]."""
    pixel = np.arange(SIDE) + 0.5 - SIDE / 2
    reach = 0.7 * (SIDE / 2 - 1.0 - radius)
    dx = (pixel[None, None, :] - reach * (2.0 * x - 1.0)) / radius
    dy = (pixel[None, :, None] - reach * (2.0 * y - 1.0)) / radius
    # A turn of at most 33 degrees, without sines and cosines, which platforms round differently.
    t = 0.3 * (2.0 * turn - 1.0)
    cos, sin = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    distance = np.empty_like(u)
    for label, shape in enumerate(SHAPES.values()):
        rows = labels == label
        distance[rows] = shape(u[rows], v[rows])
    return np.clip(0.5 - distance * radius, 0.0, 1.0)


def _texture(uniforms: Array) -> Array:
    """Value noise (N, 3, SIDE, SIDE) about 0: random grids, smoothly interpolated, summed over scales."""
    total = np.zeros((len(uniforms), 3, SIDE, SIDE))
    start = 0
    for cells, amplitude in TEXTURE.items():
        nodes = cells + 1
        grid = uniforms[:, start : start + 3 * nodes * nodes].reshape(-1, 3, nodes, nodes)
        start += 3 * nodes * nodes
        position = (np.arange(SIDE) + 0.5) * cells / SIDE
        low = position.astype(np.int64)
        t = position - low
        weight = t * t * (3.0 - 2.0 * t)
        rows = grid[:, :, low] * (1.0 - weight)[:, None] + grid[:, :, low + 1] * weight[:, None]
        total += amplitude * (rows[..., low] * (1.0 - weight) + rows[..., low + 1] * weight - 0.5)
    return total
