"""The exact test, against hand counts, the libraries' tests and all sign patterns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from hahbench.sign_flips import mcnemar, mean_difference


def by_all_signs(weights: np.ndarray) -> float:
    """The share of the 2^N sign patterns whose sum is as far from 0 as that observed."""
    sizes = np.abs(weights)
    sums = [
        abs(sum(sign * size for sign, size in zip(signs, sizes, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(sizes))
    ]
    return float(np.mean(np.array(sums) >= abs(weights.sum())))


def test_one_lost_of_one_says_nothing() -> None:
    assert mcnemar(np.array([-1, 0, 0])) == (1.0, -1)


def test_no_difference_is_no_evidence() -> None:
    assert mcnemar(np.zeros(5, np.int64)) == (1.0, 0)
    assert mean_difference(np.zeros(0)) == (1.0, 0)


def test_eight_lost_and_one_gained() -> None:
    """2 (C(9,0) + C(9,1)) / 2^9 = 20 / 512."""
    found = mcnemar(np.array([-1] * 8 + [1] + [0] * 50))
    assert found.p_value == pytest.approx(20 / 512)
    assert found.sign == -1


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_flags_of_one_draw_are_mcnemars_test(lost: int, gained: int) -> None:
    theirs = statsmodels_mcnemar([[0, lost], [gained, 0]], exact=True).pvalue
    assert mcnemar(np.array([-1] * lost + [1] * gained)).p_value == pytest.approx(theirs, rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=10))
def test_flags_of_several_draws_are_flipped_sample_by_sample(differences: list[int]) -> None:
    weights = np.array(differences)
    assert mcnemar(weights).p_value == pytest.approx(by_all_signs(weights))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=10))
def test_of_differences_every_sign_pattern_counts(thousandths: list[int]) -> None:
    differences = np.array(thousandths) / 1000
    # Sums of whole numbers are exact, so that ties are ties.
    theirs = stats.permutation_test((np.array(thousandths),), np.sum, permutation_type="samples", n_resamples=2**10)
    # SciPy doubles the smaller tail too.
    assert mean_difference(differences).p_value == pytest.approx(theirs.pvalue)
    assert mean_difference(differences).sign == np.sign(sum(thousandths))


def test_a_few_large_losses_outweigh_many_tiny_gains() -> None:
    """Of 1,000 samples 200 lose all and 800 gain a hundredth: ranks would speak for a gain."""
    found = mean_difference(np.array([-1.0] * 200 + [0.01] * 800))
    assert found.sign == -1
    assert found.p_value < 1e-30


def test_the_approximation_takes_over_smoothly_and_is_not_too_small() -> None:
    """About 300 samples are the last to be exact; of as many with a strong effect both are computed."""
    differences = (stats.norm.ppf((np.arange(290) + 0.5) / 290) + 0.18) / 4
    exact = mean_difference(differences).p_value
    z = abs(differences.sum()) / np.sqrt((differences**2).sum())
    assert 1e-4 < exact < 1e-2
    assert 1 <= 2 * stats.norm.sf(z) / exact < 1.1


def test_many_samples_have_the_normal_distribution() -> None:
    for shift in (0.0, 0.05, 0.15):
        differences = np.random.default_rng(0).normal(shift, 1, 2000) / 5
        z = differences.sum() / np.sqrt((differences**2).sum())
        assert mean_difference(differences).p_value == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.01)
