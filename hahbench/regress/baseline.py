"""What was measured once, in a file small enough to commit."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from hahbench import __version__
from hahbench.atomic import replacing
from hahbench.attacks import ATTACK_KINDS
from hahbench.catalog import resolve_models
from hahbench.errors import BaselineError
from hahbench.models.attributes import described, tensor_bytes
from hahbench.models.load import load_model, model_digest
from hahbench.registry import suggest
from hahbench.regress.compare import Metric, Value, score
from hahbench.spec import AttackSpec, digest
from hahbench.store import Store
from hahbench.verdict import worst

SCHEMA = 1
"""Version of the file; raised with every change that an older hahbench cannot read."""


@dataclasses.dataclass(frozen=True)
class BaselineData:
    """The samples: what ``--dataset`` was given, whether ``--data`` was, the set's own name, how many, their digest."""

    argument: str
    from_path: bool
    name: str
    source: str
    n: int
    digest: str


@dataclasses.dataclass(frozen=True, eq=False)
class BaselineModel:
    """A model: what ``--model`` was given, the digests of its weights and of weights, card and code together.

    ``right`` is (N,) bool, whether the unperturbed images were classified correctly.
    """

    argument: str
    weights: str
    digest: str
    right: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class BaselineCell:
    """A model under an attack at a level, with all its draws.

    Attributes:
        model: its name.
        attack: at this level alone.
        attack_version: of the code that carried it out.
        seeds: of the draws.
        metric: ``accuracy`` or ``median_norm``.
        outcomes: (draws, N) in the order of the samples: bool, whether classified correctly, or float32 norms.
        verdict: of the diagnostics; empty where nobody looked.
    """

    model: str
    attack: AttackSpec
    attack_version: str
    seeds: tuple[int, ...]
    metric: Metric
    outcomes: NDArray[Any]
    verdict: str = ""

    @property
    def level(self) -> float | None:
        """None for attacks without levels."""
        return self.attack.levels[0] if self.attack.levels else None

    @property
    def score(self) -> Value:
        """The score on all samples and its 95 % interval."""
        return score(self.metric, self.united(self.outcomes))

    def united(self, outcomes: NDArray[Any]) -> NDArray[Any]:
        """Of an attack that searches for an error (draws, N) correct to (1, N): what all draws left correct."""
        if self.metric == "accuracy" and ATTACK_KINDS[self.attack.kind].worst_case:
            outcomes = outcomes.min(axis=0, keepdims=True)
        return outcomes


@dataclasses.dataclass(frozen=True, eq=False)
class Baseline:
    """What a file holds: the samples, the models by name, a cell for each model, attack and level."""

    data: BaselineData
    models: Mapping[str, BaselineModel]
    cells: Sequence[BaselineCell]


def weights_digest(model: nn.Module) -> str:
    """SHA-256, as 64 hexadecimal digits, of the state dict alone: not of code, card, or versions of libraries."""
    sha256 = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            sha256.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            sha256.update(tensor_bytes(value))
        else:
            # What ``get_extra_state`` adds.
            sha256.update(f"{name} {described(value)}\n".encode())
    return sha256.hexdigest()


def outcomes_of(metric: Metric, norm: str, outcomes: pd.DataFrame) -> NDArray[Any]:
    """(N,), of one draw: what ``BaselineCell`` keeps of an outcome table."""
    if metric == "accuracy":
        return (outcomes["adv_pred"] == outcomes["label"]).to_numpy(bool)
    return outcomes[norm].to_numpy(np.float32)


# --- from a store -----------------------------------------------------------------------------------------------------


