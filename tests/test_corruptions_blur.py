from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from hahbench.corruptions import blur
from hahbench.corruptions.base import SEVERITIES, Corruption, Images
from tests.golden import digest, mean_change, mean_change_told, sum_and_digest
from tests.synthetic_images import synthetic_images

BLURS = (blur.gaussian_blur, blur.defocus_blur, blur.glass_blur, blur.motion_blur, blur.zoom_blur)

# Sum of the pixels and first digits of their MD5, by severity, with a generator of seed 0.
GOLDEN = {
    blur.gaussian_blur: "394379 3f98871e | 394514 f0a5051e | 394264 3f3c8f1b | 394272 b7e52ab7 | 394166 1d1f3ae7",
    blur.defocus_blur: "395092 f816511d | 395183 ec67eb70 | 395244 a43cda7a | 395079 5a51ec98 | 395519 c94cdd7d",
    blur.glass_blur: "395946 0b581a98 | 393760 b1f86326 | 393144 025539e0 | 393461 b123e4b9 | 392929 a6fa7809",
    blur.motion_blur: "394308 0af0ea4f | 394442 dd6e1fce | 394576 81cdfd09 | 394576 81cdfd09 | 394752 6d027e31",
    blur.zoom_blur: "394039 38dad1bf | 394394 17e05b89 | 394435 1b94ce9c | 394530 fb5ca3fc | 394595 f93c4d0d",
}
# First digits of the MD5 of the corrupted real images, by severity.
REAL_DIGEST = {
    blur.gaussian_blur: "9929300051 64f2053fa6 d67292d41c d80236f518 ce529e5670",
    blur.defocus_blur: "b585ac71e9 77a596ca41 7c3c7f7226 b7fa175874 e4763e055a",
    blur.zoom_blur: "b18df513ec 584d60cd63 10f467da22 e8234cfc87 6e9ee67c0e",
}
# Mean absolute and root mean square change of a real image in grey levels, by severity.
MEAN_CHANGE = {
    blur.glass_blur: "11.14/22.28 11.27/21.98 11.04/20.14 18.08/31.85 17.35/29.73",
    blur.motion_blur: "6.94/11.46 10.39/16.78 13.00/20.56 13.02/20.55 15.12/23.54",
}
# An image has one angle alone to draw, so motion blur is known less well.
TOLERANCE = {blur.glass_blur: 0.01, blur.motion_blur: 0.02}
GAUSSIAN_SIGMA = {1: 0.4, 2: 0.6, 3: 0.7, 4: 0.8, 5: 1.0}
GLASS_SIGMA_AND_ITERATIONS = {1: (0.05, 1), 2: (0.25, 1), 3: (0.4, 1), 4: (0.25, 2), 5: (0.4, 2)}
# Factors of the enlargements of zoom blur: how many there are, from 1 on in steps of 0.01.
ZOOM_FACTORS = {1: 7, 2: 12, 3: 16, 4: 21, 5: 26}
ZOOMS = [*(float(factor) for factor in np.arange(1, 1.255, 0.01)), 1.25, 1.75, 2.25]

any_severity = st.sampled_from(SEVERITIES)
any_seed = st.integers(0, 2**32 - 1)


