"""Changes of colour and of encoding in CIFAR-10-C. Images may have any size where nothing else is said."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hahbench.corruptions.base import Images, deterministic, to_uint8
from hahbench.errors import DataError

# By severity, 1 to 5.
_BRIGHTNESS_ADDED = (0.05, 0.1, 0.15, 0.2, 0.3)
_SATURATE_FACTOR_AND_ADDED = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))
_CONTRAST_FACTOR = (0.75, 0.5, 0.4, 0.3, 0.15)
_JPEG_QUALITY = (80, 65, 58, 50, 40)
_PIXELATE_SCALE = (0.95, 0.9, 0.85, 0.75, 0.65)


@deterministic
def brightness(images: Images, severity: int) -> Images:
    """Adds to the value of HSV."""
    hue, saturation, value = _hsv(images)
    return _rgb(hue, saturation, np.clip(value + _BRIGHTNESS_ADDED[severity - 1], 0, 1))


@deterministic
def saturate(images: Images, severity: int) -> Images:
    """Scales the saturation of HSV, and adds to it."""
    hue, saturation, value = _hsv(images)
    factor, added = _SATURATE_FACTOR_AND_ADDED[severity - 1]
    return _rgb(hue, np.clip(saturation * factor + added, 0, 1), value)


@deterministic
def contrast(images: Images, severity: int) -> Images:
    """Moves every value towards the mean of its channel over the image."""
    values = images / 255
    mean = values.mean(axis=(1, 2), keepdims=True)
    values -= mean
    values *= _CONTRAST_FACTOR[severity - 1]
    values += mean
    return to_uint8(values)


@deterministic
def jpeg_compression(images: Images, severity: int) -> Images:
    """JPEG of a low quality, encoded and decoded by Pillow; bytes may depend on the libjpeg that it was built with."""
    decoded = np.empty_like(images)
    for image, result in zip(images, decoded, strict=True):
        with io.BytesIO() as file:
            Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY[severity - 1])
            result[:] = np.asarray(Image.open(file, formats=("JPEG",)))
    return decoded


@deterministic
def pixelate(images: Images, severity: int) -> Images:
    """Shrunk and enlarged again, each with a box filter. An image has at least 2 by 2 pixels."""
    height, width = images.shape[1:3]
    if min(height, width) < 2:
        raise DataError(f"corruption 'pixelate': images must have at least 2 by 2 pixels, not {height} by {width}")
    scale = _PIXELATE_SCALE[severity - 1]
    small = (int(width * scale), int(height * scale))
    enlarged = np.empty_like(images)
    for image, result in zip(images, enlarged, strict=True):
        shrunk = Image.fromarray(image).resize(small, Image.Resampling.BOX)
        result[:] = np.asarray(shrunk.resize((width, height), Image.Resampling.BOX))
    return enlarged


def _hsv(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Hue in sixths of a turn, saturation and value in [0, 1], each (N, H, W)."""
    red, green, blue = np.ascontiguousarray(np.moveaxis(images, 3, 0)) / 255
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    # A grey pixel has neither hue nor saturation: all differences are 0, whatever they are divided by.
    divisor = np.where(chroma == 0, 1, chroma)
    hue = (green - blue) / divisor
    np.copyto(hue, (blue - red) / divisor + 2, where=green == value)
    np.copyto(hue, (red - green) / divisor + 4, where=blue == value)
    hue /= 6
    hue += hue < 0
    hue[chroma == 0] = 0
    return hue * 6, chroma / np.where(value == 0, 1, value), value


def _rgb(hue: NDArray[np.float64], saturation: NDArray[np.float64], value: NDArray[np.float64]) -> Images:
    sixth = np.floor(hue)
    part = hue - sixth
    high = to_uint8(value)
    low = to_uint8(value * (1 - saturation))
    falling = to_uint8(value * (1 - part * saturation))
    rising = to_uint8(value * (1 - (1 - part) * saturation))
    sixth = sixth.astype(np.uint8) % 6
    red = np.choose(sixth, (high, falling, low, low, rising, high))
    green = np.choose(sixth, (rising, high, high, falling, low, low))
    blue = np.choose(sixth, (low, low, rising, high, high, falling))
    return np.stack([red, green, blue], axis=3)
