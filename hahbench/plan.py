"""What a run will do: the jobs, with the models made ready, and what can be wrong before the first is begun."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from hahbench import measure
from hahbench.attacks import build_attack
from hahbench.attacks.base import Attack, ParticularAboutData
from hahbench.data import ImageSet
from hahbench.device import full_float32
from hahbench.errors import HahbenchError
from hahbench.models.conventions import PROBED
from hahbench.models.load import load_model, model_digest, raising_in_one_line
from hahbench.models.prepare import PreparedModel
from hahbench.models.ready import TRIED, make_ready
from hahbench.models.record import model_record
from hahbench.outcome import Samples
from hahbench.spec import AttackSpec, Cell, ModelCard, ModelRecord, digest


class ReadyModel(NamedTuple):
    """A model of a run: its card, what is kept of it for reports, itself for the judge, and prepared for attacks."""

    card: ModelCard
    record: ModelRecord
    model: nn.Module
    prepared: PreparedModel


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
    ready: list[ReadyModel] | None = None,
) -> list[Job]:
    """The cells of a run, with the loaded models; one attack after the other, each on all models.

    Args:
        cards: of the models.
        attacks: each is run at all its levels, ``draws`` times.
        images: the test set.
        samples: the first of it, which will be attacked.
        device: where the models run.
        ready: the models that were made ready before, for other attacks on the same images, and are not again; those
            that are made now are added.

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
    ready = [] if ready is None else ready
    models: list[ReadyModel] = []
    for card in cards:
        models.append(_made_ready(card, images, device, ready))
    twins = _twins(models, images, device)
    jobs: dict[str, Job] = {}
    # One attack after the other, each on all models, so that corrupted images, the same for all, are made once.
    for spec, attack in built:
        version = code_version(attack)
        for level, draw in itertools.product(spec.levels or (None,), range(spec.draws)):
            for card, record, model, prepared in models:
                cell = Cell(card.name, record.model_digest, data_digest, spec, version, level, spec.seed + draw)
                same = [
                    dataclasses.replace(cell, model=twin.model, model_digest=twin.model_digest)
                    for twin in twins[card.name]
                ]
                jobs.setdefault(cell.key, Job(cell, card, model, prepared, attack, tuple(same)))
    return list(jobs.values())


def _made_ready(card: ModelCard, images: ImageSet, device: torch.device, before: list[ReadyModel]) -> ReadyModel:
    """The card's model, found among those of ``before`` or else added to them."""
    for known in before:
        if known.card == card:
            return known
    classes = len(images.classes)
    model = load_model(card, classes)
    record = model_record(card, model_digest(card, model), classes)
    model = model.to(device).requires_grad_(False)
    # The same for any number of samples, so that what is prepared is, too.
    some = images.first(min(len(images), TRIED)).to(device)
    before.append(ReadyModel(card, record, model, make_ready(model, some, classes, card.name)))
    return before[-1]


def _twins(models: Sequence[ReadyModel], images: ImageSet, device: torch.device) -> dict[str, list[ModelRecord]]:
    """By a model's name, the records of the others of its network; their logits on some images are equal.

    The images are noisy too: a model that quantises its input predicts the same of images that are quantised already.
    """
    clean = images.first(min(len(images), PROBED)).images
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    some = torch.cat([clean, (clean + 0.1 * noise).clamp(0, 1)]).to(device)
    asked: list[tuple[ModelRecord, torch.Tensor]] = []
    for one in models:
        if one.record.network:
            # No more at once than it was tried on.
            asked.append((one.record, torch.cat([_logits(one, part) for part in torch.split(some, PROBED)])))
    twins: dict[str, list[ModelRecord]] = {one.card.name: [] for one in models}
    for (record, logits), (other, of_other) in itertools.permutations(asked, 2):
        if record.network == other.network and torch.equal(logits, of_other):
            twins[record.model].append(other)
    return twins


def _logits(one: ReadyModel, images: torch.Tensor) -> torch.Tensor:
    with raising_in_one_line(one.card.name, images), full_float32(), torch.no_grad():
        logits: torch.Tensor = one.model.eval()(images)
    return logits


def code_version(attack: Attack) -> str:
    """Of the code that carries out and judges an attack; raised with what changes its results."""
    return f"{type(attack).version}, judge {measure.VERSION}"
