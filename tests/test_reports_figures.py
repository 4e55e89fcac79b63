"""What figures show, computed a second time; and how they look: apart, inside, legible, the same to the byte."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy import stats

from hahbench.corruptions import OFFICIAL, SEVERITIES
from hahbench.metrics import accuracy
from hahbench.reports.figures import (
    autoattack,
    blocks,
    corruptions,
    examples,
    minimum_norms,
    noise,
    robustness_curve,
    signal_to_noise,
    sparsity,
    style,
)
from hahbench.spec import NORMS
from tests.test_reports_write import Results

LONG = "HaH, gradients straight through the thresholds (BPDA)"
NAMES = ["Standard", "Adv", "HaH", "No HaH loss", "Batch norm instead of divisive norm", LONG]
MODELS = pd.DataFrame({"model": ["Standard", "Adv", "HaH", "HaH-no-loss", "HaH-batch-norm", "x"], "display": NAMES})
LOOKS = style.looks(MODELS)


# --- numbers ----------------------------------------------------------------------------------------------------------


def activations(**columns: list[float]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    plain = {"display": "m", "block": 1, "index": range(n), "hoyer": 0.5, "signal_power": 1.0, "noise_power": 1.0}
    return pd.DataFrame({**plain, **columns})


def test_sparsity_is_the_mean_over_the_samples_with_its_t_interval() -> None:
    hoyer = [0.1, 0.2, 0.4, math.nan]
    (point,) = sparsity.sparsity(activations(hoyer=hoyer)).to_dict("records")
    # sd 0.152753; t(0.975, 2) = 4.302653.
    half = 4.302653 * 0.152753 / math.sqrt(3)
    assert (point["value"], point["low"], point["high"]) == pytest.approx(
        (0.7 / 3, 0.7 / 3 - half, 0.7 / 3 + half), abs=1e-5
    )
    (alone,) = sparsity.sparsity(activations(hoyer=[0.3])).to_dict("records")
    assert (alone["low"], alone["value"], alone["high"]) == (0.3, 0.3, 0.3)


def test_signal_to_noise_is_the_logarithm_of_the_mean_ratio() -> None:
    samples = activations(signal_power=[100.0, 400.0, 9.0, 0.0], noise_power=[10.0, 20.0, 0.0, 1.0])
    (point,) = signal_to_noise.signal_to_noise(samples).to_dict("records")
    # Ratios 10 and 20: their mean 15 is 11.7609 dB, where the mean of their decibels would be 11.505.
    assert point["value"] == pytest.approx(11.76091, abs=1e-5)
    # t(0.975, 1) = 12.7062, standard error 5, and d(10 log10 r) = 4.342945 dr / r.
    assert point["high"] - point["value"] == pytest.approx(12.7062 * 4.342945 * 5 / 15, rel=1e-4)
    assert point["value"] - point["low"] == pytest.approx(point["high"] - point["value"])


def test_the_interval_of_signal_to_noise_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    ratios = random.lognormal(0, 0.5, (400, 60))
    truth = 10 * math.log10(math.exp(0.125))
    frame = pd.DataFrame({"display": "m", "block": np.repeat(range(400), 60), "noise_power": 1.0})
    points = signal_to_noise.signal_to_noise(frame.assign(signal_power=ratios.ravel()))
    covered = ((points["low"] <= truth) & (truth <= points["high"])).sum()
    assert stats.binomtest(int(covered), 400, 0.95).pvalue > 0.001


def test_accuracy_under_noise_begins_without_noise() -> None:
    scores = pd.DataFrame(
        [("clean", math.nan, 0.9), ("gaussian-noise", 0.1, 0.6), ("fmn-l2", math.nan, 0.3)],
        columns=["attack", "level", "value"],
    ).assign(display="m", low=0.5, high=1.0)
    points = noise.accuracy_under_noise(scores)
    assert points[["std", "value", "low", "high"]].to_numpy().tolist() == [[0.0, 90, 50, 100], [0.1, 60, 50, 100]]


def test_noisy_images_are_those_of_the_attack() -> None:
    clean, noisy = (image.astype(float) for image in noise.noisy_images([0.0, 0.1])["image"])
    assert clean.shape == (32, 32, 3)
    inside = (noisy > 0) & (noisy < 1)
    assert np.std((noisy - clean)[inside]) == pytest.approx(0.1, rel=0.05)


def test_images_that_would_touch_are_left_out() -> None:
    levels = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert noise.spread(levels) == [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert noise.spread([0.0, 0.1]) == [0.0, 0.1]


def fmn_results() -> Results:
    """Ten samples: in the first draw all are broken at 0.4, in the second four of them withstand."""
    fmn: dict[str, Any] = {"attack": "fmn-l2", "norm": "l2", "worst_case": True}
    results = Results().add("HaH", 0, l2=0.1, **fmn, attack_version="0", created="2023-01-01")
    return results.add("HaH", 0, l2=0.4, **fmn).add("HaH", 4, l2=0.3, **fmn, seed=1)


def test_the_smallest_norm_of_all_draws_counts_but_none_of_an_older_attack() -> None:
    results = fmn_results()
    sizes = minimum_norms.smallest_norms(
        pd.DataFrame(results.cells).assign(display="HaH"), pd.concat(results.outcomes, ignore_index=True)
    )
    assert sizes["size"].tolist() == [0.4] * 4 + [0.3] * 6
    assert set(sizes["norm"]) == {"l2"}
    (mean,) = minimum_norms.mean_norms(sizes).to_dict("records")
    assert mean["value"] == pytest.approx(0.34)


def sized(*sizes: float) -> pd.DataFrame:
    return pd.DataFrame({"display": "m", "norm": "l2", "index": range(len(sizes)), "size": sizes})


def test_the_mean_norm_leaves_out_what_was_wrong_or_withstood() -> None:
    (mean,) = minimum_norms.mean_norms(sized(0.0, 1.0, 3.0, math.inf)).to_dict("records")
    assert mean["value"] == 2
    assert minimum_norms.mean_norms(sized(0.0, math.inf)).empty


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, math.inf]), min_size=1, max_size=30))
def test_robust_accuracy_counts_the_samples_left_at_each_epsilon(sizes: list[float]) -> None:
    curve = robustness_curve.robust_accuracies(sized(*sizes))
    assert curve["epsilon"].tolist() == sorted({0.0, *(size for size in sizes if size < math.inf)})
    for point in curve.to_dict("records"):
        left = np.array([size > point["epsilon"] for size in sizes], dtype=float)
        value, low, high, _ = accuracy(left)
        assert (point["value"], point["low"], point["high"]) == pytest.approx((100 * value, 100 * low, 100 * high))


def marks(*attacked: tuple[str, str, float, int]) -> pd.DataFrame:
    """Of (model, attack, epsilon, right): the first ``right`` of ten samples withstood."""
    results = Results()
    for model, attack, level, right in attacked:
        norm = attack.split("-")[1]
        results.add(model, right, attack=attack, level=level, norm=norm, worst_case=True, kind="autoattack")
    cells = pd.DataFrame(results.cells)
    return autoattack.autoattack_accuracies(
        cells.assign(display=cells["model"].replace({"HaH-BPDA": "HaH"})), pd.concat(results.outcomes)
    )


MARKS = marks((NAMES[0], "autoattack-linf", 2 / 255, 2), (NAMES[1], "autoattack-l2", 0.25, 3))


def test_autoattack_is_marked_at_its_norm_and_epsilon() -> None:
    found = marks(
        ("Standard", "autoattack-linf", 2 / 255, 2),
        ("HaH", "autoattack-l2", 0.25, 3),
        ("HaH", "autoattack-l2-reference", 0.25, 1),
        ("HaH", "fmn-l2", 0.25, 1),
    )
    assert found[["display", "norm", "level"]].to_numpy().tolist() == [
        ["Standard", "linf", 2 / 255],
        ["HaH", "l2", 0.25],
    ]
    # Wilson's intervals of 2 and 3 in 10.
    expected = [[20, 5.668, 50.984], [30, 10.779, 60.322]]
    assert found[["value", "low", "high"]].to_numpy() == pytest.approx(np.array(expected), abs=0.001)


@pytest.mark.parametrize(("model", "attack"), [("HaH-BPDA", "apgd-l2"), ("HaH", "autoattack-l2")])
def test_of_two_attacks_on_one_network_what_withstands_both_is_marked(model: str, attack: str) -> None:
    results = Results().add("HaH", 6, attack="apgd-l2", level=0.25, norm="l2", worst_case=True)
    results.add(model, 5, attack=attack, level=0.25, norm="l2", worst_case=True)
    results.outcomes[1]["adv_pred"] = results.outcomes[1]["adv_pred"].to_numpy()[::-1]
    outcomes = pd.concat(results.outcomes)
    cells = pd.DataFrame(results.cells).assign(display="HaH")
    (mark,) = autoattack.autoattack_accuracies(cells, outcomes).to_dict("records")
    # Samples 0 to 5 withstand the one, 5 to 9 the other.
    assert mark["value"] == 10


@pytest.mark.parametrize("sizes", [[math.inf] * 3, [0.0, 0.0], [0.0, 0.1, math.inf], [0.1, 0.1], [1e-9, 1e-3, 0.5]])
def test_norms_are_drawn_whichever_there_are(sizes: list[float], tmp_path: Path) -> None:
    every = pd.concat([sized(*sizes).assign(display="HaH", norm=norm) for norm in NORMS])
    shown = {"HaH": style.PALETTE[0]}
    for figure in (
        minimum_norms.draw(every, shown),
        robustness_curve.draw(robustness_curve.robust_accuracies(every), MARKS, shown),
    ):
        assert all(path.stat().st_size > 0 for path in style.save(figure, tmp_path / "figure"))


@pytest.mark.parametrize("sizes", [[math.inf] * 3, [0.5, 1.0, 2.0], [1e-4, 2e-4, 3e-4]])
def test_no_mark_lies_off_the_axis(sizes: list[float]) -> None:
    every = pd.concat([sized(*sizes).assign(display="HaH", norm=norm) for norm in NORMS])
    mark = marks(("HaH", "autoattack-l2", 0.01, 0))
    figure = robustness_curve.draw(robustness_curve.robust_accuracies(every), mark, {"HaH": style.PALETTE[0]})
    figure.draw_without_rendering()
    first, last = figure.axes[NORMS.index("l2")].get_xlim()
    assert first < 0.01 < last


def test_figure_6_takes_the_number_of_blocks_from_the_models_name() -> None:
    scores = pd.DataFrame(
        [
            ("cifar10/Standard", "clean", math.nan, 0.9),
            ("HaH-4", "apgd-linf", 2 / 255, 0.25),
            ("HaH-4", "autoattack-linf", 2 / 255, 0.2),
            ("ResNet-18", "clean", math.nan, 0.95),
            ("cifar10/HaH", "apgd-l2", 0.25, 0.3),
            ("HaH-BPDA", "apgd-l2", 0.25, 0.1),
            ("HaH", "apgd-l2", 0.5, 0.1),
        ],
        columns=["model", "attack", "level", "value"],
    ).assign(low=0.0, high=1.0)
    points = blocks.accuracies(scores)
    assert points[["display", "blocks", "value"]].to_numpy().tolist() == [
        ["Clean", 0, 90],
        ["APGD l_inf 2/255", 4, 25],
        ["APGD l2 0.25", 6, 30],
    ]


def test_the_heatmap_has_the_order_of_the_benchmark_and_gaps_where_something_is_missing() -> None:
    rows = [
        ("corruption-fog", 3.0, 0.6),
        ("corruption-fog", math.nan, 0.7),
        ("corruption-gaussian-noise", 1.0, 0.9),
        ("clean", math.nan, 1.0),
    ]
    scores = pd.DataFrame(rows, columns=["attack", "level", "value"]).assign(low=0.5, high=0.9, metric="accuracy")
    percent = corruptions.accuracies(scores)
    assert percent.index.tolist() == ["Gaussian noise", "Fog"]
    assert percent.loc["Fog"].dropna().to_dict() == pytest.approx({3: 60, "mean": 70, "half": 20})
    assert percent.loc["Gaussian noise"].dropna().to_dict() == pytest.approx({1: 90})


# --- looks ------------------------------------------------------------------------------------------------------------


def test_a_model_of_the_paper_looks_the_same_whichever_models_are_beside() -> None:
    few = style.looks(pd.DataFrame({"model": ["mine", "cifar10/HaH"], "display": ["mine", "our HaH"]}))
    assert few["our HaH"] == LOOKS["HaH"]
    assert list(few) == ["our HaH", "mine"]
    assert few["mine"] not in LOOKS.values() or few["mine"] == LOOKS[LONG]


def test_no_two_models_look_alike() -> None:
    names = [f"m{place}" for place in range(60)] + ["HaH", "Standard"]
    assert len(set(style.looks(pd.DataFrame({"model": names, "display": names})).values())) == 62


def test_a_model_of_ones_own_has_a_colour_of_its_own_while_there_are_any() -> None:
    names = ["Standard", "HaH", "HaH-no-loss", "mine", "yours"]
    found = style.looks(pd.DataFrame({"model": names, "display": names}))
    assert len({look.color for look in found.values()}) == 5


# Machado, Oliveira and Fernandes 2009, severity 1: what protanopes and deuteranopes see of linear RGB.
PROTANOPE = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTERANOPE = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
JUST_NOTICEABLE = 2.3


@pytest.mark.parametrize("vision", [np.eye(3), np.array(PROTANOPE), np.array(DEUTERANOPE)])
def test_colours_differ_for_every_reader(vision: npt.NDArray[np.float64]) -> None:
    def lab(color: str) -> npt.NDArray[np.float64]:
        encoded = np.array(to_rgb(color))
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        xyz = TO_XYZ @ (vision @ linear).clip(0, 1) / (TO_XYZ @ np.ones(3))
        f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    colors = {look.color for look in style.PALETTE}
    distances = [np.linalg.norm(lab(one) - lab(other)) for one, other in itertools.combinations(colors, 2)]
    assert min(distances) > 4 * JUST_NOTICEABLE


def per_block() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame([(name, block) for name in NAMES for block in range(1, 14)], columns=["display", "block"])
    return interval(frame.assign(value=random.uniform(0.1, 0.9, len(frame))), 0.03)


def interval(points: pd.DataFrame, half: float) -> pd.DataFrame:
    return points.assign(low=points["value"] - half, high=points["value"] + half)


def under_noise() -> Figure:
    levels = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    points = pd.DataFrame([(name, std) for name in NAMES for std in levels], columns=["display", "std"])
    points = interval(points.assign(value=95 - 250 * points["std"]), 3)
    return noise.draw(points, noise.noisy_images(noise.spread(levels)), LOOKS)


def norms() -> pd.DataFrame:
    random = np.random.default_rng(0)
    scale = {"l0": 20.0, "l1": 2.0, "l2": 0.2, "linf": 0.006}
    parts = [
        pd.DataFrame({"display": name, "norm": norm, "index": range(60), "size": random.gamma(2, scale[norm], 60)})
        for name in NAMES
        for norm in NORMS
    ]
    return pd.concat(parts, ignore_index=True)


def over_blocks() -> Figure:
    points = pd.DataFrame(
        [(column.title, place, 90 - 20 * row) for row, column in enumerate(blocks.COLUMNS) for place in range(7)],
        columns=["display", "blocks", "value"],
    )
    return blocks.draw(interval(points, 2))


def heatmap() -> Figure:
    rows = [(f"corruption-{name.replace('_', '-')}", level) for name in OFFICIAL for level in (*SEVERITIES, math.nan)]
    scores = pd.DataFrame(rows, columns=["attack", "level"]).assign(value=0.987, low=0.8, high=1.0, metric="accuracy")
    return corruptions.draw(corruptions.accuracies(scores))


def strip() -> Figure:
    file = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(file, format="png")
    shown = {"label": "automobile", "predicted": "a class of a long name", "norm": "linf"}
    pictures = {"image": file.getvalue(), "perturbation": file.getvalue()}
    rows = [{"display": name, "size": 0.0123456, **shown, **pictures} for name in NAMES for _ in range(3)]
    return examples.draw(pd.DataFrame(rows), "linf", NAMES)


FIGURES: dict[str, Callable[[], Figure]] = {
    "sparsity": lambda: sparsity.draw(per_block(), LOOKS),
    "signal-to-noise": lambda: signal_to_noise.draw(per_block(), LOOKS),
    "noise": under_noise,
    "minimum-norms": lambda: minimum_norms.draw(norms(), LOOKS),
    "robustness-curve": lambda: robustness_curve.draw(robustness_curve.robust_accuracies(norms()), MARKS, LOOKS),
    "blocks": over_blocks,
    "corruptions": heatmap,
    "examples": strip,
}


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_inside_apart_and_large_enough(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = FIGURES[name]()
    drawn: list[Text] = []

    def record(text: Text, renderer: RendererBase, draw: Any = Text.draw) -> None:
        drawn.append(text)
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", record)
    figure.draw_without_rendering()
    shown = [(text, text.get_window_extent()) for text in drawn if text.get_visible() and text.get_text().strip()]
    assert shown
    page = figure.bbox
    for text, box in shown:
        assert float(text.get_fontsize()) >= 6, text
        assert page.x0 - 0.5 <= box.x0 < box.x1 <= page.x1 + 0.5, text
        assert page.y0 - 0.5 <= box.y0 < box.y1 <= page.y1 + 0.5, text
    for (one, box), (other, its_box) in itertools.combinations(shown, 2):
        # Line boxes include the room above and below the letters.
        width = min(box.x1, its_box.x1) - max(box.x0, its_box.x0)
        height = min(box.y1, its_box.y1) - max(box.y0, its_box.y0)
        assert not (width > 0.5 and height > 1.5), (one, other)


def test_a_figure_is_the_same_to_the_byte_each_time_and_as_wide_as_a_column(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    first, second = (style.save(FIGURES["sparsity"](), tmp_path / name) for name in ("first", "second"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert [path.suffix for path in first] == [".png", ".pdf"]
    assert b"CreationDate" not in first[1].read_bytes()
    with Image.open(first[0]) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.width == 3.3 * 300
    assert dict(mpl.rcParams) == before


def test_intervals_are_drawn(tmp_path: Path) -> None:
    points = interval(pd.DataFrame({"display": "HaH", "block": [1, 2], "value": [0.4, 0.6]}), 0.1)
    axes = sparsity.draw(points, {"HaH": LOOKS["HaH"]}).axes[0]
    ((_, _, (bars,)),) = axes.containers
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [pytest.approx([0.3, 0.5]), pytest.approx([0.5, 0.7])]
