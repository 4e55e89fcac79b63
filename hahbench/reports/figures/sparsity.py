"""Figure 2: the sparsity of each block's activations on clean images."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from statsmodels.stats.weightstats import DescrStatsW

from hahbench.metrics import CONFIDENCE
from hahbench.reports.figures import style


def sparsity(activations: pd.DataFrame) -> pd.DataFrame:
    """The mean Hoyer ratio of each model and block, with its 95 % t interval over the samples.

    Args:
        activations: ``ACTIVATION_COLUMNS`` and ``display``, the model's name.

    Returns:
        ``display``, ``block``, ``value``, ``low`` and ``high``; the interval is a point when there is one sample.
    """
    rows = []
    for (display, block), part in activations.dropna(subset="hoyer").groupby(["display", "block"], sort=False):
        value = part["hoyer"].mean()
        low, high = value, value
        if len(part) > 1:
            low, high = DescrStatsW(part["hoyer"].to_numpy()).tconfint_mean(alpha=1 - CONFIDENCE)
        rows.append({"display": display, "block": block, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["display", "block", "value", "low", "high"])


@style.styled
def draw(points: pd.DataFrame, shown: Mapping[str, style.Look]) -> Figure:
    """Draw what ``sparsity`` gives, with a line a model."""
    figure = style.new_figure(2.2, shown)
    axes = figure.subplots()
    style.lines(axes, points, "block", shown)
    axes.set(
        xlabel="Block", ylabel="Hoyer ratio, 0 to 1\n(lower is sparser)", xticks=range(1, points["block"].max() + 1)
    )
    axes.set_ylim(bottom=0)
    style.legend(figure, shown)
    return figure
