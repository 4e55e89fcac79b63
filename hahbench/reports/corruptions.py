"""Accuracy under every corruption at every severity: a table a model."""

from __future__ import annotations

import pandas as pd

from hahbench.corruptions import OFFICIAL, SEVERITIES
from hahbench.metrics import CORRUPTION_SETS, PROCEDURAL_FROST, WITHOUT_FROST, corruption_attack
from hahbench.reports import display
from hahbench.reports.tables import Column, grid

_ATTACKS = [corruption_attack(name) for name in OFFICIAL]
_ATTACKS.insert(_ATTACKS.index(corruption_attack("frost")) + 1, corruption_attack("frost_procedural"))
COLUMNS = (
    *(Column(attack, level) for attack in _ATTACKS for level in (*map(float, SEVERITIES), None)),
    *(
        Column(name + end, metric=metric)
        for name in CORRUPTION_SETS
        for end in ("", WITHOUT_FROST, PROCEDURAL_FROST)
        for metric in ("accuracy", "relative_error")
    ),
)


def corruption_scores(models: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """As ``grid``, for ``COLUMNS``; what no model has is left out."""
    found = grid(models, COLUMNS, scores)
    return found[found.groupby("title")["value"].transform("count") > 0]


def severities_text(scored: pd.DataFrame) -> pd.DataFrame:
    """One model's corruptions for reading: a row each, with the severities and their mean; the averages come last.

    Args:
        scored: of one model, as ``corruption_scores`` gives it.
    """
    rows: dict[str, dict[str, str]] = {}
    for score in scored.to_dict("records"):
        title = display.score_title(score["attack"], None, score["metric"])
        heading = "Mean" if pd.isna(score["level"]) else f"Severity {score['level']:g}"
        text = display.MISSING
        if pd.notna(score["value"]):
            text = display.score_text(score["metric"], score["value"], score["low"], score["high"])
        rows.setdefault(display.escape(title), {})[heading] = text
    headings = [*(f"Severity {severity}" for severity in SEVERITIES), "Mean"]
    return pd.DataFrame(
        [
            {"Corruption": title, **{heading: row.get(heading, "") for heading in headings}}
            for title, row in rows.items()
        ]
    )
