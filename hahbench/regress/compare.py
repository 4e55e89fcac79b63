"""Outcomes then and now, sample by sample, to verdicts."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hahbench import metrics
from hahbench.errors import HahbenchError
from hahbench.regress import sequential
from hahbench.sign_flips import Evidence, mcnemar, mean_difference

Metric: TypeAlias = Literal["accuracy", "median_norm"]
Verdict: TypeAlias = Literal["same", "better", "worse", "inconclusive"]
Value: TypeAlias = tuple[float, float, float]
"""A score and its 95 % interval."""

ALPHA = 0.01
"""By default, the chance of a false alarm."""
_POWER = 0.8
_ROUND_OFF = 1e-3
_NOTHING = (math.nan, math.nan, math.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """One model under one attack at one level, then and now, on the same samples.

    Attributes:
        model: its name.
        attack: its name.
        level: None for attacks without levels.
        metric: ``accuracy`` or ``median_norm``.
        before: (draws, N), a row per seed: bool, whether classified correctly, or float32, the minimum norms. An
            accuracy under an attack that searches for an error has one row, of what all draws left correct.
        now: (draws, K), of the first K <= N of these samples, in the same order.
        right_before: (N,) bool, whether the unperturbed image was classified correctly.
        right_now: (K,) bool.
        looked: whether ``now`` grew from one look to the next.
        doubt: what speaks against the scores now; empty where nothing does, or nobody looked.
        was_ok: whether those then were examined, and nothing spoke against them.
        unexamined: whether there was no time to look for what speaks against the scores now.
    """

    model: str
    attack: str
    level: float | None
    metric: Metric
    before: NDArray[Any]
    now: NDArray[Any]
    right_before: NDArray[np.bool_]
    right_now: NDArray[np.bool_]
    looked: bool = False
    doubt: str = ""
    was_ok: bool = False
    unexamined: bool = False

    @functools.cached_property
    def changes(self) -> NDArray[np.float64]:
        """(K,) in [-1, 1], what each sample gained in robustness.

        For accuracies the share of draws classified correctly, now less then. For norms, of which the smallest of the
        draws counts, the difference relative to the larger one: 1 from 0 or to infinity, -1 to 0 or from infinity.
        """
        before, now = self.before[:, : self.n], self.now
        if self.metric == "accuracy":
            difference: NDArray[np.float64] = now.mean(axis=0) - before.mean(axis=0)
            return difference
        then, later = before.min(axis=0).astype(float), now.min(axis=0).astype(float)
        larger = np.maximum(then, later)
        relative: NDArray[np.float64] = (later > then).astype(float) - (later < then)
        both = np.isfinite(larger) & (larger > 0)
        relative[both] = (later[both] - then[both]) / larger[both]
        return relative

    @property
    def n(self) -> int:
        """K, the number of samples compared."""
        return len(self.right_now)

    @property
    def baseline_n(self) -> int:
        """N, the number of samples in the baseline."""
        return len(self.right_before)

    @property
    def is_changed(self) -> bool:
        """Whether any sample changed; norms that round-off moves did not."""
        return bool((np.abs(self.changes) > _ROUND_OFF).any())

    @property
    def score_now(self) -> Value:
        """With its 95 % interval; NaN where nothing was measured."""
        return score(self.metric, self.now) if self.n else _NOTHING

    def score_with(self, confidence: float) -> Value:
        """The score of what was measured, with an exact interval of that confidence; NaN where nothing was."""
        return score(self.metric, self.now, confidence, "beta") if self.n else _NOTHING

    @functools.cached_property
    def evidence(self) -> Evidence:
        """Against "nothing changed"."""
        exact = Evidence(1.0, 0)
        if self.n == self.baseline_n:
            if self.metric == "accuracy":
                exact = mcnemar(self.now.sum(axis=0, dtype=np.int64) - self.before.sum(axis=0, dtype=np.int64))
            else:
                exact = mean_difference(self.changes)
            if not self.looked:
                return exact
        p_value, sign = min(exact, sequential.evidence(self.changes))
        return Evidence(min(1.0, 2 * p_value), sign)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        model: the model's name.
        attack: the attack's name.
        level: None for attacks without levels.
        metric: ``accuracy`` or ``median_norm``.
        verdict: see ``verdicts``.
        n: the number of samples compared.
        baseline_n: the number of samples in the baseline.
        before: the score on the samples compared, then; NaN where n = 0.
        now: the same, now.
        change: the mean of the samples' changes, in [-1, 1].
        lost: the number of samples that became less robust.
        gained: the number that became more robust.
        lost_clean: of those lost, the number whose unperturbed image is now classified wrongly, and was not.
        p_value: two-sided, adjusted by Holm's method over all that was compared.
        samples_to_settle: where inconclusive, about how many samples would settle it; infinity where none would.
        doubt: as of ``Pairs``.
        was_ok: as of ``Pairs``.
        unexamined: as of ``Pairs``.
    """

    model: str
    attack: str
    level: float | None
    metric: Metric
    verdict: Verdict
    n: int
    baseline_n: int
    before: Value
    now: Value
    change: float
    lost: int
    gained: int
    lost_clean: int
    p_value: float
    samples_to_settle: float | None
    doubt: str
    was_ok: bool
    unexamined: bool

    @property
    def is_suspect(self) -> bool:
        """Whether the score came into doubt, or got better by one in doubt, as where gradients come to be masked.

        Of a model that is attacked with the very same outcomes nothing is new: beside other models, whose adversarial
        images are tried on it, more speaks against the same score.
        """
        if not self.doubt or self.verdict == "worse":
            return False
        return self.verdict == "better" or (self.was_ok and bool(self.lost or self.gained))

    @property
    def drop(self) -> float:
        """How much robustness was lost: in accuracy, or relative to the norms."""
        return -self.change


