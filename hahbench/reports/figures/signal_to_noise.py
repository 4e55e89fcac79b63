"""Figure 3b: the signal-to-noise ratio at the input of each block, under Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from hahbench.metrics import CONFIDENCE
from hahbench.reports.figures import style


def signal_to_noise(activations: pd.DataFrame) -> pd.DataFrame:
    """The SNR of each model and block in dB: Cekic, Bakiskan and Madhow 2022, eq. 6, 10 log10 E[signal / noise].

    The 95 % interval is the t interval of the mean ratio over the samples, carried through the logarithm by the delta
    method. Samples whose input the noise leaves as it is, such as one that is 0 everywhere, have no ratio and are left
    out.

    Args:
        activations: ``ACTIVATION_COLUMNS`` and ``display``, the model's name.

    Returns:
        ``display``, ``block``, ``value``, ``low`` and ``high``; the interval is a point when there is one sample.
    """
    disturbed = activations[(activations["noise_power"] > 0) & (activations["signal_power"] > 0)]
    rows = []
    for (display, block), part in disturbed.groupby(["display", "block"], sort=False):
        ratio = (part["signal_power"] / part["noise_power"]).to_numpy()
        value, half = 10 * math.log10(ratio.mean()), 0.0
        if len(ratio) > 1:
            t = stats.t.ppf((1 + CONFIDENCE) / 2, len(ratio) - 1)
            half = float(t * 10 / np.log(10) * stats.sem(ratio) / ratio.mean())
        rows.append({"display": display, "block": block, "value": value, "low": value - half, "high": value + half})
    return pd.DataFrame(rows, columns=["display", "block", "value", "low", "high"])


@style.styled
def draw(points: pd.DataFrame, shown: Mapping[str, style.Look]) -> Figure:
    """Draw what ``signal_to_noise`` gives, with a line a model."""
    figure = style.new_figure(2.2, shown)
    axes = figure.subplots()
    style.lines(axes, points, "block", shown)
    axes.set(xlabel="Block", ylabel="SNR at the block's input (dB)", xticks=range(1, points["block"].max() + 1))
    style.legend(figure, shown)
    return figure
