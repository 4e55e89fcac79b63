"""Results in the format of RobustBench's ``model_info`` (Croce et al. 2021, https://arxiv.org/abs/2010.09670)."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hahbench import __version__, metrics
from hahbench.atomic import replacing
from hahbench.attacks.autoattack import STANDARD
from hahbench.corruptions import BENCHMARK, SEVERITIES
from hahbench.errors import HahbenchError
from hahbench.reports import display
from hahbench.spec import REFERENCE, ModelRecord, level_text, networks
from hahbench.verdict import doubt_in

DATASETS = ("cifar10", "cifar100", "imagenet")

_EPSILONS = {("Linf", "cifar10"): 8 / 255, ("Linf", "cifar100"): 8 / 255, ("Linf", "imagenet"): 4 / 255}
_EPSILONS |= {("L2", dataset): 0.5 for dataset in DATASETS}
_NORMS = {"linf": "Linf", "l2": "L2"}
_UNKNOWN = "N/A"


def export_robustbench(
    cells: pd.DataFrame, outcomes: pd.DataFrame, records: Sequence[ModelRecord], out: Path
) -> tuple[list[Path], list[str]]:
    """Write ``model_info/<dataset>/<threat model>/<ID>.json``, and ``unaggregated_results.csv`` of the corruptions.

    A model gets a file under ``Linf`` or ``L2`` for AutoAttack with all four members, at RobustBench's epsilon where
    that was measured, else at the largest that was; and one under ``corruptions``, with a row of the CSV, for
    RobustBench's 15 corruptions at all severities, ``frost`` made of its photographs. Of several sets of samples the
    largest counts.

    RobustBench's pages do not escape what they show, so texts are written escaped. What its fields have no place for,
    such as the number of samples, a doubt about the accuracy or another epsilon, is in ``footnote``.

    Args:
        cells: as the store gives them.
        outcomes: as the store gives them.
        records: of the models, as the store gives them.
        out: the folder in which ``model_info`` is made.

    Returns:
        The files; and sentences that say which models have none, and why.

    Raises:
        HahbenchError: no model has anything to export.
        OSError: a file cannot be written; files are written whole or not at all.
    """
    counted = metrics.newest_cells(cells)
    # A store does not know what the same network loses under other gradients.
    measured = ["data_digest", "model", "model_digest", "attack", "level"]
    scores = metrics.scores(cells, outcomes, networks(records))
    verdicts = scores[scores["metric"] == "accuracy"].set_index(measured)["verdict"]
    counted = counted.drop(columns="verdict").join(verdicts, on=measured).fillna({"verdict": ""})
    counted = counted.assign(robustbench=counted["dataset"].str.removesuffix("-jpeg"))
    said = {(record.model, record.model_digest): record for record in records}
    identifiers = _identifiers(counted)
    paths: list[Path] = []
    left_out: dict[str, list[str]] = {}
    unaggregated: dict[str, dict[str, dict[tuple[str, int], float]]] = {}
    for (model, model_digest), identifier in identifiers.items():
        of_model = counted[(counted["model"] == model) & (counted["model_digest"] == model_digest)]
        entries = []
        for dataset, on_dataset in of_model[of_model["robustbench"].isin(DATASETS)].groupby("robustbench"):
            folder = out / "model_info" / str(dataset)
            facts = _facts(on_dataset, said.get((model, model_digest)))
            entries += [
                (folder / threat / f"{identifier}.json", entry)
                for threat, entry in _worst_cases(on_dataset, outcomes, facts)
            ]
            corrupted = _corrupted(on_dataset, outcomes, facts)
            if corrupted is not None:
                entry, accuracies = corrupted
                entries.append((folder / "corruptions" / f"{identifier}.json", entry))
                unaggregated.setdefault(str(dataset), {})[identifier] = accuracies
        for path, entry in entries:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(entry, indent=2), encoding="utf-8")
            paths.append(path)
        if not entries:
            left_out.setdefault(_why_not(of_model), []).append(f"{model} ({model_digest[:8]})")
    for dataset, rows in unaggregated.items():
        path = out / "model_info" / dataset / "corruptions" / "unaggregated_results.csv"
        with replacing(path) as temporary:
            pd.DataFrame.from_dict(rows, orient="index").to_csv(temporary, lineterminator="\n")
        paths.append(path)
    sentences = [f"left out: {', '.join(names)}: {why}" for why, names in left_out.items()]
    if not paths:
        raise HahbenchError(f"nothing to export; {'; '.join(sentences)}")
    return paths, sentences


def _worst_cases(
    cells: pd.DataFrame, outcomes: pd.DataFrame, facts: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files of one model for the threat models that are norms, by threat model."""
    whole = cells[_is_whole_autoattack(cells)]
    for norm, of_norm in whole.groupby("norm"):
        threat = _NORMS[str(norm)]
        usual = _EPSILONS[threat, facts["dataset"]]
        ranked = of_norm.assign(is_usual=[level_text(level) == level_text(usual) for level in of_norm["level"]])
        cell = ranked.sort_values(["is_usual", "n", "level", "created"], kind="stable").iloc[-1]
        one_way = ["attack", "params", "attack_version", "level", "n", "data_digest"]
        draws = of_norm[(of_norm[one_way] == cell[one_way]).all(axis=1)]
        found = outcomes[outcomes["key"].isin(draws["key"])]
        epsilon = level_text(cell["level"])
        notes = [] if cell["is_usual"] else [f"epsilon {epsilon}, not {level_text(usual)}"]
        robust = _percent((found["adv_pred"] == found["label"]).groupby(found["index"]).all().mean())
        yield (
            threat,
            {
                **facts,
                "eps": epsilon,
                "clean_acc": _percent((found["clean_pred"] == found["label"]).mean()),
                "reported": robust,
                "autoattack_acc": robust,
                "footnote": _footnote(cell, notes),
            },
        )


