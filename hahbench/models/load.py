"""Model cards to modules: building them, loading their weights, telling them apart."""

from __future__ import annotations

import copy
import hashlib
import inspect
import io
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hahbench.atomic import replacing
from hahbench.errors import HahbenchError, ModelError
from hahbench.models.attributes import attributes, tensor_bytes, without_addresses
from hahbench.models.source_code import source_code
from hahbench.models.vgg import VGG, vgg16
from hahbench.registry import FOREIGN_ERRORS, import_attribute, one_line
from hahbench.spec import ModelCard, digest
from hahbench.user_code import check_one_module_of_a_name


def build_model(card: ModelCard, classes: int | None = None) -> nn.Module:
    """The module that the card's loader returns for the card's params; the card's weights are not loaded.

    A loader that is a module already stands for itself. One with a parameter ``num_classes``, or a whole number as
    ``classes``, that the card leaves open gets the number of classes; one with a parameter ``weights_file`` gets the
    card's weights, to load them itself.

    Args:
        card: of the model.
        classes: of the data set; None where that is not known.

    Raises:
        ModelError: the loader cannot be imported, raises, or returns something else than a module.
    """
    where = f"model {card.name!r}: loader {loader_name(card)!r}"
    try:
        loader = _loader(card)
        if isinstance(loader, nn.Module):
            return loader
        params = dict(card.params)
        if classes is not None and _takes(loader, "num_classes"):
            params.setdefault("num_classes", classes)
        elif classes is not None and _takes(loader, "classes", of_type=int):
            params.setdefault("classes", classes)
        if _takes(loader, "weights_file"):
            params["weights_file"] = card.weights
            if card.weights is not None:
                # Before the loader runs what the file holds.
                _read_checked(card.weights, card.sha256, f"weights {card.weights}")
        model = loader(**params)
        check_one_module_of_a_name()
    except HahbenchError as error:
        raise ModelError(f"model {card.name!r}: {error}") from error
    except FOREIGN_ERRORS as error:
        raise ModelError(f"{where} raised {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{where} returned {type(model).__name__}; allowed: a torch.nn.Module")
    return model


def load_model(card: ModelCard, classes: int | None = None) -> nn.Module:
    """The card's model with its weights, on the CPU, in evaluation mode.

    Weights are read from a ``.safetensors`` file, or from the state dict in a file of ``torch.save`` (``.pt``,
    ``.pth``, ``.ckpt``, ``.tar``), of which only tensors are unpickled. It may be the one in a checkpoint, and all its
    names may have one prefix, such as the ``module.`` of ``DataParallel``. Tensors are cast to the types of the
    module's own. Those that neither a file nor the loader gives are drawn with seed 0, so that what was measured on
    them can be found again.

    Args:
        card: of the model.
        classes: as for ``build_model``.

    Raises:
        ModelError: the model cannot be built, or the file is missing, damaged, another than the one whose SHA-256 the
            card gives, or does not fit the module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(card, classes)
    if card.weights is not None and not _takes(_loader(card), "weights_file"):
        where = f"model {card.name!r}: weights {card.weights}"
        wanted = model.state_dict()
        tensors = _without_prefix(_read_weights(card.weights, card.sha256, where), wanted)
        _check_fit(tensors, wanted, where)
        model.load_state_dict(tensors)
    return model.eval()


def fastest_memory_format(model: nn.Module) -> torch.memory_format:
    """The layout of weights and images in which the model runs fastest and correctly.

    Channels-last is faster for convolutions, but breaks models that call ``view`` on activations, so it is used for
    hahbench's own alone.
    """
    return torch.channels_last if isinstance(model, VGG) else torch.contiguous_format


def save_weights(model: nn.Module, path: Path, *, half: bool = False) -> str:
    """Write the model's state dict to a ``.safetensors`` file, whole or not at all.

    Args:
        model: the model.
        path: of the file; its folder is made when it is missing.
        half: store floating-point tensors as float16, those aside that it would round by more than 2**-11 of their
            largest value, as those with values beyond its range, or of whole numbers that it would change.

    Returns:
        The SHA-256 of the file, 64 hexadecimal digits.

    Raises:
        ModelError: the suffix of ``path`` is another.
        OSError: the file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise ModelError(f"weights {path}: suffix {path.suffix!r}; allowed: .safetensors")
    tensors = {}
    for name, tensor in model.state_dict().items():
        # Tensors that share memory may not be stored together, hence the copy.
        stored = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        if half and stored.is_floating_point():
            stored = _halved(stored)
        tensors[name] = stored
    content = safetensors.torch.save(tensors)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _halved(tensor: Tensor) -> Tensor:
    narrow = tensor.half()
    rounded = narrow != tensor
    if not rounded.any():
        return narrow
    error = (narrow - tensor)[rounded].abs().max()
    largest = tensor[tensor.isfinite()].abs().max() if tensor.isfinite().any() else error
    are_whole = torch.equal(tensor, tensor.round())
    return narrow if not are_whole and error <= 2**-11 * largest else tensor


