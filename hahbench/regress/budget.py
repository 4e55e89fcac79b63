"""A baseline's cells measured again on growing subsets, until each verdict is certain or the time is spent."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from hahbench.attempt import attack_and_judge, verdict_on
from hahbench.outcome import Samples
from hahbench.plan import Job, plan
from hahbench.regress.baseline import BaselineCell
from hahbench.regress.check import Checked, Quiet, pairs_of
from hahbench.regress.compare import Pairs, verdicts
from hahbench.regress.expect import Floor, check_floors
from hahbench.regress.sequential import FIRST_LOOK, attack_order
from hahbench.reports.display import score_title
from hahbench.store import Store
from hahbench.verdict import doubt_in, worst

_SMALLEST_LOOK = 8
_TO_EXAMINE = 0.2
"""Of the time, at least, is left for the diagnostics."""
_MARGIN = 1.25
"""Samples differ in what they cost: a look may take this much longer than the one before."""


@dataclasses.dataclass(eq=False)
class _Growing:
    """A cell that is measured bit by bit.

    Attributes:
        cell: of the baseline.
        jobs: one for each draw.
        outcomes: a table for each draw, in the order of attack.
        pairs: the same beside the baseline.
        looks: their number.
        seconds: per sample, in the last look; None before the first.
        unaffordable: whether another look would last beyond the deadline.
        is_examined: whether the store has verdicts on it.
    """

    cell: BaselineCell
    jobs: list[Job]
    outcomes: list[pd.DataFrame]
    pairs: Pairs
    looks: int = 0
    seconds: float | None = None
    unaffordable: bool = False
    is_examined: bool = False

    @property
    def searches(self) -> bool:
        """Whether the attack searches for an error, which takes many passes of the model."""
        return self.jobs[0].attack.worst_case

    @property
    def passes(self) -> float:
        """Of the model, for each sample, as the attack expects them."""
        return sum(job.attack.passes for job in self.jobs)

    @property
    def left(self) -> int:
        """The number of samples still to be attacked."""
        return self.pairs.baseline_n - self.pairs.n

    @property
    def possible_drop(self) -> float:
        """An upper end of the drop that may be there: large where few samples were seen, or many changed."""
        changes = self.pairs.changes
        if not len(changes):
            return np.inf
        return float(-changes.mean() + np.sqrt(((changes**2).mean() + 1 / len(changes)) / len(changes)))


def measure_within(
    checked: Checked,
    store: Store,
    *,
    deadline: float,
    alpha: float,
    tolerance: float,
    floors: Sequence[Floor],
    say: Callable[[str], None],
) -> list[Pairs]:
    """The cells of ``checked``, each on as many samples as its verdict needs and the time allows.

    What the store holds is taken from it whole. Of the rest, what does not search for an error comes first and whole,
    as it costs little; then always the cell which may hide the largest drop, on as many further samples as it has
    already. The store is not written to: it keeps whole cells, with the doubts that ``run`` looks for.

    Args:
        checked: what is compared.
        store: where finished cells are.
        deadline: when to stop, as ``time.monotonic`` counts; no look is begun that would last longer, as far as the
            look before it tells. A fifth of the time is left for the diagnostics, of the gains first.
        alpha: as for ``verdicts``.
        tolerance: as for ``verdicts``.
        floors: of these models; a cell is not left alone before they are decided.
        say: is given a line for each look.

    Raises:
        HahbenchError: a model or an attack is wrong or raises.
    """
    n = checked.baseline.data.n
    samples = checked.images.first(n)
    last_look = deadline - _TO_EXAMINE * max(0.0, deadline - time.monotonic())
    growing = list(_begin(checked, store))
    samples = samples[torch.from_numpy(attack_order(n))].to(checked.device)
    clean_predictions: dict[tuple[int, int], dict[str, NDArray[np.int64]]] = {}
    seconds_per_pass: list[float] = []

    def look(at: _Growing, wanted: int) -> None:
        # The fewest: were it the last, one that was held up would make all that follows look too long to begin.
        cost = _MARGIN * (min(seconds_per_pass, default=0.0) * at.passes if at.seconds is None else at.seconds)
        left = last_look - time.monotonic()
        size = min(wanted, at.left, int(left / cost) if cost > 0 else wanted)
        if left <= 0 or size < min(_SMALLEST_LOOK, at.left):
            at.unaffordable = True
            return
        started = time.monotonic()
        rows = slice(at.pairs.n, at.pairs.n + size)
        clean_pred = clean_predictions.setdefault((rows.start, rows.stop), {})
        warned = Quiet(say).warned
        new = [
            attack_and_judge(job, samples[rows], clean_pred, lambda *_: None, functools.partial(warned, job))[1]
            for job in at.jobs
        ]
        at.outcomes = [pd.concat(parts) for parts in zip(at.outcomes, new, strict=True)] if at.outcomes else new
        at.looks += 1
        at.pairs = pairs_of(checked, at.cell, at.outcomes, looked=at.looks > 1)
        at.seconds = (time.monotonic() - started) / size
        seconds_per_pass.append(at.seconds / at.passes)
        title = score_title(at.cell.attack.name, at.cell.level, at.cell.metric)
        say(f"{at.cell.model} {title}: {at.pairs.n} of {n} samples, change {at.pairs.changes.mean():+.3f}")

    for at in growing:
        if at.left and not at.searches:
            look(at, n)
    while True:
        found = verdicts([at.pairs for at in growing], alpha=alpha, tolerance=tolerance)
        undecided = [
            at
            for at, verdict in zip(growing, found, strict=True)
            if (verdict == "inconclusive" or _is_open(floors, at.pairs)) and at.left and not at.unaffordable
        ]
        if not undecided:
            break
        chosen = max(undecided, key=lambda at: at.possible_drop)
        look(chosen, max(FIRST_LOOK, chosen.pairs.n))
    # A gain is not believed unseen, whatever the time; a loss is, and has no need to be.
    order = sorted(range(len(growing)), key=lambda place: found[place] != "better")
    slowest = 0.0
    for place in order:
        at, verdict = growing[place], found[place]
        if verdict == "worse" or not at.searches or not at.pairs.n or at.is_examined:
            continue
        if verdict != "better" and time.monotonic() + slowest > deadline:
            at.pairs = dataclasses.replace(at.pairs, unexamined=True)
            continue
        started = time.monotonic()
        at.pairs = _examined(at, samples, growing)
        slowest = max(slowest, time.monotonic() - started)
    return [at.pairs for at in growing]


def _examined(at: _Growing, samples: Samples, others: Sequence[_Growing]) -> Pairs:
    """The pairs with what speaks against the score; the samples are in the order of attack."""
    models = {other.cell.model: other.jobs[0].prepared for other in others}
    measured = samples[: at.pairs.n]
    doubts = [
        doubt_in(verdict_on(job, measured, outcomes, models))
        for job, outcomes in zip(at.jobs, at.outcomes, strict=True)
    ]
    return dataclasses.replace(at.pairs, doubt=max(doubts))


def _is_open(floors: Sequence[Floor], pairs: Pairs) -> bool:
    return not all(floor.decided for floor in check_floors(floors, [pairs]))


def _begin(checked: Checked, store: Store) -> Iterator[_Growing]:
    samples = checked.images.first(checked.baseline.data.n)
    order = attack_order(len(samples))
    for card in checked.cards:
        cells = [cell for cell in checked.cells if cell.model == card.name]
        specs = [spec for cell in cells for spec in checked.specs(cell)]
        jobs = iter(plan([card], specs, checked.images, samples, checked.device))
        for cell in cells:
            draws = [next(jobs) for _ in cell.seeds]
            outcomes, verdicts_before = [], [""]
            if all(job.cell in store for job in draws):
                outcomes = [store.read([job.cell])[1].sort_values("index").iloc[order] for job in draws]
                verdicts_before = [store.verdict(job.cell) for job in draws]
            doubt = doubt_in(worst(verdicts_before))
            pairs = pairs_of(checked, cell, outcomes, doubt=doubt)
            yield _Growing(cell, draws, outcomes, pairs, is_examined=all(verdicts_before))
