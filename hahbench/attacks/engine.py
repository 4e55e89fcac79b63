"""The lanes engine: drives an iterative attack over a whole data set and keeps its batches full.

A lane holds one sample. A sample that is finished leaves its lane at once and the next sample takes it, so that no pass
is spent on a sample that is broken already and batches do not shrink before the data set ends. Attacks compute row by
row and draw from ``hahbench.attacks.random``, so what comes of a sample does not depend on the lanes around it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import math
import threading
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hahbench.attacks.base import Progress
from hahbench.outcome import Candidates, Samples


@dataclasses.dataclass
class Lanes:
    """What every attack keeps of the samples that it works on, a row per lane; attacks add fields of their own.

    Attributes:
        row: (L,) the sample's position among those attacked.
        index: (L,) its position in the test set, to draw random numbers for.
        attempt: (L,) the restart or the target, from 0; several of a sample may be under way at once.
        step: (L,) steps done in this attempt.
        images: (L, C, H, W) clean.
        labels: (L,).
        candidate: (L, C, H, W), the best perturbed image; the clean one where none is found.
        broken: (L,) whether ``candidate`` is one that the attack looks for.
        done: (L,) whether the attempt is over.
        forwards: (L,) forward passes of this attempt.
        backwards: (L,) backward passes of this attempt.
    """

    row: Tensor
    index: Tensor
    attempt: Tensor
    step: Tensor
    images: Tensor
    labels: Tensor
    candidate: Tensor
    broken: Tensor
    done: Tensor
    forwards: Tensor
    backwards: Tensor


L = TypeVar("L", bound=Lanes)

_STEPS_BETWEEN_REPORTS = 5


class Stepper(Protocol[L]):
    """An attack that proceeds in steps.

    Attributes:
        attempts: how often a sample that is not broken is tried.
        steps: the number of steps of an attempt at most, to weigh progress.
    """

    attempts: int
    steps: int

    def start(self, lanes: Lanes) -> L:
        """The attack's own lanes for fresh samples; no pass of the model."""
        ...

    def step(self, model: nn.Module, lanes: L) -> None:
        """One step of every lane, in place, which sets ``done`` at the end of an attempt.

        The engine counts steps; passes are counted here.
        """
        ...


@dataclasses.dataclass
class Driven:
    """What came of each sample, in the order of the samples.

    Attributes:
        candidates: (N, C, H, W), the clean image where nothing was found.
        broken: (N,) bool.
        attempt: (N,) int64, the one that broke the sample; -1 where none did.
        step: (N,) int64, the step within that attempt; -1 where none did.
        forwards: (N,) int64, passes over all attempts.
        backwards: (N,) int64.
    """

    candidates: Tensor
    broken: Tensor
    attempt: Tensor
    step: Tensor
    forwards: Tensor
    backwards: Tensor


def drive(
    stepper: Stepper[L],
    model: nn.Module,
    samples: Samples,
    *,
    batch_size: int,
    progress: Progress | None = None,
    approximate: nn.Module | None = None,
) -> Driven:
    """Carry out an attack on every sample.

    On the CPU the lanes are shared out to as many workers as torch has threads, each of which calls the model on its
    own: networks of this size gain little from several threads within one convolution.

    Args:
        stepper: the attack.
        model: maps images to logits.
        samples: those to attack, on the device of the model.
        batch_size: the number of lanes, all workers together.
        progress: called with the fraction of the work done, samples that break counted as whole, and the fraction not
            broken so far.
        approximate: a faster model that gives nearly the same logits, to be attacked in place of ``model``; what breaks
            it must break ``model`` too, or the attack goes on.
    """
    engine = _Engine(stepper, model, approximate, samples, progress)
    threads = torch.get_num_threads()
    workers = count_workers(samples.images.device)
    width = math.ceil(min(batch_size, len(engine.queue)) / workers)
    if workers == 1:
        engine.work(width)
        return engine.driven
    torch.set_num_threads(1)
    try:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            try:
                for work in [pool.submit(engine.work, width) for _ in range(workers)]:
                    work.result()
            except BaseException:
                engine.stopped = True
                raise
    finally:
        torch.set_num_threads(threads)
    return engine.driven


