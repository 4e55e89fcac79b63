"""What holds of every corruption."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hahbench.corruptions import CORRUPTIONS, SEVERITIES, Corruption
from hahbench.errors import DataError
from tests.synthetic_images import synthetic_images

SMALLEST_SIDE = {"elastic_transform": 3, "pixelate": 2}
ALL = [CORRUPTIONS[name] for name in CORRUPTIONS]

every_corruption = pytest.mark.parametrize("corruption", ALL, ids=lambda corruption: corruption.__name__)
any_severity = st.sampled_from(SEVERITIES)
any_seed = st.integers(0, 2**32 - 1)


@every_corruption
@settings(deadline=None, max_examples=15)
@given(severity=any_severity, seed=any_seed, count=st.integers(1, 4), cut=st.integers(0, 5))
def test_an_image_does_not_depend_on_those_in_the_same_call(
    corruption: Corruption, severity: int, seed: int, count: int, cut: int
) -> None:
    images = synthetic_images(count, 12, 12)

    def generators() -> list[np.random.RandomState]:
        return [np.random.RandomState(np.random.Philox(key=[seed, i])) for i in range(count)]

    together = corruption(images, severity, generators())
    parts = [
        corruption(images[:cut], severity, generators()[:cut]),
        corruption(images[cut:], severity, generators()[cut:]),
    ]
    np.testing.assert_array_equal(together, np.concatenate(parts))


@every_corruption
@settings(deadline=None, max_examples=10)
@given(severity=any_severity, seed=any_seed)
def test_images_draw_from_one_generator_in_turn(corruption: Corruption, severity: int, seed: int) -> None:
    images = synthetic_images(3, 12, 12)
    together = corruption(images, severity, np.random.RandomState(seed))
    generator = np.random.RandomState(seed)
    in_turn = [corruption(images[i : i + 1], severity, generator) for i in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(in_turn))


@every_corruption
@settings(deadline=None, max_examples=15)
@given(data=st.data(), severity=any_severity, count=st.integers(0, 3))
def test_images_may_have_any_size_and_are_not_modified(
    corruption: Corruption, data: st.DataObject, severity: int, count: int
) -> None:
    side = st.integers(SMALLEST_SIDE.get(corruption.__name__, 1), 40)
    images = synthetic_images(count, data.draw(side), data.draw(side))
    before = images.copy()
    corrupted = corruption(images, severity, np.random.RandomState(0))
    assert corrupted.shape == images.shape
    assert corrupted.dtype == np.uint8
    np.testing.assert_array_equal(images, before)


@every_corruption
def test_without_a_generator_it_is_refused_or_never_draws(corruption: Corruption) -> None:
    images = synthetic_images(2)
    if corruption.draws:
        with pytest.raises(DataError, match=rf"'{corruption.__name__}' draws random numbers; give it a numpy"):
            corruption(images, 1)
    else:
        np.testing.assert_array_equal(corruption(images, 1), corruption(images, 1, np.random.RandomState(0)))


@every_corruption
@pytest.mark.parametrize(
    ("images", "severity", "generators", "message"),
    [
        (
            np.zeros((2, 32, 32, 3)),
            1,
            2,
            r"images must be uint8 of shape \(N, H, W, 3\), not float64",
        ),
        (np.zeros((2, 3, 32, 32), np.uint8), 1, 2, r"not uint8 of shape \(2, 3, 32, 32\)"),
        (np.zeros((2, 0, 32, 3), np.uint8), 1, 2, r"not uint8 of shape \(2, 0, 32, 3\)"),
        ([[0]], 1, 2, "not list"),
        (synthetic_images(2), 0, 2, "severity 0 is not allowed; allowed: 1 to 5"),
        (synthetic_images(2), 6, 2, "severity 6 is not allowed"),
        (synthetic_images(2), 3.0, 2, "severity 3.0 is not allowed"),
    ],
)
def test_what_it_cannot_corrupt_is_said_in_one_line(
    corruption: Corruption, images: np.ndarray, severity: int, generators: int, message: str
) -> None:
    with pytest.raises(DataError, match=rf"corruption '{corruption.__name__}': .*{message}"):
        corruption(images, severity, [np.random.RandomState(i) for i in range(generators)])


@pytest.mark.parametrize("generator", [np.random.default_rng(0), [np.random.default_rng(0)] * 2, 0])
def test_numpy_s_other_generator_is_refused(generator: Any) -> None:
    with pytest.raises(DataError, match=r"generator .* is not allowed; allowed: a numpy.random.RandomState"):
        CORRUPTIONS["fog"](synthetic_images(2), 1, generator)


def test_a_generator_for_each_image_or_one_for_all() -> None:
    with pytest.raises(DataError, match="3 generators for 2 images; allowed: one for all, or one for each"):
        CORRUPTIONS["fog"](synthetic_images(2), 1, [np.random.RandomState(0)] * 3)