def _corrupted(
    cells: pd.DataFrame, outcomes: pd.DataFrame, facts: dict[str, Any]
) -> tuple[dict[str, Any], dict[tuple[str, int], float]] | None:
    """The file of one model for corruptions, and its accuracies in [0, 1]; None where some were not measured."""
    corrupted = cells[cells["kind"].str.startswith("corruption")]
    corrupted = corrupted.assign(corruption=[json.loads(params).get("corruption") for params in corrupted["params"]])
    wanted = [(corruption, severity) for corruption in BENCHMARK for severity in SEVERITIES]
    complete = [
        of_images
        for _, of_images in corrupted.groupby(["data_digest", "attack_version"])
        if set(wanted) <= set(zip(of_images["corruption"], of_images["level"], strict=True))
    ]
    if not complete:
        return None
    chosen = max(complete, key=lambda of_images: (of_images["n"].iloc[0], of_images["created"].max()))
    chosen = chosen[chosen["corruption"].isin(BENCHMARK)]
    found = outcomes.merge(chosen[["key", "corruption", "level"]], on="key")
    found = found.assign(right=found["adv_pred"] == found["label"], clean=found["clean_pred"] == found["label"])
    means = found.groupby(["corruption", "level"])["right"].mean()
    accuracies = {(corruption, severity): float(means[corruption, severity]) for corruption, severity in wanted}
    mean = _percent(sum(accuracies.values()) / len(accuracies))
    cell = chosen.sort_values("created", kind="stable").iloc[-1]
    source = str(cell["attack_version"]).partition(", judge")[0]
    entry = {
        **facts,
        "eps": None,
        "clean_acc": _percent(found["clean"].mean()),
        "reported": mean,
        "corruptions_acc": mean,
        "footnote": _footnote(cell, [source]),
    }
    return entry, accuracies


def _facts(cells: pd.DataFrame, record: ModelRecord | None) -> dict[str, Any]:
    """What every file of a model says, in the order of RobustBench's own."""
    newest = cells.sort_values("created", kind="stable").iloc[-1]
    architecture, link, additional_data = f"{newest['parameters']:,} parameters", "", False
    if record is not None:
        loader = record.loader.rpartition(":")[2]
        params = ", ".join(f"{key}={value}" for key, value in record.params.items())
        # Loaders from libraries are told the architecture's name.
        network = record.params.get("name") or (f"{loader}({params})" if params else loader)
        architecture = f"{network}, {architecture}"
        # An address that could end the attribute it is put into is none.
        link = record.link if re.fullmatch(r"https?://[^\s\"'<>`\\]+", record.link) else ""
        additional_data = bool(record.additional_data)
    reference = str(newest["reference"])
    return {
        "link": link,
        "name": _clean(f"{newest['display']} ({reference})" if reference else str(newest["display"])),
        "authors": _UNKNOWN,
        "additional_data": additional_data,
        "number_forward_passes": 1,
        "dataset": str(newest["robustbench"]),
        "venue": _UNKNOWN,
        "architecture": _clean(architecture),
    }


def _footnote(cell: pd.Series, notes: list[str]) -> str:
    samples = f"the first {cell['n']} test samples of {cell['dataset']}"
    doubts = [str(cell["verdict"])] if doubt_in(str(cell["verdict"])) else []
    return _clean("; ".join([f"measured by hahbench {__version__} on {samples}", *notes, *doubts]))


def _is_whole_autoattack(cells: pd.DataFrame) -> pd.Series:
    def is_whole(kind: str, norm: str, params: str) -> bool:
        given = json.loads(params)
        members = given.get("members") or STANDARD
        known = kind.removesuffix(REFERENCE) == "autoattack" and norm in _NORMS
        return known and not given.get("randomized") and set(members) >= set(STANDARD)

    return pd.Series(
        [is_whole(*row) for row in zip(cells["kind"], cells["norm"], cells["params"], strict=True)],
        index=cells.index,
        dtype=bool,
    )


def _why_not(cells: pd.DataFrame) -> str:
    datasets = sorted(cells["robustbench"].unique())
    if not set(datasets) & set(DATASETS):
        return f"it was measured on {', '.join(datasets)}, and RobustBench has {', '.join(DATASETS)}"
    return (
        "it has neither AutoAttack with all four members, as in the suite 'robustbench', nor RobustBench's "
        f"{len(BENCHMARK)} corruptions with the photographs of frost, as in the suite 'corruptions'"
    )


def _identifiers(cells: pd.DataFrame) -> dict[tuple[str, str], str]:
    """File names of the models, by name and digest: without folders; with a digest where two would be the same."""
    models = cells[["model", "model_digest"]].drop_duplicates().sort_values(["model", "model_digest"])
    # Case does not tell files apart everywhere.
    short = [
        re.sub(r"[^A-Za-z0-9_.-]+", "_", name.rpartition("/")[2]).lstrip(".") or "model" for name in models["model"]
    ]
    folded = [name.lower() for name in short]
    return {
        (model, model_digest): name if folded.count(name.lower()) == 1 else f"{name}_{model_digest[:8]}"
        for (model, model_digest), name in zip(models.itertuples(index=False), short, strict=True)
    }


def _percent(fraction: float) -> str:
    return str(round(100 * float(fraction), 2))


def _clean(text: str) -> str:
    return html.escape(display.one_line(text))
