"""Figure 4: accuracy against the standard deviation of Gaussian noise, with a strip of noisy images below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import nn

from hahbench.attacks.noise import GaussianNoise
from hahbench.data import shapes
from hahbench.reports.figures import style

_SHOWN = 6  # a star
_IMAGES = 7  # that fit side by side
_POINTS = 24  # of print, a side
_MARGIN = 0.09


def accuracy_under_noise(scores: pd.DataFrame) -> pd.DataFrame:
    """The accuracies of ``scores`` in percent; those without noise are at ``std`` 0.

    Args:
        scores: as ``hahbench.metrics.scores`` gives them, and ``display``, the model's name.

    Returns:
        ``display``, ``std``, ``value``, ``low`` and ``high``.
    """
    shown = scores[scores["attack"].isin(["clean", "gaussian-noise"])]
    percent = shown[["value", "low", "high"]] * 100
    return percent.assign(display=shown["display"], std=shown["level"].fillna(0.0))


def noisy_images(levels: Sequence[float]) -> pd.DataFrame:
    """An image of the embedded data set under the noise of the attack ``gaussian-noise``.

    Whichever data set is measured, so that the images of none are needed to make the figure, nor published with it.

    Returns:
        ``std`` and ``image``, (H, W, 3) in [0, 1].
    """
    sample = shapes.draw("test", _SHOWN + 1).first(_SHOWN + 1)[-1:]
    attack = GaussianNoise()
    noisy = [attack(nn.Identity(), sample, level, 0, lambda *_: None).images[0] for level in levels]
    return pd.DataFrame({"std": levels, "image": [image.permute(1, 2, 0).numpy() for image in noisy]})


def spread(levels: Sequence[float]) -> list[float]:
    """The levels, of those in ascending order, at which images stand side by side without touching."""
    kept: list[float] = []
    for level in levels:
        if not kept or level - kept[-1] >= (1 - 1e-9) * (levels[-1] - levels[0]) / (_IMAGES - 1):
            kept.append(level)
    return kept


@style.styled
def draw(points: pd.DataFrame, images: pd.DataFrame, shown: Mapping[str, style.Look]) -> Figure:
    """Draw what ``accuracy_under_noise`` gives, with a line a model, and what ``noisy_images`` gives below."""
    figure = style.new_figure(2.7, shown)
    curves, strip = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    levels = np.sort(images["std"].to_numpy())
    style.lines(curves, points, "std", shown)
    curves.set(ylabel="Accuracy (%)", ylim=(0, 102))
    curves.set_xticks(levels)
    strip.set(xlabel="Standard deviation of noise (pixels in [0, 1])", ylim=(0, 1), yticks=[])
    strip.set_xlim(levels[0] - _MARGIN * levels[-1], (1 + _MARGIN) * levels[-1])
    strip.spines[:].set_visible(False)
    strip.tick_params(length=0, pad=1)
    for image in images.to_dict("records"):
        pixels = image["image"]
        thumbnail = OffsetImage(pixels, zoom=_POINTS / len(pixels), interpolation="nearest")
        strip.add_artist(AnnotationBbox(thumbnail, (image["std"], 0.5), frameon=False, pad=0))
    style.legend(figure, shown)
    return figure