def model_digest(card: ModelCard, model: nn.Module) -> str:
    """Digest, 64 hexadecimal digits, of what decides the model's outputs: tensors, loader, params, settings and code.

    The tensors are all parameters and buffers, those outside the state dict too, and attributes; the settings are what
    the model's repr shows, such as the slope of a leaky ReLU, and its other attributes. The code is ``model_code``. The
    card's name, display name and recipe do not count. Another version of Python or torch may give another digest.

    Raises:
        HahbenchError: the loader cannot be imported.
    """
    tensors = hashlib.sha256()
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    named += [
        (f"{name}.{attribute}", value)
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, Tensor)
    ]
    for name, tensor in sorted(named, key=lambda item: item[0]):
        tensors.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        tensors.update(tensor_bytes(tensor))
    settings: object = without_addresses(repr(model))
    if _loader(card) is not vgg16:
        # The attributes of hahbench's own follow from the card's params and the code.
        settings = [settings, attributes(model)]
    # Without the name of the loader's module, which for a user's file holds its path.
    loader = loader_name(card).partition(":")[2]
    return digest(tensors.hexdigest(), loader, dict(card.params), settings, model_code(card, model))


def model_code(card: ModelCard, model: nn.Module) -> list[str]:
    """The code of the files that define the loader and the classes of the model's modules; see ``source_code``.

    Raises:
        HahbenchError: the loader cannot be imported.
    """
    # The loader goes first: of two files with the same module name, it alone still knows its own.
    definitions = [_loader(card), *(cls for module in model.modules() for cls in type(module).__mro__)]
    if isinstance(card.loader, str):
        # A module that is built already, which a loader may be, does not know where that was done.
        definitions.insert(0, sys.modules[card.loader.partition(":")[0]])
    return source_code(definitions)


def copy_of(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the model.

    Raises:
        ModelError: it cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ModelError(
            f"model {type(model).__name__!r} cannot be copied: {one_line(error)}; keep no activations, locks or the "
            "like as attributes, and use torch.nn.utils.parametrizations in place of torch.nn.utils.weight_norm and "
            "spectral_norm, which keep weights that they compute"
        ) from error


@contextmanager
def raising_in_one_line(name: str, images: Tensor) -> Iterator[None]:
    """Turn what a model raises on images into an error of one line.

    Raises:
        ModelError: anything was raised.
    """
    try:
        yield
    except FOREIGN_ERRORS as error:
        raise ModelError(f"model {name!r}: images {tuple(images.shape)} make it raise {one_line(error)}") from error


def check_classifier(model: nn.Module, images: Tensor, classes: int, name: str) -> None:
    """Check that the model maps images to finite logits.

    Args:
        model: in evaluation mode, on the device of the images.
        images: a few images in [0, 1], (N, C, H, W).
        classes: the number of logits expected.
        name: of the model, for the message.

    Raises:
        ModelError: the forward pass raises, changes the images, or returns something else than finite logits
            (N, classes).
    """
    given = images.clone()
    with raising_in_one_line(name, images), torch.no_grad():
        logits = model(given)
    if not torch.equal(given, images):
        # The next attack, or model, would be given what it left.
        raise ModelError(f"model {name!r}: writes into the images given, as x -= mean does; allowed: x = x - mean")
    wanted = (len(images), classes)
    if not isinstance(logits, Tensor):
        raise ModelError(f"model {name!r}: returns {type(logits).__name__}; allowed: a tensor of logits {wanted}")
    if logits.shape != wanted:
        raise ModelError(f"model {name!r}: returns shape {tuple(logits.shape)}; allowed: logits {wanted}")
    if classes < 2:
        raise ModelError(f"model {name!r}: returns one logit; allowed: one for each of two classes or more")
    if not logits.is_floating_point():
        raise ModelError(f"model {name!r}: returns logits of type {logits.dtype}; allowed: floating point")
    if not logits.isfinite().all():
        raise ModelError(f"model {name!r}: returns logits that are NaN or infinite; allowed: finite numbers")


def _loader(card: ModelCard) -> Callable[..., Any]:
    return import_attribute(card.loader) if isinstance(card.loader, str) else card.loader


def _takes(loader: Callable[..., Any], parameter: str, of_type: type = object) -> bool:
    """Whether the loader has the parameter, with a default of this type where one is asked for."""
    try:
        parameters = inspect.signature(loader).parameters
    except (TypeError, ValueError):
        # Some callables that are not written in Python have no signature.
        return False
    return parameter in parameters and isinstance(parameters[parameter].default, of_type)


def loader_name(card: ModelCard) -> str:
    """The card's loader as ``module:attribute``."""
    if isinstance(card.loader, str):
        return card.loader
    module = getattr(card.loader, "__module__", type(card.loader).__module__)
    return f"{module}:{getattr(card.loader, '__qualname__', type(card.loader).__qualname__)}"


_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".tar")
_LFS_POINTER = b"version https://git-lfs"


