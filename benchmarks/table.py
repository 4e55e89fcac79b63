"""Rows of a benchmark: what each side achieved and what it took, as CSV and as Markdown."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.cost import Cost
from hahbench.errors import HahbenchError
from hahbench.reports.display import escape, percent, score_title
from hahbench.spec import AttackSpec

OURS = "hahbench"
CSV = "attacks.csv"
MARKDOWN = "attacks.md"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all rows of one run have in common.

    Attributes:
        dataset: the data set.
        n: the number of samples.
        data_digest: SHA-256 of the images and labels of the data set's test split.
        seed: of random draws.
        threads: that torch computes with.
        cpu: its name.
        versions: of all that takes part.
    """

    dataset: str
    n: int
    data_digest: str
    seed: int
    threads: int
    cpu: str
    versions: str


@dataclasses.dataclass(frozen=True)
class Row:
    """One engine's attack on one model. Comparisons are with hahbench's attack on the same samples.

    Attributes:
        model: its name.
        attack: its name.
        level: epsilon; None for minimum-norm attacks.
        params: those that the attack's spec sets.
        engine: ``hahbench``, or the distribution of another library.
        metric: ``accuracy``, the fraction of samples that withstood, or ``median_norm``.
        result: its value.
        norm_ratio: of its norms to hahbench's, the geometric mean over the samples that both broke, a finer comparison
            than that of two medians; NaN where the attack has an epsilon.
        same_verdict: the fraction of samples that both sides broke or neither did.
        only_hahbench_broke: the number of samples.
        only_it_broke: the number of samples that this engine broke and hahbench did not.
        seconds: wall time.
        ratio: of the wall time to hahbench's.
        cpu_seconds: time of the processor, over all threads.
        forwards: forward passes per sample.
        backwards: backward passes per sample.
        own_share: the fraction of the wall time that was not the model's forward and backward passes.
        peak_mib: the largest resident memory of the process meanwhile, in MiB.
    """

    model: str
    attack: str
    level: float | None
    params: str
    engine: str
    metric: str
    result: float
    norm_ratio: float
    same_verdict: float
    only_hahbench_broke: int
    only_it_broke: int
    seconds: float
    ratio: float
    cpu_seconds: float
    forwards: float
    backwards: float
    own_share: float
    peak_mib: float


@dataclasses.dataclass(frozen=True)
class Side:
    """What came of one engine's attack: the judge's outcomes, and the cost."""

    engine: str
    outcomes: pd.DataFrame
    cost: Cost


def compare(model: str, spec: AttackSpec, level: float | None, side: Side, ours: Side) -> Row:
    """The row of ``side``, which may be ``ours`` itself."""
    broken, broken_by_us = (
        (outcomes["adv_pred"] != outcomes["label"]).to_numpy() for outcomes in (side.outcomes, ours.outcomes)
    )
    norm_ratio = np.nan
    if level is None and spec.norm is not None:
        norms, our_norms = (outcomes[spec.norm].to_numpy() for outcomes in (side.outcomes, ours.outcomes))
        metric, result = "median_norm", float(np.median(norms))
        both = np.isfinite(norms) & np.isfinite(our_norms) & (norms > 0) & (our_norms > 0)
        if both.any():
            norm_ratio = float(stats.gmean(norms[both] / our_norms[both]))
    else:
        metric, result = "accuracy", float(np.mean(~broken))
    cost, n = side.cost, len(side.outcomes)
    return Row(
        model=model,
        attack=spec.name,
        level=level,
        params="; ".join(f"{key} {_plain(value)}" for key, value in spec.params.items()),
        engine=side.engine,
        metric=metric,
        result=result,
        norm_ratio=norm_ratio,
        same_verdict=float(np.mean(broken == broken_by_us)),
        only_hahbench_broke=int(np.sum(broken_by_us & ~broken)),
        only_it_broke=int(np.sum(broken & ~broken_by_us)),
        seconds=cost.seconds,
        ratio=cost.seconds / ours.cost.seconds,
        cpu_seconds=cost.cpu_seconds,
        forwards=cost.forwards / n,
        backwards=cost.backwards / n,
        own_share=cost.own_share,
        peak_mib=cost.peak_mib,
    )


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def check_out(folder: Path) -> None:
    """Make the folder and check, before anything is run, that rows can be appended to its CSV file.

    Raises:
        HahbenchError: it cannot be made, or the file has other columns.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HahbenchError(f"{folder}: the folder cannot be made: {error.strerror}") from error
    path = folder / CSV
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            found = next(csv.reader(file), [])
        if found != _columns():
            raise HahbenchError(f"{path}: its columns are not those of this benchmark; move the file away")


def append_csv(path: Path, setting: Setting, row: Row) -> None:
    """Append one row, after the headings where the file is new."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _columns())
        if is_new:
            writer.writeheader()
        writer.writerow(dataclasses.asdict(row) | dataclasses.asdict(setting))


def _columns() -> list[str]:
    return [field.name for kind in (Row, Setting) for field in dataclasses.fields(kind)]


def markdown(setting: Setting, rows: Sequence[Row]) -> str:
    """The rows as a page that says how they came about."""
    threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
    table = pd.DataFrame([_cells(row) for row in rows]).to_markdown(index=False, disable_numparse=True)
    return (
        f"{setting.dataset}, the first {setting.n} test samples (SHA-256 {setting.data_digest[:12]}), "
        f"seed {setting.seed}; {threads} of {setting.cpu}; {setting.versions}\n\n{table}\n"
    )


def _cells(row: Row) -> dict[str, str]:
    title = score_title(row.attack, row.level, row.metric)
    theirs = row.engine != OURS
    return {
        "model": escape(row.model),
        "attack": escape(f"{title} ({row.params})" if row.params else title),
        "engine": row.engine,
        "result": f"{percent(row.result)} %" if row.metric == "accuracy" else f"{row.result:.4g}",
        "norms, times hahbench's": f"{row.norm_ratio:.3f}" if theirs and not np.isnan(row.norm_ratio) else "",
        "same verdict": f"{percent(row.same_verdict)} %" if theirs else "",
        "broken by hahbench only": str(row.only_hahbench_broke) if theirs else "",
        "by it only": str(row.only_it_broke) if theirs else "",
        "seconds": f"{row.seconds:.1f}",
        "times hahbench's": f"{row.ratio:.2f}",
        "CPU seconds": f"{row.cpu_seconds:.1f}",
        "forward passes": f"{row.forwards:.1f}",
        "backward passes": f"{row.backwards:.1f}",
        "not the model's": f"{percent(row.own_share)} %",
        "peak MiB": f"{row.peak_mib:.0f}",
    }
