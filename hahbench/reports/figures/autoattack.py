"""The accuracies under AutoAttack that figures show, of networks that may have been attacked in several ways."""

from __future__ import annotations

import pandas as pd

from hahbench.metrics import accuracy, newest_cells
from hahbench.spec import NORMS


def autoattack_accuracies(cells: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """The accuracies under AutoAttack. A sample counts where it withstood every draw, and every model of that name.

    Args:
        cells: as the store gives them, and ``display``, the model's name.
        outcomes: as the store gives them.

    Returns:
        ``display``, ``attack``, ``norm``, ``level``, the epsilon, and ``value`` in percent with its 95 % interval
        ``low`` and ``high``.
    """
    named = ["display", "attack", "norm", "level"]
    attacks = cells[cells["attack"].isin([f"autoattack-{norm}" for norm in NORMS])]
    found = outcomes.merge(newest_cells(attacks)[["key", *named]], on="key")
    right = (
        found.assign(right=found["adv_pred"] == found["label"]).groupby([*named, "index"], sort=False)["right"].all()
    )
    rows = []
    for names, part in right.groupby(named, sort=False):
        value, low, high, _ = accuracy(part.to_numpy(float))
        percent = {"value": 100 * value, "low": 100 * low, "high": 100 * high}
        rows.append(dict(zip(named, names, strict=True)) | percent)
    return pd.DataFrame(rows, columns=[*named, "value", "low", "high"])
