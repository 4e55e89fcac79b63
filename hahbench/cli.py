"""The commands. Nothing else prints, but for the progress bars that they show."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shlex
import sys
import traceback
import warnings
from contextlib import AbstractContextManager
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer

from hahbench.errors import HahbenchError

app = typer.Typer(
    name="hahbench",
    help="Measure how robust image classifiers really are, and keep every per-sample outcome.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DataPath = Annotated[Path | None, typer.Option("--data", help="Folder that the data set is read from.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Photographs = Annotated[
    Path | None, typer.Option("--photographs", help="Folder of the photographs that the original frost is made of.")
]
StoreFolder = Annotated[Path, typer.Option("--store", help="Folder of finished cells; a run resumes from it.")]


def main() -> None:
    """The console command: an error that the user can mend is one line, any other has its traceback.

    The exit code is 2 for both: 1, Python's own, is that of a regression.
    """
    warnings.showwarning = _print_warning  # type: ignore[assignment]
    # They may have been closed before the process began.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where these go to a file, Windows may give them an encoding without the sign of infinity.
            stream.reconfigure(errors="replace")
    try:
        app()
    except HahbenchError as error:
        _print_error(_flat(error))
        sys.exit(2)
    except Exception:
        _print_error(traceback.format_exc())
        sys.exit(2)


def _print_error(text: str) -> None:
    # Where nobody reads on, the exit code has to say it.
    with contextlib.suppress(OSError):
        print("hahbench:", text.rstrip(), file=sys.stderr)


def _print_unless_unread(text: str, stream: TextIO) -> None:
    """Print where the exit code counts: 1, which Typer makes of a closed pipe, would be a regression."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # Whoever reads has seen enough, as 'head' has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _print_warning(message: Warning | str, *_: object) -> None:
    print("hahbench: warning:", _flat(message), file=sys.stderr)


def _flat(said: Exception | str) -> str:
    return " ".join(str(said).split())


def _only_ours_on_stdout() -> AbstractContextManager[object]:
    """While it lasts, what models print goes to standard error; standard output is for results."""
    return contextlib.redirect_stdout(sys.stderr)


@app.command("models")
def list_models(as_json: Json = False) -> None:
    """List the models that have a name."""
    from hahbench.catalog import models

    registry = models()
    rows = []
    for name in registry:
        card = registry[name]
        loader = card.loader if isinstance(card.loader, str) else card.loader.__qualname__
        rows.append({"name": name, "shows as": card.display, "weights for": card.dataset or "", "loader": loader})
    _print_rows(rows, as_json)


@app.command("attacks")
def list_attacks(as_json: Json = False) -> None:
    """List the attacks that have a name."""
    from hahbench.catalog import attacks

    registry = attacks()
    specs = [registry[name] for name in registry]
    rows = [
        {
            "name": spec.name,
            "kind": spec.kind,
            "norm": spec.norm or "",
            "levels": list(spec.levels),
            "draws": spec.draws,
            "params": dict(spec.params),
        }
        for spec in specs
    ]
    _print_rows(rows, as_json)


@app.command("suites")
def list_suites(as_json: Json = False) -> None:
    """List the suites."""
    from hahbench.catalog import suites

    registry = suites()
    chosen = [registry[name] for name in registry]
    rows = [
        {
            "name": suite.name,
            "data set": suite.dataset,
            "n": suite.n,
            "models": list(suite.models),
            "attacks": list(suite.attacks),
            "exhibits": list(suite.exhibits),
            "include": list(suite.include),
        }
        for suite in chosen
    ]
    _print_rows(rows, as_json)


@app.command("datasets")
def list_datasets(as_json: Json = False) -> None:
    """List the data sets."""
    from hahbench.data import DATASETS

    rows = []
    for name in DATASETS:
        try:
            what = (DATASETS[name].__doc__ or "").strip().partition("\n")[0]
        except HahbenchError as error:
            what = f"cannot be used: {error}"
        rows.append({"name": name, "what": what})
    _print_rows(rows, as_json)


