"""The leaderboard: one row a model, the most robust first."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hahbench.reports.tables import Column, grid
from hahbench.spec import NORMS, REFERENCE

COLUMNS = (
    Column("clean"),
    Column("autoattack-linf", 2 / 255),
    Column("autoattack-l2", 0.25),
    Column("autoattack-linf" + REFERENCE, 2 / 255),
    Column("autoattack-l2" + REFERENCE, 0.25),
    Column("apgd-linf", 2 / 255),
    Column("apgd-l2", 0.25),
    Column("pgd-linf", 2 / 255),
    Column("pgd-l2", 0.25),
    Column("gaussian-noise", 0.1),
    Column("fmn-l0", metric="median_norm"),
    Column("fmn-l1", metric="median_norm"),
    Column("fmn-l2", metric="median_norm"),
    Column("fmn-linf", metric="median_norm"),
    Column("carlini-wagner-l2", metric="median_norm"),
    *(Column(f"fmn-{norm}{REFERENCE}", metric="median_norm") for norm in NORMS),
)
_RANKED_BY = (Column("autoattack-linf", 2 / 255), Column("apgd-linf", 2 / 255), Column("gaussian-noise", 0.1))


def leaderboard(models: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Models ranked by their accuracy under AutoAttack l_inf, then APGD l_inf, then noise; those without come last.

    Args:
        models: as ``models_in`` gives them.
        scores: of one data set.

    Returns:
        As ``grid``, with a column ``rank`` first, for the clean accuracy and those of ``COLUMNS`` that were measured.
    """
    values = grid(models, _RANKED_BY, scores)["value"].to_numpy(float).reshape(len(models), len(_RANKED_BY))
    # The last key counts most; NaN, a score that is missing, sorts to the end.
    ranked = models.iloc[np.lexsort(-values.T[::-1])]
    ranked.insert(0, "rank", range(1, len(ranked) + 1))
    board = grid(ranked, COLUMNS, scores)
    measured = board.groupby("title")["value"].transform("count") > 0
    return board[measured | (board["attack"] == "clean")]
