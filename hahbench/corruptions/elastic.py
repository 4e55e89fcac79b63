"""Elastic transform: a random affine map, then small random displacements of every pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from hahbench.corruptions.base import Generator, Images, random, to_uint8
from hahbench.errors import DataError

# (size of the displacements, their blur sigma, affine jitter), in pixels, by severity.
_ELASTIC = ((0.0, 0.0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96))
# Images sampled at once: few enough for the processor's cache.
_BLOCK = 50


@random
def elastic_transform(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Affine map that moves three anchor points by a few pixels, then smooth displacements of single pixels.

    All coordinates are exact, as in OpenCV 5; OpenCV 3 and 4 round those of the affine map to 1/32 pixel.

    Raises:
        DataError: images of fewer than 3 rows or columns, which have no three anchor points.
    """
    size, sigma, jitter = _ELASTIC[severity - 1]
    count, height, width = images.shape[:3]
    if min(height, width) < 3:
        raise DataError(f"corruption 'elastic_transform': images of {height}x{width} pixels; allowed: 3x3 and larger")
    jitters, fields = np.empty((count, 3, 2)), np.empty((count, 2, height, width))
    for number, generator in enumerate(generators):
        jitters[number] = generator.uniform(-jitter, jitter, (3, 2))
        fields[number] = generator.uniform(-1, 1, (2, height, width))
    rows, columns = np.mgrid[:height, :width].astype(np.float64)

    source_columns, source_rows = _affine_sources(jitters, rows, columns)
    clean: NDArray[np.float32] = np.divide(images, np.float32(255))
    warped = _sampled(clean, _mirrored(source_rows, height), _mirrored(source_columns, width))
    if size == 0:
        return to_uint8(warped)
    smooth = ndimage.gaussian_filter(fields, (0, 0, sigma, sigma), mode="reflect", truncate=3)
    right, down = np.moveaxis((smooth * size).astype(np.float32), 1, 0)
    return to_uint8(_sampled(warped, _reflected(rows + down, height), _reflected(columns + right, width)))


def _affine_sources(
    jitters: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where (x, y) each pixel (N, H, W) comes from, if the anchor points move by the jitters (N, 3, 2)."""
    height, width = rows.shape
    x, y, reach = width // 2, height // 2, min(height, width) // 3
    anchors = np.array([(x + reach, y + reach), (x + reach, y - reach), (x - reach, y - reach)], np.float32)
    moved = anchors + jitters.astype(np.float32)
    targets = np.concatenate([moved, np.ones_like(moved[..., :1])], axis=2).astype(np.float64)
    coefficients = np.linalg.solve(targets, anchors.astype(np.float64))[..., None, None]
    sources = coefficients[:, 0] * columns + coefficients[:, 1] * rows + coefficients[:, 2]
    return sources[:, 0], sources[:, 1]


def _mirrored(positions: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Positions outside 0 ... size - 1 mirrored at the centres of the edge pixels."""
    distance = np.abs(positions) % (2 * (size - 1))
    mirrored: NDArray[np.float64] = np.minimum(distance, 2 * (size - 1) - distance)
    return mirrored


def _reflected(positions: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Positions reflected at the outer edges of the edge pixels, which then appear twice; kept within the centres."""
    distance = np.abs(positions + 0.5) % (2 * size)
    reflected: NDArray[np.float64] = np.clip(np.minimum(distance, 2 * size - distance) - 0.5, 0, size - 1)
    return reflected


def _sampled(
    images: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Images (N, H, W, C) at real positions (N, H, W) within them, bilinear."""
    sampled = np.empty_like(images)
    for first in range(0, len(images), _BLOCK):
        block = slice(first, first + _BLOCK)
        pixels = images[block].reshape(-1, images.shape[3])
        sampled[block] = (_interpolation(rows[block], columns[block]) @ pixels).reshape(sampled[block].shape)
    return sampled


def _interpolation(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> sparse.csr_array:
    """(N * H * W, N * H * W): row i holds the weights of the pixels in the one at position i.

    The sparse product is the fastest of numpy's and scipy's ways to sample images at different positions each.
    """
    count, height, width = rows.shape
    row, column = rows.astype(np.int32), columns.astype(np.int32)
    down, right = rows - row, columns - column
    first = np.arange(0, count * height * width, height * width, dtype=np.int32)[:, None, None]
    upper = first + row * width + column
    lower = first + np.minimum(row + 1, height - 1) * width + column
    aside = column < width - 1
    neighbours = np.stack([upper, upper + aside, lower, lower + aside], axis=-1)
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], axis=-1)
    starts = np.arange(0, weights.size + 1, 4, dtype=np.int32)
    return sparse.csr_array((weights.ravel(), neighbours.ravel(), starts), shape=(upper.size, upper.size))
