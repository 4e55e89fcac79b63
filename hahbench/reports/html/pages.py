"""The leaderboard page, and a page a model: each a single file that asks the network for nothing.

The table is rendered here, escaped, and readable without any script; DataTables then makes it sort, search and filter.
Its build is that of itables, which ships it for use offline. The pages forbid themselves, by a content security policy,
to load anything and to run any script but the one whose hash they name.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import itables.options
import jinja2
import pandas as pd
from markupsafe import Markup

from hahbench.reports import display
from hahbench.reports.drawn import Drawn
from hahbench.reports.files import write_text
from hahbench.reports.html.fragile import most_fragile
from hahbench.spec import ModelRecord, digest
from hahbench.verdict import doubt_in

_TEMPLATES = Path(__file__).parent / "templates"

_THREAT_MODELS = {
    "linf": "l_inf",
    "l2": "l2",
    "l1": "l1",
    "l0": "l0",
    "noise": "Noise",
    "corruptions": "Corruptions",
}


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What there is of one data set, as the store gives it, with its scores."""

    cells: pd.DataFrame
    outcomes: pd.DataFrame
    scores: pd.DataFrame


def write_pages(
    folder: Path,
    board: Mapping[str, Any],
    cells: pd.DataFrame,
    outcomes: pd.DataFrame,
    scores: pd.DataFrame,
    records: Iterable[ModelRecord],
    figures: Sequence[Drawn],
) -> list[Path]:
    """Write ``leaderboard.html``, and a page for each of its models into the folder ``models``.

    Args:
        folder: to write to.
        board: as ``leaderboard_json`` gives it.
        cells: of the data set, as the store gives them.
        outcomes: as the store gives them.
        scores: of the data set.
        records: of the models, as far as there are any.
        figures: that the models' pages show.

    Raises:
        OSError: a file cannot be written; files are written whole or not at all.
    """
    measured = _Measured(cells, outcomes, scores)
    kept = {(record.model, record.model_digest): record for record in records}
    paths = [write_text(folder / "leaderboard.html", _leaderboard_page(board))]
    for model in board["models"]:
        record = kept.get((model["name"], model["digest"]))
        page = _model_page(board, model, record, measured, figures)
        paths.append(write_text(folder / _page_of(model), page))
    return paths


def _leaderboard_page(board: Mapping[str, Any]) -> str:
    measured = {column["threat_model"] for column in board["columns"]}
    script = (_TEMPLATES / "leaderboard.js").read_text(encoding="utf-8")
    return _render(
        "leaderboard.html.j2",
        script_sources=f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}' blob:",
        script=Markup(script),
        datatables=_datatables(),
        board=board,
        threat_models={name: title for name, title in _THREAT_MODELS.items() if name in measured},
        page_of=_page_of,
    )


def _model_page(
    board: Mapping[str, Any],
    model: Mapping[str, Any],
    record: ModelRecord | None,
    measured: _Measured,
    figures: Sequence[Drawn],
) -> str:
    cells, scores = (
        frame[(frame["model"] == model["name"]) & (frame["model_digest"] == model["digest"])]
        for frame in (measured.cells, measured.scores)
    )
    newest = cells.sort_values("created", kind="stable").iloc[-1]
    return _render(
        "model.html.j2",
        script_sources="'none'",
        board=board,
        model=model,
        record=record,
        measured_with=newest[["versions", "device", "created"]],
        scores=scores.to_dict("records"),
        figures=[
            (figure.title, figure.note, base64.b64encode(figure.png.read_bytes()).decode())
            for figure in figures
            if model["display"] in figure.models
        ],
        fragile=most_fragile(cells, measured.outcomes),
    )


def _page_of(model: Mapping[str, Any]) -> str:
    """Where a model's page lies; the digest tells apart names that are safe in a file name only once mended."""
    name = re.sub(r"[^A-Za-z0-9-]+", "-", model["display"]).strip("-")[:80]
    return f"models/{name}-{digest(model['name'], model['digest'])[:8]}.html"


@functools.cache
def _datatables() -> str:
    """DataTables with its licences, as a module of JavaScript, compressed; the same bytes every time."""
    bundle = Path(itables.options.dt_bundle).read_bytes()
    return base64.b64encode(gzip.compress(bundle, mtime=0)).decode()


def _render(template: str, **shown: Any) -> str:
    return _templates().get_template(template).render(**shown) + "\n"


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "interval": _interval, "safe_link": _safe_link, "doubt": doubt_in}
    environment.globals["score_title"] = _score_title
    return environment


def _score_title(score: Mapping[str, Any]) -> str:
    level = None if pd.isna(score["level"]) else score["level"]
    title = display.score_title(score["attack"], level, score["metric"])
    return (
        f"{title}, mean over the severities" if level is None and score["attack"].startswith("corruption-") else title
    )


def _number(score: Mapping[str, Any], which: str = "value", metric: str | None = None) -> str:
    return display.score_number(metric or score["metric"], float(score[which]))


def _interval(score: Mapping[str, Any], metric: str) -> str:
    """What is said of a score on hover."""
    low, high = (display.score_number(metric, float(score[end])) for end in ("low", "high"))
    draws = f", {score['draws']} draws" if score["draws"] > 1 else ""
    verdict = f"\n{score['verdict']}" if score["verdict"] else ""
    return f"95 % interval {low} to {high}, {score['n']} samples{draws}{verdict}"


def _safe_link(link: str | None) -> str | None:
    """``link`` where it leads to the web, and not to a script."""
    try:
        return link if link and urlsplit(link).scheme in ("http", "https") else None
    except ValueError:
        return None
