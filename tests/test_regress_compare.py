"""Verdicts: what is worse, what is the same, what nobody can tell yet, and how rarely nothing is called something."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from hahbench.errors import HahbenchError
from hahbench.regress.compare import Comparison, Pairs, cannot_get_worse, check_levels, compare, verdicts


def flags(before: Any, now: Any, **changes: Any) -> Pairs:
    """``before`` and ``now`` are (N,) or (draws, N), whether classified correctly; clean images always are."""
    then, later = np.atleast_2d(np.array(before, bool)), np.atleast_2d(np.array(now, bool))
    right = np.ones(then.shape[1], bool)
    facts: dict[str, Any] = {"right_before": right, "right_now": right[: later.shape[1]], **changes}
    return Pairs("m", "a", 0.1, "accuracy", then, later, **facts)


def norms(before: Any, now: Any, **changes: Any) -> Pairs:
    then, later = np.atleast_2d(np.array(before, np.float32)), np.atleast_2d(np.array(now, np.float32))
    return Pairs("m", "fmn", None, "median_norm", then, later, then.min(axis=0) > 0, later.min(axis=0) > 0, **changes)


def verdict(*pairs: Pairs, alpha: float = 0.01, tolerance: float = 0.01) -> Comparison:
    return compare(pairs, alpha=alpha, tolerance=tolerance)[0]


def lost_and_gained(lost: int, gained: int, n: int) -> Pairs:
    """Of ``n`` samples so many are lost and gained; the others stay right."""
    before = np.ones(n, bool)
    before[:gained] = False
    now = np.ones(n, bool)
    now[gained : gained + lost] = False
    order = np.random.default_rng(0).permutation(n)
    return flags(before[order], now[order])


def test_a_significant_drop_beyond_the_tolerance_is_worse() -> None:
    found = verdict(lost_and_gained(20, 2, 500))
    assert found.verdict == "worse"
    assert found.change == pytest.approx(-18 / 500)
    assert found.drop == pytest.approx(18 / 500)
    assert (found.lost, found.gained, found.n, found.baseline_n) == (20, 2, 500, 500)
    # 2 (1 + 22 + 231) / 2^22.
    assert found.p_value == pytest.approx(2 * 254 / 2**22)
    assert found.before[0] == pytest.approx(498 / 500)
    assert found.now[0] == pytest.approx(480 / 500)


def test_a_significant_gain_beyond_the_tolerance_is_better() -> None:
    assert verdict(lost_and_gained(2, 20, 500)).verdict == "better"


def test_a_significant_drop_within_the_tolerance_is_not_worse() -> None:
    assert verdict(lost_and_gained(20, 2, 500), tolerance=0.1).verdict == "same"


def test_nothing_changed_is_the_same_with_few_samples_too() -> None:
    assert verdict(lost_and_gained(0, 0, 3)).verdict == "same"
    assert verdict(norms([0, 0.3, math.inf], [0, 0.3, math.inf])).verdict == "same"


def test_few_samples_of_which_some_changed_are_inconclusive() -> None:
    found = verdict(lost_and_gained(3, 1, 40))
    assert found.verdict == "inconclusive"
    assert found.samples_to_settle is not None
    assert found.samples_to_settle > 40


def test_the_samples_that_would_settle_a_drop_do() -> None:
    few = verdict(lost_and_gained(10, 4, 200))
    assert few.verdict == "inconclusive"
    assert few.samples_to_settle is not None
    times = math.ceil(few.samples_to_settle / 200)
    assert verdict(lost_and_gained(10 * times, 4 * times, 200 * times)).verdict == "worse"
    assert verdict(lost_and_gained(10 * (times // 3), 4 * (times // 3), 200 * (times // 3))).verdict == "inconclusive"


def test_the_samples_that_would_settle_that_nothing_changed_do() -> None:
    few = verdict(lost_and_gained(3, 3, 300))
    assert few.verdict == "inconclusive"
    assert few.samples_to_settle is not None
    times = math.ceil(1.2 * few.samples_to_settle / 300)
    assert verdict(lost_and_gained(3 * times, 3 * times, 300 * times)).verdict == "same"


def test_a_hundred_and_more_cells_raise_the_bar() -> None:
    """One in a hundred cells is significant at 0.01 by chance: Holm's method asks for more."""
    single = lost_and_gained(14, 2, 300)
    assert verdict(single).verdict == "worse"
    assert verdict(single, *[lost_and_gained(0, 0, 300)] * 99).verdict == "inconclusive"


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=6))
def test_p_values_are_adjusted_by_holms_method(changed: list[tuple[int, int]]) -> None:
    pairs = [lost_and_gained(lost, gained, 100) for lost, gained in changed]
    alone = [verdict(pair).p_value for pair in pairs]
    together = [found.p_value for found in compare(pairs, alpha=0.01, tolerance=0.01)]
    assert together == pytest.approx(multipletests(alone, method="holm")[1].tolist())


