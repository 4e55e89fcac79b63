"""Weather of CIFAR-10-C: fog, snow and frost."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hahbench.corruptions.base import Corruption, Generator, Images, random, to_uint8
from hahbench.corruptions.blur import clipped_zoom, motion_blurred
from hahbench.errors import DataError

# (thickness, decay), by severity.
_FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
# (mean, standard deviation, zoom, threshold, blur radius, blur sigma, share of the image that is not whitened).
_SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# (weight of the image, weight of the frost).
_FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
# The original also names frost6.jpg, but never draws it.
_PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


class _Photograph(NamedTuple):
    """Statistics of the 32x32 crops of a photograph of frost, in grey levels, RGB."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    """Within a crop."""
    deviation_of_mean: float
    """From crop to crop."""
    slope: float
    """Of the power spectrum: power ~ frequency ** slope."""


_MEASURED = (
    _Photograph((77.5, 149.0, 165.7), (25.0, 14.0, 13.0), 10.8, -1.4),
    # frost2.png and frost3.png are the same picture.
    _Photograph((200.8, 205.4, 214.5), (18.0, 18.5, 19.0), 9.3, -0.8),
    _Photograph((200.8, 205.4, 214.5), (18.0, 18.5, 19.0), 9.3, -0.8),
    _Photograph((138.0, 153.2, 165.6), (26.0, 26.0, 27.0), 10.6, -0.5),
    _Photograph((112.3, 123.3, 134.7), (35.0, 34.0, 33.0), 16.4, -1.2),
)


@random
def fog(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Plasma clouds, brightness rescaled to that of the clean image. Images of any size.

    The clouds are the upper left part of a square whose side is the next power of two.
    """
    thickness, decay = _FOG[severity - 1]
    _, height, width, _ = images.shape
    side = max(2, 1 << (max(height, width) - 1).bit_length())
    clouds = plasma_fractals(generators, side, decay)[:, :height, :width, None]
    clean = images / 255
    brightest = clean.max(axis=(1, 2, 3), keepdims=True)
    return to_uint8((clean + thickness * clouds) * brightest / (brightest + thickness))


