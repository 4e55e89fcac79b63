"""Reports as files: HTML and Markdown to read, CSV and JSON to compute with, LaTeX to print."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from hahbench import __version__, catalog, metrics
from hahbench.atomic import replacing
from hahbench.reports.corruptions import corruption_scores, severities_text
from hahbench.reports.display import escape, one_line
from hahbench.reports.drawn import Drawn
from hahbench.reports.leaderboard import leaderboard, leaderboard_json, ranked_by
from hahbench.reports.orderings import EXPLAINED, orderings, orderings_text
from hahbench.reports.published import Published, read_published
from hahbench.reports.tables import (
    TABLE1,
    TABLE2,
    TABLE3,
    as_text,
    models_in,
    paper_table,
    verdicts,
    with_procedural_frost,
)
from hahbench.spec import REFERENCE, ExhibitKind, ModelRecord, name_without_folder, networks

_EXPLAINED = {
    "difference": EXPLAINED,
    "accuracy": "Accuracies in percent, severities and draws of noise averaged; in brackets Wilson's 95 % interval "
    "over the samples, which is conservative for averages.",
    "relative_error": "Relative errors, in percent, are errors over those of Standard, averaged over the corruptions; "
    "in brackets the 95 % interval over the samples by the delta method.",
    "median_norm": "Median norms in pixel values of [0, 1] (l0: changed colour values), 0 where the model was wrong "
    "already and ∞ where the attack failed; in brackets the exact 95 % interval between order statistics.",
}

_VERDICTS = (
    "Gradients can mislead an attack, and a robust accuracy is then too high. Each was examined for output that is "
    "random or depends on how it is asked for, missing gradients, a black-box attack that breaks more than the others, "
    "a single step that does as well as many, a larger epsilon that does not help, an unbounded perturbation that does "
    "not break everything, and perturbations made on the other models of the run that do better, on up to 32 of the "
    "samples. What the same network loses when it is attacked through other gradients, and, beside a median norm, what "
    "attacks of the same norm break nearer, was looked up for all of them."
)
_TWO_ROWS = (
    "A row is one attack: of a network that has a second row, for the attack through other gradients, fewer samples "
    "withstand both attacks than either."
)
_SHARED_RANK = (
    "Models that differ in their gradients alone are one network and share a rank, by the lower of their accuracies."
)


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
    scored = metrics.scores(cells, outcomes, networks(records))
    paper = read_published(catalog.data_folder("reports") / "published" / "hah-2022.toml")
    paths: list[Path] = []
    for folder, part in _by_folder(cells):
        newest = part.iloc[-1]
        models, scores = models_in(part), scored[scored["data_digest"] == newest["data_digest"]]
        data_arguments = ["--dataset", newest["dataset_argument"], *(["--data", "PATH"] if newest["from_path"] else [])]
        run_arguments = ["--n", str(newest["n"]), "--store", str(store)]
        commands = _Commands(data_arguments, run_arguments, _like_the_others(records, part, paper))
        dataset = str(newest["dataset_argument"])

        same = metrics.by_predictions(networks(records), part, outcomes)
        repeated = _repeated(models, records, same)
        searching = set(part.loc[part["worst_case"], "attack"])
        board = leaderboard(models, scores, repeated, searching)
        facts = board.assign(digest=board["model_digest"].str[:8], samples=newest["n"])
        after = {"Parameters": "parameters", "Digest": "digest", "n": "samples"}
        markdown, latex = (
            as_text(facts, {"Rank": "rank", "Model": "display"}, after, literal) for literal in (escape, one_line)
        )
        caption = _caption(newest, part, board, None, command)
        by = ", then ".join(escape(column.title) for column in ranked_by(scores, searching))
        shared = f" {_SHARED_RANK}" if repeated else ""
        caption = "\n".join([f"- Ranked by {by}.{shared}", caption])
        page = _page("Leaderboard", markdown, caption, _verdicts(board), _missing(board, commands))
        paths += _write(out / folder / "leaderboard", page, board.drop(columns=["model_argument", "title"]))
        paths.append(_write_latex(out / folder / "leaderboard.tex", "Leaderboard", caption, latex))
        listing = leaderboard_json(board, part, records, repeated, command)
        text = json.dumps(listing, indent=2, ensure_ascii=False, allow_nan=False)
        paths.append(_write_text(out / folder / "leaderboard.json", text + "\n"))

        # Corruptions know nothing of gradients.
        predicting = models[~models["display"].isin(repeated)]
        corrupted = corruption_scores(predicting, scores)
        tables = [TABLE1, TABLE3]
        if not corrupted.empty:
            real_frost = (corrupted["attack"] == "corruption-frost").any()
            tables.insert(1, TABLE2 if real_frost else with_procedural_frost(TABLE2))
        for asked in tables:
            shown = models
            if asked.name == TABLE2.name:
                of_images = corrupted["value"].notna() & corrupted["attack"].str.startswith("corruption")
                shown = predicting[predicting["display"].isin(corrupted.loc[of_images, "display"])]
            table = paper_table(asked, shown, scores, paper, dataset)
            if table.empty:
                continue
            published = paper if table["published"].notna().any() else None
            markdown, latex = (
                as_text(table, {"Model": "display"}, {"Parameters": "parameters"}, literal)
                for literal in (escape, one_line)
            )
            if asked.name == TABLE2.name:
                markdown, latex = _transposed(markdown), _transposed(latex)
            caption = _caption(newest, part, table, published, command)
            if table["display"].isin(repeated).any():
                caption = "\n".join([f"- {_TWO_ROWS}", caption])
            page = _page(
                asked.title,
                markdown,
                caption,
                _verdicts(table),
                # A relative error lacks the baseline rather than cells of the model.
                _missing(table[table["metric"] != "relative_error"], commands),
            )
            paths += _write(out / folder / asked.name, page, table.drop(columns=["model_argument", "title"]))
            paths.append(_write_latex(out / folder / f"{asked.name}.tex", asked.title, caption, latex))
        if not corrupted.empty:
            sections = [
                f"## {escape(str(name))}\n\n{_markdown(severities_text(of_model))}"
                for name, of_model in corrupted.groupby("display", sort=False)
            ]
            page = "\n\n".join(
                ["# Accuracy (%) under corruptions", _caption(newest, part, corrupted, None, command), *sections]
            )
            paths += _write(
                out / folder / "corruptions", page + "\n", corrupted.drop(columns=["model_argument", "title"])
            )
        of_paper = dataset == paper.dataset
        tested = orderings(paper, part, outcomes, same) if of_paper else pd.DataFrame()
        if not tested.empty:
            title = "What the paper concludes"
            caption = _caption(newest, part, tested.assign(metric="difference"), paper, command)
            paths += _write(out / folder / "orderings", _page(title, orderings_text(tested), caption), tested)
            paths.append(_write_latex(out / folder / "orderings.tex", title, caption, orderings_text(tested)))
        paths.append(_write_csv(out / folder / "scores.csv", scores))
        drawn: list[Drawn] = []
        if exhibits is not None:
            # Every run imports this package, for names to show, and not every run has a use for matplotlib.
            from hahbench.reports.figures.write import Results, write_figures

            results = Results(part, outcomes, scores, models, exhibits, repeated)
            figures = write_figures(out / folder / "figures", results)
            sections = [
                "# Figures",
                *figures.sections,
                _caption(newest, part, scores[scores["metric"] == "accuracy"], None, command),
                _missing(figures.absent.assign(value=float("nan")), commands),
            ]
            paths.append(_write_text(out / folder / "figures.md", "\n\n".join(filter(None, sections)) + "\n"))
            paths += figures.paths
            drawn = figures.drawn
        # Likewise, not every run has a use for what pages are made with.
        from hahbench.reports.html import write_pages

        paths += write_pages(out / folder, listing, part, outcomes, scores, records, drawn)
    return paths


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


def _caption(
    newest: pd.Series, cells: pd.DataFrame, shown: pd.DataFrame, published: Published | None, command: str
) -> str:
    shown_cells = cells["attack"].isin(shown["attack"])
    if shown["attack"].str.startswith("corruptions-").any():
        shown_cells |= cells["kind"].str.startswith("corruption")
    seeds = _seeds(cells[shown_cells])
    lines = [
        f"- Data: {escape(str(newest['dataset']))} ({escape(str(newest['source']))}), "
        f"the first {newest['n']} test samples, digest {newest['data_digest'][:8]}.",
        f"- Seeds: {seeds}.",
    ]
    lines += [f"- {_EXPLAINED[metric]}" for metric in shown["metric"].unique()]
    corrupted = cells[cells["kind"].str.startswith("corruption") & shown_cells]
    if not corrupted.empty:
        sources = corrupted["attack_version"].str.partition(", judge")[0].unique()
        lines.append(f"- Corruptions: {escape('; '.join(sorted(sources)))}.")
    if published:
        paper = f"{escape(published.citation)}. {escape(published.networks)}"
        if "difference" in set(shown["metric"]):
            lines.append(f"- Paper: {paper}")
        else:
            lines.append(f'- After "paper": {paper} In brackets ours less the paper\'s, in percentage points.')
    return "\n".join([*lines, f"- Made with hahbench {__version__} by:"]) + f"\n\n  {_code(command)}"


def _seeds(cells: pd.DataFrame) -> str:
    """The seeds, and where attacks were drawn differently, those of each."""
    of_attack: dict[str, str] = {
        str(name): ", ".join(map(str, sorted(part["seed"].unique()))) for name, part in cells.groupby("attack")
    }
    usual, *others = [seeds for seeds, _ in collections.Counter(of_attack.values()).most_common()] or ["none"]
    if not others:
        return usual
    apart = [
        f"{seeds} of {', '.join(escape(name) for name, drawn in of_attack.items() if drawn == seeds)}"
        for seeds in others
    ]
    return "; ".join([usual, *apart])


@dataclasses.dataclass(frozen=True)
class _Commands:
    """The arguments of commands that fill what is missing.

    Attributes:
        data: of every command.
        run: of ``run`` besides.
        train: of ``train`` besides, for networks like those that were measured.
    """

    data: list[str]
    run: list[str]
    train: list[str]


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


def _missing(shown: pd.DataFrame, commands: _Commands) -> str:
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
        paragraphs.append("\n".join(_code(shlex.join(["hahbench", *map(str, line)])) for line in lines))
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


def _code(line: str) -> str:
    return "    " + " ".join(line.splitlines())


def _verdicts(shown: pd.DataFrame) -> str:
    rows = verdicts(shown)
    if rows.empty:
        return ""
    return "\n\n".join(["## Verdicts", _VERDICTS, _markdown(rows)])


def _transposed(text: pd.DataFrame) -> pd.DataFrame:
    """A column per model, for many scores of few models."""
    turned = text.set_index("Model").T
    return turned.rename_axis(None, axis=1).rename_axis("").reset_index()


def _page(title: str, text: pd.DataFrame, *sections: str) -> str:
    return "\n\n".join(section for section in (f"# {title}", _markdown(text), *sections) if section) + "\n"


def _markdown(rows: pd.DataFrame) -> str:
    text: str = rows.to_markdown(index=False, disable_numparse=True)
    return text


def _write(stem: Path, page: str, numbers: pd.DataFrame) -> list[Path]:
    markdown, csv = stem.with_name(f"{stem.name}.md"), stem.with_name(f"{stem.name}.csv")
    return [_write_text(markdown, page), _write_csv(csv, numbers)]


def _write_text(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _write_latex(path: Path, title: str, caption: str, text: pd.DataFrame) -> Path:
    """A table to be input, with the packages booktabs and, for the ∞ of a norm, amssymb; the caption as comments."""
    rows = tabulate(text, headers="keys", showindex=False, disable_numparse=True, tablefmt="latex_booktabs")
    # A hyphen before a number is a minus.
    rows = re.sub(r"(?<![\w-])-(?=\d)", "$-$", rows).replace("∞", r"$\infty$")
    comments = "".join(f"% {line}\n" for line in [title, *caption.splitlines()] if line)
    return _write_text(path, comments + rows + "\n")


def _write_csv(path: Path, numbers: pd.DataFrame) -> Path:
    with replacing(path) as temporary:
        numbers.to_csv(temporary, index=False, lineterminator="\n")
    return path