def test_draws_of_one_sample_are_no_further_samples() -> None:
    """Six samples lost in all of ten draws are six, not sixty."""
    before = np.ones((10, 100), bool)
    now = before.copy()
    now[:, :6] = False
    found = verdict(flags(before, now))
    assert found.p_value == pytest.approx(2 / 2**6)
    assert found.change == pytest.approx(-0.06)
    assert found.verdict == "inconclusive"


def test_lost_samples_whose_clean_image_is_now_wrong_are_counted_apart() -> None:
    before, now = [True, True, True, False], [False, False, True, False]
    clean_before = np.array([True, True, True, False])
    clean_now = np.array([False, True, True, False])
    found = verdict(flags(before, now, right_before=clean_before, right_now=clean_now))
    assert (found.lost, found.lost_clean) == (2, 1)


def test_changes_of_norms_are_relative_and_bounded() -> None:
    then = [0.0, 0.0, 0.4, 0.4, 0.2, math.inf, math.inf, 0.3]
    later = [0.0, 0.4, 0.0, 0.2, 0.4, math.inf, 0.3, math.inf]
    assert norms(then, later).changes.tolist() == pytest.approx([0, 1, -1, -0.5, 0.5, 0, -1, 1])


def test_of_several_draws_the_smallest_norm_counts() -> None:
    pair = norms([[0.4, 0.5], [0.2, math.inf]], [[0.1, 0.5], [0.3, 0.6]])
    assert pair.changes.tolist() == pytest.approx([-0.5, 0])


def test_shorter_norms_are_worse() -> None:
    random = np.random.default_rng(0)
    then = random.gamma(4, 0.1, 200)
    found = verdict(norms(then, then * random.normal(0.9, 0.2, 200).clip(0.1)))
    assert found.verdict == "worse"
    assert found.change == pytest.approx(-0.1, abs=0.05)
    assert verdict(norms(then, then * 0.995), tolerance=0.05).verdict == "same"


def test_a_few_norms_lost_are_worse_though_the_others_grew_a_little() -> None:
    """The mean change decides, and so it is what is tested: ranks would see the many that grew."""
    then = np.full(100, 0.5)
    later = np.where(np.arange(100) < 25, 0.0, 0.505)
    found = verdict(norms(then, later))
    assert found.change == pytest.approx(-0.25 + 0.75 * 0.005 / 0.505)
    assert found.verdict == "worse"


@pytest.mark.parametrize("metric", [flags, norms])
def test_a_first_look_within_a_budget_decides_where_all_is_lost(metric: Callable[..., Pairs]) -> None:
    """There may be no time for a second one."""
    found = verdict(metric(np.ones(1000), np.zeros(32)))
    assert found.p_value < 1e-4
    assert found.verdict == "worse"
    assert verdict(metric(np.ones(1000), np.zeros(2))).verdict == "inconclusive"


