"""Models x attacks -> cells -> outcomes in the store."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import platform
import time
from collections.abc import Sequence
from typing import Protocol

import pandas as pd
import torch
from torch import nn

import hahbench
from hahbench.attacks import build_attack
from hahbench.attacks.base import Attack
from hahbench.data import ImageSet
from hahbench.device import device_name
from hahbench.errors import HahbenchError
from hahbench.measure import judge
from hahbench.models.load import check_classifier, load_model, model_digest
from hahbench.outcome import Samples
from hahbench.spec import AttackSpec, Cell, ModelCard, digest
from hahbench.store import Store


@dataclasses.dataclass(frozen=True)
class Job:
    """One cell with what it takes to run it."""

    cell: Cell
    card: ModelCard
    model: nn.Module
    attack: Attack

    @property
    def cost(self) -> float:
        """Forward passes expected per sample, to weigh progress."""
        return self.attack.cost


class Observer(Protocol):
    """Is told how a run goes on."""

    def planned(self, jobs: Sequence[Job], done: int) -> None:
        """Called once, with the jobs that will be run and the number of cells that the store holds already."""

    def progress(self, job: Job, fraction: float, robust_accuracy: float) -> None:
        """Called now and then with the job's done fraction and the attack's own idea of the accuracy so far."""

    def finished(self, job: Job, outcomes: pd.DataFrame, seconds: float) -> None:
        """Called when a cell is in the store, with what the judge found."""


def run(
    cards: Sequence[ModelCard],
    attacks: Sequence[AttackSpec],
    images: ImageSet,
    n: int,
    *,
    loader: str,
    store: Store,
    device: torch.device,
    observer: Observer,
) -> list[Cell]:
    """Run every cell that the store does not hold.

    All models, attacks and samples are checked before the first cell is run, and each cell is stored as soon as it is
    finished.

    Args:
        cards: the models.
        attacks: each is run at all its levels, ``draws`` times.
        images: the test set, of which the first ``n`` images are used.
        n: the number of samples.
        loader: the name under which the data set was asked for.
        store: where outcomes are kept.
        device: where the models run.
        observer: is told how it goes.

    Returns:
        All cells of the run, those found in the store included.

    Raises:
        HahbenchError: something asked for is wrong; the cells finished before are kept.
    """
    samples = images.first(n)
    store.check_writable()
    _check_cards(cards, loader)
    jobs = _plan(cards, attacks, images, samples, device)
    missing = [job for job in jobs if job.cell not in store]
    observer.planned(missing, len(jobs) - len(missing))
    facts = {
        "loader": loader,
        "dataset": images.name,
        "source": images.source,
        "n": n,
        "device": device_name(device),
        "versions": f"hahbench {hahbench.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    here = samples.to(device)
    for job in missing:
        started = time.perf_counter()
        outcomes = _attack_and_judge(job, here, observer)
        seconds = time.perf_counter() - started
        store.write(
            job.cell,
            outcomes,
            {
                **facts,
                "argument": job.card.argument or job.card.name,
                "display": job.card.display or job.card.name,
                "reference": job.card.reference,
                "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
                "worst_case": job.attack.worst_case,
                "seconds": seconds,
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
        )
        observer.finished(job, outcomes, seconds)
    return [job.cell for job in jobs]


def _check_cards(cards: Sequence[ModelCard], loader: str) -> None:
    names = [card.name for card in cards]
    for card in cards:
        if names.count(card.name) > 1:
            raise HahbenchError(f"model {card.name!r} is given twice; a card's key 'name' can give it another name")
        if card.train and card.weights is None:
            raise HahbenchError(
                f"model {card.name!r} has no weights for data set {loader!r}; train it with 'hahbench train "
                f"{card.name} --dataset {loader} --data PATH', then give --model the card that this writes"
            )


def _plan(
    cards: Sequence[ModelCard],
    attacks: Sequence[AttackSpec],
    images: ImageSet,
    samples: Samples,
    device: torch.device,
) -> list[Job]:
    names = [card.name for card in cards]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise HahbenchError(
            f"model {min(twice)!r} is given twice; give each a name of its own (key 'name' of its card)"
        )
    built = [(spec, build_attack(spec)) for spec in attacks]
    data_digest = digest(images.digest, len(samples))
    jobs = []
    for card in cards:
        model = load_model(card)
        identity = model_digest(card, model)
        model = model.to(device).to(memory_format=torch.channels_last).requires_grad_(False)
        check_classifier(model, samples.images[:2].to(device), len(images.classes), card.name)
        for spec, attack in built:
            version = type(attack).version
            for level in spec.levels or (None,):
                for draw in range(spec.draws):
                    cell = Cell(card.name, identity, data_digest, spec, version, level, spec.seed + draw)
                    jobs.append(Job(cell, card, model, attack))
    return jobs


def _attack_and_judge(job: Job, samples: Samples, observer: Observer) -> pd.DataFrame:
    cell = job.cell
    started = time.perf_counter()
    try:
        candidates = job.attack(job.model, samples, cell.level, cell.seed, functools.partial(observer.progress, job))
        return judge(
            job.model,
            samples,
            candidates,
            norm=cell.attack.norm,
            epsilon=cell.level if job.attack.worst_case else None,
            worst_case=job.attack.worst_case,
            seconds=time.perf_counter() - started,
        )
    except HahbenchError:
        raise
    except Exception as error:
        raise HahbenchError(
            f"model {cell.model!r} under attack {cell.attack.name!r}: {type(error).__name__}: {error}; "
            "the cells finished before are kept"
        ) from error
