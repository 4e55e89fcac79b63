"""Models x attacks -> cells -> outcomes in the store."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import functools
import itertools
import platform
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

import hahbench
from hahbench import exhibits, measure
from hahbench.attacks.base import Progress
from hahbench.attempt import attack_and_judge, propose, verdict_on
from hahbench.data import ImageSet
from hahbench.device import device_name, full_float32
from hahbench.errors import HahbenchError
from hahbench.outcome import EXAMPLE_COLUMNS, Samples
from hahbench.plan import Job, ReadyModel, check_cards, check_trained_on, plan
from hahbench.registry import FOREIGN_ERRORS, one_line
from hahbench.spec import AttackSpec, Cell, Exhibit, ExhibitKind, ModelCard, digest
from hahbench.store import Store
from hahbench.verdict import doubt_in

_SORTED_OF_A_CLASS = 4
_KEPT_AT_ONCE = 512  # samples
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclasses.dataclass(frozen=True)
class Part:
    """Models x attacks: what one suite asks for.

    Attributes:
        cards: the models; each attack may be compared with what was made on the others.
        attacks: each is run at all its levels, ``draws`` times.
        exhibits: what to keep of the models for figures, after the cells; exhibits are resumed like cells.
    """

    cards: Sequence[ModelCard]
    attacks: Sequence[AttackSpec]
    exhibits: Sequence[ExhibitKind] = ()


class Observer(Protocol):
    """Is told how a run goes on."""

    def planned(self, jobs: Sequence[Job], done: int) -> None:
        """Called once, with the jobs that will be run and the number of cells that the store holds already."""

    def started(self, job: Job) -> None:
        """Called when a cell is begun."""

    def progress(self, job: Job, fraction: float, robust_accuracy: float) -> None:
        """Called now and then with the job's done fraction and the attack's own idea of the accuracy so far."""

    def warned(self, job: Job, message: str) -> None:
        """Called for each warning that an attack gives, such as that the model's output looks random."""

    def finished(self, job: Job, outcomes: pd.DataFrame, seconds: float) -> None:
        """Called when a cell is in the store, with what the judge found."""

    def exhibited(self, exhibit: Exhibit, seconds: float) -> None:
        """Called when an exhibit is in the store."""


def run(
    parts: Sequence[Part],
    images: ImageSet,
    n: int,
    *,
    dataset_argument: str,
    from_path: bool,
    store: Store,
    device: torch.device,
    observer: Observer,
) -> list[Cell]:
    """Run every cell that the store does not hold.

    The models, the attacks' parameters and levels, and the samples are checked before the first cell is run, and each
    cell is stored as soon as it is finished. Several runs may share a store, and so the work: each cell is done by one.

    Args:
        parts: one after the other; a cell that two of them have is run once.
        images: the test set, of which the first ``n`` images are used.
        n: the number of samples.
        dataset_argument: the name under which the data set was asked for.
        from_path: whether the data set was read from a path that the user gave.
        store: where outcomes are kept.
        device: where the models run.
        observer: is told how it goes.

    Returns:
        All cells of the run, those found in the store included.

    Raises:
        HahbenchError: something asked for is wrong; the cells finished before are kept.
    """
    for part in parts:
        check_cards(part.cards, dataset_argument)
        check_trained_on(part.cards, images, dataset_argument)
    samples = images.first(n)
    _warn_of_sorted(samples.labels, images)
    store.check_writable()
    ready: list[ReadyModel] = []
    planned = [plan(part.cards, part.attacks, images, samples, device, ready) for part in parts]
    every: dict[str, Job] = {}
    for job in itertools.chain.from_iterable(planned):
        every.setdefault(job.cell.key, job)
    if not every:
        raise HahbenchError("there is nothing to run; a suite needs one or more attacks")
    for model in ready:
        store.write_record(model.record)
    missing = {key: job for key, job in every.items() if job.cell not in store}
    observer.planned(list(missing.values()), len(every) - len(missing))
    samples = samples.to(device)
    facts = {
        "dataset_argument": dataset_argument,
        "from_path": from_path,
        "dataset": images.name,
        "source": images.source,
        "n": n,
    }
    for part, jobs in zip(parts, planned, strict=True):
        its_run = _PartRun(jobs, images, samples, facts, store, device, observer)
        its_run.examine_finished()
        its_run.measure([job for job in jobs if missing.get(job.cell.key) is job])
        its_run.keep_exhibits(part.exhibits)
    return [job.cell for job in every.values()]


