"""Blurs of CIFAR-10-C: Gaussian, defocus, frosted glass, motion and zoom. Images may have any size."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from hahbench.corruptions.base import Generator, Images, deterministic, random, to_uint8

Number = TypeVar("Number", bound=np.number)

# By severity, 1 to 5.
_GAUSSIAN_SIGMA = (0.4, 0.6, 0.7, 0.8, 1.0)
_DEFOCUS_RADIUS_AND_ALIAS_SIGMA = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
_GLASS_SIGMA_AND_ITERATIONS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))
_MOTION_RADIUS_AND_SIGMA = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
_ZOOM_STOP = (1.06, 1.11, 1.16, 1.21, 1.26)


@deterministic
def gaussian_blur(images: Images, severity: int) -> Images:
    """Gaussian filter that continues the edge pixels beyond the edge."""
    return to_uint8(_gaussian_filtered(images / 255, _GAUSSIAN_SIGMA[severity - 1]))


@deterministic
def defocus_blur(images: Images, severity: int) -> Images:
    """Average over a disc with a smoothed edge; the image is mirrored beyond its edge."""
    kernel = _disc(*_DEFOCUS_RADIUS_AND_ALIAS_SIGMA[severity - 1])
    return to_uint8(ndimage.correlate(images / 255, kernel[None, :, :, None], mode="mirror"))


@random
def glass_blur(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Pixels replaced by neighbours at random, between two Gaussian filters.

    The original means to swap neighbours, but copies: a pixel becomes itself or the one to the left, above or both. The
    first two rows and columns keep their pixels.
    """
    sigma, iterations = _GLASS_SIGMA_AND_ITERATIONS[severity - 1]
    count, height, width, _ = images.shape
    # The draws go from the last pixel to the first, so that no pixel is replaced before it is copied.
    rows, columns = np.arange(height - 1, 1, -1)[:, None], np.arange(width - 1, 1, -1)
    moves = np.empty((count, iterations, len(rows), len(columns), 2), np.int64)
    for image_moves, generator in zip(moves, generators, strict=True):
        image_moves[:] = generator.randint(-1, 1, size=image_moves.shape)

    glass = to_uint8(_gaussian_filtered(images / 255, sigma))
    each = np.arange(count)[:, None, None]
    for iteration in range(iterations):
        right, down = moves[:, iteration, ..., 0], moves[:, iteration, ..., 1]
        glass[:, :1:-1, :1:-1] = glass[each, rows + down, columns + right]
    return to_uint8(_gaussian_filtered(glass / 255, sigma))


