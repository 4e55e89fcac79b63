"""Spatter: drops of water or mud on the lens.

The water's relief is OpenCV's to the byte (Canny's edges, distance transform, box filter, histogram equalisation), in
numpy and scipy alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hahbench.corruptions.base import Generator, Images, random, to_uint8

# (mean, standard deviation, blur sigma, threshold, strength, kind), by severity. The strength of mud is a blur sigma.
_SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5, "water"),
    (0.65, 0.1, 0.8, 0.7, 0.5, "water"),
    (0.65, 0.3, 1.0, 0.69, 0.5, "water"),
    (0.65, 0.1, 0.7, 0.69, 0.6, "mud"),
    (0.65, 0.1, 0.5, 0.68, 0.6, "mud"),
)
_WATER = (np.array([175, 238, 238]) / 255).astype(np.float32)
_MUD = (np.array([63, 42, 20]) / 255).astype(np.float32)
_MUD_AT_LEAST = 0.8

_WEAK_EDGE, _STRONG_EDGE = 50, 150
_FAR = 20
"""Pixels: a larger distance to the nearest edge counts as this one."""
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])

# OpenCV's distance transform counts in steps of a 5x5 mask, each a fixed-point number with 16 fractional bits.
_ONE = 1 << 16
_STRAIGHT, _DIAGONAL, _KNIGHT = _ONE, round(1.4 * _ONE), round(2.1969 * _ONE)
# (rows back, columns aside, length)
_FROM_ROWS_BEFORE = (
    (1, 0, _STRAIGHT),
    (1, -1, _DIAGONAL),
    (1, 1, _DIAGONAL),
    (1, -2, _KNIGHT),
    (1, 2, _KNIGHT),
    (2, -1, _KNIGHT),
    (2, 1, _KNIGHT),
)
# The tangent of 22.5 degrees with 15 fractional bits, as OpenCV's edge detector has it.
_TANGENT_BITS = 15
_TANGENT = 13573


@random
def spatter(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Drops of water (severities 1 to 3) or splashes of mud (4 and 5). Images of any size."""
    mean, deviation, sigma, threshold, strength, kind = _SPATTER[severity - 1]
    liquid = np.empty(images.shape[:3])
    for image_liquid, generator in zip(liquid, generators, strict=True):
        image_liquid[:] = generator.normal(mean, deviation, image_liquid.shape)
    liquid = ndimage.gaussian_filter(liquid, (0, sigma, sigma), mode="nearest")
    liquid[liquid < threshold] = 0
    clean = images / np.float32(255)
    if kind == "water":
        thickness = np.float32(strength) * _drops((255 * liquid).astype(np.uint8))
        return to_uint8(clean + thickness[..., None] * _WATER)
    cover = ndimage.gaussian_filter((liquid > threshold).astype(np.float32), (0, strength, strength), mode="nearest")
    cover[cover < _MUD_AT_LEAST] = 0
    return to_uint8(clean * (1 - cover[..., None]) + cover[..., None] * _MUD)


