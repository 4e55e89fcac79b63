"""Outcomes to scores with 95 % intervals; pure functions on data frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

CONFIDENCE = 0.95

_ROUND_OFF = 1e-5
# Two attacks that are equally good each miss a few samples on the edge.
_FEWEST_MISSED = 2
_SMALLEST_SHARE_MISSED = 0.05

SCORE_COLUMNS: dict[str, str] = {
    "dataset": "str",
    "data_digest": "str",
    "model": "str",
    "model_digest": "str",
    "attack": "str",
    "level": "float64",
    "metric": "str",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "n": "int64",
    "draws": "int64",
    "verdict": "str",
}
"""The columns of a score table. ``value`` has the 95 % interval [``low``, ``high``]; ``draws`` were pooled.

``verdict`` is ``ok`` where nothing speaks against a robust accuracy or a minimum norm, else ``suspect:`` and why; empty
where it was not examined.
"""

_CARRIED_OUT = ["kind", "norm", "params", "attack_version"]
_MEASURED = ["data_digest", "model", "model_digest", "attack", "level"]


def scores(cells: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Score every (data, model, attack, level), with its 95 % interval.

    Minimum-norm attacks, which search for an error and have a norm but no level, have the metrics ``median_norm`` and
    ``mean_norm``, in that norm; all others have ``accuracy``. Cells that differ in nothing but the seed are draws of
    one score. Of cells that share the seed too, such as those of an older version of the attack, the newest counts.

    Args:
        cells: a row per cell, as the store gives them.
        outcomes: a row per cell and sample, with the cell's ``key``.

    Returns:
        ``SCORE_COLUMNS``, a row per metric; accuracies in [0, 1], norms in pixel values of [0, 1].
    """
    ordered = cells.sort_values("created", kind="stable")
    last = ordered.drop_duplicates(_MEASURED, keep="last")[[*_MEASURED, *_CARRIED_OUT]]
    newest = ordered.merge(last, on=[*_MEASURED, *_CARRIED_OUT])
    labelled = newest[["key", "dataset", *_MEASURED, "seed", "norm", "worst_case", "verdict"]]
    rows: list[dict[str, object]] = []
    labelled_outcomes = outcomes.merge(labelled, on="key")
    for measured, part in labelled_outcomes.groupby(_MEASURED, dropna=False):
        facts = dict(zip(_MEASURED, measured, strict=True))
        facts |= {"dataset": part["dataset"].iloc[0], "draws": part["seed"].nunique()}
        # Of several draws the one that raises doubts counts: "suspect" sorts after "ok" and "".
        facts["verdict"] = part["verdict"].max()
        if _is_minimum_norm(part):
            same = (labelled_outcomes[["data_digest", "model", "model_digest"]] == list(measured[:3])).all(axis=1)
            facts["verdict"] = _verdict_on_norms(part, labelled_outcomes[same])
        for metric, value, low, high, n in _metrics(part):
            rows.append({**facts, "metric": metric, "value": value, "low": low, "high": high, "n": n})
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS)).astype(SCORE_COLUMNS)


def _is_minimum_norm(part: pd.DataFrame) -> bool:
    norm, level, worst_case = part[["norm", "level", "worst_case"]].iloc[0]
    return bool(norm and worst_case and pd.isna(level))


def _verdict_on_norms(part: pd.DataFrame, of_model: pd.DataFrame) -> str:
    """Whether attacks of the same norm within an epsilon broke samples for which this one found nothing as near.

    Args:
        part: the outcomes of a minimum-norm attack.
        of_model: all outcomes of the same model on the same samples.

    Returns:
        Empty where there is no other attack to compare with.
    """
    norm = part["norm"].iloc[0]
    nearest = part.groupby("index")[norm].min().rename("nearest")
    bounded = of_model[of_model["worst_case"] & (of_model["norm"] == norm) & of_model["level"].notna()]
    doubts = []
    for (attack, level), other in bounded.groupby(["attack", "level"]):
        broken = other[(other["clean_pred"] == other["label"]) & (other["adv_pred"] != other["label"])]
        found = broken.drop_duplicates("index").join(nearest, on="index", how="inner")["nearest"]
        missed = int((found > level * (1 + _ROUND_OFF)).sum())
        if missed >= max(_FEWEST_MISSED, _SMALLEST_SHARE_MISSED * len(nearest)):
            doubts.append(
                f"{attack} broke {missed} of {len(nearest)} samples within {level:.4g} for which this attack found "
                "nothing as near"
            )
    if doubts:
        return f"suspect: {'; '.join(doubts)}"
    return "" if bounded.empty else "ok"


def _metrics(part: pd.DataFrame) -> Iterator[tuple[str, float, float, float, int]]:
    norm = part["norm"].iloc[0]
    if not _is_minimum_norm(part):
        right = (part["adv_pred"] == part["label"]).groupby(part["index"]).mean()
        yield "accuracy", *accuracy(right.to_numpy(float))
        return
    best = part.sort_values(norm).drop_duplicates("index")
    yield "median_norm", *median_norm(best[norm].to_numpy(float))
    moved = best[(best["clean_pred"] == best["label"]) & np.isfinite(best[norm])]
    if len(moved):
        yield "mean_norm", *mean_norm(moved[norm].to_numpy(float))


def accuracy(right: np.ndarray) -> tuple[float, float, float, int]:
    """Accuracy and its Wilson interval.

    Args:
        right: (N,) in [0, 1], the fraction of each sample's draws that were classified correctly.

    Returns:
        Value, low, high and N. The interval is that of N samples drawn once; with several draws it is conservative,
        because averaging over draws can only lower a sample's variance.
    """
    value, n = float(right.mean()), len(right)
    low, high = proportion_confint(value * n, n, alpha=1 - CONFIDENCE, method="wilson")
    return value, float(low), float(high), n


def median_norm(norms: np.ndarray) -> tuple[float, float, float, int]:
    """Median norm and its exact interval between two order statistics, which needs no distribution.

    Args:
        norms: (N,), of the smallest perturbation that broke each sample in any draw; 0 where the model was already
            wrong, infinity where no draw broke it.

    Returns:
        Value, low, high and N; the interval is [0, inf] when N < 6, too few for any order statistics.
    """
    interval: Any = stats.quantile_test(norms, q=0, p=0.5).confidence_interval(CONFIDENCE)
    low = 0.0 if np.isnan(interval.low) else float(interval.low)
    high = np.inf if np.isnan(interval.high) else float(interval.high)
    return float(np.median(norms)), low, high, len(norms)


def mean_norm(norms: np.ndarray) -> tuple[float, float, float, int]:
    """Mean norm and its t interval, cut at 0.

    Args:
        norms: (N,), of the samples that were classified correctly and then broken. Where many samples withstand the
            attack this mean flatters it; ``median_norm`` leaves none out.

    Returns:
        Value, low, high and N; the interval is [0, inf] when N = 1.
    """
    value, n = float(norms.mean()), len(norms)
    low, high = DescrStatsW(norms).tconfint_mean(alpha=1 - CONFIDENCE) if n > 1 else (0.0, np.inf)
    return value, max(float(low), 0.0), float(high), n