@random
def snow(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Blurred flakes that fall down steeply, on an image that is whitened a little. Images of any size."""
    mean, deviation, zoom, threshold, radius, sigma, clear = _SNOW[severity - 1]
    count, height, width, _ = images.shape
    flakes, angles = np.empty((count, height, width, 1)), np.empty(count)
    for number, generator in enumerate(generators):
        flakes[number, ..., 0] = generator.normal(mean, deviation, (height, width))
        angles[number] = generator.uniform(-135, -45)

    near = clipped_zoom(flakes, zoom)
    near[near < threshold] = 0
    falling = motion_blurred(to_uint8(near), radius, sigma, angles) / 255
    clean: NDArray[np.float32] = np.divide(images, np.float32(255))
    red, green, blue = _LUMA
    grey = (red * clean[..., 0] + green * clean[..., 1] + blue * clean[..., 2])[..., None]
    whitened = np.float32(clear) * clean + np.float32(1 - clear) * np.maximum(clean, grey * 1.5 + 0.5)
    return to_uint8(whitened + falling + falling[:, ::-1, ::-1])


def frost(photographs: Path) -> Corruption:
    """The original frost, from its photographs, which do not come with this package.

    Args:
        photographs: folder with frost1.png, frost2.png, frost3.png, frost4.jpg and frost5.jpg. Each must be more than
            five times as high and as wide as the images that it is to cover.

    Raises:
        DataError: a photograph is missing or cannot be read.
    """
    layers = [_scaled_photograph(photographs / name) for name in _PHOTOGRAPHS]

    @random
    def frost(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
        _, height, width, _ = images.shape
        for layer, name in zip(layers, _PHOTOGRAPHS, strict=True):
            if layer.shape[0] <= height or layer.shape[1] <= width:
                raise DataError(
                    f"{photographs / name}: covers at most {layer.shape[0]}x{layer.shape[1]} pixels; allowed for "
                    f"images of {height}x{width} pixels: photographs more than five times as high and as wide"
                )
        crops = np.empty_like(images)
        for crop, generator in zip(crops, generators, strict=True):
            layer = layers[generator.randint(5)]
            row = generator.randint(0, layer.shape[0] - height)
            column = generator.randint(0, layer.shape[1] - width)
            crop[:] = layer[row : row + height, column : column + width]
        return _frosted(images, crops, severity)

    return frost


def photographs_digest(folder: Path) -> str:
    """SHA-256, as 64 hexadecimal digits, of the photographs that ``frost`` reads.

    Raises:
        DataError: one of them is missing or cannot be read.
    """
    sha256 = hashlib.sha256()
    for name in _PHOTOGRAPHS:
        try:
            sha256.update((folder / name).read_bytes())
        except OSError as error:
            raise DataError(f"{folder / name}: cannot read this photograph of frost: {error.strerror}") from error
    return sha256.hexdigest()


@random
def frost_procedural(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Not the frost of CIFAR-10-C: noise with the colours and spectra of its photographs, without ice crystals.

    It changes images by as much as the photographs do, but a classifier's accuracy may differ. Images of any size.
    """
    count, height, width, _ = images.shape
    kinds, noise, shifts = np.empty(count, int), np.empty((count, height, width)), np.empty(count)
    for number, generator in enumerate(generators):
        kinds[number] = generator.randint(len(_MEASURED))
        noise[number] = generator.normal(size=(height, width))
        shifts[number] = generator.normal()

    mean, deviation, deviation_of_mean, slope = (np.array(column)[kinds] for column in zip(*_MEASURED, strict=True))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # The mean is drawn on its own: all slopes are negative, so this takes it out.
    texture = np.fft.irfft2(np.fft.rfft2(noise) * frequency ** (slope[:, None, None] / 2), (height, width))
    # An image of one pixel has no texture.
    texture /= np.maximum(texture.std(axis=(1, 2), keepdims=True), np.finfo(np.float64).tiny)
    layer = deviation[:, None, None] * texture[..., None]
    layer += (mean + (deviation_of_mean * shifts)[:, None])[:, None, None]
    return _frosted(images, np.clip(layer, 0, 255), severity)


def plasma_fractals(generators: Sequence[Generator], side: int, decay: float) -> NDArray[np.float64]:
    """Plasma fractals on a torus, (N, side, side) in [0, 1], by the diamond-square algorithm; side: a power of two."""
    draws = np.empty((len(generators), side**2 - 1))
    for image_draws, generator in zip(draws, generators, strict=True):
        image_draws[:] = generator.random_sample(side**2 - 1)
    plasma = np.zeros((len(generators), side, side))
    step, roughness = side, 100.0
    while step > 1:
        half, cells = step // 2, side // step
        noise = 2 * roughness * draws[:, : 3 * cells**2].reshape(-1, 3, cells, cells) - roughness
        noise *= roughness
        draws = draws[:, 3 * cells**2 :]

        corners = plasma[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        centres = (pairs + np.roll(pairs, -1, axis=2)) / 4 + noise[:, 0]
        tops = centres + np.roll(centres, 1, axis=1) + (corners + np.roll(corners, -1, axis=2))
        sides = centres + np.roll(centres, 1, axis=2) + (corners + np.roll(corners, -1, axis=1))
        plasma[:, half::step, half::step] = centres
        plasma[:, ::step, half::step] = tops / 4 + noise[:, 1]
        plasma[:, half::step, ::step] = sides / 4 + noise[:, 2]
        step, roughness = half, roughness / decay
    plasma -= plasma.min(axis=(1, 2), keepdims=True)
    plasma /= plasma.max(axis=(1, 2), keepdims=True)
    return plasma


def _scaled_photograph(path: Path) -> NDArray[np.uint8]:
    """A photograph at a fifth of its size, by bilinear interpolation without anti-aliasing."""
    try:
        with Image.open(path) as photograph:
            pixels = np.asarray(photograph.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: cannot read this photograph of frost: {error}") from error
    # The centre of five pixels is the centre of the third: there is nothing to interpolate.
    return pixels[2::5, 2::5].copy()


def _frosted(images: Images, layer: NDArray[np.uint8] | NDArray[np.float64], severity: int) -> Images:
    image_weight, frost_weight = _FROST[severity - 1]
    frosted: Images = np.clip(image_weight * images + frost_weight * layer, 0, 255).astype(np.uint8)
    return frosted