@dataclasses.dataclass(eq=False)
class _PartRun:
    """One part's run: its steps, and what is the same for all of its jobs.

    Attributes:
        jobs: all of the part's, whether the store holds them or not.
        images: the test set.
        samples: the first of it, on the device.
        facts: what the store is told of every cell.
        store: as of ``run``.
        device: as of ``run``.
        observer: as of ``run``.
    """

    jobs: Sequence[Job]
    images: ImageSet
    samples: Samples
    facts: Mapping[str, Any]
    store: Store
    device: torch.device
    observer: Observer
    # By first row and the one after the last. Some attacks keep what they made of the same samples for the next model.
    _slices: dict[tuple[int, int], Samples] = dataclasses.field(init=False, default_factory=dict)
    _clean_pred: dict[tuple[int, int], dict[str, np.ndarray]] = dataclasses.field(
        init=False, default_factory=lambda: collections.defaultdict(dict)
    )

    def examine_finished(self) -> None:
        """Make up for the diagnostics of cells in the store that a stop came before."""
        for job in self.jobs:
            if job.attack.worst_case and job.cell in self.store and not self.store.verdict(job.cell):
                with self.store.claim(job.cell) as claimed:
                    # Else another run is in the midst of its diagnostics; one that was stopped there claims no more.
                    if claimed and not self.store.verdict(job.cell):
                        self._examine(job, self.store.read([job.cell])[1])

    def measure(self, missing: Sequence[Job]) -> None:
        """Run those of the part's jobs that are ``missing``; what another run does meanwhile is waited for."""
        for job in _claimed(missing, self.store):
            if job.cell in self.store:
                # By another run, which may have been stopped before its diagnostics.
                outcomes = self.store.read([job.cell])[1]
                self.store.drop_unfinished(job.cell)
                if not self.store.verdict(job.cell):
                    self._examine(job, outcomes)
                self.observer.finished(job, outcomes, 0.0)
            else:
                self._measure(job)

    def keep_exhibits(self, kinds: Sequence[ExhibitKind]) -> None:
        """Make the exhibits of these kinds that the store does not hold; the cells that they are of are in it."""
        for exhibit, job in _exhibits(self.jobs, kinds):
            if exhibit not in self.store:
                started = time.perf_counter()
                self.store.write_exhibit(exhibit, self._show(exhibit, job), _now())
                self.observer.exhibited(exhibit, time.perf_counter() - started)

    def _examine(self, job: Job, outcomes: pd.DataFrame) -> None:
        verdict = verdict_on(job, self.samples, outcomes, {other.card.name: other.prepared for other in self.jobs})
        if verdict:
            self.store.set_verdict(job.cell, verdict)
        if doubt_in(verdict):
            self.observer.warned(job, verdict)

    def _measure(self, job: Job) -> None:
        self.observer.started(job)
        started = time.perf_counter()
        n = len(self.samples)
        maker = {
            "device": device_name(self.device),
            "versions": f"hahbench {hahbench.__version__}, torch {torch.__version__}, "
            f"Python {platform.python_version()}",
        }
        made_by, tables = self._known(job)
        for rows in _chunks(job, sum(map(len, tables)), n):
            some = self._slices.setdefault(rows, self.samples[slice(*rows)])
            progress = self._progress(job, tables, len(some))
            warned = functools.partial(self.observer.warned, job)
            tables.append(attack_and_judge(job, some, self._clean_pred[rows], progress, warned)[1])
            made_by.append(maker)
            if rows[1] < n:
                self.store.write_unfinished(job.cell, pd.concat(tables), _joined(made_by))
        outcomes = pd.concat(tables, ignore_index=True)
        seconds = time.perf_counter() - started
        found = {
            **self.facts,
            **_joined(made_by),
            "model_argument": job.card.argument or job.card.name,
            "display": job.card.display or job.card.name,
            "reference": job.card.reference,
            "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
            "worst_case": job.attack.worst_case,
            "verdict": "",
            "seconds": float(outcomes["seconds"].sum()),
            "created": _now(),
        }
        # Before the diagnostics, so that what the attack found is not lost with them.
        self.store.write(job.cell, outcomes, found)
        self.store.drop_unfinished(job.cell)
        self._examine(job, outcomes)
        self.observer.finished(job, outcomes, seconds)

    def _known(self, job: Job) -> tuple[list[dict[str, str]], list[pd.DataFrame]]:
        """What made outcomes of the first of the samples, and those outcomes.

        They are of a run that was stopped, of one on more or fewer of the same images or, where the attack asks for no
        gradient, of a model that differs in its gradients alone. Both are empty where there was no such run.
        """
        if not _is_per_sample(job):
            return [], []
        n = len(self.samples)
        unfinished = self.store.read_unfinished(job.cell)
        begun = len(unfinished[1]) if unfinished else 0
        for same in (job.cell, *(() if job.attack.worst_case else job.twins)):
            for count in sorted(self.store.counts(same), reverse=True):
                cell = dataclasses.replace(same, data_digest=digest(self.images.digest, count))
                if cell in self.store and min(count, n) > begun:
                    found, outcomes = self.store.read([cell])
                    if same is not job.cell and outcomes["backwards"].any():
                        continue
                    makers = [{name: str(found[name].iloc[0]) for name in ("device", "versions")}]
                    return makers, [outcomes[outcomes["index"] < n].drop(columns="key").sort_values("index")]
        return ([unfinished[0]], [unfinished[1]]) if unfinished else ([], [])

    def _progress(self, job: Job, before: Sequence[pd.DataFrame], size: int) -> Progress:
        """Tells the observer how far all samples are, of which an attack is given ``size`` after those ``before``."""
        n, done = len(self.samples), sum(map(len, before))
        right = sum(int((outcomes["adv_pred"] == outcomes["label"]).sum()) for outcomes in before)

        def progress(fraction: float, robust_accuracy: float) -> None:
            accuracy = (right + robust_accuracy * size) / (done + size)
            self.observer.progress(job, (done + fraction * size) / n, accuracy)

        return progress

    def _show(self, exhibit: Exhibit, job: Job) -> pd.DataFrame:
        """What an exhibit shows; the cell that it is of is in the store."""
        try:
            if exhibit.kind == "activations":
                with full_float32():
                    return exhibits.activations(job.model, self.samples)
            norm = job.cell.attack.norm
            assert norm is not None
            samples = self.samples[exhibits.most_fragile(self.store.read([job.cell])[1], norm)]
            if not len(samples):
                return pd.DataFrame(columns=list(EXAMPLE_COLUMNS))
            # Instead of keeping every cell's images: whichever samples are beside, the attack finds about the same.
            candidates = propose(job, samples, lambda fraction, robust_accuracy: None)
            outcomes = measure.judge(
                job.model, samples, candidates, norm=norm, epsilon=None, worst_case=True, seconds=0.0
            )
            return exhibits.adversarial_examples(samples, candidates, outcomes, norm, self.images.classes)
        except HahbenchError:
            raise
        except FOREIGN_ERRORS as error:
            raise HahbenchError(
                f"model {exhibit.model!r}: {exhibit.kind}: {one_line(error)}; the cells are kept"
            ) from error


