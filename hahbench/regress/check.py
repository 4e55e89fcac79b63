"""A baseline's cells measured again: what is missing in the store is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hahbench.attacks import build_attack
from hahbench.attacks.corruption import on_same_sources
from hahbench.catalog import resolve_models
from hahbench.data import ImageSet, load_images
from hahbench.errors import BaselineError, HahbenchError
from hahbench.models.load import load_model
from hahbench.plan import Job, check_cards, check_trained_on, code_version
from hahbench.registry import suggest
from hahbench.regress.baseline import Baseline, BaselineCell, outcomes_of, weights_digest
from hahbench.regress.compare import Pairs
from hahbench.regress.sequential import attack_order
from hahbench.run import Observer, Part, run
from hahbench.spec import AttackSpec, Exhibit, ModelCard, digest
from hahbench.store import Store
from hahbench.verdict import OK, doubt_in, worst


@dataclasses.dataclass(frozen=True, eq=False)
class Checked:
    """What is compared with a baseline, and where: models of the baseline's names on the baseline's samples.

    Attributes:
        baseline: what was measured once.
        cards: the models; of those of the baseline, some.
        images: the test set, whose first samples are the baseline's.
        from_path: whether the images were read from a path that the user gave.
        device: where the models run.
        first_seed: of the draws, instead of the baseline's.
    """

    baseline: Baseline
    cards: Sequence[ModelCard]
    images: ImageSet
    from_path: bool
    device: torch.device
    first_seed: int | None = None

    @property
    def cells(self) -> list[BaselineCell]:
        """The baseline's cells of these models."""
        names = {card.name for card in self.cards}
        return [cell for cell in self.baseline.cells if cell.model in names]

    def specs(self, cell: BaselineCell) -> list[AttackSpec]:
        """The attack of a cell, one for each draw."""
        shift = 0 if self.first_seed is None else self.first_seed - cell.seeds[0]
        return [dataclasses.replace(cell.attack, seed=seed + shift) for seed in cell.seeds]


