"""Outcomes to scores with 95 % intervals; pure functions on data frames."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from hahbench.corruptions import BENCHMARK, OFFICIAL, PAPER, SEVERITIES
from hahbench.spec import digest, level_text, name_without_folder
from hahbench.verdict import doubt_in, verdict_from, worst

CONFIDENCE = 0.95

CORRUPTION_SETS = {"corruptions-paper": PAPER, "corruptions-robustbench": BENCHMARK, "corruptions-all": OFFICIAL}
"""What corruptions are averaged over, under the names that the averages have in the column ``attack`` of scores."""

WITHOUT_FROST, PROCEDURAL_FROST = "-without-frost", "-procedural-frost"
"""End the names of averages without the photographs of ``frost``: over the others, and with its stand-in."""

BASELINE = "Standard"
"""The model, in any folder of models, that relative errors are relative to."""

_ROUND_OFF = 1e-5
# Two attacks that are equally good each miss a few samples on the edge.
_FEWEST_ERRORS = 10
_FEWEST_MISSED = 2
_SMALLEST_SHARE_MISSED = 0.05

SCORE_COLUMNS: dict[str, str] = {
    "dataset": "str",
    "data_digest": "str",
    "model": "str",
    "model_digest": "str",
    "attack": "str",
    "level": "float64",
    "metric": "str",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "n": "int64",
    "draws": "int64",
    "attack_version": "str",
    "verdict": "str",
}
"""The columns of a score table. ``value`` has the 95 % interval [``low``, ``high``]; ``draws`` were pooled.

``attack_version`` is that of the code, and tells regenerated corruptions from the published files. ``verdict`` is
``ok`` where nothing speaks against a robust accuracy or a minimum norm, else ``suspect:`` and why; empty where it was
not examined.
"""

_CARRIED_OUT = ["kind", "norm", "params", "attack_version"]
_MEASURED = ["data_digest", "model", "model_digest", "attack", "level"]


def scores(
    cells: pd.DataFrame, outcomes: pd.DataFrame, networks: Mapping[tuple[str, str], str] | None = None
) -> pd.DataFrame:
    """Score every (data, model, attack, level), with its 95 % interval.

    Minimum-norm attacks, which search for an error and have a norm but no level, have the metrics ``median_norm`` and
    ``mean_norm``, in that norm; all others have ``accuracy``. Cells that differ in nothing but the seed are draws of
    one score: of an attack that searches for an error the one that finds it counts, others are averaged. Of cells that
    share the seed too, such as those of an older version of the attack, the newest counts.

    Corruptions at all five severities have their mean too, at level NaN. So have the sets of corruptions that are
    complete, under the names of ``CORRUPTION_SETS``; they count attacks with the shipped names alone, all of one
    source. The metric ``relative_error`` is the error there
    over that of ``BASELINE``, averaged over the corruptions.

    Args:
        cells: a row per cell, as the store gives them.
        outcomes: a row per cell and sample, with the cell's ``key``.
        networks: of models, by name and digest, see ``ModelRecord``. What breaks one model of a network breaks the
            others, and their verdicts say so.

    Returns:
        ``SCORE_COLUMNS``, a row per metric; accuracies in [0, 1], norms in pixel values of [0, 1].
    """
    newest = newest_cells(cells)
    labelled = newest[["key", "dataset", *_MEASURED, *_CARRIED_OUT, "seed", "worst_case", "verdict"]]
    labelled = labelled.assign(
        network=[(networks or {}).get(model, "") for model in zip(newest["model"], newest["model_digest"], strict=True)]
    )
    rows: list[dict[str, object]] = []
    labelled_outcomes = outcomes.merge(labelled, on="key")
    searching = labelled_outcomes[labelled_outcomes["worst_case"]]
    doubts = _broken_elsewhere(labelled_outcomes)
    for measured, part in labelled_outcomes.groupby(_MEASURED, dropna=False):
        facts = dict(zip(_MEASURED, measured, strict=True))
        facts |= {"dataset": part["dataset"].iloc[0], "draws": part["seed"].nunique()}
        facts["attack_version"] = part["attack_version"].iloc[0]
        facts["verdict"] = worst(part["verdict"].unique())
        norm, worst_case = part[["norm", "worst_case"]].iloc[0]
        if norm and worst_case:
            same = (searching[["data_digest", "model", "model_digest", "norm"]] == [*measured[:3], norm]).all(axis=1)
            facts["verdict"] = _verdict_beside(part, searching[same], str(facts["verdict"]))
        if measured in doubts:
            facts["verdict"] = verdict_from([doubt_in(str(facts["verdict"])), doubts[measured]])
        for metric, value, low, high, n in _metrics(part):
            rows.append({**facts, "metric": metric, "value": value, "low": low, "high": high, "n": n})
    rows += _corruption_means(newest, outcomes)
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS)).astype(SCORE_COLUMNS)


def by_predictions(
    networks: Mapping[tuple[str, str], str], cells: pd.DataFrame, outcomes: pd.DataFrame
) -> dict[tuple[str, str], str]:
    """The networks, told apart by the classes of clean images, too: weights do not tell of a change of the code.

    Args:
        networks: of models, by name and digest, see ``ModelRecord``.
        cells: of one data set, as the store gives them.
        outcomes: as the store gives them.

    Returns:
        Those of the models of ``cells`` that have one.
    """
    first = cells.drop_duplicates(["model", "model_digest"]).set_index("key")
    found = {}
    for key, part in outcomes[outcomes["key"].isin(first.index)].groupby("key"):
        model = (str(first.at[key, "model"]), str(first.at[key, "model_digest"]))
        if network := networks.get(model):
            found[model] = digest(network, part.sort_values("index")["clean_pred"].tolist())
    return found


def newest_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that count: of those that differ in the attack's version or parameters alone, the newest."""
    ordered = cells.sort_values("created", kind="stable")
    last = ordered.drop_duplicates(_MEASURED, keep="last")[[*_MEASURED, *_CARRIED_OUT]]
    return ordered.merge(last, on=[*_MEASURED, *_CARRIED_OUT])


