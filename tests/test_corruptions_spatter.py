from __future__ import annotations

import numpy as np
import pytest

from hahbench.corruptions.base import SEVERITIES, Images
from hahbench.corruptions.spatter import chamfer_distance, spatter
from tests.golden import digest, mean_change_told, sum_and_digest
from tests.synthetic_images import synthetic_images

WATER, MUD = (1, 2, 3), (4, 5)
MUD_COLOUR = (63, 42, 20)

# Sum of the pixels and first digits of their MD5, by severity, with a generator of seed 0.
GOLDEN = "398055 a1604860 | 401264 c7c0217c | 416763 5e61e806 | 391452 8f29c096 | 384041 50e6ba36"
# First digits of the MD5 of 100 images through OpenCV 4.14 and 5.0, by size and severity, with a generator of seed 1.
THROUGH_OPENCV = {
    (32, 32): "24922f94 90fd8aa0 9fc8c2c1 dd7c92b2 f69db090",
    (17, 45): "f252858a 2309a3b5 718077c5 c660da24 69b46c01",
    (64, 64): "8e056332 271f9ab4 760f3084 909751f5 59607601",
}
# Mean absolute and root mean square change of a real image in grey levels, by severity.
MEAN_CHANGE = "1.00/7.78 2.73/12.82 6.76/18.95 3.15/18.75 5.20/23.94"
# The drops are few, so both the number expected, of one draw, and the one found have an error of some 2 %.
TOLERANCE = 0.05


@pytest.mark.parametrize("severity", SEVERITIES)
def test_bytes_are_those_of_the_original_program(severity: int) -> None:
    corrupted = spatter(synthetic_images(1), severity, np.random.RandomState(0))
    assert sum_and_digest(corrupted) == GOLDEN.split(" | ")[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", THROUGH_OPENCV, ids=str)
def test_bytes_are_those_of_opencv(size: tuple[int, int], severity: int) -> None:
    corrupted = spatter(synthetic_images(100, *size), severity, np.random.RandomState(1))
    assert digest(corrupted) == THROUGH_OPENCV[size].split()[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_real_images_change_as_much_as_in_the_original_program(severity: int, real_images: Images) -> None:
    changes = [
        spatter(real_images, severity, np.random.RandomState(seed)) - real_images.astype(float) for seed in (1, 2)
    ]
    absolute, square = mean_change_told(MEAN_CHANGE, severity)
    assert np.mean(np.abs(changes)) == pytest.approx(absolute, rel=TOLERANCE)
    assert np.sqrt(np.mean(np.square(changes))) == pytest.approx(square, rel=TOLERANCE)


def test_distances_are_the_shortest_in_steps_of_a_5x5_mask() -> None:
    straight, diagonal, knight = 65536, 91750, 143976  # 1, 1.4 and 2.1969
    edges = np.random.default_rng(0).random((30, 13, 21)) < 0.03
    rows, columns = np.indices(edges.shape[1:])
    for image, found in zip(edges, chamfer_distance(edges), strict=True):
        away = [(abs(rows - row), abs(columns - column)) for row, column in np.argwhere(image)]
        far, near = np.max(away, axis=1), np.min(away, axis=1)
        flat = near * knight + (far - 2 * near) * straight
        steep = (far - near) * knight + (2 * near - far) * diagonal
        np.testing.assert_array_equal(found, np.where(far >= 2 * near, flat, steep).min(axis=0))


def test_without_edges_all_is_far() -> None:
    assert (chamfer_distance(np.zeros((1, 40, 40), bool)) > 1000 * 65536).all()


@pytest.mark.parametrize("severity", WATER)
def test_water_brightens_and_never_darkens(severity: int) -> None:
    images = synthetic_images(20)
    change = spatter(images, severity, np.random.RandomState(severity)).astype(int) - images
    assert change.min() == 0
    assert change.max() > 20


@pytest.mark.parametrize("severity", WATER)
def test_water_is_turquoise(severity: int) -> None:
    black = np.zeros((50, 32, 32, 3), np.uint8)
    red, green, blue = np.moveaxis(spatter(black, severity, np.random.RandomState(0)).astype(float), -1, 0)
    np.testing.assert_array_equal(green, blue)
    # Half of the colour (175, 238, 238) at the thickest place of each image.
    assert (green.max(axis=(1, 2)) == 119).all()
    np.testing.assert_allclose(red, green * 175 / 238, atol=1)


@pytest.mark.parametrize("severity", MUD)
def test_mud_hides_parts_of_the_image_and_leaves_the_others_alone(severity: int) -> None:
    white = np.full((50, 32, 32, 3), 255, np.uint8)
    spattered = spatter(white, severity, np.random.RandomState(0))
    clean = (spattered == 255).all(axis=-1)
    assert 0.85 < clean.mean() < 0.99
    # Mud covers a pixel by at least 80 % or not at all.
    least_covered = 0.2 * 255 + 0.8 * np.array(MUD_COLOUR)
    assert (spattered[~clean] <= least_covered).all()
    assert (spattered[~clean].min(axis=0) - np.array(MUD_COLOUR) <= 3).all()


def test_a_dry_lens_changes_nothing() -> None:
    images = synthetic_images(200, 2, 2)
    spattered = spatter(images, 1, np.random.RandomState(0))
    dry = (spattered == images).all(axis=(1, 2, 3))
    assert 0.2 < dry.mean() < 0.95
