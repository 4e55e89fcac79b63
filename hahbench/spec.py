"""What was asked: model cards, attack specs, suites, and the cells that they expand to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

Norm = Literal["l0", "l1", "l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)

ExhibitKind = Literal["activations", "adversarial-examples"]
EXHIBITS: tuple[ExhibitKind, ...] = get_args(ExhibitKind)

REFERENCE = "-reference"
"""Ends the names and kinds of attacks that a library carries out, for comparison with hahbench's own."""


_OF_GRADIENTS = "straight_through"
"""The parameter of hahbench's networks that changes what attacks see, and not what is predicted."""


def digest(*parts: object) -> str:
    """SHA-256, as 64 hexadecimal digits, of JSON-serialisable ``parts`` in canonical form."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def name_without_folder(model: str) -> str:
    """``HaH`` for ``cifar10/HaH``; the names of other libraries' models, such as ``robustbench:cifar10/Linf/Standard``,
    stay as they are."""
    return model if ":" in model else model.rpartition("/")[2]


def level_text(level: float) -> str:
    """A level as it is spoken of: 0.25 as ``0.25``, 2/255 as ``2/255``."""
    short = f"{level:.4g}"
    steps = round(level * 255)
    if float(short) != level and math.isclose(level * 255, steps, rel_tol=1e-12):
        return f"{steps}/255"
    return short


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """One model: how it is built, where its weights lie and how they were trained.

    Attributes:
        name: the name that it is registered under, such as ``HaH`` or ``shapes/HaH``.
        loader: ``module:attribute``, or the callable itself. Called with ``params``, it returns a module that maps
            images in [0, 1] of shape (N, C, H, W) to logits of shape (N, classes).
        params: keyword arguments of the loader.
        weights: the file whose tensors are loaded into the module; None when the loader does that itself.
        sha256: the SHA-256 of that file.
        dataset: the data set that the weights were trained on.
        train: the training recipe.
        display: the name shown in reports.
        reference: the paper.
        link: its address.
        additional_data: whether the weights were trained on more than the data set; None where nobody says.
        argument: what to give ``--model`` to get this card: its name, or a path.
    """

    name: str
    loader: str | Callable[..., Any]
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Path | None = None
    sha256: str | None = None
    dataset: str | None = None
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    display: str = ""
    reference: str = ""
    link: str = ""
    additional_data: bool | None = None
    argument: str = ""


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """What is kept of a model that was measured.

    Attributes:
        model: its name.
        model_digest: as of a cell.
        loader: ``module:attribute``.
        params: of its card.
        weights_sha256: of the weights' file; empty where there is none.
        dataset: of its card; empty where nobody says.
        train: of its card.
        reference: of its card.
        link: of its card.
        additional_data: of its card.
        training_log: a row per epoch, heading to text; empty where no log lies beside the weights.
        classes: of the data set that it was measured on; None where an older hahbench measured it.
    """

    model: str
    model_digest: str
    loader: str
    params: Mapping[str, Any]
    weights_sha256: str
    dataset: str
    train: Mapping[str, Any]
    reference: str
    link: str
    additional_data: bool | None
    training_log: tuple[Mapping[str, str], ...]
    classes: int | None = None

    @property
    def other_gradients(self) -> bool:
        """Whether attacks see other gradients than those of what is predicted."""
        return bool(self.params.get(_OF_GRADIENTS))

    @property
    def network(self) -> str:
        """The same for models that differ in their gradients alone; empty for one without a file of weights."""
        params = {name: value for name, value in self.params.items() if name != _OF_GRADIENTS}
        return digest(self.loader, params, self.weights_sha256) if self.weights_sha256 else ""


def networks(records: Iterable[ModelRecord]) -> dict[tuple[str, str], str]:
    """The network of each model, by its name and digest."""
    return {(record.model, record.model_digest): record.network for record in records}


@dataclasses.dataclass(frozen=True)
class AttackSpec:
    """One attack, at any number of levels.

    Attributes:
        name: the name that suites use, such as ``fmn-l2``.
        kind: the kind of attack, such as ``fmn``.
        norm: the norm that the attack minimises or is bounded by; None for random corruptions.
        levels: sigma, epsilon or severity; empty for minimum-norm attacks, which have none.
        params: keyword arguments of the kind.
        seed: the seed of the first draw.
        draws: how many times the attack is repeated, with seeds ``seed``, ``seed + 1``, ...
    """

    name: str
    kind: str
    norm: Norm | None = None
    levels: tuple[float, ...] = ()
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    draws: int = 1

    @property
    def portable_params(self) -> dict[str, Any]:
        """``params`` without where corruptions lie on this machine: results depend on what the files hold.

        The published files are checked against their MD5, and photographs come with their digest.
        """
        place = {"corruption-official": "folder"}.get(self.kind, "")
        if self.kind == "corruption" and self.params.get("photographs_digest"):
            place = "photographs"
        return {name: value for name, value in self.params.items() if name != place}


@dataclasses.dataclass(frozen=True)
class Suite:
    """Models x attacks on the first ``n`` test samples of a data set, with the exhibits to keep of each model.

    ``include`` names suites that are run after it, on as many samples of the same data set.
    """

    name: str
    models: tuple[str, ...]
    attacks: tuple[str, ...]
    dataset: str
    n: int
    exhibits: tuple[ExhibitKind, ...] = ()
    include: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model under one attack at one level with one seed: the unit of work, of caching and of resuming.

    Attributes:
        model: the model's name.
        model_digest: digest of its weights, its loader, its parameters and its code.
        data_digest: digest of the samples' images and labels.
        attack: the attack's spec.
        attack_version: of the code that carries out the attack; raised when its results change.
        level: sigma, epsilon or severity; None for minimum-norm attacks.
        seed: of this draw.
    """

    model: str
    model_digest: str
    data_digest: str
    attack: AttackSpec
    attack_version: str
    level: float | None
    seed: int

    @property
    def key(self) -> str:
        """Digest of everything that can change the result, and of nothing else but the two names."""
        attack = self.attack
        return digest(
            [self.model, self.model_digest, self.data_digest],
            [attack.name, attack.kind, attack.norm, attack.portable_params, self.attack_version],
            [self.level, self.seed],
        )


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """What figures show of one model beside its scores.

    Attributes:
        kind: what is shown.
        model: the model's name.
        model_digest: as of a cell.
        data_digest: as of a cell.
        version: of the code that makes it; raised when what is shown changes.
        attack: the name of the attack that is shown, with its norm; both empty where there is none.
        norm: see ``attack``.
        cell: the key of the cell that is shown; empty where there is none.
    """

    kind: ExhibitKind
    model: str
    model_digest: str
    data_digest: str
    version: str
    attack: str = ""
    norm: str = ""
    cell: str = ""

    @property
    def key(self) -> str:
        """Digest of everything that can change what is shown, and of nothing else but the names."""
        return digest(dataclasses.astuple(self))
