from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from hahbench.corruptions.base import SEVERITIES, Corruption, Images
from hahbench.corruptions.weather import fog, frost, frost_procedural, plasma_fractals, snow
from hahbench.errors import DataError
from tests.golden import mean_change, mean_change_told, sum_and_digest
from tests.synthetic_images import synthetic_images

# Sum of the pixels and first digits of their MD5, by severity, with a generator of seed 0.
GOLDEN = {
    fog: "389491 a3f55bb5 | 384746 bf83496c | 387102 7b745f42 | 396601 371e26cf | 400340 30cba0d8",
    snow: "425237 1d08b81d | 470162 aa9e6f6e | 474998 6ca11c45 | 499910 757b1a2a | 556298 c9bab6fe",
}
# Mean absolute and root mean square change of a real image in grey levels, by severity.
MEAN_CHANGE = {
    fog: "10.81/13.23 21.70/26.53 27.50/33.65 32.49/39.96 39.22/48.13",
    snow: "10.64/13.38 23.62/26.74 25.26/30.57 36.85/41.97 51.16/56.15",
}
# With the photographs, one draw for each image, which leaves a standard error of 0.6 grey levels in these numbers.
MEAN_CHANGE_BY_FROST = "30.50/32.42 44.64/47.76 50.08/54.90 44.87/50.27 43.59/50.16"
FROST_ERROR = 0.6
# (weight of the image, weight of the frost), by severity.
FROST_WEIGHTS = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", GOLDEN)
def test_bytes_are_those_of_the_original_program(corruption: Corruption, severity: int) -> None:
    corrupted = corruption(synthetic_images(1), severity, np.random.RandomState(0))
    assert sum_and_digest(corrupted) == GOLDEN[corruption].split(" | ")[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", MEAN_CHANGE)
def test_real_images_change_as_much_as_in_the_original_program(
    corruption: Corruption, severity: int, real_images: Images
) -> None:
    corrupted = corruption(real_images, severity, np.random.RandomState(severity))
    expected = mean_change_told(MEAN_CHANGE[corruption], severity)
    assert mean_change(corrupted, real_images) == pytest.approx(expected, rel=0.015)


def test_a_plasma_fractal_is_that_of_the_original_program() -> None:
    (plasma,) = plasma_fractals([np.random.RandomState(0)], 32, 3)
    np.testing.assert_allclose(plasma[0, :4], [0, 0.144796, 0.229361, 0.311730], atol=1e-6)
    assert plasma.sum() == pytest.approx(480.053242, abs=1e-6)
    assert (plasma[0, 0], plasma[0, 16]) == (0, 1)


@pytest.mark.parametrize(("decay", "deviation"), [(3, 0.175), (2.5, 0.180), (2, 0.188), (1.75, 0.194)])
def test_plasma_fractals_span_the_unit_interval_and_are_rougher_for_a_smaller_decay(
    decay: float, deviation: float
) -> None:
    plasma = plasma_fractals([np.random.RandomState(0)] * 2000, 32, decay)
    assert (plasma.min(axis=(1, 2)) == 0).all()
    assert (plasma.max(axis=(1, 2)) == 1).all()
    assert plasma.mean() == pytest.approx(0.5, abs=0.005)
    assert plasma.std() == pytest.approx(deviation, abs=0.003)


def test_fog_keeps_black_images_black_and_never_exceeds_the_brightest_pixel() -> None:
    images = synthetic_images(20) // 2
    for severity in SEVERITIES:
        foggy = fog(images, severity, np.random.RandomState(0))
        assert (foggy.max(axis=(1, 2, 3)) <= images.max(axis=(1, 2, 3))).all()
        assert not fog(np.zeros_like(images), severity, np.random.RandomState(0)).any()


def test_fog_over_a_small_image_is_a_part_of_that_over_a_square_of_the_next_power_of_two() -> None:
    images = synthetic_images(2, 24, 40)
    square = np.pad(images, ((0, 0), (0, 40), (0, 24), (0, 0)))
    for severity in SEVERITIES:
        part = fog(square, severity, np.random.RandomState(0))[:, :24, :40]
        np.testing.assert_array_equal(fog(images, severity, np.random.RandomState(0)), part)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_brightens_and_is_the_same_upside_down(severity: int) -> None:
    images = np.full((20, 24, 40, 3), 100, np.uint8)
    snowy = snow(images, severity, np.random.RandomState(0))
    assert (snowy >= 100).all()
    assert (snowy.max(axis=(1, 2, 3)) > snowy.min(axis=(1, 2, 3))).all()
    np.testing.assert_array_equal(snowy, snowy[:, ::-1, ::-1])


def test_snow_falls_steeply() -> None:
    flakes = snow(np.zeros((300, 32, 32, 3), np.uint8), 2, np.random.RandomState(0))[..., 0].astype(float)
    change_down, change_across = (np.abs(np.diff(flakes, axis=axis)).mean() for axis in (1, 2))
    assert change_down < 0.7 * change_across


@pytest.mark.parametrize("severity", SEVERITIES)
def test_procedural_frost_changes_real_images_as_much_as_the_photographs(severity: int, real_images: Images) -> None:
    # The photograph is the first draw and decides most: all five in turn, as often, leave its chance out.
    by_photograph: list[list[int]] = [[] for _ in range(5)]
    for seed in range(1200):
        by_photograph[np.random.RandomState(seed).randint(5)].append(seed)
    generators = [np.random.RandomState(by_photograph[i % 5][i // 5]) for i in range(len(real_images))]
    change = frost_procedural(real_images, severity, generators).astype(float) - real_images
    absolute, square = map(float, MEAN_CHANGE_BY_FROST.split()[severity - 1].split("/"))
    assert abs(change).mean() == pytest.approx(absolute, abs=0.01 * absolute + FROST_ERROR)
    assert np.sqrt((change**2).mean()) == pytest.approx(square, abs=0.01 * square + FROST_ERROR)


def test_procedural_frost_has_the_colours_and_contrasts_of_the_photographs() -> None:
    black = np.zeros((1000, 32, 32, 3), np.uint8)
    # Truncation takes half a grey level on average.
    layer = (frost_procedural(black, 5, np.random.RandomState(0)) + 0.5) / FROST_WEIGHTS[4][1]
    # By photograph, with weights 1, 2, 1, 1.
    mean = np.average(
        [(77.5, 149, 165.7), (200.8, 205.4, 214.5), (138, 153.2, 165.6), (112.3, 123.3, 134.7)], 0, [1, 2, 1, 1]
    )
    np.testing.assert_allclose(layer.mean(axis=(0, 1, 2)), mean, atol=4)
    deviation = np.average([(25, 14, 13), (18, 18.5, 19), (26, 26, 27), (35, 34, 33)], 0, [1, 2, 1, 1])
    np.testing.assert_allclose(layer.std(axis=(1, 2)).mean(axis=0), deviation, atol=1)


@pytest.mark.parametrize(
    ("name", "deviation_of_mean", "slope"),
    [("frost1, blue", 10.8, -1.4), ("frost2 and frost3, bright", 9.3, -0.8)],
)
def test_procedural_frost_varies_and_is_rough_like_a_photograph(
    name: str, deviation_of_mean: float, slope: float
) -> None:
    black = np.zeros((1000, 32, 32, 3), np.uint8)
    layer = (frost_procedural(black, 5, np.random.RandomState(0)) + 0.5) / FROST_WEIGHTS[4][1]
    red, green, _ = np.moveaxis(layer.mean(axis=(1, 2)), -1, 0)
    chosen = layer[green - red > 45 if "blue" in name else red > 175, ..., 1]
    assert chosen.mean(axis=(1, 2)).std() == pytest.approx(deviation_of_mean, rel=0.15)

    power = np.abs(np.fft.fft2(chosen - chosen.mean(axis=(1, 2), keepdims=True))) ** 2
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32))
    inside = frequency > 0
    fitted, _ = np.polyfit(np.log(frequency[inside]), np.log(power.mean(axis=0)[inside]), 1)
    assert fitted == pytest.approx(slope, abs=0.1)


PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Pictures of other sizes each: noise as PNG, which is lossless, and one colour as JPEG."""
    noise = np.random.default_rng(0)
    for number, name in enumerate(PHOTOGRAPHS):
        size = (200 + 31 * number, 250 + 11 * number, 3)
        pixels = noise.integers(0, 256, size) if name.endswith("png") else np.full(size, 40 * number)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name)
    return tmp_path


def scaled_by_a_fifth(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Bilinear, with the centres of pixels at halves."""
    rows, columns = (5 * (np.arange(round(length / 5)) + 0.5) - 0.5 for length in pixels.shape[:2])
    places = np.meshgrid(rows, columns, indexing="ij")
    channels = [
        ndimage.map_coordinates(channel, places, order=1) for channel in np.moveaxis(pixels.astype(float), -1, 0)
    ]
    return np.stack(channels, axis=-1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost_blends_crops_of_the_photographs_in_the_documented_order_of_draws(
    photographs: Path, severity: int
) -> None:
    images = synthetic_images(40)
    weight, frost_weight = FROST_WEIGHTS[severity - 1]
    scaled = [scaled_by_a_fifth(np.asarray(Image.open(photographs / name))) for name in PHOTOGRAPHS]
    generator = np.random.RandomState(7)
    expected = []
    for image in images:
        layer = scaled[generator.randint(5)]
        row, column = generator.randint(0, layer.shape[0] - 32), generator.randint(0, layer.shape[1] - 32)
        crop = layer[row : row + 32, column : column + 32]
        expected.append(np.clip(weight * image + frost_weight * crop, 0, 255).astype(np.uint8))
    found = frost(photographs)(images, severity, np.random.RandomState(7))
    np.testing.assert_array_equal(found, expected)


def test_frost_is_named_like_the_original_and_checks_its_arguments_like_all_others(photographs: Path) -> None:
    corruption = frost(photographs)
    assert corruption.__name__ == "frost"
    with pytest.raises(DataError, match="severity 6 is not allowed"):
        corruption(synthetic_images(1), 6, np.random.RandomState(0))


def test_frost_ignores_the_transparency_of_a_photograph(photographs: Path) -> None:
    before = frost(photographs)(synthetic_images(20), 3, np.random.RandomState(0))
    for name in PHOTOGRAPHS[:3]:
        picture = Image.open(photographs / name)
        picture.putalpha(100)
        picture.save(photographs / name)
    np.testing.assert_array_equal(frost(photographs)(synthetic_images(20), 3, np.random.RandomState(0)), before)


def remove(path: Path) -> None:
    path.unlink()


def replace_by_text(path: Path) -> None:
    path.write_text("no picture")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [remove, replace_by_text, truncate])
@pytest.mark.parametrize("name", ["frost1.png", "frost5.jpg"])
def test_a_photograph_that_is_missing_or_damaged_is_named_in_one_line(
    photographs: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(photographs / name)
    with pytest.raises(DataError, match=rf"{name}: cannot read this photograph of frost: .") as raised:
        frost(photographs)
    assert "\n" not in str(raised.value)


def test_photographs_too_small_for_the_images_are_refused(photographs: Path) -> None:
    corruption = frost(photographs)
    with pytest.raises(
        DataError, match=r"frost1.png: .* 40x50 pixels; allowed for images of 40x32 pixels: photographs"
    ):
        corruption(synthetic_images(1, 40, 32), 1, np.random.RandomState(0))
    assert corruption(synthetic_images(1, 39, 49), 1, np.random.RandomState(0)).shape == (1, 39, 49, 3)
