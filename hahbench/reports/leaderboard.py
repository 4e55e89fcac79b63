"""The leaderboard: one row a model, the most robust first."""

from __future__ import annotations

import collections
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hahbench import __version__
from hahbench.metrics import PROCEDURAL_FROST, WITHOUT_FROST
from hahbench.reports.tables import Column, grid
from hahbench.spec import NORMS, REFERENCE, ModelRecord
from hahbench.verdict import OK, SUSPECT, doubt_in

FORMAT = 1
"""Version of ``reports/schema/leaderboard.schema.json``; raised when its readers must know of a change."""

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
    *(Column("corruptions-robustbench" + end) for end in ("", WITHOUT_FROST, PROCEDURAL_FROST)),
    Column("fmn-l0", metric="median_norm"),
    Column("fmn-l1", metric="median_norm"),
    Column("fmn-l2", metric="median_norm"),
    Column("fmn-linf", metric="median_norm"),
    Column("carlini-wagner-l2", metric="median_norm"),
    *(Column(f"fmn-{norm}{REFERENCE}", metric="median_norm") for norm in NORMS),
)
_CLEAN = Column("clean")
_NOISE = Column("gaussian-noise", 0.1)
_ATTACKS = tuple(column for column in COLUMNS if column.attack.startswith(("autoattack", "apgd", "pgd")))


def ranked_by(scores: pd.DataFrame, searching: Collection[str]) -> list[Column]:
    """The accuracies that models are ranked by, those that count most first, as far as any model has them.

    What more models have been through counts more; of the same number, AutoAttack and then its two APGD members, in
    l_inf before other attacks. The attacks of other libraries count where there are no others; noise comes after all
    that searches for an error, and clean images count where nothing else was measured.

    Args:
        scores: of one data set.
        searching: the names of attacks that search for an error.
    """
    first = [Column("autoattack-linf", 2 / 255), Column("apgd-linf", 2 / 255)]
    others = _others(scores)
    noise = [_NOISE, *(column for column in others if column.metric == "accuracy" and column.attack not in searching)]
    known = [column for column in dict.fromkeys([*first, *others, *_ATTACKS]) if column not in noise]
    models = _measured(scores)
    attacks = [column for column in known if column.metric == "accuracy" and column in models]
    own = [column for column in attacks if not column.attack.endswith(REFERENCE)]
    by = sorted(own, key=lambda column: -models[column]) or attacks
    return [column for column in (*by, *noise) if column in models] or [_CLEAN]


def _others(scores: pd.DataFrame) -> list[Column]:
    """What was measured beside ``COLUMNS``: attacks of a user, and other epsilons."""
    of_attacks = ~scores["attack"].str.startswith("corruption") & (scores["attack"] != _NOISE.attack)
    found = _measured(scores[of_attacks & scores["metric"].isin(("accuracy", "median_norm"))])
    return [column for column in found if column not in COLUMNS]


def _measured(scores: pd.DataFrame) -> dict[Column, int]:
    """The number of models with each score, by metric, attack and level."""
    found = scores.groupby(["metric", "attack", "level"], dropna=False).size().reset_index(name="models")
    return {
        Column(row["attack"], None if math.isnan(row["level"]) else row["level"], row["metric"]): row["models"]
        for row in found.to_dict("records")
    }


def leaderboard(
    models: pd.DataFrame, scores: pd.DataFrame, repeated: Mapping[str, str], searching: Collection[str]
) -> pd.DataFrame:
    """Models by rank; those that lack an accuracy come last among those that are equal before it.

    Args:
        models: as ``models_in`` gives them.
        scores: of one data set.
        repeated: of each model that differs from another in its gradients alone, the other's display name by its own.
            They share a rank, by the lower of their accuracies: an attack on either is one on both.
        searching: as for ``ranked_by``.

    Returns:
        As ``grid``, with a column ``rank`` first, for the clean accuracy, those of ``COLUMNS`` that were measured, and
        what was measured besides.
    """
    by = ranked_by(scores, searching)
    values = grid(models, by, scores)["value"].to_numpy(float)
    order, ranks = _ranked(values.reshape(len(models), -1), list(models["display"].replace(dict(repeated))))
    ranked = models.iloc[order]
    ranked.insert(0, "rank", ranks)
    board = grid(ranked, [*COLUMNS, *_others(scores)], scores)
    measured = board.groupby("title")["value"].transform("count") > 0
    return board[measured | (board["attack"] == "clean")]


