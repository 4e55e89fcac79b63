"""AutoAttack (Croce and Hein 2020, https://arxiv.org/abs/2003.01690), carried out by pyautoattack."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import pyautoattack
import torch
from pyautoattack import checks
from torch import Tensor, nn

from hahbench.attacks.base import Progress, check_at_least_one, check_classes, check_epsilon
from hahbench.attacks.reference.watched import WatchedModel
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples

Member = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]

_LIBRARY_NORM = {"l2": "L2", "linf": "Linf"}
# Forward and backward passes of each member on samples that do not break, for ten classes.
_PASSES: dict[Member, tuple[int, int]] = {
    "apgd-ce": (102, 101),
    "apgd-dlr": (102, 101),
    "apgd-t": (919, 909),
    "fab": (202, 1000),
    "fab-t": (1828, 900),
    "square": (5003, 0),
}
_GRADIENTS_WHEN_RANDOMIZED = 20


@dataclasses.dataclass(frozen=True)
class PyAutoAttack:
    """An ensemble of attacks within a budget, each tried on the samples that those before it did not break.

    Attributes:
        norm: the norm that bounds the perturbation.
        members: the attacks that are run, in this order; empty for all of the version.
        randomized: whether the model's output is random: AutoAttack's version "rand", which averages gradients, and not
            "standard".
        batch_size: samples attacked together. Random draws depend on it.
    """

    norm: Literal["l2", "linf"]
    members: tuple[Member, ...] = ()
    randomized: bool = False
    batch_size: int = 250

    version: ClassVar[str] = f"1, pyautoattack {importlib.metadata.version('pyautoattack')}"
    worst_case: ClassVar[bool] = True
    per_sample: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_at_least_one(batch_size=self.batch_size)
        refused = sorted(set(self.members) - {"apgd-ce", "apgd-dlr"})
        if self.randomized and refused:
            raise HahbenchError(f"member {refused[0]!r} cannot be randomized; allowed: 'apgd-ce', 'apgd-dlr'")

    @property
    def passes(self) -> float:
        """The clean forward pass, and all passes of the members on a sample that does not break."""
        return 1.0 + sum(sum(self._passes_of(member)) for member in self._members)

    def check_level(self, level: float | None) -> None:
        """The level is an epsilon.

        Raises:
            HahbenchError: there is no level, or it is not positive, or in l_inf above 1.
        """
        check_epsilon(level, self.norm)

    def check_data(self, channels: int, classes: int) -> None:
        """Losses that compare several classes need them.

        Raises:
            HahbenchError: there are too few classes for a member.
        """
        check_classes(self._members, classes)

    @property
    def _members(self) -> tuple[Member, ...]:
        if self.members:
            return self.members
        return ("apgd-ce", "apgd-dlr") if self.randomized else ("apgd-ce", "apgd-t", "fab-t", "square")

    def _passes_of(self, member: Member) -> tuple[int, int]:
        forward, backward = _PASSES[member]
        gradients = _GRADIENTS_WHEN_RANDOMIZED if self.randomized else 1
        return gradients * forward, gradients * backward

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """Perturb by at most ``level``.

        The samples broken are those that ``pyautoattack.AutoAttack.run_standard_evaluation`` breaks with this seed and
        batch size. It is called for one member and one batch at a time, in its own order, so that progress can be told.

        Where pyautoattack doubts that it can judge the model, a warning says so, once for each reason: the output seems
        to be random or a probability, the model computes gradients itself, gradients are zero, or Square breaks samples
        that the other members do not.

        Raises:
            HahbenchError: there is no allowed level, or the model has too few classes for a member.
        """
        epsilon = check_epsilon(level, self.norm)
        # pyautoattack calls Tensor.view, which fails on images, and on gradients of images, that lie channels-last.
        images, labels = samples.images.contiguous(), samples.labels
        candidates = images.clone()
        with _contained(images.device) as doubts:
            logits = _logits(model, images, self.batch_size)
            check_classes(self._members, logits.shape[1])
            watched = WatchedModel(model)
            library = self._library(watched, epsilon, seed, logits.shape[1], images.device)
            robust = logits.argmax(dim=1) == labels
            queries = torch.ones(len(samples), dtype=torch.float64)
            accuracies = {"clean": float(robust.double().mean())}
            finished = 0.0
            for member in self._members:
                if not robust.any():
                    break
                library.attacks_to_run = [member]
                batches = torch.split(robust.nonzero().squeeze(1), self.batch_size)
                share = sum(self._passes_of(member)) / (self.passes - 1) / len(batches)
                for batch in batches:
                    accuracy = float(robust.double().mean())
                    report = functools.partial(_report, progress, accuracy, finished, share)
                    watched.start(self._passes_of(member)[0], report)
                    found, predicted = library.run_standard_evaluation(
                        images[batch], labels[batch], batch_size=self.batch_size
                    )
                    candidates[batch] = found
                    robust[batch] = predicted == labels[batch]
                    queries[batch.cpu()] += watched.rows / len(batch)
                    finished += share
                accuracies[member] = float(robust.double().mean())
            # Called for one member at a time, the library cannot compare them.
            checks.check_square_sr(accuracies, logger=library.logger)
            progress(1.0, float(robust.double().mean()))
        for doubt in doubts.messages.values():
            warnings.warn(f"AutoAttack: {doubt}", stacklevel=2)
        return Candidates.untold(candidates, forwards=queries.round().long())

    def _library(self, model: nn.Module, epsilon: float, seed: int, classes: int, device: torch.device) -> Any:
        library = pyautoattack.AutoAttack(
            model,
            norm=_LIBRARY_NORM[self.norm],
            eps=epsilon,
            seed=seed,
            version="rand" if self.randomized else "standard",
            device=device,
        )
        for attack in (library.apgd_targeted, library.fab):
            attack.n_target_classes = min(attack.n_target_classes, classes - 1)
        return library


def _report(progress: Progress, accuracy: float, finished: float, share: float, part: float) -> None:
    progress(finished + share * part, accuracy)


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    return torch.cat([model(batch) for batch in torch.split(images, batch_size)])


class _Doubts(logging.Handler):
    """Keeps the first warning of each of the library's checks."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        # The number of classes is checked here, and more exactly: untargeted DLR can do with three.
        if record.funcName != "check_n_classes":
            message = record.getMessage().removesuffix(f" See {checks.checks_doc_path} for details.")
            self.messages.setdefault(record.funcName, message)


@contextlib.contextmanager
def _contained(device: torch.device) -> Iterator[_Doubts]:
    """Undo what pyautoattack does to the process, and keep its warnings.

    It seeds the global generators, logs, ends ``sys.settrace``, and never resets its count of the gradients that models
    compute.
    """
    logger, trace = logging.getLogger("auto-attack"), sys.gettrace()
    level, propagate = logger.level, logger.propagate
    doubts = _Doubts()
    logger.addHandler(doubts)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield doubts
    finally:
        logger.removeHandler(doubts)
        logger.setLevel(level)
        logger.propagate = propagate
        sys.settrace(trace)
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))
