from __future__ import annotations

import colorsys

import numpy as np
import pytest

from hahbench.corruptions import digital
from hahbench.corruptions.base import SEVERITIES, Corruption, Images
from hahbench.errors import DataError
from tests.golden import digest, sum_and_digest
from tests.synthetic_images import synthetic_images

# Sum of the pixels and first digits of their MD5, by severity.
GOLDEN = {
    digital.brightness: "420385 93abe898 | 443130 439036a3 | 462868 75d51af0 | 480847 5cbd0c62 | 511084 7dc86c98",
    digital.saturate: "496038 e721421d | 525656 f7a7af5d | 357800 a297b318 | 314415 f50a5795 | 283264 4a803ebb",
    digital.contrast: "394112 347fdcad | 394368 057f60e3 | 394021 03991ec2 | 394051 281c784c | 394205 234cafba",
    digital.jpeg_compression: "395859 174d8c93 | 395629 09c6aaf3 | 396780 b72df22b | 395911 94d59bda | 394681 39a0b396",
    digital.pixelate: "395980 31671019 | 396208 44db0828 | 396259 2e17d98e | 396736 76991ed0 | 396976 c06871cf",
}
# First digits of the MD5 of the corrupted real images, by severity.
REAL_DIGEST = {
    digital.brightness: "255499a710 670437e86f 8e1cf70fd8 8f1566e237 64f7e869b9",
    digital.saturate: "f6eedc0556 6fe9b49a8e 3608e4ba37 2b2696645a 068049925b",
    digital.contrast: "acebba5869 93074b1da0 1668737218 4de9aef9e0 1a07de025b",
    digital.jpeg_compression: "bc563a4b96 8e8e8d803c 3883ec2cab 42b2eb27e0 67ee8ac48f",
    digital.pixelate: "f63d151f3d 0896b877cc c9865f1516 d3b8aae387 9b67f86656",
}
BRIGHTNESS_ADDED = {1: 0.05, 2: 0.1, 3: 0.15, 4: 0.2, 5: 0.3}
SATURATE_FACTOR_AND_ADDED = {1: (0.3, 0), 2: (0.1, 0), 3: (1.5, 0), 4: (2, 0.1), 5: (2.5, 0.2)}
CONTRAST_FACTOR = {1: 0.75, 2: 0.5, 3: 0.4, 4: 0.3, 5: 0.15}
PIXELATE_SIZE = {1: 30, 2: 28, 3: 27, 4: 24, 5: 20}


def random_images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def colours() -> Images:
    """(1, 17, 289, 3): all colours of 17 levels a channel, with every tie between channels."""
    levels = np.linspace(0, 255, 17).astype(np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), axis=3).reshape(1, 17, 289, 3)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", GOLDEN)
def test_bytes_are_those_of_the_original_program(corruption: Corruption, severity: int) -> None:
    corrupted = corruption(synthetic_images(1), severity)
    assert sum_and_digest(corrupted) == GOLDEN[corruption].split(" | ")[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", REAL_DIGEST)
def test_bytes_of_real_images_are_those_of_the_original_program(
    corruption: Corruption, severity: int, real_images: Images
) -> None:
    corrupted = corruption(real_images, severity)
    assert digest(corrupted, 10) == REAL_DIGEST[corruption].split()[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_adds_to_the_value_of_every_colour(severity: int) -> None:
    expected = []
    for red, green, blue in colours().reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        expected.append(colorsys.hsv_to_rgb(hue, saturation, min(value + BRIGHTNESS_ADDED[severity], 1)))
    assert_truncated(digital.brightness(colours(), severity), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate_scales_the_saturation_of_every_colour(severity: int) -> None:
    factor, added = SATURATE_FACTOR_AND_ADDED[severity]
    expected = []
    for red, green, blue in colours().reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        expected.append(colorsys.hsv_to_rgb(hue, min(saturation * factor + added, 1), value))
    assert_truncated(digital.saturate(colours(), severity), expected)


def assert_truncated(corrupted: Images, expected: list[tuple[float, float, float]]) -> None:
    difference = corrupted.reshape(-1, 3) - 255 * np.array(expected)
    assert difference.max() < 1e-9
    assert difference.min() > -1 - 1e-9


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_scales_the_distances_from_the_mean_of_a_channel(severity: int) -> None:
    images = random_images(4, 20, 27)
    images[..., 1] //= 2
    corrupted = digital.contrast(images, severity)
    mean = images.mean(axis=(1, 2), keepdims=True)
    truncated = corrupted - (mean + CONTRAST_FACTOR[severity] * (images - mean))
    assert truncated.max() < 1e-9
    assert truncated.min() > -1 - 1e-9


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_leaves_as_many_different_lines_as_the_small_image_has(severity: int) -> None:
    corrupted = digital.pixelate(random_images(1), severity)[0]
    assert len(np.unique(corrupted, axis=0)) == PIXELATE_SIZE[severity]
    assert len(np.unique(corrupted, axis=1)[0]) == PIXELATE_SIZE[severity]


@pytest.mark.parametrize("shape", [(1, 1), (1, 32), (32, 1)])
def test_pixelate_needs_two_by_two_pixels(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=rf"'pixelate': .* at least 2 by 2 pixels, not {shape[0]} by {shape[1]}"):
        digital.pixelate(random_images(1, *shape), 1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_keeps_the_colour_of_a_block_and_loses_its_detail(severity: int) -> None:
    flat = np.repeat(np.repeat(random_images(3, 2, 2), 16, axis=1), 16, axis=2)
    assert abs(digital.jpeg_compression(flat, severity).astype(int) - flat)[:, 4:12, 4:12].max() <= 8
    noisy = random_images(3)
    assert abs(digital.jpeg_compression(noisy, severity).astype(int) - noisy).mean() > 20
