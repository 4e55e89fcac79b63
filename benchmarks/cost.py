"""What an attack costs: time, passes of the model, memory."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

_PROCESS = Path("/proc/self")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What it took to carry out one attack.

    Attributes:
        seconds: wall time.
        cpu_seconds: time of the processor, over all threads.
        model_seconds: what the models' forward and backward passes took, over all threads that asked for them.
        workers: those threads, the main one left out where there are others.
        forwards: images passed forward through the models.
        backwards: images passed backward.
        peak_mib: the largest resident memory of the process meanwhile, in MiB; NaN where the system is not Linux.
    """

    seconds: float
    cpu_seconds: float
    model_seconds: float
    workers: int
    forwards: int
    backwards: int
    peak_mib: float

    @property
    def own_share(self) -> float:
        """The fraction of the wall time that was not the model's, on average over the workers."""
        return 1 - self.model_seconds / (self.seconds * self.workers)


def cost_of(models: Sequence[nn.Module], attack: Callable[[], T], told: Callable[[int], None]) -> tuple[T, Cost]:
    """Carry out an attack on the CPU.

    Args:
        models: those that the attack may ask, none of which asks another. Each takes one tensor of images and returns
            one of logits; only passes of a whole model count.
        attack: asks them.
        told: called at each forward pass with the number of images passed forward so far.

    Returns:
        What the attack returns, and its cost.
    """
    passes = _Passes(told)
    hooks = [model.register_forward_pre_hook(passes.before) for model in models]
    hooks += [model.register_forward_hook(passes.after) for model in models]
    gc.collect()
    _reset_peak()
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        result = attack()
    finally:
        for hook in hooks:
            hook.remove()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    workers = max(1, len(passes.threads - {threading.get_ident()}))
    return result, Cost(seconds, cpu_seconds, passes.seconds, workers, passes.forwards, passes.backwards, _peak_mib())


class _Passes:
    """Hooks, which several threads may call: a backward pass lasts from the gradient of the logits to the images'."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self.told = told
        self.forwards = self.backwards = 0
        self.seconds = 0.0
        self.threads: set[int] = set()
        self.lock = threading.Lock()
        self.own = threading.local()

    def __deepcopy__(self, memo: dict[int, object]) -> _Passes:
        """Copies of the model, which hahbench's engine makes for its threads, count together."""
        return self

    def before(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (images,) = inputs
        with self.lock:
            self.forwards += len(images)
            self.threads.add(threading.get_ident())
            self.told(self.forwards)
        if torch.is_grad_enabled() and images.requires_grad:
            # A tensor of this pass alone: the attack may pass its own again, and the hook would then run twice.
            images = images.view_as(images)
            images.register_hook(self.backward_over)  # type: ignore[no-untyped-call]
        self.own.began = time.perf_counter()
        return (images,)

    def after(self, _: nn.Module, __: tuple[Tensor], logits: Tensor) -> None:
        self._over()
        if logits.requires_grad:
            logits.register_hook(self.backward_begun)  # type: ignore[no-untyped-call]

    def backward_begun(self, _: Tensor) -> None:
        self.own.began = time.perf_counter()

    def backward_over(self, gradient: Tensor) -> None:
        with self.lock:
            self.backwards += len(gradient)
        self._over()

    def _over(self) -> None:
        with self.lock:
            self.seconds += time.perf_counter() - self.own.began


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


def _peak_mib() -> float:
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", (_PROCESS / "status").read_text())
        if found:
            return int(found[1]) / 1024
    return math.nan
