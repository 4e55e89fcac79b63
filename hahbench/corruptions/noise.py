"""Noises of CIFAR-10-C, drawn for every value of an image independently. Images may have any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hahbench.corruptions.base import Generator, Images, random, to_uint8

# By severity, 1 to 5.
_GAUSSIAN_SIGMA = (0.04, 0.06, 0.08, 0.09, 0.10)
_SHOT_PHOTONS = (500, 250, 100, 75, 50)
_IMPULSE_AMOUNT = (0.01, 0.02, 0.03, 0.05, 0.07)
_SPECKLE_SIGMA = (0.06, 0.10, 0.12, 0.16, 0.20)


@random
def gaussian_noise(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Normal noise of the same deviation everywhere."""
    noise = np.empty(images.shape)
    for image_noise, generator in zip(noise, generators, strict=True):
        image_noise[:] = generator.normal(scale=_GAUSSIAN_SIGMA[severity - 1], size=image_noise.shape)
    noise += images / 255
    return to_uint8(noise)


@random
def shot_noise(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Poisson noise of a given number of photons at full intensity."""
    photons = _SHOT_PHOTONS[severity - 1]
    counts = images / 255 * photons
    for image_counts, generator in zip(counts, generators, strict=True):
        image_counts[:] = generator.poisson(image_counts)
    counts /= photons
    return to_uint8(counts)


@random
def impulse_noise(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Salt and pepper: some values become 1 or 0, both with the same probability.

    The draws are those of scikit-image 0.13: which values are replaced, then which of all values would be salt.
    """
    noisy = images.copy()
    for image, generator in zip(noisy, generators, strict=True):
        replaced = generator.random_sample(image.shape) < _IMPULSE_AMOUNT[severity - 1]
        salt = generator.random_sample(image.shape) < 0.5
        image[replaced] = np.where(salt[replaced], 255, 0)
    return noisy


@random
def speckle_noise(images: Images, severity: int, generators: Sequence[Generator]) -> Images:
    """Normal noise in proportion to the value."""
    noise = np.empty(images.shape)
    for image_noise, generator in zip(noise, generators, strict=True):
        image_noise[:] = generator.normal(scale=_SPECKLE_SIGMA[severity - 1], size=image_noise.shape)
    values = images / 255
    noise *= values
    noise += values
    return to_uint8(noise)
