from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hahbench.corruptions.base import SEVERITIES, Generator, Images
from hahbench.corruptions.elastic import elastic_transform
from hahbench.errors import DataError
from tests.golden import mean_change, mean_change_told, sum_and_digest
from tests.synthetic_images import synthetic_images

# Sum of the pixels and first digits of their MD5, by severity, with a generator of seed 0.
GOLDEN = "393591 2ce633e0 | 393736 bb53325d | 392350 7a7a4b9a | 390893 5488b728 | 389962 91796d4f"
# Mean absolute and root mean square change of a real image in grey levels, by severity.
MEAN_CHANGE = "21.93/36.02 19.93/33.01 17.96/29.70 16.34/27.26 13.58/22.78"
STANDARD_ERROR = 0.3
# (size of the displacements, their blur sigma, affine jitter), in pixels, by severity.
CONSTANTS = ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96))

any_severity = st.sampled_from(SEVERITIES)
any_seed = st.integers(0, 2**32 - 1)


def transformed_by_scipy(image: Images, severity: int, generator: Generator) -> Images:
    """One image (H, W, 3), a channel at a time."""
    size, sigma, jitter = CONSTANTS[severity - 1]
    height, width = image.shape[:2]
    middle, reach = np.array([width // 2, height // 2]), min(height, width) // 3
    anchors = (middle + reach * np.array([(1, 1), (1, -1), (-1, -1)])).astype(np.float32)
    moved = anchors + generator.uniform(-jitter, jitter, (3, 2)).astype(np.float32)
    forward = np.linalg.solve(np.c_[anchors, np.ones(3)], moved.astype(float))
    linear, offset = forward[:2].T, forward[2]

    y, x = np.indices((height, width), dtype=float)
    source_x, source_y = np.linalg.solve(linear, np.stack([x.ravel(), y.ravel()]) - offset[:, None])
    fields = [generator.uniform(-1, 1, (height, width)) for _ in range(2)]
    right, down = (
        (size * ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3)).astype(np.float32)
        for field in fields
    )
    channels = []
    for channel in np.moveaxis(image.astype(np.float32) / np.float32(255), -1, 0):
        warped = ndimage.map_coordinates(channel, (source_y, source_x), order=1, mode="mirror").reshape(height, width)
        channels.append(ndimage.map_coordinates(warped, (y + down, x + right), order=1, mode="reflect"))
    result: Images = (np.clip(np.stack(channels, axis=-1), 0, 1) * 255).astype(np.uint8)
    return result


@pytest.mark.parametrize("severity", SEVERITIES)
def test_bytes_are_those_of_the_original_program_over_opencv_5(severity: int) -> None:
    corrupted = elastic_transform(synthetic_images(1), severity, np.random.RandomState(0))
    assert sum_and_digest(corrupted) == GOLDEN.split(" | ")[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_real_images_change_as_much_as_in_the_original_program(severity: int, real_images: Images) -> None:
    corrupted = elastic_transform(real_images, severity, np.random.RandomState(severity))
    (absolute, square), (expected_absolute, expected_square) = (
        mean_change(corrupted, real_images),
        mean_change_told(MEAN_CHANGE, severity),
    )
    assert absolute == pytest.approx(expected_absolute, abs=2 * STANDARD_ERROR)
    assert square == pytest.approx(expected_square, rel=0.02)


@settings(deadline=None, max_examples=60)
@given(any_severity, any_seed, st.integers(12, 40), st.integers(12, 40))
def test_interpolation_and_borders_are_those_of_scipy_at_any_size(
    severity: int, seed: int, height: int, width: int
) -> None:
    images = synthetic_images(2, height, width)
    generator = np.random.RandomState(seed)
    expected = np.stack([transformed_by_scipy(image, severity, generator) for image in images])
    found = elastic_transform(images, severity, np.random.RandomState(seed))
    difference = np.abs(found.astype(int) - expected)
    # Truncation makes one grey level of a rounding error.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.002


def test_an_image_of_one_colour_stays_as_it_is() -> None:
    images = np.repeat(np.arange(256, dtype=np.uint8), 12 * 12 * 3).reshape(256, 12, 12, 3)
    for severity in SEVERITIES:
        np.testing.assert_array_equal(elastic_transform(images, severity, np.random.RandomState(0)), images)


@pytest.mark.parametrize(("height", "width"), [(2, 32), (32, 2), (1, 1)])
def test_images_without_room_for_three_anchor_points_are_refused(height: int, width: int) -> None:
    with pytest.raises(
        DataError, match=rf"'elastic_transform': images of {height}x{width} pixels; allowed: 3x3 and la"
    ):
        elastic_transform(synthetic_images(1, height, width), 1, np.random.RandomState(0))