def _ranked(values: NDArray[np.float64], networks: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order of models, the best first, and the rank of each in that order.

    Args:
        values: (models, scores), NaN where missing; the first score counts most.
        networks: of each model; those of the same stand together and share a rank, by the lowest of each score. So do
            networks whose scores are equal.
    """
    network = pd.factorize(np.array(networks, dtype=object))[0]
    lowest = pd.DataFrame(values).groupby(network).transform("min").to_numpy()
    # The last key counts most; NaN sorts to the end.
    order = np.lexsort((network, *-lowest.T[::-1]))
    ordered = pd.DataFrame(lowest[order]).fillna(-np.inf)
    return order, np.cumsum((ordered != ordered.shift()).any(axis=1).to_numpy(), dtype=np.intp)


def leaderboard_json(
    board: pd.DataFrame,
    cells: pd.DataFrame,
    records: Iterable[ModelRecord],
    repeated: Mapping[str, str],
    command: str,
) -> dict[str, Any]:
    """The leaderboard as JSON has it, by ``reports/schema/leaderboard.schema.json``; the pages show the same.

    Args:
        board: as ``leaderboard`` gives it.
        cells: of the same data set, as the store gives them.
        records: of the models, as far as there are any.
        repeated: as for ``leaderboard``.
        command: that makes the leaderboard.

    Returns:
        Scores that are missing are left out. Infinity, which JSON has no word for, is the string ``inf``.
    """
    newest = cells.sort_values("created", kind="stable").iloc[-1]
    threat_models = {cell["attack"]: _threat_model(cell) for cell in cells.to_dict("records")}
    references = cells.sort_values("created", kind="stable").groupby(["model", "model_digest"])["reference"].last()
    kept = {(record.model, record.model_digest): record for record in records}
    columns = [_column(column, threat_models) for column in board.drop_duplicates("title").to_dict("records")]
    models = []
    for (_, name, digest), rows in board.groupby(["rank", "model", "model_digest"], sort=False):
        identity = (str(name), str(digest))
        first = rows.iloc[0]
        scores = [_score(score) for score in rows[rows["value"].notna()].to_dict("records")]
        models.append(
            {
                "rank": int(first["rank"]),
                "ranks": {},
                "name": name,
                "display": first["display"],
                "argument": first["model_argument"],
                "digest": digest,
                "parameters": None if pd.isna(first["parameters"]) else int(first["parameters"]),
                "verdict": _verdict(scores),
                "reference": references[identity],
                **_said(kept.get(identity)),
                "scores": scores,
            }
        )
    models_with = collections.Counter(score["title"] for model in models for score in model["scores"])
    for threat_model in dict.fromkeys(column["threat_model"] for column in columns if column["threat_model"]):
        titles = [column["title"] for column in columns if column["threat_model"] == threat_model]
        titles.sort(key=lambda title: -models_with[title])
        having = [(model, values) for model in models if not np.isnan(values := _values(model, titles)).all()]
        names = [repeated.get(model["display"], model["display"]) for model, _ in having]
        order, ranks = _ranked(np.array([values for _, values in having]), names)
        for place, rank in zip(order.tolist(), ranks.tolist(), strict=True):
            having[place][0]["ranks"][threat_model] = rank
    return {
        "format": FORMAT,
        "hahbench": __version__,
        "command": command,
        "dataset": {
            "name": newest["dataset"],
            "source": newest["source"],
            "argument": newest["dataset_argument"],
            "digest": newest["data_digest"],
            "n": int(newest["n"]),
        },
        "columns": columns,
        "models": models,
    }


def _values(model: Mapping[str, Any], titles: Iterable[str]) -> NDArray[np.float64]:
    """A model's scores of these titles, NaN where missing."""
    values = {score["title"]: float(score["value"]) for score in model["scores"]}
    return np.array([values.get(title, math.nan) for title in titles])


def _said(record: ModelRecord | None) -> dict[str, Any]:
    """What the record of a model adds to what cells say."""
    if record is None:
        return dict.fromkeys(("link", "dataset", "additional_data", "width", "weights_sha256"))
    width = record.params.get("width")
    is_number = isinstance(width, int | float) and not isinstance(width, bool) and math.isfinite(width)
    return {
        "reference": record.reference,
        "link": record.link or None,
        "dataset": record.dataset or None,
        "additional_data": record.additional_data,
        "width": width if is_number else None,
        "weights_sha256": record.weights_sha256 or None,
    }


def _threat_model(cell: Mapping[Any, Any]) -> str | None:
    """A norm, ``noise`` or ``corruptions``; None on clean images."""
    if cell["attack"] == "clean":
        return None
    return str(cell["norm"]) or ("corruptions" if str(cell["kind"]).startswith("corruption") else "noise")


def _column(column: Mapping[Any, Any], threat_models: Mapping[str, str | None]) -> dict[str, Any]:
    averaged = "corruptions" if column["attack"].startswith("corruptions-") else None
    return {
        "title": column["title"],
        "attack": column["attack"],
        "level": None if pd.isna(column["level"]) else column["level"],
        "metric": column["metric"],
        # Averages over corruptions have a name, and no cell of their own.
        "threat_model": threat_models.get(column["attack"], averaged),
    }


def _score(score: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "title": score["title"],
        **{name: "inf" if math.isinf(score[name]) else score[name] for name in ("value", "low", "high")},
        "n": int(score["n"]),
        "draws": int(score["draws"]),
        "verdict": score["verdict"],
    }


def _verdict(scores: Iterable[Mapping[str, Any]]) -> str | None:
    """The worst of the verdicts; None where nothing was examined."""
    examined = [score["verdict"] for score in scores if score["verdict"]]
    if not examined:
        return None
    return SUSPECT if any(map(doubt_in, examined)) else OK
