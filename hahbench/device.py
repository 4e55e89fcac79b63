"""Where models run, and with which numbers."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch

from hahbench.errors import HahbenchError


def choose_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is the first CUDA device where there is one, else the CPU.

    Raises:
        HahbenchError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise NotImplementedError(device.type)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise HahbenchError(f"device {name!r} is not available; allowed: auto, cpu, cuda, cuda:N") from error
    return device


def device_name(device: torch.device) -> str:
    """What results say of the device, such as ``NVIDIA H200`` or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators of torch seeded for models whose output is random, and as they were afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Without TF32, with which cuDNN by default rounds what it convolves to 10 bits after the point, and without the
    autocast or inference mode of whoever calls, under which numbers are rounded and gradients missing.

    Attacks need it too: on the boundary, which is where they stop, TF32 and float32 disagree.
    """
    backends: Any = torch.backends
    off: list[tuple[_Switch, str | bool]] = [(_switch(backends.cudnn, "allow_tf32"), False)]
    if hasattr(backends.cudnn, "conv"):
        # From torch 2.9 on there are older and newer switches, and operators raise where the two contradict each other.
        off.append(((torch.get_float32_matmul_precision, torch.set_float32_matmul_precision), "highest"))
        onednn = (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)
        owners = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, *onednn)
        off += [(_switch(owner, "fp32_precision"), "ieee") for owner in owners]
    else:
        off.append((_switch(backends.cuda.matmul, "allow_tf32"), False))
    before: list[tuple[_Switch, Any]] = []
    for switch, _ in off:
        # An older one that the newer contradict cannot be read.
        with contextlib.suppress(RuntimeError):
            before.append((switch, switch[0]()))
    try:
        for (_, turn), value in off:
            turn(value)
        with contextlib.ExitStack() as stack:
            if torch.is_inference_mode_enabled():
                # To leave it turns gradients on, which may be off for a reason where it was not entered.
                stack.enter_context(torch.inference_mode(False))
            for device in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
                stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        for (_, turn), value in before:
            turn(value)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 numbers."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # These are private, and absent from older versions.
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check is not None and check() for check in checks)


_Switch: TypeAlias = tuple[Callable[[], Any], Callable[[Any], None]]
"""What reads and what sets it."""


def _switch(owner: object, name: str) -> _Switch:
    return functools.partial(getattr, owner, name), functools.partial(setattr, owner, name)
