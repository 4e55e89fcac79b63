"""Reports as files: HTML and Markdown to read, CSV and JSON to compute with, LaTeX to print."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hahbench import metrics
from hahbench.reports import captions, files, markdown
from hahbench.reports.corruptions import corruption_scores, severities_text
from hahbench.reports.display import escape, one_line
from hahbench.reports.drawn import Drawn
from hahbench.reports.leaderboard import leaderboard, leaderboard_json, ranked_by
from hahbench.reports.measured import Measured, by_data_set
from hahbench.reports.missing import missing_section
from hahbench.reports.orderings import orderings, orderings_text
from hahbench.reports.tables import TABLE1, TABLE2, TABLE3, Table, as_text, paper_table, with_procedural_frost
from hahbench.spec import ExhibitKind, ModelRecord

_TWO_ROWS = (
    "A row is one attack: of a network that has a second row, for the attack through other gradients, fewer samples "
    "withstand both attacks than either."
)
_SHARED_RANK = (
    "Models that differ in their gradients alone are one network and share a rank, by the lower of their accuracies."
)
_NOT_NUMBERS = ["model_argument", "title"]
"""Columns for what is read, which files of numbers go without."""


def write_reports(
    cells: pd.DataFrame,
    outcomes: pd.DataFrame,
    out: Path,
    *,
    store: Path,
    command: str,
    exhibits: Mapping[ExhibitKind, tuple[pd.DataFrame, pd.DataFrame]] | None = None,
    records: Sequence[ModelRecord] = (),
) -> list[Path]:
    """Write what the store holds into a folder per data set, such as ``cifar10-n500``.

    Each gets ``leaderboard`` as .html, .md, .tex, .csv and .json, a page a model in ``models``, ``table1`` and, with
    its models, ``table3``, as .md, .tex and .csv, and ``scores.csv`` with every score there is; with corruptions also
    ``table2`` and ``corruptions``; on the paper's data set also ``orderings``; with exhibits also ``figures``, a page
    and a folder.

    Args:
        cells: as the store gives them.
        outcomes: as the store gives them.
        out: the folder to write to.
        store: the store's folder, for the commands that fill missing cells.
        command: the command that makes these reports, for their captions.
        exhibits: of every kind, as the store gives them; None leaves the figures out.
        records: of the models, as the store gives them.

    Returns:
        The files, in the order of the data sets' names.

    Raises:
        CatalogError: the published numbers cannot be read.
        OSError: a file cannot be written; files are written whole or not at all.
    """
    cells, left_out = metrics.comparable_cells(cells)
    for attack, others in left_out.items():
        warnings.warn(
            f"attack {attack!r} was given other parameters, or another norm, on {', '.join(others)} than on the model "
            "it was last made on, and is left out of them; run it again, or give one of the two attacks another name",
            stacklevel=2,
        )
    # Every run imports this package, for names to show, and not every run has a use for pages.
    from hahbench.reports.html import write_pages

    paths: list[Path] = []
    for of in by_data_set(cells, outcomes, records, out, store, command):
        listing, of_leaderboard = _write_leaderboard(of)
        corrupted = corruption_scores(of.predicting, of.scores)
        paths += [*of_leaderboard, *_write_tables(of, corrupted), *_write_corruptions(of, corrupted)]
        paths += [*_write_orderings(of), files.write_csv(of.folder / "scores.csv", of.scores)]
        drawn: list[Drawn] = []
        if exhibits is not None:
            drawn, of_figures = _write_figures(of, exhibits)
            paths += of_figures
        paths += write_pages(of.folder, listing, of.cells, outcomes, of.scores, records, drawn)
    return paths


def _write_leaderboard(of: Measured) -> tuple[dict[str, Any], list[Path]]:
    """The leaderboard as JSON has it, and the files."""
    searching = set(of.cells.loc[of.cells["worst_case"], "attack"])
    board = leaderboard(of.models, of.scores, of.repeated, searching)
    facts = board.assign(digest=board["model_digest"].str[:8], samples=of.cells.iloc[-1]["n"])
    before = {"Rank": "rank", "Model": "display"}
    after = {"Parameters": "parameters", "Digest": "digest", "n": "samples"}
    by = ", then ".join(escape(column.title) for column in ranked_by(of.scores, searching))
    shared = f" {_SHARED_RANK}" if of.repeated else ""
    paths = _write_table(
        of.folder / "leaderboard",
        "Leaderboard",
        as_text(facts, before, after, escape),
        as_text(facts, before, after, one_line),
        board.drop(columns=_NOT_NUMBERS),
        captions.caption(of.cells, board, of.command, f"Ranked by {by}.{shared}"),
        captions.verdicts_section(board),
        missing_section(board, of.commands),
    )
    listing = leaderboard_json(board, of.cells, of.records, of.repeated, of.command)
    text = json.dumps(listing, indent=2, ensure_ascii=False, allow_nan=False)
    return listing, [*paths, files.write_text(of.folder / "leaderboard.json", text + "\n")]


def _write_tables(of: Measured, corrupted: pd.DataFrame) -> list[Path]:
    """The tables of the paper; ``corrupted`` as ``corruption_scores`` gives it."""
    paths = _write_paper_table(of, TABLE1, of.models)
    if not corrupted.empty:
        of_images = corrupted["value"].notna() & corrupted["attack"].str.startswith("corruption")
        shown = of.predicting[of.predicting["display"].isin(corrupted.loc[of_images, "display"])]
        real_frost = (corrupted["attack"] == "corruption-frost").any()
        table2 = TABLE2 if real_frost else with_procedural_frost(TABLE2)
        paths += _write_paper_table(of, table2, shown, a_column_per_model=True)
    return [*paths, *_write_paper_table(of, TABLE3, of.models)]


def _write_paper_table(
    of: Measured, asked: Table, models: pd.DataFrame, *, a_column_per_model: bool = False
) -> list[Path]:
    table = paper_table(asked, models, of.scores, of.paper, of.dataset)
    if table.empty:
        return []
    rows, latex = (
        as_text(table, {"Model": "display"}, {"Parameters": "parameters"}, literal) for literal in (escape, one_line)
    )
    if a_column_per_model:
        rows, latex = _transposed(rows), _transposed(latex)
    notes = [_TWO_ROWS] if table["display"].isin(of.repeated).any() else []
    published = of.paper if table["published"].notna().any() else None
    return _write_table(
        of.folder / asked.name,
        asked.title,
        rows,
        latex,
        table.drop(columns=_NOT_NUMBERS),
        captions.caption(of.cells, table, of.command, *notes, published=published),
        captions.verdicts_section(table),
        # A relative error lacks the baseline rather than cells of the model.
        missing_section(table[table["metric"] != "relative_error"], of.commands),
    )


def _transposed(text: pd.DataFrame) -> pd.DataFrame:
    """A column per model, for many scores of few models."""
    turned = text.set_index("Model").T
    return turned.rename_axis(None, axis=1).rename_axis("").reset_index()


def _write_corruptions(of: Measured, corrupted: pd.DataFrame) -> list[Path]:
    """A table a model; ``corrupted`` as ``corruption_scores`` gives it."""
    if corrupted.empty:
        return []
    sections = [
        f"## {escape(str(name))}\n\n{markdown.table(severities_text(of_model))}"
        for name, of_model in corrupted.groupby("display", sort=False)
    ]
    caption = captions.caption(of.cells, corrupted, of.command)
    page = markdown.page("Accuracy (%) under corruptions", caption, *sections)
    return [
        files.write_text(of.folder / "corruptions.md", page),
        files.write_csv(of.folder / "corruptions.csv", corrupted.drop(columns=_NOT_NUMBERS)),
    ]


def _write_orderings(of: Measured) -> list[Path]:
    if of.dataset != of.paper.dataset:
        return []
    tested = orderings(of.paper, of.cells, of.outcomes, of.same)
    if tested.empty:
        return []
    text = orderings_text(tested)
    caption = captions.caption(of.cells, tested.assign(metric="difference"), of.command, published=of.paper)
    return _write_table(of.folder / "orderings", "What the paper concludes", text, text, tested, caption)


def _write_table(
    stem: Path, title: str, rows: pd.DataFrame, latex: pd.DataFrame, numbers: pd.DataFrame, caption: str, *sections: str
) -> list[Path]:
    """A table as .md, .csv and .tex: ``rows`` are texts for Markdown, ``latex`` for LaTeX."""
    page = markdown.page(title, markdown.table(rows), caption, *sections)
    return [
        files.write_text(stem.with_name(f"{stem.name}.md"), page),
        files.write_csv(stem.with_name(f"{stem.name}.csv"), numbers),
        files.write_latex(stem.with_name(f"{stem.name}.tex"), title, caption, latex),
    ]


def _write_figures(
    of: Measured, exhibits: Mapping[ExhibitKind, tuple[pd.DataFrame, pd.DataFrame]]
) -> tuple[list[Drawn], list[Path]]:
    """The figures that may be published, and the files."""
    # Every run imports this package, for names to show, and not every run has a use for matplotlib.
    from hahbench.reports.figures.write import Results, write_figures

    results = Results(of.cells, of.outcomes, of.scores, of.models, exhibits, of.repeated)
    figures = write_figures(of.folder / "figures", results)
    page = markdown.page(
        "Figures",
        *figures.sections,
        captions.caption(of.cells, of.scores.assign(metric="accuracy"), of.command),
        missing_section(figures.absent.assign(value=float("nan")), of.commands),
    )
    return figures.drawn, [files.write_text(of.folder / "figures.md", page), *figures.paths]
