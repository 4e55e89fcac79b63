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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import nn

import hahbench
from hahbench import exhibits, measure
from hahbench.attacks import build_attack
from hahbench.attacks.base import Attack, ParticularAboutData, Progress
from hahbench.attacks.diagnostics import diagnose, diagnose_minimum_norm
from hahbench.data import ImageSet
from hahbench.device import device_name, full_float32, seeded
from hahbench.errors import HahbenchError
from hahbench.models.conventions import PROBED, broken_conventions
from hahbench.models.load import check_classifier, load_model, model_digest
from hahbench.models.prepare import PreparedModel, prepare
from hahbench.models.record import model_record
from hahbench.outcome import EXAMPLE_COLUMNS, Candidates, Samples
from hahbench.spec import AttackSpec, Cell, Exhibit, ExhibitKind, ModelCard, digest
from hahbench.store import Store
from hahbench.verdict import doubt_in, verdict_from

_FEWEST_TO_EXAMINE = 2
_SORTED_OF_A_CLASS = 4
_KEPT_AT_ONCE = 512  # samples
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclasses.dataclass(frozen=True)
class Job:
    """One cell with what it takes to run it: the model for the judge, and the same prepared for the attack.

    ``twins`` are the cells of the run's other models that predict the same, and differ in their gradients alone.
    """

    cell: Cell
    card: ModelCard
    model: nn.Module
    prepared: PreparedModel
    attack: Attack
    twins: tuple[Cell, ...] = ()


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
    planned = [plan(part.cards, part.attacks, images, samples, device) for part in parts]
    every: dict[str, Job] = {}
    for job in itertools.chain.from_iterable(planned):
        every.setdefault(job.cell.key, job)
    if not every:
        raise HahbenchError("there is nothing to run; a suite needs one or more attacks")
    for job in {(job.cell.model, job.cell.model_digest): job for job in every.values()}.values():
        store.write_record(model_record(job.card, job.cell.model_digest, len(images.classes)))
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
        mine = [job for job in jobs if missing.get(job.cell.key) is job]
        _run_part(jobs, mine, part.exhibits, images, samples, facts, store, device, observer)
    return [job.cell for job in every.values()]


