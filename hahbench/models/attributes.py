"""What a model keeps beside its parameters and buffers: the numbers, switches and functions that are its attributes."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def without_addresses(text: str) -> str:
    """A repr without where in memory its objects lie, which changes from process to process."""
    return _ADDRESS.sub("", text)


def tensor_bytes(tensor: Tensor) -> bytes:
    """The values of a tensor of any type."""
    content: bytes = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return content


def attributes(model: nn.Module) -> list[list[object]]:
    """Each attribute of a model and of its modules, by its dotted name, in a form that is the same in every process.

    Parameters, buffers, registered modules, and what a compiled or traced program keeps for itself are left out. Hooks
    count, and the tensors, arrays and containers of the modules' classes. Functions count by their name and
    their compiled code; objects by their attributes where their class has no repr of its own or is a dataclass, else by
    their repr.
    """
    return _attributes(model, ())


def _attributes(model: nn.Module, inside: tuple[int, ...]) -> list[list[object]]:
    return [
        [f"{path}.{name}", described(value, (*inside, id(model), id(module)))]
        for path, module in model.named_modules()
        if not _is_of_torch(module) or type(module).__module__.startswith("torch.nn.")
        for name, value in _own(module)
    ]


def _own(module: nn.Module) -> Iterator[tuple[str, object]]:
    yield from sorted((name, value) for name, value in vars(module).items() if name not in _OF_EVERY_MODULE)
    for name in _HOOKS:
        # The keys are numbers that count the hooks of the process.
        if hooks := list(vars(module).get(name, {}).values()):
            yield name, hooks
    for cls in type(module).__mro__:
        for name, value in sorted(vars(cls).items()):
            is_data = isinstance(value, Tensor | np.ndarray | list | tuple | dict | collections.deque)
            if is_data and not name.startswith("__"):
                yield f"{cls.__qualname__}.{name}", value


def _is_of_torch(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def described(value: Any, inside: tuple[int, ...] = ()) -> object:
    """In terms of lists and strings, of which digests are taken.

    Args:
        value: anything.
        inside: the identities of the objects that hold it, which are not gone into again.
    """
    if id(value) in inside:
        return "itself"
    inside = (*inside, id(value))
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), hashlib.sha256(tensor_bytes(value)).hexdigest()]
    if isinstance(value, nn.Module):
        # One in a plain list, say, which the model does not register.
        tensors = dict([*value.named_parameters(), *value.named_buffers()])
        return [without_addresses(repr(value)), described(tensors, inside), _attributes(value, inside)]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return [list(value.shape), described(value.ravel().tolist(), inside)]
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return [[described(part, inside) for part in item] for item in value.items()]
    if hasattr(type(value), "to_numpy"):
        # A table or a column of pandas, whose repr leaves out what is in the middle.
        labels = [getattr(value, "name", None), *getattr(value, "axes", ())]
        return [type(value).__name__, described(value.to_numpy(), inside), described(labels, inside)]
    if isinstance(value, list | tuple | collections.deque):
        return [described(part, inside) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(str(described(part, inside)) for part in value)
    if isinstance(value, types.MethodType):
        return [described(value.__func__, inside), described(value.__self__, inside)]
    if isinstance(value, functools.partial):
        return [described(part, inside) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, types.FunctionType):
        around = [value.__defaults__, value.__kwdefaults__, vars(value), *_closure(value)]
        return [value.__qualname__, _compiled(value.__code__), described(around, inside)]
    kind: Any = type(value)
    if isinstance(value, torch.distributions.Distribution):
        # Its repr shows of its tensors no more than their shapes.
        return [kind.__qualname__, described(vars(value), inside)]
    is_plain = kind.__repr__ is object.__repr__ or dataclasses.is_dataclass(kind) or kind is types.SimpleNamespace
    if is_plain and not isinstance(value, type) and not _is_of_torch(value):
        # Some that are not written in Python do not tell.
        with contextlib.suppress(TypeError):
            attributes_and_slots = object.__getstate__(value)
            return [kind.__qualname__, described(attributes_and_slots, inside)]
    return without_addresses(repr(value))


def _compiled(code: types.CodeType) -> list[object]:
    constants = [_compiled(part) if isinstance(part, types.CodeType) else repr(part) for part in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _closure(function: types.FunctionType) -> list[object]:
    """The values of the variables around it that the function uses."""
    values: list[object] = []
    for cell in function.__closure__ or ():
        # One that has no value yet raises.
        with contextlib.suppress(ValueError):
            values.append(cell.cell_contents)
    return values