def comparable_cells(cells: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The newest cells, without those of an attack that the newest model was given otherwise.

    Under one name, what has other parameters or another norm is another attack. Corruptions are told apart by their
    versions.

    Returns:
        The cells, the newest last; and the names of the models left out, by attack.
    """
    newest = newest_cells(cells)
    way = newest["kind"] + "\n" + newest["norm"] + "\n" + newest["params"]
    last = way.groupby([newest["data_digest"], newest["attack"]]).transform("last")
    is_other = (way != last) & ~newest["kind"].str.startswith("corruption")
    left_out = {
        str(attack): sorted(map(str, part["model"].unique())) for attack, part in newest[is_other].groupby("attack")
    }
    return newest[~is_other].reset_index(drop=True), left_out


def _corruption_means(cells: pd.DataFrame, outcomes: pd.DataFrame) -> Iterator[dict[str, object]]:
    """The rows of ``scores`` that are means over severities and over corruptions."""
    cells = cells[cells["kind"].str.startswith("corruption")]
    outcomes = outcomes.loc[outcomes["key"].isin(cells["key"]), ["key", "index", "label", "adv_pred"]]
    wrong = {
        str(key): (part["adv_pred"] != part["label"]).set_axis(part["index"]) for key, part in outcomes.groupby("key")
    }
    for _, on_images in cells.groupby(["data_digest", "attack_version"]):
        baselines = on_images[on_images["model"].map(name_without_folder) == BASELINE]
        baseline = _errors(baselines, wrong) if baselines["model_digest"].nunique() == 1 else None
        for _, part in on_images.groupby(["model", "model_digest"]):
            errors = _errors(part, wrong)
            first = part.iloc[0]
            facts = {
                name: first[name] for name in ("dataset", "data_digest", "model", "model_digest", "attack_version")
            }
            facts |= {"level": np.nan, "draws": part["seed"].nunique(), "verdict": ""}
            for attack in map(str, errors.columns):
                yield facts | {"attack": attack, **_score("accuracy", accuracy(1 - errors[attack].to_numpy()))}
            for name, wanted in _complete_sets(set(map(str, errors.columns))):
                right = 1 - errors[wanted].mean(axis=1).to_numpy()
                yield facts | {"attack": name, **_score("accuracy", accuracy(right))}
                if baseline is not None and set(wanted) <= set(baseline.columns) and baseline[wanted].any().all():
                    relative = relative_error(errors[wanted].to_numpy(), baseline[wanted].to_numpy())
                    yield facts | {"attack": name, **_score("relative_error", relative)}


class RightPerSample(NamedTuple):
    """What an accuracy averages over the samples.

    Attributes:
        attack: under which it is.
        version: of the code that carried the attack out; tells regenerated corruptions from the published files.
        right: the number of draws, severities and corruptions under which each sample was classified correctly, int64,
            by its index; of an attack that searches for an error 1 where none of its draws found one.
        of: how many there were; 1 of such an attack.
    """

    attack: str
    version: str
    right: pd.Series
    of: int

    def is_comparable(self, other: RightPerSample) -> bool:
        """Whether both are of the same attack, made in the same way as often."""
        return (self.attack, self.version, self.of) == (other.attack, other.version, other.of)


def right_per_sample(
    cells: pd.DataFrame, outcomes: pd.DataFrame, attack: str, level: float | None
) -> RightPerSample | None:
    """What the accuracy in ``scores`` averages.

    Args:
        cells: of one model on one data set, as the store gives them.
        outcomes: as the store gives them.
        attack: its name, or one of ``CORRUPTION_SETS``; without the photographs of frost, the set with its stand-in,
            or else without frost, takes its place.
        level: None for attacks without levels, and for the mean over severities.

    Returns:
        None where a cell is missing.
    """
    cells = newest_cells(cells)
    if level is None and attack.startswith("corruption"):
        cells = cells[cells["kind"].str.startswith("corruption")].sort_values("created", kind="stable")
        # Regenerated corruptions are not averaged with the published files.
        cells = cells[cells["attack_version"].isin(cells["attack_version"].tail(1))]
        averages = {
            str(name): [str(name)]
            for name, part in cells.groupby("attack")
            # Counts of unequal draws would weigh severities unequally.
            if _at_all_severities(part) and part["level"].value_counts().nunique() == 1
        }
        averages |= dict(_complete_sets(set(averages)))
        for name in (attack, attack + PROCEDURAL_FROST, attack + WITHOUT_FROST):
            if name in averages:
                return _count(name, outcomes, cells[cells["attack"].isin(averages[name])])
        return None
    same_level = cells["level"].isna() if level is None else np.isclose(cells["level"], level)
    cells = cells[(cells["attack"] == attack) & same_level]
    return None if cells.empty else _count(attack, outcomes, cells)


def _count(attack: str, outcomes: pd.DataFrame, cells: pd.DataFrame) -> RightPerSample:
    outcomes = outcomes[outcomes["key"].isin(cells["key"])]
    right = (outcomes["adv_pred"] == outcomes["label"]).groupby(outcomes["index"])
    version = str(cells["attack_version"].iloc[-1])
    if cells["worst_case"].all():
        return RightPerSample(attack, version, right.all().astype("int64"), 1)
    return RightPerSample(attack, version, right.sum().astype("int64"), len(cells))


def _errors(cells: pd.DataFrame, wrong: Mapping[str, pd.Series]) -> pd.DataFrame:
    """A row per sample, a column per attack that was run at all severities: the mean error over them."""
    return pd.DataFrame(
        {
            attack: _mean_by_sample(
                _mean_by_sample(wrong[key] for key in draws["key"]) for _, draws in part.groupby("level")
            )
            for attack, part in cells.groupby("attack")
            if _at_all_severities(part)
        }
    )


def _mean_by_sample(series: Iterable[pd.Series]) -> pd.Series:
    return pd.concat(series, axis=1).mean(axis=1)


def _at_all_severities(cells: pd.DataFrame) -> bool:
    return bool(cells["level"].nunique() == len(SEVERITIES))


def _complete_sets(measured: set[str]) -> Iterator[tuple[str, list[str]]]:
    for name, corruptions in CORRUPTION_SETS.items():
        wanted = [corruption_attack(corruption) for corruption in corruptions]
        others = [attack for attack in wanted if attack != corruption_attack("frost")]
        if measured >= set(wanted):
            yield name, wanted
        elif measured >= set(others):
            yield name + WITHOUT_FROST, others
            if corruption_attack("frost_procedural") in measured:
                yield name + PROCEDURAL_FROST, [*others, corruption_attack("frost_procedural")]


def corruption_attack(corruption: str) -> str:
    """The name of the attack that averages over corruptions count: ``corruption-zoom-blur`` for ``zoom_blur``."""
    return f"corruption-{corruption.replace('_', '-')}"


def _score(metric: str, values: tuple[float, float, float, int]) -> dict[str, object]:
    return {"metric": metric, **dict(zip(("value", "low", "high", "n"), values, strict=True))}


def relative_error(errors: np.ndarray, baseline: np.ndarray) -> tuple[float, float, float, int]:
    """The error over that of a baseline, averaged over C corruptions, with its interval by the delta method.

    Args:
        errors: (N, C) in [0, 1], each sample's error under each corruption.
        baseline: (N, C), those of the baseline on the same samples; none of its columns is all 0.

    Returns:
        Value, low, high and N; the interval is [0, inf] where either errs on fewer than 10 samples.
    """
    ratios = errors.mean(axis=0) / baseline.mean(axis=0)
    influence = ((errors - ratios * baseline) / baseline.mean(axis=0)).mean(axis=1)
    _, low, high, n = _mean(influence + ratios.mean())
    if min((errors > 0).any(axis=1).sum(), (baseline > 0).any(axis=1).sum()) < _FEWEST_ERRORS:
        low, high = 0.0, np.inf
    return float(ratios.mean()), low, high, n


def _is_minimum_norm(part: pd.DataFrame) -> bool:
    norm, level, worst_case = part[["norm", "level", "worst_case"]].iloc[0]
    return bool(norm and worst_case and pd.isna(level))


def _verdict_beside(part: pd.DataFrame, of_model: pd.DataFrame, before: str) -> str:
    """Whether attacks of the same norm broke samples for which this one found nothing as near.

    Args:
        part: the outcomes of an attack within an epsilon, or of a minimum-norm attack.
        of_model: those of all attacks in that norm on the same model and samples.
        before: the verdict on the outcomes by themselves.

    Returns:
        That verdict, with what those attacks add to it.
    """
    norm, epsilon = part["norm"].iloc[0], part["level"].iloc[0]
    doubts = [doubt_in(before)]
    if doubts[0] and pd.isna(epsilon) and part["seed"].nunique() > 1:
        doubts = [f"in one draw or more, {doubts[0]}"]
    nearest = _nearest(part, norm)
    withstood = nearest[nearest == np.inf]
    for key, other in of_model.groupby(["attack", "level"], dropna=False):
        attack, level = cast(tuple[str, float], key)
        elsewhere = _nearest(other, norm)
        if pd.isna(epsilon) and not pd.isna(level):
            reach = level * (1 + _ROUND_OFF)
            missed = int(((elsewhere <= reach) & (nearest > reach)).sum())
            of, where = len(nearest), f"samples within {level_text(level)} for which this attack found nothing as near"
        elif not pd.isna(epsilon):
            # What an attack within the same epsilon broke, the judge has measured.
            reach = np.inf if level <= epsilon else epsilon * (1 + _ROUND_OFF)
            missed, of = int((elsewhere[withstood.index] < reach).sum()), len(withstood)
            where = f"samples that withstood this attack, within {level_text(epsilon)}"
        else:
            # Of two searches for the smallest norm each finds the smaller of some samples.
            continue
        if missed >= max(_FEWEST_MISSED, _SMALLEST_SHARE_MISSED * of):
            doubts.append(f"{attack} broke {missed} of {of} {where}")
    return verdict_from(doubts) if any(doubts) else before


def _nearest(outcomes: pd.DataFrame, norm: str) -> pd.Series:
    """By sample, the size of the smallest perturbation that broke it; infinity where none did."""
    is_broken = outcomes["adv_pred"] != outcomes["label"]
    return outcomes[norm].where(is_broken, np.inf).groupby(outcomes["index"]).min()


def _broken_elsewhere(outcomes: pd.DataFrame) -> dict[Hashable, str]:
    """Doubts about the robust accuracies of models that are one network, by ``_MEASURED``.

    That they are is seen by their clean predictions, too: the weights do not tell of a change of the code.
    """
    found: dict[Hashable, str] = {}
    of_networks = outcomes[(outcomes["network"] != "") & outcomes["worst_case"] & outcomes["level"].notna()]
    for _, part in of_networks[of_networks["norm"] != ""].groupby(["data_digest", "network", "attack", "level"]):
        samples = part.assign(robust=part["adv_pred"] == part["label"]).groupby([*_MEASURED, "index"])
        robust, clean_pred = samples["robust"].all().unstack(), samples["clean_pred"].first().unstack()
        for measured in robust.index:
            is_variant = [
                other[1] != measured[1] and clean_pred.loc[other].equals(clean_pred.loc[measured])
                for other in robust.index
            ]
            by_itself = robust.loc[measured]
            both = by_itself & robust[is_variant].all()
            missed, withstood = int((by_itself & ~both).sum()), int(by_itself.sum())
            if missed >= max(_FEWEST_MISSED, _SMALLEST_SHARE_MISSED * withstood):
                found[measured] = (
                    f"attacked through other gradients, the same network loses {missed} of the {withstood} samples "
                    f"that withstood; {100 * both.mean():.1f} % withstand both"
                )
    return found


def _metrics(part: pd.DataFrame) -> Iterator[tuple[str, float, float, float, int]]:
    norm = part["norm"].iloc[0]
    if not _is_minimum_norm(part):
        right = (part["adv_pred"] == part["label"]).groupby(part["index"])
        yield "accuracy", *accuracy((right.all() if part["worst_case"].all() else right.mean()).to_numpy(float))
        return
    best = part.sort_values(norm).drop_duplicates("index")
    yield "median_norm", *median_norm(best[norm].to_numpy(float))
    moved = best[(best["clean_pred"] == best["label"]) & np.isfinite(best[norm])]
    if len(moved):
        yield "mean_norm", *mean_norm(moved[norm].to_numpy(float))


def accuracy(
    right: np.ndarray, confidence: float = CONFIDENCE, method: Literal["wilson", "beta"] = "wilson"
) -> tuple[float, float, float, int]:
    """Accuracy and its interval, by default Wilson's.

    Args:
        right: (N,) in [0, 1], the fraction of each sample's draws, severities or corruptions that were classified
            correctly.
        confidence: of the interval.
        method: ``wilson``, or ``beta`` for the exact interval, which is wider.

    Returns:
        Value, low, high and N. The interval is that of N samples asked once; with several draws it is conservative,
        because averaging can only lower a sample's variance.
    """
    value, n = float(right.mean()), len(right)
    low, high = proportion_confint(value * n, n, alpha=1 - confidence, method=method)
    # Round-off may put an end beyond the value where that is 0 or 1.
    return value, min(float(low), value), max(float(high), value), n


def median_norm(norms: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float, float, int]:
    """Median norm and its exact interval between two order statistics, which needs no distribution.

    Args:
        norms: (N,), of the smallest perturbation that broke each sample in any draw; 0 where the model was already
            wrong, infinity where no draw broke it.
        confidence: of the interval.

    Returns:
        Value, low, high and N; the interval is [0, inf] when N < 6, too few for any order statistics.
    """
    interval: Any = stats.quantile_test(norms, q=0, p=0.5).confidence_interval(confidence)
    low = 0.0 if np.isnan(interval.low) else float(interval.low)
    high = np.inf if np.isnan(interval.high) else float(interval.high)
    return float(np.median(norms)), low, high, len(norms)


def mean_norm(norms: np.ndarray) -> tuple[float, float, float, int]:
    """Mean norm and its t interval, cut at 0.

    Args:
        norms: (N,), of the samples that were classified correctly and then broken. Where many samples withstand the
            attack this mean flatters it; ``median_norm`` leaves none out.

    Returns:
        Value, low, high and N; the interval is [0, inf] when N = 1.
    """
    return _mean(norms)


def _mean(values: np.ndarray) -> tuple[float, float, float, int]:
    value, n = float(values.mean()), len(values)
    low, high = DescrStatsW(values).tconfint_mean(alpha=1 - CONFIDENCE) if n > 1 else (0.0, np.inf)
    return value, max(float(low), 0.0), float(high), n