@app.command("run")
def run_suite(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or the path of its TOML file.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Model name, SOURCE:NAME, card (.toml), Python file (.py, .py:NAME) or program (.pt, .ts, .pt2); "
            "repeatable; takes the place of the suite's models, and of the suites that it includes.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Name, or FILE.py:NAME; default: the suite's.")
    ] = None,
    data: DataPath = None,
    n: Annotated[int | None, typer.Option("--n", help="Use the first n test samples; default: the suite's.")] = None,
    store: StoreFolder = Path("results"),
    engine: Annotated[
        Literal["lanes", "reference"],
        typer.Option("--engine", help="Ours, or foolbox for FMN and pyautoattack for AutoAttack."),
    ] = "lanes",
    photographs: Photographs = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Run a suite over models; a run that was stopped goes on where it stood."""
    from hahbench.attacks import on_reference_engine
    from hahbench.attacks.corruption import on_sources
    from hahbench.catalog import resolve_models, resolve_suites
    from hahbench.data import find_dataset, load_images
    from hahbench.device import choose_device
    from hahbench.plan import check_cards
    from hahbench.progress import RunProgress
    from hahbench.run import Part, run
    from hahbench.store import Store

    with _only_ours_on_stdout():
        suites = resolve_suites(suite)
        dataset_argument = dataset or suites[0][0].dataset
        # All that can be wrong before the images are read, which may take a download. What a model's name stands for
        # depends on the data set.
        find_dataset(dataset_argument)
        parts = [
            Part(
                [card for name in model or asked.models for card in resolve_models(name, dataset_argument)],
                [on_reference_engine(spec) for spec in attacks] if engine == "reference" else attacks,
                asked.exhibits,
            )
            for asked, attacks in (suites[:1] if model else suites)
            # Of a suite without models there may be nothing but what it includes.
            if model or asked.models or not asked.include
        ]
        for part in parts:
            check_cards(part.cards, dataset_argument)
        torch_device = choose_device(device)
        images = load_images(dataset_argument, "test", data)
        labels = images.labels.numpy()
        parts = [
            dataclasses.replace(part, attacks=on_sources(part.attacks, images.name, labels, data, photographs))
            for part in parts
        ]
        folder = Store(store)
        with RunProgress() as progress:
            cells = run(
                parts,
                images,
                suites[0][0].n if n is None else n,
                dataset_argument=dataset_argument,
                from_path=data is not None,
                store=folder,
                device=torch_device,
                observer=progress,
            )
    if as_json:
        from hahbench.metrics import scores
        from hahbench.spec import networks

        print(_json(scores(*folder.read(cells), networks(folder.read_records())).to_dict("records")))
    else:
        print(f"{len(cells)} cells in {store}; 'hahbench report --store {store} --out DIR' makes the tables")


@app.command("report")
def report(
    out: Annotated[Path, typer.Option("--out", help="Folder that the reports are written to.")],
    store: StoreFolder = Path("results"),
) -> None:
    """Write the leaderboard and the paper's tables and figures from the finished cells."""
    from hahbench.reports import write_reports
    from hahbench.reports.plugins import write_plugin_reports
    from hahbench.spec import EXHIBITS
    from hahbench.store import Store

    finished = Store(store)
    cells, outcomes = finished.read()
    exhibits = {kind: finished.read_exhibits(kind) for kind in EXHIBITS}
    records = finished.read_records()
    command = shlex.join(["hahbench", *sys.argv[1:]])
    try:
        paths = write_reports(cells, outcomes, out, store=store, command=command, exhibits=exhibits, records=records)
    except OSError as error:
        raise HahbenchError(f"{out}: reports cannot be written here: {error.strerror or error}") from error
    for path in [*paths, *write_plugin_reports(cells, outcomes, out)]:
        print(path)


@app.command("export")
def export(
    target: Annotated[
        Literal["outcomes", "robustbench"],
        typer.Argument(help="All outcomes in one file, for 'import'; or results in RobustBench's format."),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Parquet file of the outcomes; or folder in which model_info is made.")
    ],
    store: StoreFolder = Path("results"),
) -> None:
    """Write results for others to read."""
    from hahbench.archive import write_archive
    from hahbench.reports.robustbench import export_robustbench
    from hahbench.store import Store

    finished = Store(store)
    try:
        if target == "outcomes":
            print(f"{out}: {write_archive(finished, out)} cells")
            return
        paths, left_out = export_robustbench(*finished.read(), finished.read_records(), out)
    except OSError as error:
        raise HahbenchError(f"{out}: cannot be written: {error.strerror}") from error
    for line in left_out:
        warnings.warn(line, stacklevel=1)
    for path in paths:
        print(path)


