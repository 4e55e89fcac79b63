"""Where models run."""

from __future__ import annotations

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
