"""The worst adversarial examples of each model: the smallest perturbations that broke a sample."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from hahbench.reports.figures import style


@style.styled
def draw(examples: pd.DataFrame, norm: str, shown: Iterable[str]) -> Figure:
    """Draw a row a model: each adversarial image with its perturbation, scaled, beside it.

    Args:
        examples: ``EXAMPLE_COLUMNS`` and ``display``, the model's name.
        norm: of the attack.
        shown: the display names, in order.
    """
    names = [name for name in shown if (examples["display"] == name).any()]
    count = int(examples["display"].value_counts().max())
    figure = style.new_figure(0.1 + 0.92 * len(names))
    rows = figure.subfigures(len(names), 1, squeeze=False)[:, 0]
    for row, name in zip(rows, names, strict=True):
        row.suptitle(_cut(name, 60), fontsize=7, x=0.02, ha="left")
        panels = row.subplots(1, 2 * count, squeeze=False)[0]
        for axes in panels:
            axes.axis("off")
        of_model = examples[examples["display"] == name].sort_values("size")
        for place, example in enumerate(of_model.to_dict("records")):
            image, perturbation = panels[2 * place : 2 * place + 2]
            _show(image, example["image"])
            _show(perturbation, example["perturbation"])
            classes = " → ".join(_cut(example[column], 11) for column in ("label", "predicted"))
            text = f"{classes}\n${style.SYMBOLS[norm]}$ = {example['size']:.3g}"
            image.set_title(text, fontsize=6, loc="left", pad=2)
    return figure


def _cut(name: str, length: int) -> str:
    """``name``, safe from being read as mathematics."""
    cut = name if len(name) <= length else f"{name[: length - 1]}…"
    return cut.replace("$", r"\$")


def _show(axes: Axes, png: bytes) -> None:
    pixels: npt.NDArray[np.uint8] = np.asarray(Image.open(io.BytesIO(png)))
    axes.imshow(pixels, interpolation="nearest")