def baseline_of(store: Store, models: Sequence[str] = (), attacks: Sequence[str] = ()) -> Baseline:
    """A baseline of what a store holds, of several results the newest.

    Args:
        store: the finished cells, of one set of samples.
        models: the names of those to take; empty for all.
        attacks: the names of those to take; empty for all.

    Raises:
        HahbenchError: the store holds nothing, several sets of samples or no such model or attack; or a model cannot be
            loaded, or is no longer the one that was measured.
    """
    cells, outcomes = store.read()
    for noun, wanted in (("model", models), ("attack", attacks)):
        for name in wanted:
            if name not in set(cells[noun]):
                raise BaselineError(
                    f"{store.folder}: holds no {noun} {name!r}; {suggest(name, sorted(set(cells[noun])))}"
                )
        if wanted:
            cells = cells[cells[noun].isin(wanted)]
    if cells.empty:
        raise BaselineError(f"{store.folder}: holds none of these models under any of these attacks")
    if cells["data_digest"].nunique() > 1:
        sets = cells.drop_duplicates("data_digest")
        found = ", ".join(f"{name} (n = {n})" for name, n in zip(sets["dataset"], sets["n"], strict=True))
        raise BaselineError(
            f"{store.folder}: holds results on several sets of samples, {found}; allowed: one. Give a run whose "
            "results are to be a baseline a --store of its own"
        )
    cells = cells.sort_values("created", kind="stable")
    now = _models_now(cells, store)
    # A change that was taken back leaves newer results of what is there no more.
    cells = _newest(cells[cells["model_digest"] == cells["model"].map({name: of.digest for name, of in now.items()})])
    by_key = {str(key): part for key, part in outcomes.sort_values("index").groupby("key")}
    first = cells.iloc[0]
    data = BaselineData(
        argument=first["dataset_argument"],
        from_path=bool(first["from_path"]),
        name=first["dataset"],
        source=first["source"],
        n=int(first["n"]),
        digest=first["data_digest"],
    )
    found_models = {}
    for model, part in cells.groupby("model"):
        of_model = by_key[part["key"].iloc[0]]
        right = (of_model["clean_pred"] == of_model["label"]).to_numpy(bool)
        found_models[str(model)] = BaselineModel(
            part["model_argument"].iloc[-1], now[str(model)].weights, now[str(model)].digest, right
        )
    found_cells = []
    for _, part in cells.groupby(["model", "attack", "level"], dropna=False):
        draws = part.sort_values("seed")
        of_cell = draws.iloc[0]
        seeds = tuple(int(seed) for seed in draws["seed"])
        levels = () if np.isnan(of_cell["level"]) else (float(of_cell["level"]),)
        params = json.loads(of_cell["params"])
        spec = AttackSpec(of_cell["attack"], of_cell["kind"], of_cell["norm"] or None, levels, params, seeds[0])
        metric: Metric = "median_norm" if of_cell["worst_case"] and of_cell["norm"] and not levels else "accuracy"
        rows = np.array([outcomes_of(metric, of_cell["norm"], by_key[key]) for key in draws["key"]])
        version = of_cell["attack_version"]
        found_cells.append(BaselineCell(of_cell["model"], spec, version, seeds, metric, rows, worst(draws["verdict"])))
    return Baseline(data, found_models, found_cells)


class _ModelNow(NamedTuple):
    """The digests of a model as its argument now gives it."""

    weights: str
    digest: str


def _models_now(cells: pd.DataFrame, store: Store) -> dict[str, _ModelNow]:
    """Each model, as the argument of its newest cell gives it; it must have been measured."""
    classes = {(record.model, record.model_digest): record.classes for record in store.read_records()}
    now = {}
    for name, part in ((str(name), part) for name, part in cells.groupby("model")):
        newest = part.iloc[-1]
        argument = newest["model_argument"]
        cards = {card.name: card for card in resolve_models(argument, newest["dataset_argument"])}
        if name not in cards:
            raise BaselineError(
                f"--model {argument} no longer stands for model {name!r}, which was measured; run it again"
            )
        model = load_model(cards[name], classes.get((name, newest["model_digest"])))
        found = _ModelNow(weights_digest(model), model_digest(cards[name], model))
        if found.digest not in set(part["model_digest"]):
            raise BaselineError(
                f"model {name!r} is no longer what was measured: its weights, card or code changed, or the version of "
                "Python or torch; run the suite again, then make the baseline"
            )
        now[name] = found
    return now


def _newest(cells: pd.DataFrame) -> pd.DataFrame:
    """Of each attack on a model the newest way of carrying it out, of each draw the newest."""
    same, told_apart = ["model", "attack"], ["kind", "norm", "params", "attack_version"]
    last = cells.drop_duplicates(same, keep="last")[[*same, *told_apart]]
    cells = cells.merge(last, on=[*same, *told_apart])
    return cells.drop_duplicates(["model", "attack", "level", "seed"], keep="last")


