"""The leaderboard: one row a model, the most robust first."""

from __future__ import annotations

import pandas as pd

from hahbench.reports.tables import Column, grid

COLUMNS = (
    Column("clean"),
    Column("autoattack-linf", 2 / 255),
    Column("autoattack-l2", 0.25),
    Column("gaussian-noise", 0.1),
    Column("fmn-l0", metric="median_norm"),
    Column("fmn-l1", metric="median_norm"),
    Column("fmn-l2", metric="median_norm"),
    Column("fmn-linf", metric="median_norm"),
)
_RANKED_BY = (COLUMNS[1], COLUMNS[3])


def leaderboard(models: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Models ranked by their accuracy under AutoAttack l_inf, then under noise; those without come last, by name.

    Args:
        models: as ``models_in`` gives them.
        scores: of one data set.

    Returns:
        As ``grid``, with a column ``rank`` first, for the clean accuracy and those of ``COLUMNS`` that were measured.
    """
    robust, noisy = grid(models, _RANKED_BY, scores)["value"].to_numpy(float).reshape(len(models), 2).T
    order = models.assign(robust=robust, noisy=noisy).sort_values(["robust", "noisy"], ascending=False).index
    ranked = models.loc[order]
    ranked.insert(0, "rank", range(1, len(ranked) + 1))
    board = grid(ranked, COLUMNS, scores)
    measured = board.groupby("title")["value"].transform("count") > 0
    return board[measured | (board["attack"] == "clean")]