def _is_per_sample(job: Job) -> bool:
    """Whether what comes of a sample does not depend on the others."""
    unsteady = job.prepared.is_random or job.prepared.depends_on_batch
    return getattr(job.attack, "per_sample", False) and not unsteady


def _chunks(job: Job, known: int, n: int) -> list[tuple[int, int]]:
    """The samples from ``known`` on, by their first and the one after their last, in parts that are kept one by one."""
    # What searches for no error takes seconds, and what is made of the samples is made once for all models.
    size = _KEPT_AT_ONCE if job.attack.worst_case and _is_per_sample(job) else n
    return [(start, min(start + size, n)) for start in range(known, n, size)]


def _joined(made_by: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What made any part of a cell's outcomes."""
    return {name: "; ".join(dict.fromkeys(maker[name] for maker in made_by)) for name in made_by[0]}


def _claimed(missing: Sequence[Job], store: Store) -> Iterator[Job]:
    """The jobs that no other run on the same store does, each claimed until the next is asked for."""
    waiting = collections.deque(missing)
    refused = 0
    while waiting:
        job = waiting.popleft()
        with store.claim(job.cell) as claimed:
            if not claimed:
                waiting.append(job)
                refused += 1
            else:
                refused = 0
                yield job
        if refused > len(waiting):
            # All that is left is being done by others, which may be killed.
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            refused = 0


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _warn_of_sorted(labels: torch.Tensor, images: ImageSet) -> None:
    """Warn where the first samples of a data set are of a few classes alone, because it is sorted by them."""
    found, every = len(set(labels.tolist())), len(set(images.labels.tolist()))
    if len(labels) >= _SORTED_OF_A_CLASS * found and found < every and (labels.diff() >= 0).all():
        warnings.warn(
            f"the first {len(labels)} samples of data set {images.name!r} are of {found} of its {len(images.classes)} "
            "classes, for it seems to be sorted by them; shuffle it once for all",
            stacklevel=3,
        )


def _exhibits(jobs: Sequence[Job], kinds: Sequence[ExhibitKind]) -> Iterator[tuple[Exhibit, Job]]:
    """The exhibits of the kinds that were asked for, each with the job that it is of, or with any of its model."""
    for kind, job in itertools.product(kinds, jobs):
        cell, attack = job.cell, job.cell.attack
        exhibit = Exhibit(kind, cell.model, cell.model_digest, cell.data_digest, exhibits.VERSION)
        if kind == "activations":
            yield exhibit, job
        elif job.attack.worst_case and attack.norm and cell.level is None:
            yield dataclasses.replace(exhibit, attack=attack.name, norm=attack.norm, cell=cell.key), job