# --- the file ---------------------------------------------------------------------------------------------------------


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write the file, whole or not at all: JSON, a line per cell, with scores to read and packed outcomes.

    Raises:
        BaselineError: the file cannot be written.
    """
    header = {
        "schema": SCHEMA,
        "made": {
            "hahbench": __version__,
            "torch": str(torch.__version__),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        "data": dataclasses.asdict(baseline.data),
        "models": {
            name: {
                "argument": model.argument,
                "weights": model.weights,
                "digest": model.digest,
                "right": _packed("accuracy", model.right),
            }
            for name, model in baseline.models.items()
        },
        "attacks": _attacks(baseline.cells),
    }
    cells = [
        {
            "model": cell.model,
            "attack": cell.attack.name,
            "level": cell.level,
            "seeds": list(cell.seeds),
            "metric": cell.metric,
            **dict(zip(("value", "low", "high"), map(_readable, cell.score), strict=True)),
            "verdict": cell.verdict,
            "outcomes": [_packed(cell.metric, row) for row in cell.outcomes],
        }
        for cell in baseline.cells
    ]
    header["digest"] = digest(header, cells)
    lines = ",\n".join(f"    {json.dumps(cell)}" for cell in cells)
    text = json.dumps(header, indent=2).removesuffix("\n}") + f',\n  "cells": [\n{lines}\n  ]\n}}\n'
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BaselineError(f"{path}: the baseline cannot be written here: {error.strerror}") from error


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file.

    Raises:
        BaselineError: the file is missing, truncated or changed, no baseline, or of another schema.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found["schema"]
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path}: is no baseline, or truncated: {error}") from error
    except (KeyError, TypeError):
        raise BaselineError(f"{path}: is no baseline; 'hahbench baseline --store DIR --out FILE' makes one") from None
    if schema != SCHEMA:
        raise BaselineError(
            f"{path}: has schema {schema}; this hahbench, {__version__}, reads schema {SCHEMA}; "
            "install the hahbench that made it, or make the baseline again"
        )
    try:
        cells, said = found.pop("cells"), found.pop("digest")
        if digest(found, cells) != said:
            raise BaselineError(f"{path}: was changed after it was made; make the baseline again")
        data = BaselineData(**found["data"])
        models = {
            name: BaselineModel(**{**model, "right": _unpacked("accuracy", model["right"], data.n)})
            for name, model in found["models"].items()
        }
        return Baseline(data, models, [_cell(cell, found["attacks"][cell["attack"]], data.n) for cell in cells])
    except (KeyError, TypeError, ValueError) as error:
        raise BaselineError(f"{path}: is no baseline of schema {SCHEMA}: {error!r}") from error


def _attacks(cells: Sequence[BaselineCell]) -> dict[str, dict[str, Any]]:
    attacks: dict[str, dict[str, Any]] = {}
    for cell in cells:
        spec = cell.attack
        said = {
            "kind": spec.kind,
            "norm": spec.norm,
            "params": dict(spec.params),
            "version": cell.attack_version,
        }
        if attacks.setdefault(spec.name, said) != said:
            raise BaselineError(
                f"attack {spec.name!r} was carried out in two ways on two models; run it on both again, or choose one"
            )
    return {name: {**said, "digest": digest(name, said)} for name, said in attacks.items()}


def _cell(cell: Mapping[str, Any], attack: Mapping[str, Any], n: int) -> BaselineCell:
    levels = () if cell["level"] is None else (float(cell["level"]),)
    spec = AttackSpec(cell["attack"], attack["kind"], attack["norm"], levels, attack["params"], cell["seeds"][0])
    rows = [_unpacked(cell["metric"], text, n) for text in cell["outcomes"]]
    seeds, verdict = tuple(cell["seeds"]), cell.get("verdict", "")
    return BaselineCell(cell["model"], spec, attack["version"], seeds, cell["metric"], np.array(rows), verdict)


def _readable(value: float) -> float | str:
    """Rounded; JSON has no word for infinity."""
    return float(f"{value:.6g}") if np.isfinite(value) else str(value)


def _packed(metric: Metric, row: NDArray[Any]) -> str:
    content = np.packbits(row) if metric == "accuracy" else row.astype("<f4")
    return base64.b64encode(content.tobytes()).decode()


def _unpacked(metric: Metric, text: str, n: int) -> NDArray[Any]:
    content = base64.b64decode(text, validate=True)
    if metric == "accuracy":
        return np.unpackbits(np.frombuffer(content, np.uint8), count=n).astype(bool)
    norms = np.frombuffer(content, "<f4")
    if len(norms) != n:
        raise ValueError(f"{len(norms)} norms for {n} samples")
    return norms