def _read_weights(path: Path, sha256: str | None, where: str) -> dict[str, Tensor]:
    if path.suffix not in _SUFFIXES:
        raise ModelError(f"{where}: suffix {path.suffix!r}; allowed: {', '.join(_SUFFIXES)}")
    content = _read_checked(path, sha256, where)
    if not content:
        raise ModelError(f"{where}: the file is empty")
    if content.startswith(_LFS_POINTER):
        raise ModelError(f"{where}: is Git LFS's pointer to the weights; 'git lfs pull' fetches them")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(content)
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        # What the parsers raise on a damaged file is not documented.
        # Torch's advice on objects is to let the file run what it likes.
        is_of_objects = isinstance(error, pickle.UnpicklingError)
        more = ", or holds objects other than tensors" if is_of_objects else f": {one_line(error)}"
        raise ModelError(f"{where}: damaged or truncated{more}") from error
    if not _is_state_dict(tensors):
        found = type(tensors).__name__
        if isinstance(tensors, Mapping):
            inner = [key for key, value in tensors.items() if _is_state_dict(value) and value]
            if len(inner) == 1:
                # Of a checkpoint, which holds the optimiser's state and the like beside it.
                return dict(tensors[inner[0]])
            others = [repr(key) for key, value in tensors.items() if not isinstance(value, Tensor)]
            found = f"a dictionary in which {len(others)} of {len(tensors)} values are none, such as {others[0]}"
            if inner:
                found += f"; save one of {', '.join(map(repr, inner))} of it alone"
        raise ModelError(f"{where}: allowed is a state dict, names to tensors; the file holds {found}")
    return dict(tensors)


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(tensor, Tensor) for tensor in value.values())


def _read_checked(path: Path, sha256: str | None, where: str) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{where}: no such file") from None
    # No path has a null character.
    except (OSError, ValueError) as error:
        raise ModelError(f"{where}: cannot be read: {one_line(error)}") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise ModelError(f"{where}: its SHA-256 is {found}; the card gives {sha256}")
    return content


def _without_prefix(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names that are wanted, where all are so but for a prefix, such as ``module.``."""
    if tensors.keys() & wanted.keys() or not wanted:
        return tensors
    shortest = min(wanted, key=len)
    prefixes = {name.removesuffix(shortest) for name in tensors if name.endswith(f".{shortest}")}
    for prefix in prefixes:
        if tensors.keys() == {prefix + name for name in wanted}:
            return {name: tensors[prefix + name] for name in wanted}
    return tensors


def _check_fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    for problem, names in (("missing", wanted.keys() - tensors.keys()), ("unexpected", tensors.keys() - wanted.keys())):
        if names:
            raise ModelError(f"{where}: {len(names)} {problem} tensors, such as {min(names)!r}")
    for name, tensor in wanted.items():
        given = tensors[name].shape
        if given != tensor.shape:
            raise ModelError(f"{where}: tensor {name!r}: shape {tuple(given)}; the model needs {tuple(tensor.shape)}")
