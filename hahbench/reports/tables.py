"""Tables of models by scores: each declares the cells that it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from hahbench.corruptions import PAPER
from hahbench.metrics import CORRUPTION_SETS, PROCEDURAL_FROST, WITHOUT_FROST, corruption_attack
from hahbench.reports import display
from hahbench.reports.published import Published
from hahbench.spec import name_without_folder
from hahbench.verdict import doubt_in

_SCORE = ["model", "model_digest", "attack", "level", "metric"]


@dataclasses.dataclass(frozen=True)
class Column:
    """One score of every model.

    Attributes:
        attack: the attack's name.
        level: None for attacks without levels.
        metric: ``accuracy``, ``relative_error``, ``median_norm`` or ``mean_norm``.
    """

    attack: str
    level: float | None = None
    metric: str = "accuracy"

    @property
    def title(self) -> str:
        """The heading."""
        return display.score_title(self.attack, self.level, self.metric)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name: its name there, such as ``table1``.
        title: the heading here.
        columns: the scores that it shows.
        only_published: whether it shows the paper's models alone; else all that were measured.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    only_published: bool = False


TABLE1 = Table(
    "table1",
    "Table 1: accuracy (%) under noise and adversarial attacks",
    (
        Column("clean"),
        Column("gaussian-noise", 0.1),
        Column("apgd-linf", 2 / 255),
        Column("apgd-l2", 0.25),
    ),
)


TABLE3 = dataclasses.replace(
    TABLE1,
    name="table3",
    title="Table 3: accuracy (%) of HaH without one of its parts",
    only_published=True,
)

TABLE2 = Table(
    "table2",
    "Table 2: accuracy (%) under common corruptions, means over the severities",
    (
        Column("clean"),
        *(Column(corruption_attack(name)) for name in PAPER),
        Column("corruptions-paper"),
        Column("corruptions-paper", metric="relative_error"),
    ),
)


def with_procedural_frost(table: Table) -> Table:
    """``table`` for those who have not the photographs of frost: its stand-in, and the averages with it and without."""
    columns: list[Column] = []
    for column in table.columns:
        if column.attack == corruption_attack("frost"):
            columns.append(dataclasses.replace(column, attack=corruption_attack("frost_procedural")))
        elif column.attack in CORRUPTION_SETS:
            columns += [
                dataclasses.replace(column, attack=column.attack + end) for end in (WITHOUT_FROST, PROCEDURAL_FROST)
            ]
        else:
            columns.append(column)
    return dataclasses.replace(table, columns=tuple(columns))


def models_in(cells: pd.DataFrame) -> pd.DataFrame:
    """The models of the cells of one data set, by name.

    Models of the same display name are told apart by the first eight digits of their digests, and where those are the
    same by their names.

    Returns:
        ``model``, ``model_digest``, ``model_argument`` (of ``--model``), ``display`` and ``parameters``, their number.
    """
    newest = cells.sort_values("created", kind="stable").drop_duplicates(["model", "model_digest"], keep="last")
    models = newest.sort_values(["model", "created"], kind="stable", ignore_index=True)
    names = models["display"].where(models["display"] != "", models["model"])
    digests = " (" + models["model_digest"].str[:8] + ")"
    names = names.where(~names.duplicated(keep=False), names + digests)
    models["display"] = names.where(~names.duplicated(keep=False), names + " " + models["model"])
    return models[["model", "model_digest", "model_argument", "display", "parameters"]].astype({"parameters": "Int64"})


def paper_table(
    table: Table, models: pd.DataFrame, scores: pd.DataFrame, published: Published, dataset: str
) -> pd.DataFrame:
    """The scores of ``table`` beside the published ones; the models of the paper first, whether measured or not.

    Args:
        table: what to show.
        models: as ``models_in`` gives them.
        scores: of one data set.
        published: the paper.
        dataset: what the scores were measured on; the paper's numbers stand beside those on the same.

    Returns:
        As ``grid``, with a column ``published``, NaN where the paper has no number.
    """
    printed = published.accuracies
    names = list(dict.fromkeys(printed.loc[printed["table"] == table.name, "model"]))
    # The paper's HaH is HaH here, and cifar10/HaH once it has weights for a data set.
    models = models.assign(published_model=models["model"].map(name_without_folder))
    if table.only_published:
        models = models[models["published_model"].isin(names)]
    if dataset != published.dataset:
        return grid(models.drop(columns="published_model"), table.columns, scores).assign(published=float("nan"))
    absent = [name for name in names if name not in set(models["published_model"])]
    unmeasured = pd.DataFrame(dict.fromkeys(("model", "model_argument", "display", "published_model"), absent))
    models = pd.concat([models, unmeasured.assign(model_digest="")], ignore_index=True)
    order = models["published_model"].map({name: place for place, name in enumerate(names)})
    models = models.loc[order.sort_values(kind="stable", na_position="last").index]
    numbers = printed.drop(columns="table").drop_duplicates(["model", "attack", "level"])
    numbers = numbers.rename(columns={"model": "published_model"}).assign(metric="accuracy")
    same = ["published_model", "attack", "level", "metric"]
    merged = grid(models, table.columns, scores).merge(numbers, on=same, how="left")
    return merged.drop(columns="published_model")


def grid(models: pd.DataFrame, columns: Sequence[Column], scores: pd.DataFrame) -> pd.DataFrame:
    """Every model with every column in long form, in their order.

    Returns:
        The columns of ``models``, then ``title``, ``attack``, ``level`` and ``metric``, then ``value``, ``low``,
        ``high``, ``n``, ``draws`` and ``verdict``, which are NaN where the cell is missing.
    """
    wanted = pd.DataFrame([{"title": column.title, **dataclasses.asdict(column)} for column in columns])
    wanted = wanted.astype({"level": "float64"})
    found = scores[[*_SCORE, "value", "low", "high", "n", "draws", "verdict"]].astype({"n": "Int64", "draws": "Int64"})
    return models.merge(wanted, how="cross").merge(found, on=_SCORE, how="left")


def as_text(
    scored: pd.DataFrame,
    left: Mapping[str, str],
    right: Mapping[str, str],
    escape: Callable[[str], str] = display.escape,
) -> pd.DataFrame:
    """A row per model for reading.

    Args:
        scored: as ``grid`` gives it, with or without a column ``published``.
        left: what stands before the scores, heading to column of ``scored``.
        right: what stands after them.
        escape: makes texts literal where the table is shown; by default in Markdown.
    """
    titles = list(dict.fromkeys(scored["title"]))
    models = scored.iloc[:: len(titles)]
    cells = [_cell_text(cell) for cell in scored.to_dict("records")]
    columns = {heading: [_fact_text(fact, escape) for fact in models[column]] for heading, column in left.items()}
    columns |= {escape(title): cells[place :: len(titles)] for place, title in enumerate(titles)}
    columns |= {heading: [_fact_text(fact, escape) for fact in models[column]] for heading, column in right.items()}
    return pd.DataFrame(columns)


def verdicts(scored: pd.DataFrame) -> pd.DataFrame:
    """The verdict on each robust accuracy of ``scored``, as ``grid`` gives it: a row per model and threat model."""
    examined = scored[scored["verdict"].notna() & (scored["verdict"] != "")]
    return pd.DataFrame(
        {
            "Model": [display.escape(name) for name in examined["display"]],
            "Threat model": [display.escape(title) for title in examined["title"]],
            "Verdict": [display.escape(verdict) for verdict in examined["verdict"]],
        }
    )


def _fact_text(fact: str | int, escape: Callable[[str], str]) -> str:
    if isinstance(fact, str):
        return escape(fact)
    return "" if pd.isna(fact) else f"{fact:,}"


def _cell_text(cell: Mapping[Hashable, Any]) -> str:
    ours = display.MISSING
    if pd.notna(cell["value"]):
        ours = display.score_text(cell["metric"], cell["value"], cell["low"], cell["high"])
        if doubt_in(cell["verdict"]):
            ours += display.SUSPECT
    paper = cell.get("published", float("nan"))
    if pd.isna(paper):
        return ours
    if pd.isna(cell["value"]):
        return f"{ours}, paper {display.percent(paper)}"
    return f"{ours}, paper {display.percent(paper)} ({display.difference(cell['value'] - paper)})"