@app.command("import")
def import_outcomes(
    file: Annotated[Path, typer.Argument(help="File of 'hahbench export outcomes'.")],
    store: StoreFolder = Path("results"),
) -> None:
    """Put published outcomes into a store; runs go on from there, and reports show them."""
    from hahbench.archive import read_archive
    from hahbench.store import Store

    cells, new = read_archive(file, Store(store))
    print(f"{cells} cells in {file}, {new} of them new in {store}")


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the package, such as my-plugin.")],
    out: Annotated[Path, typer.Option("--out", help="Folder in which the package's folder is made.")] = Path(),
) -> None:
    """Write a small package that adds a model and an attack, to start from."""
    from hahbench.new_plugin import write_plugin

    for path in write_plugin(name, out):
        print(path)


@app.command("baseline")
def make_baseline(
    out: Annotated[Path, typer.Option("--out", help="JSON file that the baseline is written to.")],
    store: StoreFolder = Path("results"),
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Take this model; repeatable; default: all.")
    ] = None,
    attack: Annotated[
        list[str] | None, typer.Option("--attack", help="Take this attack; repeatable; default: all.")
    ] = None,
) -> None:
    """Keep the outcomes of finished cells in a file to commit, for 'hahbench check'."""
    from hahbench.regress.baseline import baseline_of, write_baseline
    from hahbench.regress.compare import cannot_get_worse
    from hahbench.reports.display import score_title
    from hahbench.store import Store

    with _only_ours_on_stdout():
        baseline = baseline_of(Store(store), model or (), attack or ())
    write_baseline(baseline, out)
    print(f"{out}: {len(baseline.cells)} cells of {len(baseline.models)} models, n = {baseline.data.n}")
    cells = baseline.cells
    mute = [
        f"{cell.model} {score_title(cell.attack.name, cell.level, cell.metric)}"
        for cell in cells
        if cannot_get_worse(cell.united(cell.outcomes), len(cells))
    ]
    if mute:
        _print_warning(
            f"a check of all {len(cells)} cells can never call these worse, as too few samples are robust: "
            f"{', '.join(mute)}; measure more samples, or leave out attacks"
        )