def count_workers(device: torch.device) -> int:
    """How many workers share the lanes."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def begin(model: nn.Module, samples: Samples, batch_size: int) -> tuple[Candidates, Tensor]:
    """What every attack starts from: candidates that change nothing, and the clean logits (N, classes).

    The one forward pass of each sample is counted.
    """
    with torch.no_grad():
        logits = torch.cat([model(images) for images in torch.split(samples.images, batch_size)])
    one = torch.ones(len(samples), dtype=torch.int64)
    return Candidates(
        samples.images.clone(), one, torch.zeros_like(one), [""] * len(samples), torch.full_like(one, -1)
    ), logits


def merge(candidates: Candidates, rows: Tensor, driven: Driven, member: str) -> None:
    """Enter in ``candidates`` what came of the samples at ``rows``, attacked by ``member``."""
    broken, rows_told = driven.broken, rows.cpu()
    candidates.images[rows[broken]] = driven.candidates[broken]
    candidates.forwards[rows_told] += driven.forwards.cpu()
    candidates.backwards[rows_told] += driven.backwards.cpu()
    candidates.step[rows_told] = driven.step.cpu()
    for row in rows[broken].tolist():
        candidates.member[row] = member


def attack_correct(
    stepper: Stepper[Any], model: nn.Module, samples: Samples, *, batch_size: int, member: str, progress: Progress
) -> Candidates:
    """Predict the clean images once and drive ``stepper`` over those that are classified correctly.

    Args:
        stepper: the attack.
        model: maps images to logits.
        samples: on the device of the model.
        batch_size: the number of lanes.
        member: the name under which samples are recorded as broken.
        progress: told of the samples' robust accuracy, those already wrong included.
    """
    candidates, logits = begin(model, samples, batch_size)
    correct = (logits.argmax(dim=1) == samples.labels).nonzero().squeeze(1)
    share = len(correct) / len(samples)
    driven = drive(
        stepper,
        model,
        samples[correct],
        batch_size=batch_size,
        progress=lambda done, unbroken: progress(done, share * unbroken),
    )
    merge(candidates, correct, driven, member)
    progress(1.0, share - float(driven.broken.sum()) / len(samples))
    return candidates


class _Engine(Generic[L]):
    def __init__(
        self,
        stepper: Stepper[L],
        model: nn.Module,
        approximate: nn.Module | None,
        samples: Samples,
        progress: Progress | None,
    ) -> None:
        self.stepper, self.samples, self.progress = stepper, samples, progress
        self.model, self.approximate = model, approximate
        # Held by a worker whenever it reads or writes what follows.
        self.lock = threading.Lock()
        self.stopped = False
        # Attempts in the lanes of each worker, less the part of them that is done.
        self.left: dict[int, float] = {}
        # The first attempts of all samples come first, so that most samples are broken before their next is due.
        self.queue = collections.deque(
            (row, attempt) for attempt in range(stepper.attempts) for row in range(len(samples))
        )
        none = torch.full_like(samples.labels, -1)
        self.driven = Driven(
            samples.images.clone(),
            torch.zeros_like(samples.labels, dtype=torch.bool),
            none,
            none.clone(),
            torch.zeros_like(none),
            torch.zeros_like(none),
        )
        # The first attempt that broke each sample, so far: those after it are not made, those before it end first, so
        # that the same one counts whatever lanes there are.
        self.winner = torch.full_like(none, stepper.attempts)

    @torch.no_grad()
    def work(self, width: int) -> None:
        """Drive ``width`` lanes until no sample is left."""
        with self.lock:
            lanes = self._fresh(width)
        steps = 0
        while lanes is not None and not self.stopped:
            self.stepper.step(self.approximate or self.model, lanes)
            lanes.step += 1
            if self.approximate is not None:
                self._confirm(lanes)
            steps += 1
            if lanes.done.any():
                with self.lock:
                    lanes = self._replace_done(lanes)
            if steps % _STEPS_BETWEEN_REPORTS == 0:
                with self.lock:
                    self._report(lanes)

    def _fresh(self, count: int) -> L | None:
        """Up to ``count`` new lanes from the queue."""
        due: list[tuple[int, int]] = []
        winner = self.winner.tolist()
        while self.queue and len(due) < count:
            position, number = self.queue.popleft()
            if number < winner[position]:
                due.append((position, number))
        if not due:
            return None
        row, attempt = torch.tensor(due, device=self.samples.labels.device).unbind(dim=1)
        fresh = self.samples[row]
        zero = torch.zeros_like(row)
        false = torch.zeros_like(row, dtype=torch.bool)
        return self.stepper.start(
            Lanes(
                row=row.contiguous(),
                index=fresh.index,
                attempt=attempt.contiguous(),
                step=zero,
                images=fresh.images,
                labels=fresh.labels,
                candidate=fresh.images.clone(),
                broken=false,
                done=false.clone(),
                forwards=zero.clone(),
                backwards=zero.clone(),
            )
        )

    def _replace_done(self, lanes: L) -> L | None:
        self._record(lanes, lanes.done.nonzero().squeeze(1))
        late = self._too_late(lanes) & ~lanes.done
        if late.any():
            lanes.broken &= ~late
            lanes.done |= late
            self._record(lanes, late.nonzero().squeeze(1))
        free = lanes.done.nonzero().squeeze(1)
        fresh = self._fresh(len(free))
        if fresh is not None:
            taken = free[: len(fresh.row)]
            for name, value in _tensors(fresh).items():
                getattr(lanes, name)[taken] = value
        if not lanes.done.any():
            return lanes
        kept = (~lanes.done).nonzero().squeeze(1)
        if len(kept) == 0:
            return None
        return dataclasses.replace(lanes, **{name: value[kept] for name, value in _tensors(lanes).items()})

    def _confirm(self, lanes: L) -> None:
        """Take back what breaks the approximation alone."""
        claimed = lanes.broken.nonzero().squeeze(1)
        if len(claimed) > 0:
            held = self.model(lanes.candidate[claimed]).argmax(dim=1) == lanes.labels[claimed]
            lanes.forwards[claimed] += 1
            lanes.broken[claimed[held]] = False
            lanes.done[claimed[held]] = lanes.step[claimed[held]] >= self.stepper.steps

    def _record(self, lanes: L, finished: Tensor) -> None:
        row, driven = lanes.row[finished], self.driven
        driven.forwards.index_add_(0, row, lanes.forwards[finished])
        driven.backwards.index_add_(0, row, lanes.backwards[finished])
        succeeded = finished[lanes.broken[finished] & ~self._too_late(lanes)[finished]]
        self.winner.scatter_reduce_(0, lanes.row[succeeded], lanes.attempt[succeeded], "amin")
        won = succeeded[~self._too_late(lanes)[succeeded]]
        row = lanes.row[won]
        driven.broken[row] = True
        driven.candidates[row] = lanes.candidate[won]
        driven.attempt[row] = lanes.attempt[won]
        driven.step[row] = lanes.step[won]

    def _too_late(self, lanes: L) -> Tensor:
        """(L,), whether an earlier attempt has broken the lane's sample."""
        return lanes.attempt > self.winner[lanes.row]

    def _report(self, lanes: L | None) -> None:
        if self.progress is not None:
            total = self.stepper.attempts * len(self.samples)
            self.left[threading.get_ident()] = (
                0.0 if lanes is None else len(lanes.row) - float(lanes.step.sum()) / self.stepper.steps
            )
            left = len(self.queue) + sum(self.left.values())
            self.progress(1 - left / total, 1 - float(self.driven.broken.float().mean()))


def _tensors(lanes: Lanes) -> dict[str, Any]:
    return {field.name: getattr(lanes, field.name) for field in dataclasses.fields(lanes)}