def check_levels(alpha: float, tolerance: float) -> None:
    """Check what ``compare`` is to be given.

    Raises:
        HahbenchError: a level is out of its range.
    """
    if not 0 < alpha < 1:
        raise HahbenchError(f"alpha = {alpha}; allowed: a probability between 0 and 1, such as 0.01")
    if not 0 <= tolerance < 1:
        raise HahbenchError(f"tolerance = {tolerance}; allowed: 0 or more and below 1, such as 0.01")


def verdicts(pairs: Sequence[Pairs], *, alpha: float, tolerance: float) -> list[Verdict]:
    """A verdict on each.

    - ``worse`` and ``better``: the change is significant in its direction at ``alpha``, adjusted by Holm's method over
      all pairs, and beyond ``tolerance``. The test of accuracies is McNemar's exact one, that of norms Fisher's
      randomisation test of the mean change. Where ``now`` grew from look to look, half of ``alpha`` goes to an
      anytime-valid test, and half to these once all samples are there.
    - ``same``: neither, and not one sample changed, by more than a thousandth for norms, or a drop beyond
      ``tolerance`` is excluded at ``alpha``.
    - ``inconclusive``: none of these.

    Args:
        pairs: what was measured; an empty ``now`` is inconclusive.
        alpha: in (0, 1), bounds the chance that any pair of which nothing changed is called ``worse`` or ``better``,
            and for each pair that ``same`` hides a drop beyond ``tolerance``.
        tolerance: in [0, 1), of the drop in accuracy, and of the mean relative drop of norms.
    """
    significant = _holm([pair.evidence.p_value for pair in pairs]) <= alpha
    return [_verdict(pair, holds, alpha, tolerance) for pair, holds in zip(pairs, significant.tolist(), strict=True)]


