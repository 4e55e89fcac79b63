"""The exact test, against hand counts, the libraries' tests and all sign patterns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from hahbench.sign_flips import mcnemar, signed_rank


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
    assert signed_rank(np.zeros(0)) == (1.0, 0)


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


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1).filter(bool), min_size=1, max_size=30, unique_by=abs))
def test_without_ties_the_ranks_are_wilcoxons(differences: list[float]) -> None:
    theirs = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank(np.array(differences)).p_value == pytest.approx(theirs, rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=10))
def test_ties_are_exact_too(differences: list[float]) -> None:
    given_ = np.array(differences)
    nonzero = given_[given_ != 0]
    ranks = np.sign(nonzero) * stats.rankdata(np.abs(nonzero))
    assert signed_rank(given_).p_value == pytest.approx(by_all_signs(ranks) if len(nonzero) else 1.0)


def test_many_samples_agree_with_scipys_approximation() -> None:
    for shift in (0.0, 0.05, 0.15):
        differences = np.random.default_rng(0).normal(shift, 1, 2000)
        theirs = stats.wilcoxon(differences, correction=True, method="approx").pvalue
        assert signed_rank(differences).p_value == pytest.approx(theirs, rel=1e-3)


def test_the_approximation_takes_over_smoothly_and_is_not_too_small() -> None:
    """About 300 samples are the last to be exact; of as many with a strong effect both are computed."""
    differences = stats.norm.ppf((np.arange(290) + 0.5) / 290) + 0.18
    exact = signed_rank(differences).p_value
    ranks = stats.rankdata(np.abs(differences))
    z = abs((np.sign(differences) * ranks).sum()) / np.sqrt((ranks**2).sum())
    assert 1e-4 < exact < 1e-2
    assert 1 <= 2 * stats.norm.sf(z) / exact < 1.1
