"""Robust accuracy against epsilon, read off the smallest perturbations that FMN found, beside AutoAttack's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from statsmodels.stats.proportion import proportion_confint

from hahbench.metrics import CONFIDENCE
from hahbench.reports.figures import style
from hahbench.reports.figures.minimum_norms import label
from hahbench.spec import NORMS

_TAIL = 0.02


def robust_accuracies(sizes: pd.DataFrame) -> pd.DataFrame:
    """The part of the samples that no perturbation of size epsilon or less broke, at every epsilon where it changes.

    Args:
        sizes: as ``smallest_norms`` gives them.

    Returns:
        ``display``, ``norm``, ``epsilon``, from 0, and ``value`` in percent with Wilson's 95 % interval ``low`` and
        ``high``, which holds at each epsilon by itself.
    """
    parts = []
    for (display, norm), part in sizes.groupby(["display", "norm"], sort=False):
        broken_at = np.sort(part["size"].to_numpy())
        epsilon = np.unique(np.append(0.0, broken_at[np.isfinite(broken_at)]))
        n = len(broken_at)
        right = n - np.searchsorted(broken_at, epsilon, side="right")
        low, high = proportion_confint(right, n, alpha=1 - CONFIDENCE, method="wilson")
        columns = {"epsilon": epsilon, "value": 100 * right / n, "low": 100 * low, "high": 100 * high}
        parts.append(pd.DataFrame({"display": display, "norm": norm, **columns}))
    return pd.concat(parts, ignore_index=True)


@style.styled
def draw(points: pd.DataFrame, autoattack: pd.DataFrame, shown: Mapping[str, style.Look]) -> Figure:
    """Draw what ``robust_accuracies`` gives, over epsilon on a logarithmic scale, a panel a norm.

    It begins where the first model has lost 2 points, and ends where 2 % of the best model's samples are left. Hollow
    marks, for which there is room besides, show what ``autoattack_accuracies`` gives.
    """
    figure = style.new_figure(3.5, shown)
    panels = figure.subplots(2, 2, sharey=True)
    for axes, norm in zip(panels.flat, NORMS, strict=True):
        of_norm = points[points["norm"] == norm]
        marks = autoattack[(autoattack["norm"] == norm) & autoattack["display"].isin(shown)]
        first, last = _limits(of_norm, marks["level"])
        for place, (name, look) in enumerate(shown.items()):
            curve = of_norm[of_norm["display"] == name]
            if curve.empty:
                continue
            end = curve.iloc[[-1]].assign(epsilon=max(last, curve["epsilon"].iloc[-1]))
            curve = pd.concat([curve, end], ignore_index=True)
            axes.fill_between(
                curve["epsilon"], curve["low"], curve["high"], step="post", color=look.color, alpha=0.12, linewidth=0
            )
            axes.step(curve["epsilon"], curve["value"], where="post", color=look.color)
            # Markers evenly along the axis, where no two models have theirs.
            marked = first * (last / first) ** ((np.arange(4) + (place + 0.5) / len(shown)) / 4)
            heights = curve["value"].to_numpy()[np.searchsorted(curve["epsilon"], marked, side="right") - 1]
            axes.plot(marked, heights, color=look.color, marker=look.marker, linestyle="")
        for mark in marks.to_dict("records"):
            look = shown[mark["display"]]
            axes.errorbar(
                mark["level"],
                mark["value"],
                [[mark["value"] - mark["low"]], [mark["high"] - mark["value"]]],
                color=look.color,
                marker=look.marker,
                # Without a face, so that no mark hides another.
                markerfacecolor="none",
                zorder=3,
            )
        style.log_axis(axes, first, last)
        axes.set(xlabel=label(norm, "epsilon"), ylim=(0, 102))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
    for axes in panels[:, 0]:
        axes.set_ylabel("Robust accuracy (%)")
    style.legend(figure, shown)
    return figure


def _limits(points: pd.DataFrame, marked: pd.Series) -> tuple[float, float]:
    lost = points.groupby("display")["value"].transform("max") - points["value"] >= 100 * _TAIL
    left = points["value"] > 100 * _TAIL
    ends = [points.loc[lost, "epsilon"].min(), points.loc[left, "epsilon"].max(), *(marked / 1.5), *(marked * 1.5)]
    known = [end for end in ends if end > 0] or [0.1]
    first, last = min(known), max(known)
    return (first, last) if first < last else (first / 2, 2 * first)
