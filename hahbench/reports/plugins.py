"""Reports of installed packages: functions that write files of their own from the finished cells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from hahbench.errors import HahbenchError
from hahbench.registry import FOREIGN_ERRORS, Registry, one_line

Report: TypeAlias = Callable[[pd.DataFrame, pd.DataFrame, Path], Iterable[Path]]
"""Called with the cells and outcomes, as the store gives them, and a folder to write to; returns the files written."""

REPORTS: Registry[Report] = Registry("report", "hahbench.reports")


def write_plugin_reports(cells: pd.DataFrame, outcomes: pd.DataFrame, out: Path) -> list[Path]:
    """Write the reports of installed packages, each into the folder of its name.

    A report that fails is skipped with a warning.

    Args:
        cells: as the store gives them.
        outcomes: as the store gives them.
        out: the folder in which the reports' folders are made.

    Returns:
        The files, in the order of the reports' names.
    """
    paths: list[Path] = []
    for name in REPORTS:
        folder = out / name
        try:
            report = REPORTS[name]
            folder.mkdir(parents=True, exist_ok=True)
            # A copy, so that no report changes what the next one is given.
            paths += [Path(path) for path in report(cells.copy(), outcomes.copy(), folder)]
        except HahbenchError as error:
            warnings.warn(f"report {name!r} is skipped: {error}", stacklevel=2)
        except FOREIGN_ERRORS as error:
            warnings.warn(f"report {name!r} is skipped: {one_line(error)}", stacklevel=2)
    return paths
