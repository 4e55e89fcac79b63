"""Progress bars of runs and trainings, on standard error."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hahbench.spec import level_text

if TYPE_CHECKING:
    from hahbench.plan import Job
    from hahbench.spec import Exhibit
    from hahbench.training.checkpoint import EpochRow


class _Bar:
    """A bar with the time left, shown while the ``with`` block lasts."""

    def __init__(self, description: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            speed_estimate_period=120,
        )
        self._task = self._progress.add_task(description, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)


class RunProgress(_Bar):
    """Observes a run: the attack, the robust accuracy so far and the time left; a line for each finished cell."""

    def __init__(self) -> None:
        super().__init__("checking models")
        self._spent = 0.0

    def planned(self, jobs: Sequence[Job], done: int) -> None:
        """Say how much there is to do."""
        self._say(f"{len(jobs)} cells to run, {done} in the store already")
        total = sum(job.attack.passes for job in jobs)
        self._progress.update(self._task, total=total or 1, completed=0 if jobs else 1, description="")

    def started(self, job: Job) -> None:
        """Name the cell."""
        self._progress.update(self._task, description=_name(job))

    def progress(self, job: Job, fraction: float, robust_accuracy: float) -> None:
        """Move the bar within a cell."""
        self._progress.update(
            self._task,
            completed=self._spent + fraction * job.attack.passes,
            description=f"{_name(job)}: robust accuracy {robust_accuracy:.1%} so far",
        )

    def warned(self, job: Job, message: str) -> None:
        """Pass a warning on."""
        self._say(f"{_name(job)}: warning: {message}")

    def finished(self, job: Job, outcomes: pd.DataFrame, seconds: float) -> None:
        """Say what a cell gave."""
        self._spent += job.attack.passes
        self._progress.update(self._task, completed=self._spent, description="")
        norm = job.cell.attack.norm
        if norm is not None and job.cell.level is None:
            result = f"median norm {outcomes[norm].median():.4g}"
        else:
            result = f"accuracy {(outcomes['adv_pred'] == outcomes['label']).mean():.1%}"
        self._say(f"{_name(job)}: {result}, {seconds:.1f} s")

    def exhibited(self, exhibit: Exhibit, seconds: float) -> None:
        """Say that an exhibit is kept."""
        self._say(f"{exhibit.model} {exhibit.attack} {exhibit.kind}: {seconds:.1f} s".replace("  ", " "))


class CorruptionProgress(_Bar):
    """Shows how far a set of so many corruptions has come; a line for each that is written."""

    def __init__(self, corruptions: int) -> None:
        super().__init__("reading images")
        self._corruptions = corruptions
        self._written = 0

    def corruption(self, name: str, done: float) -> None:
        """Move the bar; ``done`` is the fraction of this corruption."""
        if done == 1:
            self._written += 1
            self._say(f"{name} written")
        completed = self._written + done % 1
        self._progress.update(self._task, total=self._corruptions, completed=completed, description=name)


class TrainingProgress(_Bar):
    """Observes a training: the loss and the time left; a line for each epoch."""

    def __init__(self) -> None:
        super().__init__("reading images")

    def batch(self, fraction: float, loss: float, accuracy: float) -> None:
        """Move the bar; ``fraction`` is of the whole training, loss and accuracy are the batch's."""
        description = f"loss {loss:.3f}, accuracy {accuracy:.1%}"
        self._progress.update(self._task, total=1.0, completed=fraction, description=description)

    def epoch(self, row: EpochRow) -> None:
        """Say what an epoch gave."""
        self._say(
            f"epoch {row.epoch}: loss {row.loss:.4f}, train accuracy {row.train_accuracy:.1%}, "
            f"test accuracy {row.test_accuracy:.1%}, {row.seconds:.1f} s"
        )


def _name(job: Job) -> str:
    cell = job.cell
    level = "" if cell.level is None else f" {level_text(cell.level)}"
    return f"{cell.model} {cell.attack.name}{level}"
