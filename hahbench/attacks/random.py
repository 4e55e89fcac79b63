"""Random numbers that depend on what they are drawn for, and on nothing else.

A counter-based generator: each number is the SplitMix64 hash (Steele, Lea and Flood 2014) of a key and a counter, so
that a draw does not depend on batch size, order, shard or worker.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def keys(seed: int, purpose: str, index: Tensor, attempt: Tensor | int = 0) -> Tensor:
    """A key, (N,) int64, for each sample: two that differ in any argument give independent draws.

    Args:
        seed: of the run.
        purpose: what is drawn, such as the attack's name.
        index: (N,) int64, the samples' positions in the test set.
        attempt: (N,) int64 or one number, the restart.
    """
    start = _signed((seed * _GOLDEN + zlib.crc32(purpose.encode())) & _MASK)
    return _hash(_hash(_hash(torch.full_like(index, start)) + index) + attempt)


def uniform(key: Tensor, draw: Tensor | int, count: int) -> Tensor:
    """``count`` numbers in [0, 1) for each key, (N, count) float32.

    Args:
        key: (N,) from ``keys``.
        draw: (N,) int64 or one number; draws that differ are independent.
        count: numbers per key.
    """
    counter = torch.arange(1, count + 1, device=key.device) * _signed(_GOLDEN)
    bits = _hash(_hash(key + draw).unsqueeze(1) + counter)
    return _shift(bits, 40).float() * 2.0**-24


def signs(key: Tensor, draw: Tensor | int, count: int) -> Tensor:
    """``count`` numbers that are -1 or 1 for each key, (N, count) float32; arguments as in ``uniform``."""
    return torch.where(uniform(key, draw, count) < 0.5, -1.0, 1.0)


def integers(key: Tensor, draw: Tensor | int, bound: Tensor) -> Tensor:
    """Whole numbers for each key, (N, count) int64, each at least 0 and below its ``bound``, (N, count)."""
    return (uniform(key, draw, bound.shape[1]).double() * bound).long()


def normal(key: Tensor, draw: Tensor | int, count: int) -> Tensor:
    """``count`` standard normal numbers for each key, (N, count) float32; arguments as in ``uniform``."""
    half = (count + 1) // 2
    first, second = uniform(key, draw, 2 * half).view(-1, 2, half).unbind(dim=1)
    radius = (-2 * torch.log1p(-first)).sqrt()  # Box and Muller
    angle = 2 * math.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]


def _hash(x: Tensor) -> Tensor:
    x = x + _signed(_GOLDEN)
    x = (x ^ _shift(x, 30)) * _signed(_FACTORS[0])
    x = (x ^ _shift(x, 27)) * _signed(_FACTORS[1])
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's own repeats the sign bit."""
    mask: int = 2 ** (64 - bits) - 1
    return (x >> bits) & mask


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x
