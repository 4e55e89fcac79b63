"""Loaders of models that others made: RobustBench's, torchvision's and timm's by name, and programs from a file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from hahbench.cache import cache_folder
from hahbench.errors import ModelError
from hahbench.models.robustbench_import import import_robustbench
from hahbench.registry import one_line, suggest

_CLASSES = 10


class Normalized(nn.Module):
    """A model that wants normalised images, with the normalisation inside.

    Args:
        model: maps normalised images to logits.
        mean: of each channel.
        std: of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits


class Program(nn.Module):
    """A model that a file holds whole, its code too.

    Args:
        content: of a TorchScript or ``torch.export`` file.
        exported: whether it is the latter.
    """

    def __init__(self, content: bytes, exported: bool) -> None:
        super().__init__()
        self._content = content
        self._exported = exported
        self._device = torch.device("cpu")
        self.program = self._loaded()
        self.sha256 = hashlib.sha256(content).hexdigest()

    def _loaded(self) -> nn.Module:
        file = io.BytesIO(self._content)
        with _deprecations_of_others():
            if not self._exported:
                script: nn.Module = torch.jit.load(file, map_location=self._device)  # type: ignore[no-untyped-call]
                return script
            program = torch.export.load(file)
            if self._device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, self._device)
            return program.module()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Load the program again for another device: its constants would stay where they are."""
        device = fn(torch.empty(0)).device
        if device != self._device:
            self._device = device
            self.program = self._loaded()
            self.train(self.training)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.program(images)
        return logits

    def extra_repr(self) -> str:
        return f"sha256={self.sha256}"

    def train(self, mode: bool = True) -> Program:
        """Exported programs have no modes and raise when they are asked for one; TorchScript has."""
        self.training = mode
        if isinstance(self.program, torch.jit.ScriptModule):
            self.program.train(mode)
        return self


def from_robustbench(dataset: str, threat_model: str, name: str) -> nn.Module:
    """A model of RobustBench's zoo, by its own loader; its weights are downloaded into the cache folder, once.

    Args:
        dataset: ``cifar10``, ``cifar100`` or ``imagenet``.
        threat_model: ``Linf``, ``L2`` or ``corruptions``.
        name: the model's ID there, such as ``Carmon2019Unlabeled``.

    Raises:
        ModelError: RobustBench is not installed, has no such model, or cannot load it.
    """
    robustbench = import_robustbench()
    enums = importlib.import_module("robustbench.model_zoo.enums")
    zoo = importlib.import_module("robustbench.model_zoo").model_dicts
    known = zoo[enums.BenchmarkDataset(dataset)].get(enums.ThreatModel(threat_model), {})
    if name not in known:
        raise ModelError(f"RobustBench has no model {name!r} under {dataset}/{threat_model}; {suggest(name, [*known])}")
    folder = cache_folder() / "robustbench"
    try:
        # Its reports of a download belong to what is said, not to the results.
        with contextlib.redirect_stdout(sys.stderr), _deprecations_of_others():
            model: nn.Module = robustbench.load_model(
                name, model_dir=folder, dataset=dataset, threat_model=threat_model
            )
    except Exception as error:
        raise ModelError(
            f"RobustBench cannot load {name!r}: {one_line(error)}; its weights belong into "
            f"{folder / dataset / threat_model}, as RobustBench names them, such as {name}.pt"
        ) from error
    return model


def from_torchvision(name: str, num_classes: int = _CLASSES, **params: Any) -> nn.Module:
    """A classifier of torchvision; with its pretrained weights, their normalisation is put inside.

    Args:
        name: such as ``resnet18``.
        num_classes: the number of logits.
        params: what else torchvision's function takes, such as ``weights = "DEFAULT"``; without, weights are random.

    Raises:
        ModelError: torchvision has no such classifier, or its weights are of another number of classes.
    """
    import torchvision.models

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ModelError(f"torchvision has no classifier {name!r}; {suggest(name, known)}")
    there_are = torchvision.models.get_model_weights(name).__members__
    weights = there_are.get(str(params.get("weights")).rpartition(".")[2])
    if weights is not None:
        _check_pretrained(name, len(weights.meta["categories"]), num_classes)
    with _deprecations_of_others(), contextlib.redirect_stdout(sys.stderr):
        model: nn.Module = torchvision.models.get_model(name, num_classes=num_classes, **params)
    if weights is None:
        return model
    transforms = weights.transforms()
    return Normalized(model, transforms.mean, transforms.std)


def from_timm(name: str, num_classes: int = _CLASSES, **params: Any) -> nn.Module:
    """A model of timm; with its pretrained weights, their normalisation is put inside.

    Args:
        name: such as ``resnet18`` or ``resnet18.a1_in1k``.
        num_classes: the number of logits.
        params: what else ``timm.create_model`` takes, such as ``pretrained = true``; without, weights are random.

    Raises:
        ModelError: timm is not installed, has no such model, or weights of another number of classes.
    """
    timm = _import_timm()
    if not timm.is_model(name):
        raise ModelError(f"timm has no model {name!r}; {suggest(name, timm.list_models())}")
    # timm would draw the last layer at random.
    if params.get("pretrained") and (known := timm.get_pretrained_cfg(name)) and known.num_classes:
        _check_pretrained(name, known.num_classes, num_classes)
    with _deprecations_of_others(), contextlib.redirect_stdout(sys.stderr):
        model: nn.Module = timm.create_model(name, num_classes=num_classes, **params)
    if not params.get("pretrained"):
        return model
    wanted = timm.data.resolve_model_data_config(model)
    return Normalized(model, wanted["mean"], wanted["std"])


def _check_pretrained(name: str, classes: int, wanted: int) -> None:
    if classes != wanted:
        raise ModelError(
            f"the pretrained weights of {name!r} tell {classes} classes apart, where {wanted} are asked for; "
            "weights of your own are named in the card, as weights = FILE"
        )


def from_file(weights_file: Path | None) -> nn.Module:
    """The model that a TorchScript (``.pt``, ``.ts``) or ``torch.export`` (``.pt2``) file holds.

    Raises:
        ModelError: the file is missing, damaged, or holds something else.
    """
    if weights_file is None:
        raise ModelError("no file is given; allowed: weights = 'FILE', a TorchScript or torch.export file")
    file = weights_file
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return Program(content, exported=file.suffix == ".pt2")
    except Exception as error:
        # What the parsers raise on another file is not documented.
        kind = "torch.export" if file.suffix == ".pt2" else "TorchScript"
        raise ModelError(
            f"{file}: holds no {kind} program; weights alone are named in a card, as weights = {file.name!r}, beside "
            f"a loader or a base ({one_line(error)})"
        ) from error


def _import_timm() -> types.ModuleType:
    try:
        with _deprecations_of_others():
            return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ModelError("timm is not installed; pip install timm does that") from None


@contextlib.contextmanager
def _deprecations_of_others() -> Iterator[None]:
    """What libraries say to their own developers."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield
