"""Accuracy under each corruption at each severity, and the mean over the severities: a heatmap a model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.figure import Figure
from seaborn.utils import relative_luminance

from hahbench.corruptions import SEVERITIES
from hahbench.reports import display
from hahbench.reports.corruptions import COLUMNS
from hahbench.reports.figures import style

_BLACK_ABOVE = 0.18
"""The luminance at which black and white letters have the same contrast (WCAG 2.1)."""


def accuracies(scores: pd.DataFrame) -> pd.DataFrame:
    """The accuracies of one model in percent, a row per corruption that was run at any severity.

    Args:
        scores: of one model, as ``hahbench.metrics.scores`` gives them.

    Returns:
        The severities as columns, then ``mean`` and half of its 95 % interval, ``half``; NaN where missing. The index
        is the names of the corruptions.
    """
    order = {column.attack: None for column in COLUMNS if column.attack.startswith("corruption-")}
    shown = scores[(scores["metric"] == "accuracy") & scores["attack"].isin(order)]
    percent = shown.assign(value=100 * shown["value"]).pivot_table(index="attack", columns="level", values="value")
    means = shown[shown["level"].isna()].set_index("attack")
    percent = percent.reindex(index=[attack for attack in order if attack in percent.index], columns=SEVERITIES)
    percent = percent.assign(mean=100 * means["value"], half=50 * (means["high"] - means["low"]))
    return percent.rename(index=lambda attack: display.score_title(attack, None, "accuracy"))


@style.styled
def draw(percent: pd.DataFrame) -> Figure:
    """Draw what ``accuracies`` gives."""
    figure = style.new_figure(0.8 + 0.19 * len(percent))
    severities, means = figure.subplots(1, 2, sharey=True, width_ratios=[5, 1.9])
    mean = percent[["mean"]]
    written = [
        ["" if np.isnan(value) else f"{value:.0f} ± {half:.0f}"]
        for value, half in zip(percent["mean"], percent["half"], strict=True)
    ]
    common = {"vmin": 0, "vmax": 100, "cmap": "cividis", "linewidths": 0.3, "cbar": False, "annot_kws": {"size": 6.5}}
    sns.heatmap(percent[list(SEVERITIES)], annot=True, fmt=".0f", ax=severities, **common)
    sns.heatmap(mean, annot=np.array(written), fmt="", ax=means, **common)
    severities.set(xlabel="Severity", ylabel="")
    means.set(xlabel="", ylabel="", xticks=[0.5], xticklabels=["Mean"])
    for axes, shown in ((severities, percent[list(SEVERITIES)]), (means, mean)):
        axes.tick_params(length=0, labelrotation=0)
        for text in axes.texts:
            column, row = (int(part) for part in text.get_position())
            background = colormaps["cividis"](shown.to_numpy(float)[row, column] / 100)
            text.set_color("black" if relative_luminance(background) > _BLACK_ABOVE else "white")
    figure.colorbar(
        severities.collections[0], ax=[severities, means], location="bottom", aspect=40, label="Accuracy (%)"
    )
    return figure