def chamfer_distance(edges: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The distance of each pixel to the nearest edge, (N, H, W) in 1/65536 pixel.

    It is the least sum of the steps of a 5x5 mask; some 2 ** 28 where an image has no edges.
    """
    count, height, width = edges.shape
    # Rows first, images last: a whole row of all images is one block. Two cells of border hold the mask's reach.
    border = 2
    distance = np.full((height + 2 * border, width + 2 * border, count), 1 << 28, np.int32)
    distance[border:-border, border:-border][edges.transpose(1, 2, 0)] = 0
    ramp = (np.arange(width, dtype=np.int32) * _STRAIGHT)[:, None]
    for rows in (distance, distance[::-1]):
        for y in range(border, border + height):
            row = rows[y, border:-border]
            for back, aside, length in _FROM_ROWS_BEFORE:
                np.minimum(row, rows[y - back, border + aside : border + aside + width] + length, out=row)
            for line, slope in ((row, ramp), (row[::-1], ramp)):
                line[:] = np.minimum.accumulate(line - slope, axis=0) + slope
    return np.ascontiguousarray(distance[border:-border, border:-border].transpose(2, 0, 1))


def _drops(liquid: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much water is seen at each pixel, (N, H, W) in [0, 1]: the liquid, lit from one side."""
    distance = _equalised(_blurred_distance(_edges(liquid)))
    relief = np.clip(_correlated(distance, _RELIEF), 0, 255)
    # Ninths are never halfway between integers: this is the box filter with any rounding to nearest.
    lit = (_correlated(relief, np.ones((3, 3), int)) + 4) // 9
    drops: NDArray[np.float32] = np.multiply(liquid, lit.astype(np.float32))
    most = drops.max(axis=(1, 2), keepdims=True)
    most[most == 0] = 1  # No drop at all: the image stays as it is.
    drops /= most
    return drops


def _edges(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Canny's edges of grey images (N, H, W), from 3x3 Sobel gradients with the L1 norm."""
    padded = np.pad(images.astype(np.int16), ((0, 0), (2, 2), (2, 2)), mode="edge")
    smooth_rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth_columns = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    across = smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]
    down = smooth_columns[:, 2:] - smooth_columns[:, :-2]
    inside = (slice(None), slice(1, -1), slice(1, -1))
    magnitude = np.zeros_like(across)
    magnitude[inside] = np.abs(across[inside]) + np.abs(down[inside])

    # Only few pixels are steep enough: the rest is done for them alone, by their place in the flat array.
    steep = np.flatnonzero(magnitude > _WEAK_EDGE)
    x, y = across.ravel()[steep].astype(np.int32), down.ravel()[steep].astype(np.int32)
    low = np.abs(x) * _TANGENT
    high = low + (np.abs(x) << (_TANGENT_BITS + 1))  # The tangent of 67.5 degrees is that of 22.5 degrees plus 2.
    scaled = np.abs(y) << _TANGENT_BITS
    flat, upright = scaled < low, scaled > high
    right = np.where(upright, 0, np.where(~flat & ((x ^ y) < 0), -1, 1))
    below = np.where(flat, 0, magnitude.shape[2])
    flat_magnitude = magnitude.ravel()
    here, before, after = (flat_magnitude[steep + sign * (right + below)] for sign in (0, -1, 1))
    ridge = (here > before) & ((here > after) | ((here == after) & (flat | upright)))

    candidates = np.zeros(magnitude.shape, bool)
    candidates.ravel()[steep[ridge]] = True
    within_image = np.zeros((3, 3, 3), bool)
    within_image[1] = True
    regions, count = ndimage.label(candidates, within_image)
    strong = np.zeros(count + 1, bool)
    strong[regions[candidates & (magnitude > _STRONG_EDGE)]] = True
    edges: NDArray[np.bool_] = strong[regions[inside]]
    return edges


def _blurred_distance(edges: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The distance to the nearest edge, at most `_FAR`, after a 3x3 box filter, truncated."""
    distance = np.minimum(chamfer_distance(edges), _FAR * _ONE)
    mean = _correlated(distance, np.ones((3, 3), int)) / _ONE * (1 / 9)
    return mean.astype(np.float32).astype(np.uint8)


def _equalised(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each grey image with its histogram equalised; an image of one value stays as it is."""
    count = len(images)
    numbers = 256 * np.arange(count)[:, None, None] + images
    histograms = np.bincount(numbers.ravel(), minlength=256 * count).reshape(count, 256)
    lowest = images.min(axis=(1, 2))
    above_lowest = np.cumsum(histograms, axis=1) - np.take_along_axis(histograms, lowest[:, None].astype(int), axis=1)
    total = above_lowest[:, -1:]
    scale = np.float32(255) / np.maximum(total, 1).astype(np.float32)
    table = np.where(total == 0, np.arange(256), np.rint(above_lowest.astype(np.float32) * scale)).astype(np.uint8)
    equalised: NDArray[np.uint8] = table.ravel()[numbers]
    return equalised


def _correlated(images: NDArray[np.integer], kernel: NDArray[np.integer]) -> NDArray[np.int32]:
    """Each grey image correlated with a 3x3 kernel of integers, mirrored at its edge pixels."""
    padded = np.pad(images.astype(np.int32), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    height, width = images.shape[1:]
    total = np.zeros(images.shape, np.int32)
    for (row, column), weight in np.ndenumerate(kernel):
        if weight:
            total += int(weight) * padded[:, row : row + height, column : column + width]
    return total