class Quiet:
    """Observes a run and passes on its warnings alone.

    Args:
        say: is given each warning.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self._say = say

    def planned(self, jobs: Sequence[Job], done: int) -> None:
        """Nothing is said."""

    def started(self, job: Job) -> None:
        """Nothing is said."""

    def progress(self, job: Job, fraction: float, robust_accuracy: float) -> None:
        """Nothing is said."""

    def warned(self, job: Job, message: str) -> None:
        """Pass a warning on."""
        self._say(f"{job.cell.model} {job.cell.attack.name}: warning: {message}")

    def finished(self, job: Job, outcomes: pd.DataFrame, seconds: float) -> None:
        """Nothing is said."""

    def exhibited(self, exhibit: Exhibit, seconds: float) -> None:
        """Nothing is said."""


def prepare_check(
    baseline: Baseline,
    models: Sequence[str],
    data: Path | None,
    *,
    device: torch.device,
    first_seed: int | None = None,
) -> Checked:
    """Find what is to be compared, and check that it can be.

    Args:
        baseline: what was measured once.
        models: as ``--model`` takes them: what was changed, to be compared with the baseline's model of the same name.
            Empty for the baseline's own models, which must have the weights that they had.
        data: where the images are read from; None where the data set needs no path.
        device: where the models run.
        first_seed: of the draws, instead of the baseline's.

    Raises:
        BaselineError: the samples, weights or code of an attack are not the baseline's, or it has no such model.
        HahbenchError: a model, the data set or an attack cannot be had.
    """
    images = load_images(baseline.data.argument, "test", data)
    baseline = _on_same_sources(baseline, images, data)
    for cell in {cell.attack.name: cell for cell in baseline.cells}.values():
        version = code_version(build_attack(cell.attack))
        if version != cell.attack_version:
            raise BaselineError(
                f"attack {cell.attack.name!r} has version {version}, in the baseline {cell.attack_version}, and finds "
                "other perturbations; make the baseline again"
            )
    n = baseline.data.n
    if len(images) < n or digest(images.digest, n) != baseline.data.digest:
        raise BaselineError(
            f"the baseline is of the first {n} samples of {baseline.data.name!r} ({baseline.data.source}), digest "
            f"{baseline.data.digest[:8]}; {images.name!r} ({images.source}) as given holds others; "
            "allowed: --data with the same images"
        )
    cards = _named(baseline, models) if models else _own(baseline, len(images.classes))
    check_cards(cards, baseline.data.argument)
    check_trained_on(cards, images, baseline.data.argument)
    return Checked(baseline, cards, images, data is not None, device, first_seed)


def _on_same_sources(baseline: Baseline, images: ImageSet, data: Path | None) -> Baseline:
    """The baseline with its corruptions where they lie on this machine."""
    found = on_same_sources([cell.attack for cell in baseline.cells], images.labels.numpy(), data)
    cells = [dataclasses.replace(cell, attack=spec) for cell, spec in zip(baseline.cells, found, strict=True)]
    return dataclasses.replace(baseline, cells=cells)


def _named(baseline: Baseline, models: Sequence[str]) -> list[ModelCard]:
    cards = [card for argument in models for card in resolve_models(argument, baseline.data.argument)]
    for card in cards:
        if card.name not in baseline.models:
            raise BaselineError(
                f"model {card.name!r} is not in the baseline; {suggest(card.name, list(baseline.models))}; "
                "a card's key 'name' says which it is compared with"
            )
    return cards


def _own(baseline: Baseline, classes: int) -> list[ModelCard]:
    cards = []
    for name, model in baseline.models.items():
        try:
            named = {card.name: card for card in resolve_models(model.argument, baseline.data.argument)}
        except HahbenchError as error:
            here = f"the baseline has --model {model.argument}, sought from {Path.cwd()}"
            raise BaselineError(f"{here}: {error}; --model can say where it is now") from error
        if name not in named:
            raise BaselineError(f"--model {model.argument}, as in the baseline, no longer stands for model {name!r}")
        weights = weights_digest(load_model(named[name], classes))
        if weights != model.weights:
            raise BaselineError(
                f"model {name!r} has other weights ({weights[:8]}) than in the baseline ({model.weights[:8]}); "
                f"'--model {model.argument}' compares them all the same"
            )
        cards.append(named[name])
    return cards


def measure_whole(checked: Checked, cells: Sequence[BaselineCell], store: Store, observer: Observer) -> list[Pairs]:
    """Each of ``cells`` on all samples; what the store does not hold is run, and kept there.

    Raises:
        HahbenchError: as ``run`` does.
    """
    groups: list[tuple[list[AttackSpec], list[ModelCard]]] = []
    for card in checked.cards:
        specs = [spec for cell in cells if cell.model == card.name for spec in checked.specs(cell)]
        like = [cards for same, cards in groups if same == specs]
        if like:
            like[0].append(card)
        elif specs:
            groups.append((specs, [card]))
    done = run(
        [Part(cards, specs) for specs, cards in groups],
        checked.images,
        checked.baseline.data.n,
        dataset_argument=checked.baseline.data.argument,
        from_path=checked.from_path,
        store=store,
        device=checked.device,
        observer=observer,
    )
    found, found_outcomes = store.read(done)
    outcomes = {str(key): part for key, part in found_outcomes.sort_values("index").groupby("key")}
    by_key = dict(zip(found["key"], found["verdict"], strict=True))
    said = {_draw(cell.model, cell.attack, cell.level, cell.seed): by_key[cell.key] for cell in done}
    frames = {_draw(cell.model, cell.attack, cell.level, cell.seed): outcomes[cell.key] for cell in done}
    order = attack_order(checked.baseline.data.n)
    return [
        pairs_of(
            checked,
            cell,
            [frames[_draw(cell.model, spec, cell.level, spec.seed)].iloc[order] for spec in checked.specs(cell)],
            doubt=doubt_in(worst(said[_draw(cell.model, spec, cell.level, spec.seed)] for spec in checked.specs(cell))),
        )
        for cell in cells
    ]


def pairs_of(
    checked: Checked,
    cell: BaselineCell,
    outcomes: Sequence[pd.DataFrame],
    *,
    looked: bool = False,
    doubt: str = "",
) -> Pairs:
    """What was measured beside the baseline.

    Args:
        checked: what is compared.
        cell: of the baseline.
        outcomes: a table per draw, of the first samples in ``attack_order``; empty where nothing was measured.
        looked: whether they grew from one look to the next.
        doubt: as of ``Pairs``.
    """
    order = attack_order(checked.baseline.data.n)
    norm = cell.attack.norm or ""
    before, now = cell.outcomes[:, order], cell.outcomes[:, :0]
    right_now = np.empty(0, bool)
    if outcomes:
        now = np.array([outcomes_of(cell.metric, norm, frame) for frame in outcomes])
        right_now = (outcomes[0]["clean_pred"] == outcomes[0]["label"]).to_numpy(bool)
    return Pairs(
        model=cell.model,
        attack=cell.attack.name,
        level=cell.level,
        metric=cell.metric,
        before=cell.united(before),
        now=cell.united(now),
        right_before=checked.baseline.models[cell.model].right[order],
        right_now=right_now,
        looked=looked,
        doubt=doubt,
        was_ok=cell.verdict == OK,
    )


def _draw(model: str, attack: AttackSpec, level: float | None, seed: int) -> tuple[str, str, float | None, int]:
    return model, attack.name, level, seed