def random_images(count: int, height: int = 32, width: int = 32, channels: int = 3, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    return kernel


def convolved(
    image: NDArray[np.float64], kernel: NDArray[np.float64], mode: Literal["edge", "reflect"]
) -> NDArray[np.float64]:
    """Of one (H, W, C) image with one kernel along both axes, line by line."""
    radius = len(kernel) // 2

    def line(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.convolve(np.pad(values, radius, mode=mode), kernel, "valid")

    both: NDArray[np.float64] = np.apply_along_axis(line, 1, np.apply_along_axis(line, 0, image))
    return both


def scipy_zoom(images: NDArray[np.floating], factor: float) -> NDArray[np.floating]:
    slices = []
    for size in images.shape[1:3]:
        crop = int(np.ceil(size / factor))
        trim = (round(crop * factor) - size) // 2
        slices.append((slice((size - crop) // 2, (size - crop) // 2 + crop), slice(trim, trim + size)))
    (rows, kept_rows), (columns, kept_columns) = slices
    zoomed: list[NDArray[np.floating]] = [
        ndimage.zoom(image[rows, columns], (factor, factor, 1), order=1)[kept_rows, kept_columns] for image in images
    ]
    return np.stack(zoomed)


def assert_equal_but_for_rounding(corrupted: Images, expected: NDArray[np.floating]) -> None:
    """Where a value is a whole number, one rounding error decides about the number that it is truncated to."""
    difference = corrupted.astype(int) - np.clip(expected, 0, 255).astype(np.uint8)
    assert abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.002


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", GOLDEN)
def test_bytes_are_those_of_the_original_program(corruption: Corruption, severity: int) -> None:
    corrupted = corruption(synthetic_images(1), severity, np.random.RandomState(0))
    assert sum_and_digest(corrupted) == GOLDEN[corruption].split(" | ")[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", REAL_DIGEST)
def test_bytes_of_real_images_are_those_of_the_original_program(
    corruption: Corruption, severity: int, real_images: Images
) -> None:
    corrupted = corruption(real_images, severity)
    assert digest(corrupted, 10) == REAL_DIGEST[corruption].split()[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", MEAN_CHANGE)
def test_real_images_change_as_much_as_in_the_original_program(
    corruption: Corruption, severity: int, real_images: Images
) -> None:
    corrupted = corruption(real_images, severity, np.random.RandomState(severity))
    expected = mean_change_told(MEAN_CHANGE[corruption], severity)
    assert mean_change(corrupted, real_images) == pytest.approx(expected, rel=TOLERANCE[corruption])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_convolves_with_a_normal_density_over_repeated_edges(severity: int) -> None:
    images = random_images(3, 20, 27)
    expected = [convolved(image.astype(float), gaussian_kernel(GAUSSIAN_SIGMA[severity]), "edge") for image in images]
    assert_equal_but_for_rounding(blur.gaussian_blur(images, severity), np.stack(expected))


@pytest.mark.parametrize(
    ("severity", "side", "centre"), [(1, 0.040388, 0.919224), (2, 0.106507, 0.786986), (3, 0.166379, 0.667243)]
)
def test_a_slight_defocus_smooths_with_three_taps_over_mirrored_edges(
    severity: int, side: float, centre: float
) -> None:
    images = random_images(3, 20, 27)
    expected = [convolved(image.astype(float), np.array([side, centre, side]), "reflect") for image in images]
    assert_equal_but_for_rounding(blur.defocus_blur(images, severity), np.stack(expected))


@pytest.mark.parametrize(
    ("severity", "disc"), [(4, [[0, 1, 0], [1, 1, 1], [0, 1, 0]]), (5, [[1, 1, 1], [1, 1, 1], [1, 1, 1]])]
)
def test_a_strong_defocus_averages_over_a_plus_or_a_square(severity: int, disc: list[list[int]]) -> None:
    images = random_images(3, 20, 27)
    neighbours = ndimage.generic_filter(
        images.astype(float), np.mean, footprint=np.array(disc)[None, :, :, None], mode="mirror"
    )
    difference = blur.defocus_blur(images, severity) - neighbours
    assert difference.max() < 0.01
    assert difference.min() > -1.01


@settings(deadline=None, max_examples=15)
@given(any_severity, any_seed, st.integers(1, 12), st.integers(1, 12))
def test_glass_copies_neighbours_one_after_the_other(severity: int, seed: int, height: int, width: int) -> None:
    images = random_images(2, height, width, seed=seed)
    sigma, iterations = GLASS_SIGMA_AND_ITERATIONS[severity]
    generator = np.random.RandomState(seed)
    expected = []
    for image in images:
        glass = (ndimage.gaussian_filter(image / 255, (sigma, sigma, 0), mode="nearest") * 255).astype(np.uint8)
        for _ in range(iterations):
            for row in range(height - 1, 1, -1):
                for column in range(width - 1, 1, -1):
                    right = generator.randint(-1, 1)
                    down = generator.randint(-1, 1)
                    glass[row, column] = glass[row + down, column + right]
        expected.append(ndimage.gaussian_filter(glass.astype(float), (sigma, sigma, 0), mode="nearest"))
    truncated = blur.glass_blur(images, severity, np.random.RandomState(seed)) - np.stack(expected)
    assert truncated.max() < 1e-9
    assert truncated.min() > -1 - 1e-9


@settings(deadline=None, max_examples=30)
@given(
    st.floats(-180, 180),
    st.sampled_from([(6, 1.0), (9, 2.5), (12, 6.0)]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
)
def test_motion_averages_along_half_a_line_over_repeated_edges(
    angle: float, radius_and_sigma: tuple[int, float], height: int, width: int, channels: int
) -> None:
    radius, sigma = radius_and_sigma
    images = random_images(2, height, width, channels)
    reach = 2 * radius + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    right, down = reach * np.cos(np.pi * angle / 180), reach * np.sin(np.pi * angle / 180)
    for distance in range(reach):
        row, column = (int(np.ceil(distance * end / np.hypot(right, down) - 0.5)) for end in (down, right))
        kernel[reach + row, reach + column] += np.exp(-(distance**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    average = ndimage.correlate(images.astype(float), kernel[None, :, :, None], mode="nearest")
    expected = np.floor(np.floor(257 * average + 0.5) / 257)

    blurred = blur.motion_blurred(images, radius, sigma, np.full(2, angle))
    assert blurred.dtype == np.uint8
    np.testing.assert_array_equal(blurred, expected)


def test_motion_goes_clockwise_from_the_right() -> None:
    point = np.zeros((1, 21, 21, 1), np.uint8)
    point[0, 10, 10] = 255
    for angle, side in ((0, (10, 8)), (90, (8, 10)), (180, (10, 12)), (-90, (12, 10)), (45, (9, 9))):
        blurred = blur.motion_blurred(point, 6, 2.0, np.array([float(angle)]))[0, ..., 0]
        assert blurred[side] > 0, "the pixels before a point see it"
        assert blurred[20 - side[0], 20 - side[1]] == 0, "the pixels behind it do not"


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_draws_one_angle_within_45_degrees(severity: int) -> None:
    point = np.zeros((300, 33, 33, 3), np.uint8)
    point[:, 16, 16] = 255
    smear = blur.motion_blur(point, severity, np.random.RandomState(0)).astype(float)[..., 0].mean(axis=0)
    rows, columns = np.nonzero(smear)
    assert columns.max() == 16
    assert (abs(rows - 16) <= 16 - columns).all()
    assert smear[:16].sum() == pytest.approx(smear[17:].sum(), rel=0.2)


@pytest.mark.parametrize("factor", ZOOMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 0), (np.float64, 1e-15)])
@pytest.mark.parametrize("channels", [1, 3])
def test_zoom_is_that_of_scipy(factor: float, dtype: type[np.floating], tolerance: float, channels: int) -> None:
    images = (random_images(2, 32, 32, channels) / 255).astype(dtype)
    zoomed = blur.clipped_zoom(images, factor)
    assert zoomed.dtype == dtype
    np.testing.assert_allclose(zoomed, scipy_zoom(images, factor), rtol=0, atol=tolerance)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 48), st.integers(1, 48), st.sampled_from(ZOOMS))
def test_zoom_takes_any_size(height: int, width: int, factor: float) -> None:
    """Scipy makes the last line black where rounding puts it beyond the edge; compared are all others."""
    images = random_images(2, height, width) / 255
    zoomed, expected = blur.clipped_zoom(images, factor), scipy_zoom(images, factor)
    np.testing.assert_allclose(zoomed[:, :-1, :-1], expected[:, :-1, :-1], rtol=0, atol=1e-14)
    assert zoomed.shape == images.shape


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_is_the_mean_of_the_image_and_its_enlargements(severity: int) -> None:
    images = random_images(2)
    factors = np.arange(1, 1.3, 0.01)[: ZOOM_FACTORS[severity]]
    frames = [images / 255, *(scipy_zoom(images / 255, float(factor)) for factor in factors)]
    assert_equal_but_for_rounding(blur.zoom_blur(images, severity), np.mean(frames, axis=0) * 255)


@pytest.mark.parametrize("corruption", BLURS)
def test_an_image_of_one_colour_stays_but_for_truncation(corruption: Corruption) -> None:
    images = np.empty((256, 16, 16, 3), np.uint8)
    images[:] = np.arange(256, dtype=np.uint8)[:, None, None, None]
    for severity in SEVERITIES:
        change = corruption(images, severity, np.random.RandomState(0)).astype(int) - images
        assert change.max() <= 0
        assert change.min() >= -2