def test_what_was_not_measured_is_inconclusive() -> None:
    pair = flags([True, False], np.empty((1, 0)))
    found = verdict(pair)
    assert (found.verdict, found.n, found.baseline_n, found.samples_to_settle) == ("inconclusive", 0, 2, math.inf)
    assert math.isnan(found.now[0])


def test_a_part_of_the_samples_is_compared_with_its_like() -> None:
    found = verdict(flags([True, True, False, False], [True, False]))
    assert (found.before[0], found.now[0], found.n, found.baseline_n) == (1.0, 0.5, 2, 4)


def test_no_cells_have_no_verdicts() -> None:
    assert compare([], alpha=0.01, tolerance=0.01) == []


@pytest.mark.parametrize(("alpha", "tolerance"), [(0.0, 0.01), (1.0, 0.01), (math.nan, 0.01), (0.01, -0.1), (0.01, 1)])
def test_levels_out_of_range_are_refused(alpha: float, tolerance: float) -> None:
    with pytest.raises(HahbenchError, match="allowed"):
        check_levels(alpha, tolerance)


# --- how often nothing is called something ----------------------------------------------------------------------------


def no_change(random: np.random.Generator, n: int) -> list[Pairs]:
    """A check of four cells of a model that did not change, seen through other random draws.

    Every sample has its own chance to be classified correctly; norms vary around a length of their own, some samples
    are wrong already and some are never broken.
    """
    cells = []
    for draws in (1, 1, 3):
        chances = random.beta(0.6, 0.4, n)
        cells.append(flags(random.random((draws, n)) < chances, random.random((draws, n)) < chances))
    length = np.where(random.random(n) < 0.1, 0, np.where(random.random(n) < 0.1, np.inf, random.gamma(4, 0.1, n)))
    cells.append(norms(length * random.normal(1, 0.1, n), length * random.normal(1, 0.1, n)))
    return cells


def fixed(cells: list[Pairs], alpha: float) -> bool:
    """Whether the check of all samples raises an alarm."""
    return "worse" in verdicts(cells, alpha=alpha, tolerance=0.0)


def sequential(cells: list[Pairs], alpha: float) -> bool:
    """Whether a check that looks after 32, 64, ... samples raises one, however late."""
    n = cells[0].before.shape[1]
    seen = 32
    while True:
        parts = [
            Pairs(
                cell.model,
                cell.attack,
                cell.level,
                cell.metric,
                cell.before,
                cell.now[:, :seen],
                cell.right_before,
                cell.right_now[:seen],
                looked=True,
            )
            for cell in cells
        ]
        if fixed(parts, alpha):
            return True
        if seen >= n:
            return False
        seen = min(2 * seen, n)


@pytest.mark.parametrize("procedure", [fixed, sequential])
def test_of_200_checks_of_no_change_at_most_alpha_raise_an_alarm(
    procedure: Callable[[list[Pairs], float], bool],
) -> None:
    random, alpha = np.random.default_rng(2022), 0.05
    alarms = sum(procedure(no_change(random, 120), alpha) for _ in range(200))
    assert alarms / 200 <= alpha


@pytest.mark.parametrize("looked", [False, True])
def test_a_drop_of_five_points_is_found_with_a_thousand_samples(looked: bool) -> None:
    random = np.random.default_rng(0)
    found = 0
    for _ in range(20):
        u = random.random(1000)
        before, now = u > 0.30, (u < 0.025) | (u > 0.375)
        found += verdict(flags(before, now, looked=looked)).verdict == "worse"
    assert found == 20


@pytest.mark.parametrize(("robust", "cells"), [(8, 1), (7, 1), (11, 10), (10, 10), (0, 1)])
def test_a_cell_that_nothing_could_make_worse_is_known(robust: int, cells: int) -> None:
    """By losing all that it has to lose, beside others of which nothing changed."""
    before = np.arange(100) < robust
    lost = verdict(flags(before, np.zeros(100, bool)), *[lost_and_gained(0, 0, 100)] * (cells - 1))
    assert cannot_get_worse(np.atleast_2d(before), cells) == (lost.verdict != "worse")
