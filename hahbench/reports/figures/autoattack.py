"""The accuracies under AutoAttack that figures show, of networks that may have been attacked in several ways."""

from __future__ import annotations

import pandas as pd

from hahbench.metrics import accuracy, newest_cells
from hahbench.spec import NORMS

ATTACKS = tuple(f"{name}-{norm}" for name in ("autoattack", "apgd") for norm in NORMS)
"""AutoAttack, whole or its two APGD members."""


def autoattack_accuracies(cells: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """The accuracies under ``ATTACKS``. A sample counts where it withstood all of them, and every model of that name.

    Args:
        cells: as the store gives them, and ``display``, the model's name.
        outcomes: as the store gives them.

    Returns:
        ``display``, ``norm``, ``level``, the epsilon, and ``value`` in percent with its 95 % interval ``low`` and
        ``high``.
    """
    ball = ["display", "norm", "level"]
    attacks = newest_cells(cells[cells["attack"].isin(ATTACKS)])
    found = outcomes.merge(attacks[["key", *ball]], on="key")
    right = found.assign(right=found["adv_pred"] == found["label"]).groupby([*ball, "index"], sort=False)["right"].all()
    rows = []
    for names, part in right.groupby(ball, sort=False):
        value, low, high, _ = accuracy(part.to_numpy(float))
        percent = {"value": 100 * value, "low": 100 * low, "high": 100 * high}
        rows.append(dict(zip(ball, names, strict=True)) | percent)
    return pd.DataFrame(rows, columns=[*ball, "value", "low", "high"])
