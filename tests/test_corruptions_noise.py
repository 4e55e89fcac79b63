from __future__ import annotations

import numpy as np
import pytest

from hahbench.corruptions import noise
from hahbench.corruptions.base import SEVERITIES, Corruption, Images
from tests.golden import mean_change, mean_change_told, sum_and_digest
from tests.synthetic_images import synthetic_images

NOISES = (noise.gaussian_noise, noise.shot_noise, noise.impulse_noise, noise.speckle_noise)

# Sum of the pixels and first digits of their MD5, by severity, with a generator of seed 0.
GOLDEN = {
    noise.gaussian_noise: "393451 e8b6fe4e | 393144 1fd5b2a5 | 392831 9b32f1c3 | 392753 c233427e | 392613 96a79bdd",
    noise.shot_noise: "393592 1edeb761 | 392635 0ba3509d | 390900 68c6c514 | 390045 ee08496b | 389924 aa782dc2",
    noise.speckle_noise: "393117 ac62b136 | 391834 9ba648b8 | 391027 f988a3b0 | 389202 86c86ada | 387029 1b69e6a5",
}
# Mean absolute and root mean square change of a real image in grey levels, by severity.
MEAN_CHANGE = {
    noise.gaussian_noise: "7.99/10.07 11.90/15.00 15.76/19.86 17.65/22.25 19.50/24.58",
    noise.shot_noise: "5.95/7.79 8.35/10.92 13.08/17.07 15.03/19.61 18.29/23.81",
    noise.impulse_noise: "1.26/14.17 2.56/20.25 3.80/24.65 6.41/32.03 8.93/37.82",
    noise.speckle_noise: "5.70/8.03 9.37/13.17 11.19/15.70 14.75/20.65 18.20/25.44",
}
# Impulse noise replaces so few values that one draw of it leaves an error of 1 %.
TOLERANCE = {corruption: 0.015 if corruption is noise.impulse_noise else 0.005 for corruption in NOISES}
IMPULSE_AMOUNT = {1: 0.01, 2: 0.02, 3: 0.03, 4: 0.05, 5: 0.07}


def random_images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", GOLDEN)
def test_bytes_are_those_of_the_original_program(corruption: Corruption, severity: int) -> None:
    corrupted = corruption(synthetic_images(1), severity, np.random.RandomState(0))
    assert sum_and_digest(corrupted) == GOLDEN[corruption].split(" | ")[severity - 1]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("corruption", NOISES)
def test_real_images_change_as_much_as_in_the_original_program(
    corruption: Corruption, severity: int, real_images: Images
) -> None:
    corrupted = corruption(real_images, severity, np.random.RandomState(severity))
    expected = mean_change_told(MEAN_CHANGE[corruption], severity)
    assert mean_change(corrupted, real_images) == pytest.approx(expected, rel=TOLERANCE[corruption])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulses_fall_where_the_choices_of_scikit_image_0_13_put_them(severity: int) -> None:
    images, amount = synthetic_images(1), IMPULSE_AMOUNT[severity]
    generator = np.random.RandomState(3)
    flipped = generator.choice([True, False], size=images.shape, p=[amount, 1 - amount])
    salted = generator.choice([True, False], size=images.shape, p=[0.5, 0.5])
    expected = np.where(flipped & salted, 255, np.where(flipped, 0, images))
    np.testing.assert_array_equal(noise.impulse_noise(images, severity, np.random.RandomState(3)), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulses_are_as_many_as_said_half_of_them_white_whatever_the_channel(severity: int) -> None:
    images = np.full((400, 32, 32, 3), 100, np.uint8)
    corrupted = noise.impulse_noise(images, severity, np.random.RandomState(severity))
    for channel in range(3):
        values = corrupted[..., channel]
        for impulse in (0, 255):
            expected = values.size * IMPULSE_AMOUNT[severity] / 2
            assert (values == impulse).sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))
        assert np.isin(values, (0, 100, 255)).all()


def test_black_stays_black_under_noise_in_proportion_to_the_value() -> None:
    black = np.zeros((3, 32, 32, 3), np.uint8)
    for corruption in (noise.shot_noise, noise.speckle_noise):
        assert not corruption(black, 5, np.random.RandomState(0)).any()


@pytest.mark.parametrize("corruption", NOISES)
def test_more_severe_is_noisier(corruption: Corruption) -> None:
    images = random_images(20)
    noisy = [corruption(images, severity, np.random.RandomState(0)) for severity in SEVERITIES]
    changes = [abs(corrupted.astype(int) - images).mean() for corrupted in noisy]
    assert changes == sorted(changes)
