"""Where models run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 numbers."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # These are private, and absent from older versions.
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check is not None and check() for check in checks)
