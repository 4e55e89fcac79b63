"""Tests that stay valid however often one looks: bets on the mean of bounded numbers.

Ville's inequality bounds by alpha the chance that the capital of a gambler, who bets against a hypothesis that holds,
ever reaches 1 / alpha. The bets are those of Waudby-Smith and Ramdas 2023, https://arxiv.org/abs/2010.09686, section 4,
with a fixed mixture of stakes. On flags they are bets on discordant pairs, a sequential McNemar test.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hahbench.sign_flips import Evidence

Floats = NDArray[np.float64]

_STAKES = np.geomspace(0.01, 0.99, 24)
"""Shares of the capital that are bet; which does best depends on the unknown mean and variance, so each gets a part."""


FIRST_LOOK = 32
"""The number of samples of the first look; each of the next doubles it."""


def most_looks(n: int) -> int:
    """How many looks there are until all of ``n`` samples are seen."""
    return 1 + max(0, math.ceil(math.log2(n / FIRST_LOOK)))


def attack_order(n: int) -> NDArray[np.int64]:
    """The order in which ``n`` samples are looked at: drawn once for all, for data sets sorted by class."""
    return np.random.default_rng(0).permutation(n)


def evidence(changes: Floats) -> Evidence:
    """Against "the mean change is 0"; valid at every time, however that was chosen.

    Args:
        changes: (N,) in [-1, 1], in the order in which they came.
    """
    if not len(changes):
        return Evidence(1.0, 0)
    up, down = _log_capital(changes, 0.0), _log_capital(-changes, 0.0)
    # Half of the capital bets on either side.
    best = float(np.logaddexp(up, down).max()) - math.log(2)
    return Evidence(math.exp(-max(best, 0.0)), 1 if up.max() > down.max() else -1)


def excludes_drop(changes: Floats, tolerance: float, alpha: float) -> bool:
    """Whether "the mean change is -tolerance or lower" was rejected at ``alpha`` at any time.

    Args:
        changes: (N,) in [-1, 1], in the order in which they came.
        tolerance: in [0, 1).
        alpha: the chance of a rejection where the hypothesis holds.
    """
    return bool(len(changes)) and bool(_log_capital(changes, -tolerance).max() >= -math.log(alpha))


def samples_to_exclude_drop(changes: Floats, tolerance: float, alpha: float) -> float:
    """How many samples ``excludes_drop`` would take if further samples resembled these; infinity if it never would."""
    logs = np.log1p(_bets(changes, -tolerance)).mean(axis=1)
    wanted = math.log(len(_STAKES)) - math.log(alpha)
    low, high = 1.0, 1e9
    if special.logsumexp(high * logs) < wanted:
        return math.inf
    while high > low * 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if special.logsumexp(middle * logs) >= wanted else (middle, high)
    return high


def _log_capital(changes: Floats, mean: float) -> Floats:
    """(N,), the logarithm of the capital after each bet on "the mean is above ``mean``"."""
    logs = np.log1p(_bets(changes, mean)).cumsum(axis=1)
    capital: Floats = special.logsumexp(logs, axis=0) - math.log(len(_STAKES))
    return capital


def _bets(changes: Floats, mean: float) -> Floats:
    """(stakes, N), what each stake wins at each bet; never below -1."""
    bets: Floats = np.outer(_STAKES, (changes - mean) / (1 + abs(mean)))
    return bets
