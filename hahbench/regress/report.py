"""A check from its baseline to what came of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import inf
from pathlib import Path

import torch

from hahbench.errors import HahbenchError
from hahbench.regress.baseline import read_baseline
from hahbench.regress.budget import measure_within
from hahbench.regress.check import measure_whole, prepare_check
from hahbench.regress.compare import Comparison, check_levels, compare
from hahbench.regress.expect import FloorResult, check_floors, floors_of, read_floors
from hahbench.run import Observer
from hahbench.store import Store

UNCHECKED = 2
"""The exit code of a check that does not say whether there is a regression."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Verdicts and floors.

    Attributes:
        baseline: the name of the file.
        comparisons: one for each cell of the baseline.
        floors: one for each floor.
        alpha: of the tests.
        tolerance: of the drops.
        seconds: that it took.
    """

    baseline: str
    comparisons: Sequence[Comparison]
    floors: Sequence[FloorResult]
    alpha: float
    tolerance: float
    seconds: float

    @property
    def skipped(self) -> list[Comparison]:
        """Those not compared on all samples."""
        return [comparison for comparison in self.comparisons if comparison.n < comparison.baseline_n]

    @property
    def exit_code(self) -> int:
        """1: a cell is worse or a floor broken; 2: one was not measured or is suspect, or a floor is undecided."""
        if any(comparison.verdict == "worse" for comparison in self.comparisons):
            return 1
        if any(floor.broken for floor in self.floors):
            return 1
        known = all(comparison.n and not comparison.is_suspect for comparison in self.comparisons)
        return 0 if self.comparisons and known and all(floor.held for floor in self.floors) else UNCHECKED


def make_report(
    baseline: Path,
    models: Sequence[str],
    data: Path | None,
    *,
    store: Path,
    alpha: float,
    tolerance: float,
    budget: float | None,
    first_seed: int | None,
    expect: Path | None,
    device: torch.device,
    started: float,
    observe: Callable[[], AbstractContextManager[Observer]],
    say: Callable[[str], None],
) -> Report:
    """Measure again what a baseline holds, and compare.

    Args:
        baseline: the file.
        models: as of ``prepare_check``.
        data: where the images are read from; None where the data set needs no path.
        store: the folder of finished cells; what it lacks is run, and kept there unless there is a budget.
        alpha: the chance of a false alarm, over all cells.
        tolerance: the largest drop that is let pass.
        budget: in seconds from ``started``; None for all samples.
        first_seed: of the draws, instead of the baseline's.
        expect: the file with floors; None for ``pyproject.toml``, where there is one.
        device: where the models run.
        started: when the check began, by ``time.monotonic``.
        observe: makes what is told how the run goes on, where there is no budget.
        say: is given each line about floors left out and, within a budget, about what was looked at.

    Raises:
        HahbenchError: the check cannot be made.
    """
    check_levels(alpha, tolerance)
    if budget is not None and not 0 < budget < inf:
        raise HahbenchError(f"budget = {budget}; allowed: a number of seconds above 0, such as 60")
    found = read_baseline(baseline)
    asked = read_floors(expect or Path("pyproject.toml")) if expect or Path("pyproject.toml").is_file() else []
    checked = prepare_check(found, models, data, device=device, first_seed=first_seed)
    floors = floors_of(asked, found.cells, [card.name for card in checked.cards])
    if others := sorted({floor.model for floor in asked if floor not in floors}):
        say(f"floors of models that are not checked: {', '.join(others)}")
    # Other draws than those of a suite would be pooled with them in its scores.
    kept = Store(store if first_seed is None else store / f"check-seed-{first_seed}")
    if budget is None:
        with observe() as observer:
            pairs = measure_whole(checked, checked.cells, kept, observer)
    else:
        pairs = measure_within(
            checked,
            kept,
            # The rest is for starting up, and for looks that last longer than those before.
            deadline=started + 0.9 * budget,
            alpha=alpha,
            tolerance=tolerance,
            floors=floors,
            say=say,
        )
    return Report(
        baseline=str(baseline),
        comparisons=compare(pairs, alpha=alpha, tolerance=tolerance),
        floors=check_floors(floors, pairs),
        alpha=alpha,
        tolerance=tolerance,
        seconds=time.monotonic() - started,
    )
