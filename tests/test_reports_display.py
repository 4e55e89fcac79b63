"""How attacks, levels, scores and names look."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hahbench.reports.display import escape, score_text, score_title
from hahbench.spec import level_text


@pytest.mark.parametrize(
    ("level", "text"),
    [(2 / 255, "2/255"), (8 / 255, "8/255"), (0.25, "0.25"), (0.1, "0.1"), (0.2, "0.2"), (1.0, "1"), (3.0, "3")],
)
def test_levels_are_written_as_people_write_them(level: float, text: str) -> None:
    assert level_text(level) == text


@pytest.mark.parametrize(
    ("attack", "level", "metric", "title"),
    [
        ("clean", None, "accuracy", "Clean"),
        ("gaussian-noise", 0.1, "accuracy", "Gaussian noise sigma 0.1"),
        ("autoattack-linf", 2 / 255, "accuracy", "AutoAttack l_inf 2/255"),
        ("autoattack-l2", 0.25, "accuracy", "AutoAttack l2 0.25"),
        ("fmn-linf", None, "median_norm", "FMN l_inf, median norm"),
        ("of {a plug-in}", 0.5, "accuracy", "of {a plug-in} 0.5"),
        ("of {a plug-in}", None, "mean_norm", "of {a plug-in}, mean norm"),
    ],
)
def test_titles(attack: str, level: float | None, metric: str, title: str) -> None:
    assert score_title(attack, level, metric) == title


@pytest.mark.parametrize(
    ("metric", "numbers", "text"),
    [
        ("accuracy", (0.64, 0.621, 0.6589), "64.0 [62.1, 65.9]"),
        ("accuracy", (1.0, 0.9996, 1.0), "100.0 [100.0, 100.0]"),
        ("median_norm", (0.28, 0.01234, math.inf), "0.280 [0.0123, ∞]"),
        ("median_norm", (12.0, 0.0, 3071.6), "12.0 [0.00, 3072]"),
        ("median_norm", (100.0, 99.96, 100.4), "100 [100, 100]"),
    ],
)
def test_scores(metric: str, numbers: tuple[float, float, float], text: str) -> None:
    assert score_text(metric, *numbers) == text


def test_markup_is_made_literal() -> None:
    assert escape("a | b") == "a &#124; b"
    assert escape("<b>&\n# c") == "&lt;b&gt;&amp; # c"
    assert escape("[x](javascript:y) `z` \\|") == "&#91;x&#93;(javascript:y) &#96;z&#96; &#92;&#124;"


@settings(deadline=None)
@given(st.text())
def test_nothing_that_opens_markup_survives(text: str) -> None:
    assert not set(escape(text)) & set("|<>`*[]\\\n\r")


def test_plain_names_stay_as_they_are() -> None:
    assert escape("shapes/HaH-no_loss (1a2b3c4d)") == "shapes/HaH-no_loss (1a2b3c4d)"
