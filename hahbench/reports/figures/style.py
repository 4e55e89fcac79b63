"""How figures look: one colour and one marker a model, in a fixed order, at the width of a column of print."""

from __future__ import annotations

import dataclasses
import itertools
import math
import textwrap
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from hahbench.atomic import replacing
from hahbench.spec import name_without_folder

P = ParamSpec("P")

WIDTH = 3.3
"""Of a column of print, in inches."""

# Okabe and Ito's colours, which colour-blind readers can tell apart, and grey for their yellow, pale in print.
_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h", "d")
_APART = 0.6
_WIDE = 10
_LEGEND_COLUMNS = 2
_LEGEND_WIDTH = 28  # letters
_LEGEND_LINE = 0.13  # inches
_ORDER = (
    "Standard",
    "Adv",
    "HaH",
    "HaH-no-loss",
    "HaH-batch-norm",
    "HaH-no-threshold",
    "HaH-release-loss",
    "HaH-seed-2023",
)

_SETTINGS: dict[Any, Any] = {
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.color": "0.88",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}


@dataclasses.dataclass(frozen=True)
class Look:
    """What stands for one model, or one score, in every panel."""

    color: str
    marker: str


SYMBOLS = {"l0": r"\ell_0", "l1": r"\ell_1", "l2": r"\ell_2", "linf": r"\ell_\infty"}
"""The norms, in mathematics."""

PALETTE = tuple(itertools.starmap(Look, zip(_COLORS, _MARKERS, strict=False)))
"""The looks, in their fixed order."""


def looks(models: pd.DataFrame) -> dict[str, Look]:
    """The look of each model by its display name, in the order in which figures show them.

    The paper's models come first and look the same in every report. The first of their variants, such as
    ``HaH-eighth-width``, stands in for one that is absent; the others, variants first, take what is left, colours of
    their own first.

    Args:
        models: ``model`` and ``display``, a row per model.
    """
    free = list(zip(itertools.cycle(_COLORS), _MARKERS * len(_COLORS), strict=False))
    names = dict(zip(models["display"], models["model"].map(name_without_folder), strict=True))
    found: dict[str, Look] = {}
    for known, pair in zip(_ORDER, free[: len(_ORDER)], strict=True):
        exact = [display for display, name in names.items() if name == known]
        for display in (exact or [display for display, name in names.items() if _variant_of(name) == known])[:1]:
            found[display] = Look(*pair)
            del names[display]
    used = {look.color for look in found.values()}
    others = itertools.cycle(sorted(free[len(_ORDER) :], key=lambda pair: pair[0] in used))
    order = [*_ORDER, ""]
    variants_first = sorted(names, key=lambda display: order.index(_variant_of(names[display])))
    return found | {display: Look(*next(others)) for display in variants_first}


def _variant_of(name: str) -> str:
    """The model of the paper whose name this one begins with; empty where there is none."""
    return max((known for known in _ORDER if f"{name}-".startswith(f"{known}-")), key=len, default="")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: draw with this module's settings, and leave matplotlib's own as they are."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return drawn


def new_figure(height: float, named: Collection[str] = ()) -> Figure:
    """A figure as wide as a column, that makes room for its labels by itself.

    Args:
        height: in inches, without the legend.
        named: the names that ``legend`` will show.
    """
    lines = [_broken(name).count("\n") + 1 for name in named]
    rows = math.ceil(len(lines) / _LEGEND_COLUMNS)
    legend_lines = max(sum(lines[:rows]), sum(lines[rows:]))
    return Figure(figsize=(WIDTH, height + _LEGEND_LINE * legend_lines), layout="constrained")


def lines(axes: Axes, points: pd.DataFrame, x: str, shown: Mapping[str, Look]) -> None:
    """A line with intervals for each name of ``shown``, a little beside one another, so that none hides another.

    Args:
        axes: to draw on.
        points: ``display``, ``x``, ``value``, ``low`` and ``high``.
        x: the column along the horizontal axis.
        shown: in the order of drawing.
    """
    places = np.sort(points[x].unique())
    apart = _APART * np.diff(places).min(initial=1.0) / len(shown)
    for place, (name, look) in enumerate(shown.items()):
        # What was not measured interrupts the line.
        of_model = pd.DataFrame({x: places}).merge(points[points["display"] == name], on=x, how="left")
        below, above = of_model["value"] - of_model["low"], of_model["high"] - of_model["value"]
        axes.errorbar(
            of_model[x] + apart * (place - (len(shown) - 1) / 2),
            of_model["value"],
            yerr=[below.clip(lower=0), above.clip(lower=0)],
            color=look.color,
            marker=look.marker,
            elinewidth=0.7,
            capsize=1.5,
            capthick=0.7,
            # The paper's own models come first, and no other hides them.
            zorder=2 + 1 / (place + 1),
        )
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the horizontal axis logarithmic, from ``low`` to ``high``, with a few numbers written out."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    subdivisions: tuple[float, ...] = (1.0, 2.0, 5.0)
    if high / low > _WIDE:
        powers_of_ten = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
        subdivisions = (1.0,) if powers_of_ten > 1 else (1.0, 3.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subdivisions))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, shown: Mapping[str, Look], *, line: bool = True) -> None:
    """Name what is shown, below the figure; long names are broken into lines."""
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="-" if line else "", label=_broken(name))
        for name, look in shown.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=_LEGEND_COLUMNS,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.0,
        labelspacing=0.3,
    )


def _broken(name: str) -> str:
    return textwrap.fill(" ".join(name.split()), _LEGEND_WIDTH).replace("$", r"\$")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a PNG of 300 dots an inch and a PDF, the same to the byte for the same figure.

    Raises:
        OSError: a file cannot be written; files are written whole or not at all.
    """
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "pdf")]
    for path in paths:
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
        with replacing(path) as temporary, mpl.rc_context(_SETTINGS):
            figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    return paths
