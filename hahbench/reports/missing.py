"""What reports lack, with the commands that fill it."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hahbench import catalog, metrics
from hahbench.reports import markdown
from hahbench.reports.display import escape
from hahbench.reports.published import Published
from hahbench.spec import REFERENCE, ModelRecord, name_without_folder


@dataclasses.dataclass(frozen=True)
class Commands:
    """The arguments of commands that fill what is missing.

    Attributes:
        data: of every command.
        run: of ``run`` besides.
        train: of ``train`` besides, for networks like those that were measured.
    """

    data: list[str]
    run: list[str]
    train: list[str]


def commands_for(cells: pd.DataFrame, store: Path, records: Sequence[ModelRecord], paper: Published) -> Commands:
    """The arguments for one data set.

    Args:
        cells: of that data set, as the store gives them, the newest last.
        store: the store's folder.
        records: of the models, as the store gives them.
        paper: whose networks are trained where they were not measured.
    """
    newest = cells.iloc[-1]
    return Commands(
        data=["--dataset", newest["dataset_argument"], *(["--data", "PATH"] if newest["from_path"] else [])],
        run=["--n", str(newest["n"]), "--store", str(store)],
        train=_like_the_others(records, cells, paper),
    )


def _like_the_others(records: Sequence[ModelRecord], measured: pd.DataFrame, paper: Published) -> list[str]:
    """The width and epochs that networks of the paper were trained with, where these have one width."""
    models = set(zip(measured["model"], measured["model_digest"], strict=True))
    alike = [
        (record.params["width"], record.train["epochs"])
        for record in records
        if (record.model, record.model_digest) in models
        and name_without_folder(record.model) in set(paper.accuracies["model"])
        and isinstance(record.params.get("width"), float)
        and isinstance(record.train.get("epochs"), int)
    ]
    if len({width for width, _ in alike}) != 1:
        return []
    return ["--width", str(alike[0][0]), "--epochs", str(max(epochs for _, epochs in alike))]


def missing_section(shown: pd.DataFrame, commands: Commands) -> str:
    """What is missing and the commands that fill it, in Markdown; empty where nothing is.

    Args:
        shown: a row for each score: ``title``, ``display``, ``model_argument``, ``model_digest``, ``attack``, ``value``
            and, where attacks have them, ``level``. The value is NaN where it is missing.
        commands: of the data set.
    """
    absent = shown[shown["value"].isna()]
    levels = absent["level"] if "level" in absent else pd.Series(math.nan, absent.index)
    runs = [_run_with(*asked) for asked in zip(absent["attack"], levels, strict=True)]
    absent = absent.assign(run=pd.Series(runs, absent.index, dtype=object))
    # Models that lack the same have one command.
    alike: dict[tuple[str, bool, tuple[str, ...]], list[tuple[str, str]]] = collections.defaultdict(list)
    for (name, argument, digest, run), titles in absent.groupby(
        ["display", "model_argument", "model_digest", "run"], sort=False
    )["title"]:
        # A model of the paper may have no weights yet.
        to_train = not digest and f"{commands.data[1]}/{argument}" not in catalog.models()
        alike[str(run), to_train, tuple(titles.unique())].append((str(name), str(argument)))
    paragraphs = []
    for (run, to_train, lacking), models in alike.items():
        lines = [["train", name, *commands.data, *commands.train] for _, name in models if to_train]
        arguments = [(Path("trained") / f"{name}.toml").as_posix() if to_train else name for _, name in models]
        of_models = [word for argument in arguments for word in ("--model", argument)]
        lines.append([*run.split(), *of_models, *commands.data, *commands.run])
        names = "; ".join(escape(name) for name, _ in models)
        paragraphs.append(f"{names}: {escape('; '.join(lacking))}")
        paragraphs.append("\n".join(markdown.code(shlex.join(["hahbench", *map(str, line)])) for line in lines))
    return "\n\n".join(["## Missing", *paragraphs]) if paragraphs else ""


def _run_with(attack: str, level: float) -> str | None:
    """The command for an attack, with the paper's suite where that has it; None where no shipped suite has it.

    A level of NaN is any.
    """
    name = attack.removesuffix(REFERENCE)
    registry = catalog.suites()
    asked = {"corruption-frost" if name.startswith("corruption-frost") else name}
    for averaged, corruptions in metrics.CORRUPTION_SETS.items():
        if name.startswith(averaged):
            asked = {metrics.corruption_attack(corruption) for corruption in corruptions}
    having = [suite for suite in registry if asked <= _has(suite, level)]
    if not having:
        return None
    engine = " --engine reference" if name != attack else ""
    return f"run {min(having, key=lambda suite: suite != 'paper')}{engine}"


def _has(suite: str, level: float) -> set[str]:
    """The names of a suite's attacks that have the level, and of its exhibits."""
    resolved, attacks = _resolved(suite)
    named = {spec.name for spec in attacks if math.isnan(level) or not spec.levels or level in spec.levels}
    return {*named, *resolved.exhibits}


_resolved = functools.cache(catalog.resolve_suite)
