"""The exact sign-flip test, of which McNemar's test and Fisher's of a mean difference are cases."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_MOST_ADDITIONS = 3e7
"""Beyond this many, about 0.1 s, the normal distribution stands in where weights differ."""
_STEPS = 1000


class Evidence(NamedTuple):
    """Against "nothing changed": a two-sided p-value, and the sign, -1, 0 or 1, of the change that it speaks for."""

    p_value: float
    sign: int


def mcnemar(differences: NDArray[np.int64]) -> Evidence:
    """The test of "as likely to be lost as to be gained".

    With one draw this is McNemar's exact test (McNemar 1947). With several draws a sample's difference is the number
    of draws gained less the number lost, and the test is that of its mean: draws of one sample are not independent, so
    samples are the units.

    Args:
        differences: (N,), what each sample gained.
    """
    return _sign_flips(differences)


def mean_difference(differences: NDArray[np.float64]) -> Evidence:
    """Fisher's randomisation test of the mean of paired differences (Fisher 1935, section 21).

    A test of ranks would not do where the mean is what counts: many tiny gains outvote a few samples that lost all.
    Differences are rounded to thousandths. Where there are many, it is the normal approximation with a continuity
    correction, whose tails are heavier than the exact ones: a sum of independent signs has negative excess kurtosis.

    Args:
        differences: (N,) in [-1, 1], of the pairs.
    """
    return _sign_flips(np.rint(_STEPS * differences).astype(np.int64))


def _sign_flips(weights: NDArray[np.int64]) -> Evidence:
    """P(|sum of +-weights| >= that observed), each sign + or - with probability 1/2."""
    observed, sign = abs(int(weights.sum())), int(np.sign(weights.sum()))
    sizes, counts = np.unique(np.abs(weights[weights != 0]), return_counts=True)
    if not len(sizes):
        return Evidence(1.0, 0)
    total = int(sizes @ counts)
    if len(sizes) > 1 and counts.sum() * total > _MOST_ADDITIONS:
        # Sums are all even or all odd, two apart.
        return Evidence(min(1.0, 2 * float(stats.norm.sf((observed - 1) / np.sqrt(sizes**2 @ counts)))), sign)
    # The distribution of the sum of the weights whose sign is +.
    distribution = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        before, distribution = distribution, np.zeros(len(distribution) + size * count)
        for positive, chance in enumerate(stats.binom.pmf(np.arange(count + 1), count, 0.5)):
            distribution[size * positive : size * positive + len(before)] += chance * before
    return Evidence(min(1.0, 2 * float(distribution[(total + observed) // 2 :].sum())), sign)
