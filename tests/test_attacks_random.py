"""Counter-based random numbers: their distribution, and that nothing but their key decides them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from hahbench.attacks.random import integers, keys, normal, signs, uniform

WHOLE = st.integers(0, 2**40)


def splitmix64(state: int) -> int:
    """Steele, Lea and Flood 2014, figure 16, in Python's integers."""
    mask = 2**64 - 1
    state = (state + 0x9E3779B97F4A7C15) & mask
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


@settings(deadline=None)
@given(key=st.integers(-(2**63), 2**63 - 1), draw=st.integers(0, 10**6))
def test_a_number_is_the_hash_of_key_and_counter(key: int, draw: int) -> None:
    start = splitmix64((key + draw) % 2**64)
    expected = [(splitmix64((start + place * 0x9E3779B97F4A7C15) % 2**64) >> 40) / 2**24 for place in (1, 2, 3)]
    assert uniform(torch.tensor([key]), draw, 3).tolist() == [expected]


@settings(deadline=None)
@given(index=st.lists(WHOLE, min_size=2, max_size=20, unique=True), seed=WHOLE)
def test_a_sample_draws_the_same_alone_and_among_others(index: list[int], seed: int) -> None:
    def draws(rows: list[int]) -> Tensor:
        return normal(keys(seed, "test", torch.tensor(rows)), 5, 7)

    together = draws(index)
    assert torch.equal(draws(index[::-1]).flip(0), together)
    assert all(torch.equal(draws([row])[0], together[place]) for place, row in enumerate(index))


def test_whatever_a_draw_is_for_changes_it() -> None:
    index = torch.tensor([7])
    drawn = [
        uniform(keys(0, "test", index), 0, 64),
        uniform(keys(1, "test", index), 0, 64),
        uniform(keys(0, "text", index), 0, 64),
        uniform(keys(0, "test", index + 1), 0, 64),
        uniform(keys(0, "test", index, 1), 0, 64),
        uniform(keys(0, "test", index), 1, 64),
    ]
    for place, first in enumerate(drawn):
        for second in drawn[:place]:
            assert not torch.equal(first, second)
            # Four standard deviations of the correlation of 64 pairs.
            assert abs(float(torch.corrcoef(torch.cat([first, second]))[0, 1])) < 0.5


@pytest.mark.parametrize("seed", [0, 2022, 2**40])
def test_distributions_are_what_they_are_called(seed: int) -> None:
    key = keys(seed, "test", torch.arange(200))
    assert stats.kstest(uniform(key, 3, 500).flatten().numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(normal(key, 3, 501).flatten().numpy(), "norm").pvalue > 1e-4
    heads = int((signs(key, 3, 500) == 1).sum())
    assert stats.binomtest(heads, 100_000).pvalue > 1e-4
    bound = torch.tensor([1, 6]).expand(200, 2)
    first, second = integers(key, 4, bound).unbind(dim=1)
    assert (first == 0).all()
    assert sorted(set(second.tolist())) == [0, 1, 2, 3, 4, 5]


def test_numbers_of_neighbouring_keys_counters_and_draws_are_independent() -> None:
    numbers = uniform(keys(0, "test", torch.arange(300)), 0, 300).double()
    again = uniform(keys(0, "test", torch.arange(300)), 1, 300).double()
    # Six standard deviations of the correlation of 90,000 pairs.
    for one, other in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1]), (numbers, again)):
        pairs = torch.stack([one.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.02
