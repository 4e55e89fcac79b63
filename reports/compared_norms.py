"""How much larger HaH's minimum norms are than Standard's, on the samples that both have right, from a store.

Of HaH the smaller of two norms counts, of the attacks through its own gradients and straight through its thresholds.

    python reports/compared_norms.py STORE [N]

takes the first N samples, or all, and prints a line for each norm that was measured on Standard, HaH and HaH-BPDA.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.weightstats import DescrStatsW

from hahbench.reports.figures.minimum_norms import mean_norms, smallest_norms
from hahbench.store import Store

NETWORKS = {"cifar10/Standard": "Standard", "cifar10/HaH": "HaH", "cifar10/HaH-BPDA": "HaH"}


def compared(cells: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """A row for each norm: both networks' mean norms and their difference, each with Student's 95 % interval.

    Args:
        cells: as ``Store.read`` gives them.
        outcomes: likewise.
    """
    named = cells[cells["model"].isin(NETWORKS)].assign(
        display=cells["model"].map(NETWORKS), attack=cells["attack"].str.removesuffix("-1000-steps")
    )
    sizes = smallest_norms(named, outcomes)
    means = mean_norms(sizes).set_index(["norm", "display"])
    rows = []
    for norm, size in sizes.pivot(index=["norm", "index"], columns="display", values="size").groupby("norm"):
        right = size[((size > 0) & np.isfinite(size)).all(axis=1)]
        difference = 100 * (right["HaH"] - right["Standard"]) / right["Standard"].mean()
        interval = DescrStatsW(difference).tconfint_mean()
        rows.append(
            {
                "norm": norm,
                **{name: _text(*means.xs((norm, name))) for name in ("Standard", "HaH")},
                "both right": len(right),
                "HaH's larger by (%)": _text(difference.mean(), *interval),
                "larger of (%)": f"{100 * (difference > 0).mean():.0f}",
            }
        )
    return pd.DataFrame(rows)


def _text(value: float, low: float, high: float) -> str:
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


if __name__ == "__main__":
    cells, outcomes = Store(Path(sys.argv[1])).read()
    if sys.argv[2:]:
        outcomes = outcomes[outcomes["index"] < int(sys.argv[2])]
    print(compared(cells, outcomes).to_string(index=False))
