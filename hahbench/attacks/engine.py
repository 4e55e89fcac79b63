"""The lanes engine: drives an iterative attack over a whole data set and keeps its batches full.

A lane holds one sample. A sample that is finished leaves its lane at once and the next sample takes it, so that no pass
is spent on a sample that is broken already and batches do not shrink before the data set ends. Attacks compute row by
row and draw from ``hahbench.attacks.random``, so what comes of a sample does not depend on the lanes around it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import copy
import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hahbench.attacks.base import Progress
from hahbench.attacks.losses import errs
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
        broken_at: (L,) the step at which ``broken`` was first set; -1 before. The engine keeps it.
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
    broken_at: Tensor
    forwards: Tensor
    backwards: Tensor


VERSION = "1"
"""Of the engine, the losses and the random numbers; raised when results of all attacks change."""

L = TypeVar("L", bound=Lanes)
T = TypeVar("T")

_STEPS_BETWEEN_REPORTS = 5
_FEWEST_LANES = 8


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
    """What came of each of the N samples that were attacked, in their order.

    Attributes:
        candidates: of all samples, those that were not attacked included; unchanged where nothing was found.
        broken: (N,) bool.
        attempt: (N,) int64, the one that broke the sample; -1 where none did.
        step: (N,) int64, the step of that attempt at which it first did, from 1; -1 where none did.
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
    rows: Tensor | None = None,
    candidates: Tensor | None = None,
    progress: Progress | None = None,
    approximate: nn.Module | None = None,
    workers: int | None = None,
) -> Driven:
    """Carry out an attack on every sample, or on those at ``rows``.

    On the CPU several workers share the samples and the lanes, each a thread that asks a copy of the model: networks of
    this size gain little from several threads within one convolution. The copies share their weights.

    Args:
        stepper: the attack.
        model: maps images to logits.
        samples: on the device of the model.
        batch_size: the number of lanes, all workers together.
        rows: the positions in ``samples`` of those to attack; all by default.
        candidates: images in the order of ``samples`` to enter what is found in; a copy of the clean ones by default.
        progress: called with the fraction of the work done, and the fraction not broken so far.
        approximate: a faster model that gives nearly the same logits, to be attacked in place of ``model``. What breaks
            it must break ``model`` too, or the attempt is made again on ``model``.
        workers: how many; by default as many as torch has threads, with 8 lanes or more for each, and one for a model
            that was found to be random when it was prepared, whose numbers threads would take in any order.
    """
    if rows is None:
        rows = torch.arange(len(samples), device=samples.labels.device)
    lanes = min(batch_size, stepper.attempts * len(rows))
    threads = torch.get_num_threads()
    if workers is None:
        is_random = getattr(model, "is_random", False)
        workers = 1 if is_random else count_workers(samples.images.device, lanes)
    none = torch.full_like(rows, -1)
    if candidates is None:
        candidates = samples.images.clone()
    driven = Driven(candidates, none >= 0, none, none.clone(), torch.zeros_like(none), torch.zeros_like(none))
    if len(rows) == 0:
        return driven
    total = _Total(progress, stepper.attempts * len(rows), driven)
    asked = [(stepper, model, approximate)]
    try:
        asked += [(_copied(stepper), _copied(model), approximate and _copied(approximate)) for _ in range(workers - 1)]
    except Exception:
        # A model that cannot be copied is asked by one thread.
        asked, workers = asked[:1], 1
    # A worker's samples are its own, so that nothing depends on which thread is faster.
    crew = [
        _Worker(*mine, samples, rows, range(first, len(rows), workers), driven, total)
        for first, mine in enumerate(asked)
    ]
    if workers == 1:
        crew[0].work(lanes)
        return driven
    torch.set_num_threads(max(1, threads // workers))
    try:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(worker.work, math.ceil(lanes / workers)) for worker in crew]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                total.stopped = True
                raise
    finally:
        torch.set_num_threads(threads)
    return driven


def count_workers(device: torch.device, lanes: int) -> int:
    """How many workers share so many lanes."""
    return max(1, min(torch.get_num_threads(), lanes // _FEWEST_LANES)) if device.type == "cpu" else 1


def _copied(thing: T) -> T:
    """A copy that shares its tensors, so that threads do not share what a forward pass may keep besides."""
    parts = [thing, *vars(thing).values()]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    for part in parts:
        if isinstance(part, nn.Module):
            tensors += [*part.parameters(), *part.buffers()]
    return copy.deepcopy(thing, {id(tensor): tensor for tensor in tensors})


def begin(model: nn.Module, samples: Samples, batch_size: int) -> tuple[Candidates, Tensor]:
    """What every attack starts from: candidates that change nothing, and the clean logits (N, classes).

    The one forward pass of each sample is counted.
    """
    with torch.no_grad():
        logits = torch.cat([model(images) for images in torch.split(samples.images, batch_size)])
    one = torch.ones(len(samples), dtype=torch.int64)
    return Candidates(
        samples.images.clone(), one, torch.zeros_like(one), [""] * len(samples), torch.full_like(one, -1)
    ), logits.to(samples.images.dtype)


def merge(candidates: Candidates, rows: Tensor, driven: Driven, member: str) -> None:
    """Enter in ``candidates``, beside the images, what came of the samples at ``rows``, attacked by ``member``."""
    rows_told = rows.cpu()
    candidates.forwards[rows_told] += driven.forwards.cpu()
    candidates.backwards[rows_told] += driven.backwards.cpu()
    candidates.step[rows_told] = driven.step.cpu()
    for row in rows[driven.broken].tolist():
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
    correct = (~errs(logits, samples.labels)).nonzero().squeeze(1)
    share = len(correct) / len(samples)
    driven = drive(
        stepper,
        model,
        samples,
        batch_size=batch_size,
        rows=correct,
        candidates=candidates.images,
        progress=lambda done, unbroken: progress(done, share * unbroken),
    )
    merge(candidates, correct, driven, member)
    progress(1.0, share - float(driven.broken.sum()) / len(samples))
    return candidates


class _Total:
    """What the workers have done together.

    Attributes:
        left: the attempts that are left of those of each worker.
        stopped: set to make all workers stop.
    """

    def __init__(self, progress: Progress | None, attempts: int, driven: Driven) -> None:
        self.progress, self.attempts, self.driven = progress, attempts, driven
        self.left: dict[_Worker[Any], float] = {}
        self.stopped = False
        self._lock = threading.Lock()
        self._told = 0.0

    def report(self, worker: _Worker[Any], left: float) -> None:
        """Tell that so many attempts are left of those of a worker."""
        if self.progress is None:
            return
        with self._lock:
            self.left[worker] = left
            self._told = max(self._told, 1 - sum(self.left.values()) / self.attempts)
            self.progress(self._told, 1 - float(self.driven.broken.float().mean()))


class _Worker(Generic[L]):
    """Drives lanes with its ``share`` of the samples at ``rows`` and enters what comes of them in ``driven``."""

    def __init__(
        self,
        stepper: Stepper[L],
        model: nn.Module,
        approximate: nn.Module | None,
        samples: Samples,
        rows: Tensor,
        share: Sequence[int],
        driven: Driven,
        total: _Total,
    ) -> None:
        self.stepper, self.model, self.approximate = stepper, model, approximate
        self.samples, self.rows, self.driven, self.total = samples, rows, driven, total
        # The first attempts of all samples come first, so that most samples are broken before their next is due.
        self.queue = collections.deque((row, attempt) for attempt in range(stepper.attempts) for row in share)
        self.refused: list[tuple[int, int]] = []
        # The first attempt that broke each sample, so far: those after it are not made, those before it end first, so
        # that the same one counts whatever lanes there are.
        self.winner = torch.full_like(rows, stepper.attempts)
        total.left[self] = len(self.queue)

    @torch.no_grad()
    def work(self, width: int) -> None:
        """Drive ``width`` lanes until no sample is left."""
        self._empty_queue(width, self.approximate)
        if self.refused:
            self.queue.extend(sorted(self.refused, key=lambda task: task[::-1]))
            self._empty_queue(width, None)
        self.total.report(self, 0)

    def _empty_queue(self, width: int, approximate: nn.Module | None) -> None:
        lanes = self._fresh(width)
        steps = 0
        while lanes is not None and not self.total.stopped:
            self.stepper.step(approximate or self.model, lanes)
            lanes.step += 1
            if approximate is not None:
                self._confirm(lanes)
            lanes.broken_at = torch.where(lanes.broken & (lanes.broken_at < 0), lanes.step, lanes.broken_at)
            if lanes.done.any():
                lanes = self._replace_done(lanes)
            steps += 1
            if steps % _STEPS_BETWEEN_REPORTS == 0:
                under_way = 0.0 if lanes is None else len(lanes.row) - float(lanes.step.sum()) / self.stepper.steps
                self.total.report(self, len(self.queue) + under_way)

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
        fresh = self.samples[self.rows[row]]
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
                broken_at=zero - 1,
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
        """End the attempts that break the approximation alone; they are made again on the model itself."""
        claimed = lanes.broken.nonzero().squeeze(1)
        if len(claimed) > 0:
            held = claimed[~errs(self.model(lanes.candidate[claimed]), lanes.labels[claimed])]
            lanes.forwards[claimed] += 1
            lanes.broken[held] = False
            lanes.done[held] = True
            self.refused += zip(lanes.row[held].tolist(), lanes.attempt[held].tolist(), strict=True)

    def _record(self, lanes: L, finished: Tensor) -> None:
        row, driven = lanes.row[finished], self.driven
        driven.forwards.index_add_(0, row, lanes.forwards[finished])
        driven.backwards.index_add_(0, row, lanes.backwards[finished])
        succeeded = finished[lanes.broken[finished] & ~self._too_late(lanes)[finished]]
        self.winner.scatter_reduce_(0, lanes.row[succeeded], lanes.attempt[succeeded], "amin")
        won = succeeded[~self._too_late(lanes)[succeeded]]
        row = lanes.row[won]
        driven.broken[row] = True
        driven.candidates[self.rows[row]] = lanes.candidate[won]
        driven.attempt[row] = lanes.attempt[won]
        driven.step[row] = lanes.broken_at[won]

    def _too_late(self, lanes: L) -> Tensor:
        """(L,), whether an earlier attempt has broken the lane's sample."""
        return lanes.attempt > self.winner[lanes.row]


def _tensors(lanes: Lanes) -> dict[str, Any]:
    return {field.name: getattr(lanes, field.name) for field in dataclasses.fields(lanes)}
