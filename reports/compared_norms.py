"""How much larger HaH's minimum norms are than Standard's, on the samples that both have right, from a store.

Of HaH the smaller of two norms counts, of the attacks through its own gradients and straight through its thresholds.

    python reports/compared_norms.py STORE [N]

takes the first N samples, or all, and prints a line for each attack that was run on Standard, HaH and HaH-BPDA.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from hahbench.store import Store

MODELS = ("cifar10/Standard", "cifar10/HaH", "cifar10/HaH-BPDA")


def compared(cells: pd.DataFrame, outcomes: pd.DataFrame, n: int | None) -> pd.DataFrame:
    """A row for each minimum-norm attack: mean norms and their difference, each with Student's 95 % interval.

    Args:
        cells: as ``Store.read`` gives them.
        outcomes: likewise.
        n: take the first so many samples; None for all.
    """
    rows = []
    for attack, named in cells[cells["kind"] == "fmn"].groupby("attack"):
        norms = {}
        for cell in named.itertuples():
            found = outcomes[outcomes["key"] == cell.key].sort_values("index")[:n]
            withstood = found["adv_pred"] == found["label"]
            norms[cell.model] = found[cell.norm].mask(withstood, np.inf).to_numpy()
        if not set(MODELS) <= set(norms):
            continue
        standard, hah = norms[MODELS[0]], np.minimum(norms[MODELS[1]], norms[MODELS[2]])
        are_right = (standard > 0) & (hah > 0) & np.isfinite(standard) & np.isfinite(hah)
        difference = (hah - standard)[are_right]
        scale = 100 / standard[are_right].mean()
        rows.append(
            {
                "attack": attack,
                "Standard": _mean(standard[(standard > 0) & np.isfinite(standard)]),
                "HaH": _mean(hah[(hah > 0) & np.isfinite(hah)]),
                "both right": are_right.sum(),
                "HaH's larger by (%)": _mean(scale * difference),
                "larger of (%)": f"{100 * (difference > 0).mean():.0f}",
            }
        )
    return pd.DataFrame(rows)


def _mean(values: np.ndarray) -> str:
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{values.mean():.3g} [{values.mean() - half:.3g}, {values.mean() + half:.3g}]"


if __name__ == "__main__":
    print(compared(*Store(Path(sys.argv[1])).read(), int(sys.argv[2]) if sys.argv[2:] else None).to_string(index=False))