def compare(pairs: Sequence[Pairs], *, alpha: float, tolerance: float) -> list[Comparison]:
    """The verdicts with all that there is to say; arguments as for ``verdicts``."""
    adjusted = _holm([pair.evidence.p_value for pair in pairs])
    # What Holm asks of the next to be rejected.
    next_alpha = alpha / max(1, int((adjusted > alpha).sum()))
    found = verdicts(pairs, alpha=alpha, tolerance=tolerance)
    return [
        _described(
            pair,
            verdict,
            float(p_value),
            _samples_to_settle(pair, alpha, next_alpha, tolerance) if verdict == "inconclusive" else None,
        )
        for pair, verdict, p_value in zip(pairs, found, adjusted, strict=True)
    ]


def cannot_get_worse(outcomes: NDArray[Any], cells: int) -> bool:
    """Whether the loss of every robust sample would not be significant at ``ALPHA``, by Holm's method.

    Args:
        outcomes: (draws, N) of a baseline's cell.
        cells: the number of cells that are compared.
    """
    robust = int((outcomes.max(axis=0) > 0).sum())
    return cells * 2.0 ** (1 - robust) > ALPHA


def score(
    metric: Metric,
    outcomes: NDArray[Any],
    confidence: float = metrics.CONFIDENCE,
    method: Literal["wilson", "beta"] = "wilson",
) -> Value:
    """The score of outcomes (draws, N), pooled over the draws, and its interval; ``method`` as for accuracies."""
    if metric == "accuracy":
        return metrics.accuracy(outcomes.mean(axis=0), confidence, method)[:3]
    return metrics.median_norm(outcomes.min(axis=0).astype(float), confidence)[:3]


def _holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjusted p-values (Holm 1979); that of statsmodels collects garbage at each call, which takes far longer."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values, float)[order] * factors), 1)
    return adjusted


def _verdict(pair: Pairs, significant: bool, alpha: float, tolerance: float) -> Verdict:
    changed = pair.changes
    if significant and pair.evidence.sign * changed.mean() > tolerance:
        return "worse" if pair.evidence.sign < 0 else "better"
    complete = pair.n == pair.baseline_n
    if (complete and not pair.is_changed) or sequential.excludes_drop(changed, tolerance, alpha):
        return "same"
    return "inconclusive"


def _described(pair: Pairs, verdict: Verdict, p_value: float, samples_to_settle: float | None) -> Comparison:
    n, changed = pair.n, pair.changes
    lost, gained = changed < -_ROUND_OFF, changed > _ROUND_OFF
    return Comparison(
        model=pair.model,
        attack=pair.attack,
        level=pair.level,
        metric=pair.metric,
        verdict=verdict,
        n=n,
        baseline_n=pair.baseline_n,
        before=score(pair.metric, pair.before[:, :n]) if n else _NOTHING,
        now=pair.score_now,
        change=float(changed.mean()) if n else 0.0,
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        lost_clean=int((lost & pair.right_before[:n] & ~pair.right_now).sum()),
        p_value=p_value,
        samples_to_settle=samples_to_settle,
        doubt=pair.doubt,
        was_ok=pair.was_ok,
        unexamined=pair.unexamined,
    )


def _samples_to_settle(pair: Pairs, alpha: float, next_alpha: float, tolerance: float) -> float:
    """With power 0.8 if further samples resemble these: until significant, or until a drop is excluded."""
    changed = pair.changes
    if not len(changed):
        return math.inf
    change = changed.mean()
    if -change > tolerance:
        z = stats.norm.isf(next_alpha / 2) + stats.norm.ppf(_POWER)
        needed = float((changed**2).mean() * (z / change) ** 2)
    else:
        needed = sequential.samples_to_exclude_drop(changed, tolerance, alpha)
        if not pair.is_changed:
            # All samples unchanged are the same, however few.
            needed = min(needed, pair.baseline_n)
    needed = max(needed, len(changed) + 1.0)
    if math.isinf(needed):
        return needed
    step = 10.0 ** (math.floor(math.log10(needed)) - 1)
    return max(math.ceil(needed / step) * step, len(changed) + 1.0)