@random
def motion_blur(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Smeared along one direction, within 45 degrees of the horizontal."""
    angles = np.array([generator.uniform(-45, 45) for generator in generators])
    return motion_blurred(images, *_MOTION_RADIUS_AND_SIGMA[severity - 1], angles)


@deterministic
def zoom_blur(images: Images, severity: int) -> Images:
    """Mean of the image and of its enlargements, in single precision."""
    # The sizes of some enlargements depend on the rounding errors of these steps.
    factors = np.arange(1, _ZOOM_STOP[severity - 1], 0.01)
    height, width = images.shape[1:3]
    values = _columns(images / 255).astype(np.float32)
    doubles = values.astype(np.float64)
    total = np.zeros_like(values)
    for factor in factors:
        total += (_zoom_matrix(height, width, factor) @ doubles).astype(np.float32)
    total += values
    total /= len(factors) + 1
    return _images(to_uint8(total), images.shape)


def motion_blurred(images: Images, radius: int, sigma: float, angles: NDArray[np.float64]) -> Images:
    """Images smeared along a direction each, as ImageMagick's MotionBlurImage does with 16-bit quanta.

    Args:
        images: (N, H, W, C) uint8, of any number of channels.
        radius: of the blur; 2 * radius + 1 pixels on one side of a pixel are averaged.
        sigma: standard deviation of the half Gaussian that weights them, in pixels.
        angles: (N,), in degrees, clockwise from the right.

    Returns:
        (N, H, W, C) uint8.
    """
    height, width = images.shape[1:3]
    taps = 2 * radius + 1
    distance = np.arange(taps)
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    weights /= weights.sum()

    radians = np.pi * angles / 180
    across, down = taps * np.cos(radians), taps * np.sin(radians)
    length = np.hypot(across, down)
    columns = np.ceil(distance[:, None] * across / length - 0.5).astype(int) + taps
    rows = np.ceil(distance[:, None] * down / length - 0.5).astype(int) + taps

    planes = np.pad(images.transpose(0, 3, 1, 2), ((0, 0), (0, 0), (taps, taps), (taps, taps)), mode="edge")
    shifted = np.lib.stride_tricks.sliding_window_view(planes, (height, width), axis=(2, 3))
    total = np.zeros((len(images), images.shape[3], height, width))
    each = np.arange(len(images))
    for weight, row, column in zip(weights, rows, columns, strict=True):
        total += weight * shifted[each, :, row, column]
    # A sum is rounded to a 16-bit quantum, 257 to a grey level, and then truncated to 8 bits.
    return np.ascontiguousarray((total + 0.5 / 257).astype(np.uint8).transpose(0, 2, 3, 1))


def clipped_zoom(images: NDArray[np.floating], factor: float) -> NDArray[np.floating]:
    """The middle of each image enlarged to the size of the image, bilinearly.

    Args:
        images: (N, H, W, C), of any number of channels.
        factor: 1 or more.

    Returns:
        (N, H, W, C), of the dtype of the images.
    """
    zoomed = _zoom_matrix(images.shape[1], images.shape[2], factor) @ _columns(images).astype(np.float64)
    return _images(zoomed.astype(images.dtype), images.shape)


def _gaussian_filtered(images: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")


def _disc(radius: float, alias_sigma: float) -> NDArray[np.float32]:
    """(17, 17), of sum 1."""
    line = np.arange(-8, 9)
    disc = (line**2 + line[:, None] ** 2 <= radius**2).astype(np.float32)
    disc /= disc.sum()
    taps = np.exp(-(np.array([-1, 0, 1]) ** 2) / (2 * alias_sigma**2))
    taps = (taps / taps.sum()).astype(np.float32)
    return ndimage.correlate1d(ndimage.correlate1d(disc, taps, axis=1, mode="mirror"), taps, axis=0, mode="mirror")


def _columns(images: NDArray[Number]) -> NDArray[Number]:
    """(H * W, N * C)."""
    return images.transpose(1, 2, 0, 3).reshape(images.shape[1] * images.shape[2], -1)


def _images(columns: NDArray[Number], shape: tuple[int, ...]) -> NDArray[Number]:
    """(N, H, W, C) of what `_columns` made columns of."""
    count, height, width, channels = shape
    return np.ascontiguousarray(columns.reshape(height, width, count, channels).transpose(2, 0, 1, 3))


@functools.lru_cache(maxsize=64)
def _zoom_matrix(height: int, width: int, factor: float) -> sparse.csr_array:
    """(H * W, H * W): row i holds the weights of the pixels of an image in pixel i of the enlarged image."""
    return sparse.csr_array(sparse.kron(_zoom_weights(height, factor), _zoom_weights(width, factor)))


def _zoom_weights(size: int, factor: float) -> sparse.coo_array:
    """(size, size): row i holds the weights of the pixels of a line in pixel i of the enlarged line."""
    crop = math.ceil(size / factor)
    enlarged = round(crop * factor)
    first, trim = (size - crop) // 2, (enlarged - size) // 2
    position = (crop - 1) / max(enlarged - 1, 1) * np.arange(trim, trim + size)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, crop - 1)
    weight = position - below
    row = np.arange(size)
    return sparse.coo_array(
        (np.concatenate([1 - weight, weight]), (np.concatenate([row, row]), first + np.concatenate([below, above]))),
        shape=(size, size),
    )