@app.command("check")
def check_baseline(
    baseline: Annotated[Path, typer.Option("--baseline", help="File of 'hahbench baseline'.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="What was changed, as for 'run', compared with the baseline's model of the same name; repeatable; "
            "default: the baseline's own models, with the same weights.",
        ),
    ] = None,
    data: DataPath = None,
    store: StoreFolder = Path("results"),
    alpha: Annotated[float, typer.Option("--alpha", help="Chance of a false alarm, over all cells.")] = 0.01,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Largest drop that is let pass: of an accuracy, or relative of norms.")
    ] = 0.01,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Seconds to spend; samples that no verdict needs are skipped.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="First seed, instead of the baseline's.")] = None,
    expect: Annotated[
        Path | None, typer.Option("--expect", help="TOML file with floors; default: pyproject.toml, where it has some.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write a Markdown page to this file.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print annotations for GitHub.")] = False,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Measure again what a baseline holds; exit code 0: no regression, 1: a regression, 2: could not be checked."""
    import time

    started = time.monotonic()
    from rich.console import Console

    from hahbench.device import choose_device
    from hahbench.progress import RunProgress
    from hahbench.registry import FOREIGN_ERRORS, one_line
    from hahbench.regress import render
    from hahbench.regress.pages import Pages
    from hahbench.regress.report import make_report

    # On standard error where JSON has standard output.
    annotations = sys.stderr if as_json else sys.stdout
    pages = Pages(markdown, junit)
    try:
        with _only_ours_on_stdout():
            report = make_report(
                baseline,
                model or (),
                data,
                store=store,
                alpha=alpha,
                tolerance=tolerance,
                budget=budget,
                first_seed=seed,
                expect=expect,
                device=choose_device(device),
                started=started,
                observe=RunProgress,
                say=lambda line: print(line, file=sys.stderr),
            )
    except FOREIGN_ERRORS as error:
        why = _flat(error) if isinstance(error, HahbenchError) else one_line(error)
        pages.write_failure(str(baseline), why)
        if github:
            _print_unless_unread(render.github_annotation_of_failure(why), annotations)
        if isinstance(error, SystemExit | EOFError | OSError):
            # Of these Typer makes exit codes that have another meaning here.
            raise HahbenchError(f"{baseline}: could not be checked: {why}") from error
        raise
    pages.write(report)
    if as_json:
        shown = json.dumps(render.as_json(report), indent=2)
    else:
        console = Console()
        with console.capture() as tables:
            for table in render.tables(report):
                console.print(table)
        shown = tables.get() + "\n".join(render.summary(report))
    _print_unless_unread(shown, sys.stdout)
    if github:
        _print_unless_unread("\n".join(render.github_annotations(report)), annotations)
    raise typer.Exit(report.exit_code)


@app.command("corrupt")
def corrupt(
    out: Annotated[Path, typer.Option("--out", help="Folder that the images are written to.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Name, or FILE.py:NAME of one's own.")] = "cifar10",
    data: DataPath = None,
    corruption: Annotated[
        list[str] | None, typer.Option("--corruption", help="Name of one; repeatable; default: all.")
    ] = None,
    n: Annotated[int | None, typer.Option("--n", help="Use the first n test samples; default: all.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the random draws.")] = 0,
    photographs: Photographs = None,
) -> None:
    """Write corrupted test images in the layout of CIFAR-10-C."""
    import importlib.metadata

    import numpy as np

    from hahbench.corruptions import CORRUPTIONS
    from hahbench.corruptions.weather import frost, photographs_digest
    from hahbench.corruptions.write import write_regenerated
    from hahbench.data import load_images
    from hahbench.progress import CorruptionProgress

    registered = [name for name in CORRUPTIONS if photographs is None or name != "frost_procedural"]
    names = corruption or [*registered, *(["frost"] if photographs else [])]
    if "frost" in names and photographs is None:
        raise HahbenchError("corruption 'frost' needs --photographs FOLDER; 'frost_procedural' needs none")
    corruptions = [frost(photographs) if photographs and name == "frost" else CORRUPTIONS[name] for name in names]
    images = load_images(dataset, "test", data)
    samples = images.images[: images.check_count(len(images) if n is None else n)]
    with CorruptionProgress(len(names)) as progress:
        paths = write_regenerated(
            out,
            corruptions,
            np.ascontiguousarray(samples.permute(0, 2, 3, 1).numpy()),
            images.labels[: len(samples)].numpy(),
            seed=seed,
            source={
                "dataset": images.name,
                "source": images.source,
                "digest": images.digest,
                **({"photographs": photographs_digest(photographs)} if "frost" in names and photographs else {}),
            },
            versions=", ".join(
                f"{name} {importlib.metadata.version(name)}" for name in ("hahbench", "numpy", "scipy", "pillow")
            ),
            progress=progress.corruption,
        )
    for path in paths:
        print(path)


@app.command("train")
def train_model(
    model: Annotated[str, typer.Argument(help="Name of a model whose card has a recipe, or the path of the card.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Name, or FILE.py:NAME of one's own.")] = "shapes",
    data: DataPath = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Instead of the recipe's.")] = None,
    width: Annotated[float | None, typer.Option("--width", help="Factor on the number of channels.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Instead of the recipe's.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for weights, card, log and checkpoint.")] = Path("trained"),
    device: Device = "auto",
) -> None:
    """Train a model by its card's recipe; a training that was stopped goes on at its last epoch."""
    import dataclasses

    from hahbench.catalog import find_model, read_card
    from hahbench.data import load_images
    from hahbench.device import choose_device
    from hahbench.progress import TrainingProgress
    from hahbench.training.trainer import check_trainable, train

    card = read_card(Path(model)) if model.endswith(".toml") else find_model(model)
    if width is not None:
        card = dataclasses.replace(card, params={**card.params, "width": width})
    if seed is not None and card.train:
        card = dataclasses.replace(card, train={**card.train, "seed": seed})
    check_trainable(card, out)
    torch_device = choose_device(device)
    with TrainingProgress() as progress:
        trained = train(
            card,
            load_images(dataset, "train", data),
            test=load_images(dataset, "test", data),
            out=out,
            epochs=epochs,
            device=torch_device,
            on_batch=progress.batch,
            on_epoch=progress.epoch,
        )
    assert trained.weights is not None
    print(trained.weights.with_suffix(".toml"))


def _json(rows: list[dict[Any, Any]]) -> str:
    """JSON has no word for infinity, the norm of a sample that withstood: it is written as a string."""
    plain = [
        {key: None if value != value else str(value) if value in (inf, -inf) else value for key, value in row.items()}
        for row in rows
    ]
    return json.dumps(plain, indent=2)


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(_json(rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in rows[0] if rows else ["nothing"]:
        table.add_column(heading, no_wrap=heading == "name")
    for row in rows:
        table.add_row(*(Text(_plain(value)) for value in row.values()))
    Console().print(table)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
