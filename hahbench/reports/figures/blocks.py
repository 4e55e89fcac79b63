"""Figure 6: clean against robust accuracy over the number of HaH blocks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from hahbench.reports.figures import style
from hahbench.reports.figures.autoattack import ATTACKS
from hahbench.reports.tables import TABLE1
from hahbench.spec import name_without_folder

MODELS = ("Standard", "HaH-1", "HaH-2", "HaH-3", "HaH-4", "HaH-5", "HaH")
"""The models in order, the place of each its number of HaH blocks."""

COLUMNS = TABLE1.columns


def accuracies(scores: pd.DataFrame, under_autoattack: pd.DataFrame) -> pd.DataFrame:
    """The accuracies of ``COLUMNS`` in percent, for ``MODELS`` in any folder of models.

    Args:
        scores: as ``hahbench.metrics.scores`` gives them; those under AutoAttack do not count.
        under_autoattack: as ``autoattack_accuracies`` gives them, and ``model``.

    Returns:
        ``display``, the title of the score, ``blocks``, ``value``, ``low`` and ``high``.
    """
    values = ["value", "low", "high"]
    others = scores[~scores["attack"].isin(ATTACKS)]
    others = others.assign(**{name: others[name] * 100 for name in values})
    robust = under_autoattack.assign(attack="apgd-" + under_autoattack["norm"])
    points = pd.concat([others, robust], ignore_index=True)
    blocks = points["model"].map(name_without_folder).map({name: place for place, name in enumerate(MODELS)})
    wanted = {(column.attack, column.level): column.title for column in COLUMNS}
    levels = points["level"].astype(object).where(points["level"].notna(), None)
    pairs = zip(points["attack"], levels, strict=True)
    titles = pd.Series([wanted.get(pair) for pair in pairs], points.index, dtype=object)
    return points[values].astype(float).assign(display=titles, blocks=blocks).dropna(subset=["display", "blocks"])


@style.styled
def draw(points: pd.DataFrame) -> Figure:
    """Draw what ``accuracies`` gives, with a line a score."""
    shown = dict(zip((column.title for column in COLUMNS), style.PALETTE, strict=False))
    measured = {title: look for title, look in shown.items() if title in set(points["display"])}
    figure = style.new_figure(2.4, measured)
    axes = figure.subplots()
    style.lines(axes, points, "blocks", measured)
    axes.set(xlabel="HaH blocks (0 is Standard, 6 is HaH)", ylabel="Accuracy (%)", ylim=(0, 102))
    axes.set_xticks(range(len(MODELS)))
    style.legend(figure, measured)
    return figure
