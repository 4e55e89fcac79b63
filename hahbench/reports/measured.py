"""What there is to report, by data set."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from hahbench import catalog, metrics
from hahbench.reports.missing import Commands, commands_for
from hahbench.reports.published import Published, read_published
from hahbench.reports.tables import models_in
from hahbench.spec import ModelRecord, networks


@dataclasses.dataclass(frozen=True)
class Measured:
    """What there is of one data set, and what its reports say besides.

    Attributes:
        folder: the folder to write to.
        cells: as the store gives them, of this data set, the newest last.
        outcomes: as the store gives them, of any.
        scores: as ``hahbench.metrics.scores`` gives them, of this data set.
        models: as ``hahbench.reports.tables.models_in`` gives them.
        records: of the models, as the store gives them.
        same: the network of each model, by its name and digest, as far as it is known.
        repeated: of each model that differs from another in its gradients alone, the other's display name by its own.
        paper: whose numbers stand beside those on the same data set.
        commands: that fill what is missing.
        command: that makes the reports, for their captions.
    """

    folder: Path
    cells: pd.DataFrame
    outcomes: pd.DataFrame
    scores: pd.DataFrame
    models: pd.DataFrame
    records: Sequence[ModelRecord]
    same: Mapping[tuple[str, str], str]
    repeated: Mapping[str, str]
    paper: Published
    commands: Commands
    command: str

    @property
    def dataset(self) -> str:
        """The argument of ``--dataset``."""
        return str(self.cells.iloc[-1]["dataset_argument"])

    @property
    def predicting(self) -> pd.DataFrame:
        """The models, each network once: its predictions know nothing of gradients."""
        return self.models[~self.models["display"].isin(self.repeated)]


def by_data_set(
    cells: pd.DataFrame, outcomes: pd.DataFrame, records: Sequence[ModelRecord], out: Path, store: Path, command: str
) -> Iterator[Measured]:
    """What there is of each data set, in the order of their folders' names.

    Args:
        cells: as ``hahbench.metrics.comparable_cells`` gives them.
        outcomes: as the store gives them.
        records: of the models, as the store gives them.
        out: the folder of the data sets' folders.
        store: the store's folder, for the commands that fill what is missing.
        command: the command that makes the reports.

    Raises:
        CatalogError: the published numbers cannot be read.
    """
    of_records = networks(records)
    scored = metrics.scores(cells, outcomes, of_records)
    paper = read_published(catalog.data_folder("reports") / "published" / "hah-2022.toml")
    for folder, part in _by_folder(cells):
        models = models_in(part)
        same = metrics.by_predictions(of_records, part, outcomes)
        yield Measured(
            folder=out / folder,
            cells=part,
            outcomes=outcomes,
            scores=scored[scored["data_digest"] == part["data_digest"].iloc[0]],
            models=models,
            records=records,
            same=same,
            repeated=_repeated(models, records, same),
            paper=paper,
            commands=commands_for(part, store, records, paper),
            command=command,
        )


def _by_folder(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    parts = [part for _, part in cells.groupby("data_digest")]
    names = [re.sub(r"[^\w.-]+", "-", f"{part['dataset'].iloc[0]}-n{part['n'].iloc[0]}") for part in parts]
    digests = [f"-{part['data_digest'].iloc[0][:8]}" for part in parts]
    folders = [name + digest if names.count(name) > 1 else name for name, digest in zip(names, digests, strict=True)]
    return sorted(zip(folders, parts, strict=True), key=lambda pair: pair[0])


def _repeated(
    models: pd.DataFrame, records: Sequence[ModelRecord], same: Mapping[tuple[str, str], str]
) -> dict[str, str]:
    """Of each model whose network stands there under its own gradients, too: the display name of that by its own.

    ``same`` are the networks, by the models' names and digests.
    """
    displays = {
        (model, digest): display
        for model, digest, display in zip(models["model"], models["model_digest"], models["display"], strict=True)
    }
    of_others = {(record.model, record.model_digest): record.other_gradients for record in records}
    plain = {same[model]: display for model, display in displays.items() if model in same and not of_others[model]}
    return {
        display: plain[same[model]]
        for model, display in displays.items()
        if model in same and of_others[model] and same[model] in plain
    }
