"""Figure 6: clean against robust accuracy over the number of HaH blocks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from hahbench.reports.figures import style
from hahbench.reports.tables import TABLE1
from hahbench.spec import name_without_folder

MODELS = ("Standard", "HaH-1", "HaH-2", "HaH-3", "HaH-4", "HaH-5", "HaH")
"""The models in order, the place of each its number of HaH blocks."""

COLUMNS = TABLE1.columns


def accuracies(scores: pd.DataFrame) -> pd.DataFrame:
    """The accuracies of ``COLUMNS`` in percent, for ``MODELS`` in any folder of models.

    Args:
        scores: as ``hahbench.metrics.scores`` gives them.

    Returns:
        ``display``, the title of the score, ``blocks``, ``value``, ``low`` and ``high``.
    """
    values = ["value", "low", "high"]
    blocks = scores["model"].map(name_without_folder).map({name: place for place, name in enumerate(MODELS)})
    wanted = {(column.attack, column.level): column.title for column in COLUMNS}
    levels = scores["level"].astype(object).where(scores["level"].notna(), None)
    pairs = zip(scores["attack"], levels, strict=True)
    titles = pd.Series([wanted.get(pair) for pair in pairs], scores.index, dtype=object)
    return (scores[values] * 100).assign(display=titles, blocks=blocks).dropna(subset=["display", "blocks"])


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