def _run_part(
    jobs: Sequence[Job],
    missing: Sequence[Job],
    kinds_of_exhibits: Sequence[ExhibitKind],
    images: ImageSet,
    samples: Samples,
    facts: Mapping[str, Any],
    store: Store,
    device: torch.device,
    observer: Observer,
) -> None:
    """Run those of one part's ``jobs`` that are ``missing``; ``facts`` are what the store is told of all of them."""
    n = len(samples)
    makers = {
        "device": device_name(device),
        "versions": f"hahbench {hahbench.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    prepared = {job.card.name: job.prepared for job in jobs}

    def examine(job: Job, outcomes: pd.DataFrame) -> None:
        verdict = verdict_on(job, samples, outcomes, prepared)
        if verdict:
            store.set_verdict(job.cell, verdict)
        if doubt_in(verdict):
            observer.warned(job, verdict)

    for job in jobs:
        if job.attack.worst_case and job.cell in store and not store.verdict(job.cell):
            with store.claim(job.cell) as claimed:
                # Else another run is in the midst of its diagnostics; one that was stopped there claims no more.
                if claimed and not store.verdict(job.cell):
                    examine(job, store.read([job.cell])[1])
    # From one sample to another: some attacks keep what they made of the same samples for the next model.
    slices: dict[tuple[int, int], Samples] = {}
    clean_pred: dict[tuple[int, int], dict[str, np.ndarray]] = collections.defaultdict(dict)
    for job in _claimed(missing, store):
        if job.cell in store:
            # By another run, which may have been stopped before its diagnostics.
            outcomes = store.read([job.cell])[1]
            store.drop_unfinished(job.cell)
            if not store.verdict(job.cell):
                examine(job, outcomes)
            observer.finished(job, outcomes, 0.0)
            continue
        observer.started(job)
        started = time.perf_counter()
        made_by, parts = _known(job, images, n, store)
        for rows in _chunks(job, sum(map(len, parts)), n):
            some = slices.setdefault(rows, samples[slice(*rows)])
            progress = _progress(job, parts, len(some), n, observer)
            warned = functools.partial(observer.warned, job)
            parts.append(attack_and_judge(job, some, clean_pred[rows], progress, warned)[1])
            made_by.append(makers)
            if rows[1] < n:
                store.write_unfinished(job.cell, pd.concat(parts), _joined(made_by))
        outcomes = pd.concat(parts, ignore_index=True)
        seconds = time.perf_counter() - started
        found = {
            **facts,
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
        store.write(job.cell, outcomes, found)
        store.drop_unfinished(job.cell)
        examine(job, outcomes)
        observer.finished(job, outcomes, seconds)
    for exhibit, job in _exhibits(jobs, kinds_of_exhibits):
        if exhibit not in store:
            started = time.perf_counter()
            shown = _show(exhibit, job, samples, images.classes, store)
            store.write_exhibit(exhibit, shown, _now())
            observer.exhibited(exhibit, time.perf_counter() - started)


def _known(job: Job, images: ImageSet, n: int, store: Store) -> tuple[list[dict[str, str]], list[pd.DataFrame]]:
    """What made outcomes of the first of the samples, and those outcomes.

    They are of a run that was stopped, of one on more or fewer of the same images or, where the attack asks for no
    gradient, of a model that differs in its gradients alone. Both are empty where there was no such run.
    """
    if not _is_per_sample(job):
        return [], []
    unfinished = store.read_unfinished(job.cell)
    begun = len(unfinished[1]) if unfinished else 0
    for same in (job.cell, *(() if job.attack.worst_case else job.twins)):
        for count in sorted(store.counts(same), reverse=True):
            cell = dataclasses.replace(same, data_digest=digest(images.digest, count))
            if cell in store and min(count, n) > begun:
                found, outcomes = store.read([cell])
                if same is not job.cell and outcomes["backwards"].any():
                    continue
                makers = [{name: str(found[name].iloc[0]) for name in ("device", "versions")}]
                return makers, [outcomes[outcomes["index"] < n].drop(columns="key").sort_values("index")]
    return ([unfinished[0]], [unfinished[1]]) if unfinished else ([], [])


def _is_per_sample(job: Job) -> bool:
    """Whether what comes of a sample does not depend on the others."""
    unsteady = job.prepared.is_random or job.prepared.depends_on_batch
    return getattr(job.attack, "per_sample", False) and not unsteady


def _chunks(job: Job, known: int, n: int) -> list[tuple[int, int]]:
    """The samples from ``known`` on, by their first and the one after their last, in parts that are kept one by one."""
    # What searches for no error takes seconds, and what is made of the samples is made once for all models.
    size = _KEPT_AT_ONCE if job.attack.worst_case and _is_per_sample(job) else n
    return [(start, min(start + size, n)) for start in range(known, n, size)]


def _progress(job: Job, before: Sequence[pd.DataFrame], size: int, n: int, observer: Observer) -> Progress:
    """Tells the observer how far all ``n`` samples are, of which an attack is given ``size``."""
    done = sum(map(len, before))
    right = sum(int((outcomes["adv_pred"] == outcomes["label"]).sum()) for outcomes in before)

    def progress(fraction: float, robust_accuracy: float) -> None:
        observer.progress(job, (done + fraction * size) / n, (right + robust_accuracy * size) / (done + size))

    return progress


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


def check_cards(cards: Sequence[ModelCard], dataset_argument: str) -> None:
    """Check what can be checked before the images are read, which may take a download.

    Raises:
        HahbenchError: there is no card, two have one name, or one is yet to be trained.
    """
    if not cards:
        raise HahbenchError("no model is given; allowed: one or more of --model, or a suite that names models")
    names = [card.name for card in cards]
    for card in cards:
        if names.count(card.name) > 1:
            raise HahbenchError(f"model {card.name!r} is given twice; a card's key 'name' can give it another name")
        if card.train and card.weights is None:
            raise HahbenchError(
                f"model {card.name!r} has no weights for data set {dataset_argument!r}; train it with 'hahbench train "
                f"{card.argument or card.name} --dataset {dataset_argument}', then give --model the card that it writes"
            )


def check_trained_on(cards: Sequence[ModelCard], images: ImageSet, dataset_argument: str) -> None:
    """Check that no model was trained on other classes.

    Raises:
        HahbenchError: a card says so.
    """
    for card in cards:
        # The JPEG copy of a data set is another data set to measure on, but not to have been trained on.
        allowed = {images.name, images.name.removesuffix("-jpeg"), dataset_argument}
        if card.dataset is not None and card.dataset.removesuffix("-jpeg") not in allowed:
            remedy = f"set dataset = {dataset_argument!r} in {card.argument}"
            if not card.argument.endswith(".toml"):
                remedy = f"write a card with base = {card.name!r} and dataset = {dataset_argument!r}"
            raise HahbenchError(
                f"model {card.name!r} was trained on {card.dataset!r}, not on {dataset_argument!r}; "
                f"to measure it there anyhow, {remedy}"
            )


def plan(
    cards: Sequence[ModelCard],
    attacks: Sequence[AttackSpec],
    images: ImageSet,
    samples: Samples,
    device: torch.device,
) -> list[Job]:
    """The cells of a run, with the loaded models; one attack after the other, each on all models.

    Raises:
        HahbenchError: a model, an attack's parameters or a level is wrong, or an attack cannot be run on the images.
    """
    built = [(spec, build_attack(spec)) for spec in attacks]
    for spec, attack in built:
        if isinstance(attack, ParticularAboutData):
            try:
                attack.check_data(images.images.shape[1], len(images.classes))
            except HahbenchError as error:
                raise HahbenchError(f"attack {spec.name!r} on data set {images.name!r}: {error}") from error
    data_digest = digest(images.digest, len(samples))
    ready = []
    for card in cards:
        model = load_model(card, len(images.classes))
        identity = model_digest(card, model)
        model = model.to(device).requires_grad_(False)
        # The same for any number of samples, so that what is prepared is, too.
        some = images.first(min(len(images), 64)).images.to(device)
        check_classifier(model, some[:2], len(images.classes), card.name)
        # Batches shrink to one image before an attack ends.
        check_classifier(model, some[:1], len(images.classes), card.name)
        probes = images.first(min(len(images), PROBED)).to(device)
        with full_float32():
            for sign in broken_conventions(model, probes.images, probes.labels):
                warnings.warn(f"model {card.name!r} {sign}", stacklevel=2)
            ready.append((card, identity, model, prepare(model, some)))
    twins = _twins([(card, identity, model) for card, identity, model, _ in ready], images, device)
    jobs: dict[str, Job] = {}
    # One attack after the other, each on all models, so that corrupted images, the same for all, are made once.
    for spec, attack in built:
        version = code_version(attack)
        for level, draw in itertools.product(spec.levels or (None,), range(spec.draws)):
            for card, identity, model, prepared in ready:
                cell = Cell(card.name, identity, data_digest, spec, version, level, spec.seed + draw)
                same = (dataclasses.replace(cell, model=name, model_digest=of) for name, of in twins[card.name])
                jobs.setdefault(cell.key, Job(cell, card, model, prepared, attack, tuple(same)))
    return list(jobs.values())


def _twins(
    models: Sequence[tuple[ModelCard, str, nn.Module]], images: ImageSet, device: torch.device
) -> dict[str, list[tuple[str, str]]]:
    """By a model's name, the names and digests of the others of its network; their logits on some images are equal.

    The images are noisy too: a model that quantises its input predicts the same of images that are quantised already.
    """
    clean = images.first(min(len(images), PROBED)).images
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    some = torch.cat([clean, (clean + 0.1 * noise).clamp(0, 1)]).to(device)
    known: list[tuple[str, str, str, torch.Tensor]] = []
    for card, identity, model in models:
        network = model_record(card, identity, len(images.classes)).network
        if network:
            with full_float32(), torch.no_grad():
                known.append((card.name, identity, network, model.eval()(some)))
    twins: dict[str, list[tuple[str, str]]] = {card.name: [] for card, _, _ in models}
    for one, other in itertools.permutations(known, 2):
        if one[2] == other[2] and torch.equal(one[3], other[3]):
            twins[one[0]].append(other[:2])
    return twins


def code_version(attack: Attack) -> str:
    """Of the code that carries out and judges an attack; raised with what changes its results."""
    return f"{type(attack).version}, judge {measure.VERSION}"


def attack_and_judge(
    job: Job,
    samples: Samples,
    clean_pred: dict[str, np.ndarray],
    progress: Progress,
    warned: Callable[[str], None],
) -> tuple[Candidates, pd.DataFrame]:
    """What an attack proposes for some samples, and their outcomes.

    ``clean_pred`` keeps the predictions on the samples, by model, from one job to the next.

    Raises:
        HahbenchError: the attack or the model raises.
    """
    cell = job.cell
    started = time.perf_counter()
    try:
        given = samples.index.clone(), samples.images.clone(), samples.labels.clone()
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always")
            candidates = _candidates(job, samples, progress)
        if not all(map(torch.equal, given, (samples.index, samples.images, samples.labels))):
            # The judge would compare the candidates with them, and the next attack would start from them.
            raise ValueError("the attack, or the model, wrote into the images or labels that it was given")
        for message in dict.fromkeys(str(doubt.message) for doubt in doubts):
            warned(message)
        if cell.model not in clean_pred:
            # The same in every run, where the model's output is random.
            with seeded(0, samples.images.device):
                clean_pred[cell.model] = measure.predict(job.model, samples)
        with seeded(cell.seed, samples.images.device):
            return candidates, measure.judge(
                job.model,
                samples,
                candidates,
                clean_pred=clean_pred[cell.model],
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


def _candidates(job: Job, samples: Samples, progress: Progress) -> Candidates:
    with full_float32(), seeded(job.cell.seed, samples.images.device):
        return job.attack(job.prepared, samples, job.cell.level, job.cell.seed, progress)


def _exhibits(jobs: Sequence[Job], kinds: Sequence[ExhibitKind]) -> Iterator[tuple[Exhibit, Job]]:
    """The exhibits of the kinds that were asked for, each with the job that it is of, or with any of its model."""
    for kind, job in itertools.product(kinds, jobs):
        cell, attack = job.cell, job.cell.attack
        exhibit = Exhibit(kind, cell.model, cell.model_digest, cell.data_digest, exhibits.VERSION)
        if kind == "activations":
            yield exhibit, job
        elif job.attack.worst_case and attack.norm and cell.level is None:
            yield dataclasses.replace(exhibit, attack=attack.name, norm=attack.norm, cell=cell.key), job


def _show(exhibit: Exhibit, job: Job, samples: Samples, classes: Sequence[str], store: Store) -> pd.DataFrame:
    """What an exhibit shows; the cell that it is of is in the store."""
    try:
        if exhibit.kind == "activations":
            with full_float32():
                return exhibits.activations(job.model, samples)
        norm = job.cell.attack.norm
        assert norm is not None
        samples = samples[exhibits.most_fragile(store.read([job.cell])[1], norm)]
        if not len(samples):
            return pd.DataFrame(columns=list(EXAMPLE_COLUMNS))
        # Instead of keeping the images of every cell: whichever samples are beside, the attack finds about the same.
        candidates = _candidates(job, samples, lambda fraction, robust_accuracy: None)
        outcomes = measure.judge(job.model, samples, candidates, norm=norm, epsilon=None, worst_case=True, seconds=0.0)
        return exhibits.adversarial_examples(samples, candidates, outcomes, norm, classes)
    except HahbenchError:
        raise
    except Exception as error:
        raise HahbenchError(
            f"model {exhibit.model!r}: {exhibit.kind}: {type(error).__name__}: {error}; the cells are kept"
        ) from error


def verdict_on(job: Job, samples: Samples, outcomes: pd.DataFrame, models: Mapping[str, nn.Module]) -> str:
    """``ok``, or what speaks against the robust accuracy or minimum norms.

    Empty where nothing is known to look for, or there are too few samples.
    """
    cell, norm, epsilon = job.cell, job.cell.attack.norm, job.cell.level
    correct = (outcomes["clean_pred"] == outcomes["label"]).sum()
    if not job.attack.worst_case or norm is None or correct < _FEWEST_TO_EXAMINE:
        return ""
    others = {name: model for name, model in models.items() if name != cell.model}
    try:
        with full_float32():
            if epsilon is None:
                reasons = diagnose_minimum_norm(job.model, samples, outcomes, seed=cell.seed)
            elif norm != "l0":
                reasons = diagnose(
                    job.model, samples, outcomes, norm=norm, epsilon=epsilon, seed=cell.seed, others=others
                )
            else:
                return ""
    except Exception as error:
        # What the attack found must not be lost over a probe.
        reasons = [f"the diagnostics raised {type(error).__name__}: {error}"]
    return verdict_from(reasons)
