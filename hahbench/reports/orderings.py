"""Whether a paper's conclusions hold here: its orderings of models, tested on the same samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from hahbench.metrics import CONFIDENCE, RightPerSample, right_per_sample
from hahbench.reports import display
from hahbench.reports.published import Ordering, Published
from hahbench.sign_flips import mcnemar
from hahbench.spec import name_without_folder

_SMALLEST_SHOWN = 1e-99
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"

EXPLAINED = (
    "Differences of accuracies in percentage points, on the same samples; in brackets the 95 % interval of Agresti "
    "and Min 2005. The p-values are two-sided, of McNemar's exact test, sample by sample where there are several "
    "draws, severities or corruptions, by the normal distribution where those are too many; where a difference is "
    "compared with another number than 0, of Tango's score test (1998). The conclusion holds or fails where its "
    "p-value, adjusted by Holm's method over all that is concluded of the model named first, is below 0.05, and is "
    "undecided elsewhere: it is about the sign, not the size. The p-values and intervals that are shown are not "
    "adjusted. Of a network that was also attacked through other gradients, the samples count that withstand both "
    "attacks. The paper's averages have the frost of photographs. Margins, and rows without a number of the paper, "
    "are additions."
)

ORDERING_COLUMNS: dict[str, str] = {
    "higher": "str",
    "higher_digest": "str",
    "lower": "str",
    "lower_digest": "str",
    "attack": "str",
    "level": "float64",
    "by_more_than": "float64",
    "published": "float64",
    "difference": "float64",
    "low": "float64",
    "high": "float64",
    "n": "int64",
    "p_value": "float64",
    "verdict": "str",
}
"""The columns of a table of orderings. Differences are in [-1, 1]; ``p_value`` is not adjusted; where a cell is missing
it is NaN, ``n`` is 0 and ``verdict`` empty."""


def orderings(
    published: Published, cells: pd.DataFrame, outcomes: pd.DataFrame, networks: Mapping[tuple[str, str], str]
) -> pd.DataFrame:
    """Test what the paper concludes, for the orderings of which both models were measured at all.

    ``cifar10/HaH``, in whichever folder, stands for the paper's HaH; of several the newest.

    Args:
        published: the paper.
        cells: of one data set, as the store gives them.
        outcomes: as the store gives them.
        networks: of models, by name and digest, see ``ModelRecord``. A sample is right in a model where it is right in
            all models of its network.

    Returns:
        ``ORDERING_COLUMNS``.
    """
    newest = cells.sort_values("created", kind="stable")
    newest = newest.assign(name=newest["model"].map(name_without_folder)).drop_duplicates("name", keep="last")
    models = {row["name"]: (row["model"], row["model_digest"]) for row in newest.to_dict("records")}
    rows = []
    for ordering in published.orderings:
        if ordering.higher in models and ordering.lower in models:
            same = [
                [other for other in models.values() if _is_same(other, models[name], networks)]
                for name in (ordering.higher, ordering.lower)
            ]
            right = [
                _withstood(
                    right_per_sample(_of_model(cells, *model), outcomes, ordering.attack, ordering.level)
                    for model in of_network
                )
                for of_network in same
            ]
            rows.append(
                {
                    "higher": ordering.higher,
                    "higher_digest": models[ordering.higher][1],
                    "lower": ordering.lower,
                    "lower_digest": models[ordering.lower][1],
                    "attack": ordering.attack,
                    "level": math.nan if ordering.level is None else ordering.level,
                    "by_more_than": ordering.by_more_than / 100,
                    "published": _published(ordering, published),
                    **_tested(ordering, *right),
                }
            )
    tested = pd.DataFrame(rows, columns=list(ORDERING_COLUMNS)).astype(ORDERING_COLUMNS)
    for _, known in tested[tested["p_value"].notna()].groupby("higher"):
        significant = multipletests(known["p_value"], alpha=1 - CONFIDENCE, method="holm")[0]
        verdicts = np.where(known["difference"] > known["by_more_than"], HOLDS, FAILS)
        tested.loc[known.index, "verdict"] = np.where(significant, verdicts, UNDECIDED)
    return tested


def _is_same(one: tuple[str, str], other: tuple[str, str], networks: Mapping[tuple[str, str], str]) -> bool:
    """Whether two models, by name and digest, are one network."""
    return one == other or networks.get(one, "") == networks.get(other) != ""


def _withstood(models: Iterable[RightPerSample | None]) -> RightPerSample | None:
    """What is right in all models that were measured in the same way as the first."""
    known = [model for model in models if model is not None]
    if not known:
        return None
    alike = [model.right for model in known if model.is_comparable(known[0])]
    return known[0]._replace(right=pd.concat(alike, axis=1).min(axis=1))


def _of_model(cells: pd.DataFrame, model: str, digest: str) -> pd.DataFrame:
    return cells[(cells["model"] == model) & (cells["model_digest"] == digest)]


def _published(ordering: Ordering, published: Published) -> float:
    numbers = published.accuracies
    level = numbers["level"].isna() if ordering.level is None else np.isclose(numbers["level"], ordering.level)
    same = numbers[(numbers["attack"] == ordering.attack) & level].drop_duplicates("model").set_index("model")
    if not {ordering.higher, ordering.lower} <= set(same.index):
        return math.nan
    return float(same["published"][ordering.higher] - same["published"][ordering.lower])


def _tested(ordering: Ordering, ours: RightPerSample | None, other: RightPerSample | None) -> dict[str, object]:
    if ours is None or other is None or not ours.is_comparable(other):
        unknown = dict.fromkeys(("difference", "low", "high", "p_value"), math.nan)
        return {**unknown, "n": 0, "verdict": ""}
    gained = (ours.right - other.right).to_numpy()
    differences = gained / ours.of
    # Half a sample in each cell of the fourfold table: without it, samples that all agree would leave no doubt.
    widened = DescrStatsW(np.append(differences, [-1, 0, 1]), np.append(np.ones(len(differences)), [0.5, 1, 0.5]))
    low, high = widened.zconfint_mean(alpha=1 - CONFIDENCE)
    if not ordering.by_more_than:
        p_value = mcnemar(gained).p_value
    else:
        # There is no such test of averages.
        p_value = _score_test(gained, ordering.by_more_than / 100) if ours.of == 1 else math.nan
    return {
        "attack": ours.attack,
        "difference": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "n": len(gained),
        "p_value": p_value,
        "verdict": "",
    }


def _score_test(differences: np.ndarray, margin: float) -> float:
    """Two-sided p-value of "the mean difference is ``margin``", for pairs of flags: Tango 1998.

    Args:
        differences: (N,) of -1, 0 and 1.
        margin: in (-1, 1), not 0.
    """
    n, gained, lost = len(differences), int((differences > 0).sum()), int((differences < 0).sum())
    linear = (2 * n - gained + lost) * margin - gained - lost
    # The most likely chance of a loss where the hypothesis holds; round-off may take it below its least, or 0.
    chance = (math.sqrt(max(linear**2 + 8 * n * lost * margin * (1 - margin), 0.0)) - linear) / (4 * n)
    chance = max(chance, -margin, 0.0)
    variance = n * (2 * chance + margin * (1 - margin))
    return float(2 * stats.norm.sf(abs(gained - lost - n * margin) / math.sqrt(variance)))


def orderings_text(tested: pd.DataFrame) -> pd.DataFrame:
    """For reading, as ``orderings`` gives them."""
    rows = []
    for row in tested.to_dict("records"):
        level = None if math.isnan(row["level"]) else row["level"]
        measured = row["n"] > 0
        ours = f"{display.difference(row['difference'])} [{display.difference(row['low'])}, "
        rows.append(
            {
                "Conclusion": _conclusion(row["higher"], row["lower"], 100 * row["by_more_than"]),
                "Under": display.score_title(row["attack"], level, "accuracy"),
                "Paper": "" if math.isnan(row["published"]) else display.difference(row["published"]),
                "Here": f"{ours}{display.difference(row['high'])}]" if measured else display.MISSING,
                "p": _p_value_text(row["p_value"]) if measured else "",
                "Verdict": row["verdict"],
            }
        )
    return pd.DataFrame(rows)


def _p_value_text(p_value: float) -> str:
    if math.isnan(p_value):
        return ""
    return f"<{_SMALLEST_SHOWN:g}" if p_value < _SMALLEST_SHOWN else f"{p_value:.2g}"


def _conclusion(higher: str, lower: str, by_more_than: float) -> str:
    if by_more_than < 0:
        return f"{higher} less than {-by_more_than:g} points below {lower}"
    return f"{higher} above {lower}" + (f" by more than {by_more_than:g} points" if by_more_than else "")
