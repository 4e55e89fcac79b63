"""Bets: valid however often one looks, and sure of what is plain."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hahbench.regress.sequential import attack_order, evidence, excludes_drop, samples_to_exclude_drop


def test_the_order_is_a_permutation_that_never_changes() -> None:
    assert sorted(attack_order(50)) == list(range(50))
    assert attack_order(8).tolist() == [2, 4, 3, 6, 5, 0, 1, 7]


def test_nothing_seen_is_no_evidence() -> None:
    assert evidence(np.empty(0)) == (1.0, 0)
    assert not excludes_drop(np.empty(0), 0.5, 0.5)


def test_one_bet_by_hand() -> None:
    """After one loss each stake s, bet downwards, has 1 + s, and bet upwards 1 - s: on average the capital is 1."""
    assert evidence(np.array([-1.0])).p_value == pytest.approx(1.0)
    # After two losses it has (1 + s)^2 / 2 + (1 - s)^2 / 2 = 1 + s^2.
    stakes = np.geomspace(0.01, 0.99, 24)
    found = evidence(np.array([-1.0, -1.0]))
    assert found.p_value == pytest.approx(1 / (1 + np.mean(stakes**2)))
    assert found.sign == -1


@pytest.mark.parametrize("mean", [0.0, 0.02])
def test_false_alarms_over_all_looks_are_rarer_than_alpha(mean: float) -> None:
    """400 streams of discordant pairs, looked at after each of 500 samples."""
    random = np.random.default_rng(0)
    alpha = 0.05
    alarms = 0
    for _ in range(400):
        u = random.random(500)
        changes = (
            np.where(u < 0.1 + mean / 2, 1.0, np.where(u < 0.2, -1.0, 0.0))
            if mean == 0
            else np.where(u < 0.1, -1.0, np.where(u < 0.2 - mean, 1.0, 0.0))
        )
        # In the first case nothing changes; in the second the drop is as large as what is to be excluded.
        alarms += evidence(changes).p_value <= alpha if mean == 0 else excludes_drop(changes, mean, alpha)
    assert alarms / 400 <= alpha


def test_a_drop_is_found_long_before_all_samples_are_seen() -> None:
    random = np.random.default_rng(0)
    changes = np.where(random.random(1000) < 0.3, -1.0, np.where(random.random(1000) < 0.05, 1.0, 0.0))
    assert evidence(changes[:100]).p_value < 0.01
    assert evidence(changes[:100]).sign == -1


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=15))
def test_p_values_never_rise(changes: list[float]) -> None:
    values = [evidence(np.array(changes[: seen + 1])).p_value for seen in range(len(changes))]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(values))
    assert all(0 < value <= 1 for value in values)


def test_the_number_of_samples_that_excludes_a_drop_does() -> None:
    pattern = np.array([0.0] * 19 + [-1.0] + [0.0] * 19 + [1.0])
    needed = samples_to_exclude_drop(pattern, 0.05, 0.01)
    assert 40 < needed < 5000
    repeats = math.ceil(needed / len(pattern)) + 1
    assert excludes_drop(np.tile(pattern, repeats), 0.05, 0.01)
    assert not excludes_drop(np.tile(pattern, repeats // 4), 0.05, 0.01)


def test_a_drop_that_is_there_is_never_excluded() -> None:
    assert samples_to_exclude_drop(np.array([-1.0, 0.0, 0.0]), 0.1, 0.01) == math.inf
