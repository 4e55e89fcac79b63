"""The samples of a model that the smallest perturbations break."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from hahbench.metrics import newest_cells
from hahbench.spec import NORMS

SHOWN = 10
"""Samples of each attack."""


@dataclasses.dataclass(frozen=True)
class Fragile:
    """What one attack found.

    Attributes:
        attack: the name of the attack.
        norm: that it minimises.
        samples: ``index``, ``label``, ``predicted`` and the four norms, the smallest perturbation first.
    """

    attack: str
    norm: str
    samples: pd.DataFrame


def most_fragile(cells: pd.DataFrame, outcomes: pd.DataFrame) -> list[Fragile]:
    """The samples that each minimum-norm attack broke with the least, at most ``SHOWN``.

    Samples that the model had wrong from the start do not count; of several draws the smallest norm does.

    Args:
        cells: of one model on one data set, as the store gives them.
        outcomes: as the store gives them.
    """
    minimum_norm = cells[cells["worst_case"] & (cells["norm"] != "") & cells["level"].isna()]
    found = []
    for (attack, norm), draws in newest_cells(minimum_norm).groupby(["attack", "norm"]):
        happened = outcomes[outcomes["key"].isin(draws["key"])]
        broken = happened[(happened["clean_pred"] == happened["label"]) & np.isfinite(happened[norm])]
        nearest = broken.sort_values([norm, "index"], kind="stable").drop_duplicates("index").head(SHOWN)
        samples = nearest.rename(columns={"adv_pred": "predicted"})[["index", "label", "predicted", *NORMS]]
        found.append(Fragile(str(attack), str(norm), samples.reset_index(drop=True)))
    return found
