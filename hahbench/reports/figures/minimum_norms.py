"""Figure 5: the norms of minimum-norm attacks, for p = 0, 1, 2 and infinity: mean and distribution."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from hahbench.metrics import mean_norm, newest_cells
from hahbench.reports.figures import style
from hahbench.spec import NORMS

ATTACKS = tuple(f"fmn-{norm}" for norm in NORMS)

_FEWEST_ROWS = 4
_HEAD = 0.01


def label(norm: str, what: str) -> str:
    """Of an axis that shows ``what`` in this norm, with its unit."""
    unit = "colour values" if norm == "l0" else "pixel values"
    return f"${style.SYMBOLS[norm]}$ {what} ({unit})"


def smallest_norms(cells: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """The smallest perturbation that FMN found for each sample, in any draw.

    Args:
        cells: as the store gives them, and ``display``, the model's name.
        outcomes: as the store gives them.

    Returns:
        ``display``, ``norm`` (its name), ``index`` and ``size``: 0 where the model was wrong already, infinity where no
        draw broke the sample.
    """
    fmn = newest_cells(cells[cells["attack"].isin(ATTACKS)])[["key", "display", "norm"]]
    found = outcomes.merge(fmn, on="key")
    columns = found[list(NORMS)].to_numpy(float)
    places = [NORMS.index(norm) for norm in found["norm"]]
    sizes = found.assign(size=columns[np.arange(len(found)), places])
    return sizes.groupby(["display", "norm", "index"], sort=False)["size"].min().reset_index()


def mean_norms(sizes: pd.DataFrame) -> pd.DataFrame:
    """The mean of ``smallest_norms`` with its 95 % interval, over the samples that were right at first and then broken.

    Returns:
        ``display``, ``norm``, ``value``, ``low`` and ``high``.
    """
    moved = sizes[(sizes["size"] > 0) & np.isfinite(sizes["size"])]
    rows = [
        {"display": display, "norm": norm}
        | dict(zip(("value", "low", "high"), mean_norm(part["size"].to_numpy()), strict=False))
        for (display, norm), part in moved.groupby(["display", "norm"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["display", "norm", "value", "low", "high"])


@style.styled
def draw(sizes: pd.DataFrame, shown: Mapping[str, style.Look]) -> Figure:
    """Draw what ``smallest_norms`` gives: a panel a norm, in it a row a model: its marker, a violin, the mean as a
    tick and the mean's interval as a bar.

    The axes are logarithmic, as are the densities: an adversarially trained model has norms ten times those of others.
    They begin where the smallest hundredth of each model's norms has gone by: an image may lie on the very boundary.
    """
    moved = sizes[(sizes["size"] > 0) & np.isfinite(sizes["size"])]
    means = {(mean["display"], mean["norm"]): mean for mean in mean_norms(sizes).to_dict("records")}
    figure = style.new_figure(0.9 + 0.22 * max(len(shown), _FEWEST_ROWS), shown)
    for axes, norm in zip(figure.subplots(2, 2).flat, NORMS, strict=True):
        of_norm = moved[moved["norm"] == norm]
        if not of_norm.empty:
            low = of_norm.groupby("display")["size"].quantile(_HEAD).min()
            style.log_axis(axes, 0.9 * low, 1.1 * of_norm["size"].max())
        sns.violinplot(
            of_norm,
            x="size",
            y="display",
            hue="display",
            order=list(shown),
            hue_order=list(shown),
            palette={name: look.color for name, look in shown.items()},
            inner=None,
            cut=0,
            density_norm="width",
            linewidth=0.4,
            alpha=0.35,
            legend=False,
            ax=axes,
        )
        for place, (name, look) in enumerate(shown.items()):
            # Beside the row: on it, it would hide the interval, which is narrower.
            beside = axes.get_yaxis_transform()
            axes.plot(-0.04, place, color=look.color, marker=look.marker, transform=beside, clip_on=False)
            if mean := means.get((name, norm)):
                interval = [mean["low"], mean["high"]]
                axes.plot(interval, [place, place], color=look.color, linewidth=4, solid_capstyle="butt")
                axes.plot(mean["value"], place, color=look.color, marker="|", markersize=7)
        axes.set(xlabel=label(norm, "norm"), ylabel="", yticks=[])
        axes.grid(axis="x")
        axes.set_axisbelow(True)
    style.legend(figure, shown, line=False)
    return figure
