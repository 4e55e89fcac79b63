"""The layers of a HaH network: Cekic, Bakiskan and Madhow 2022, section 2.1, figure 1.

Two readings differ in detail. ``"paper"`` is the equations; ``"release"`` is what the authors' package, hahtorch 0.0.5,
computes: a 3 x 3 max-pool before the mean of eq. 2, a strict inequality in eq. 3, and plain convolutions in regular
blocks.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

Reading: TypeAlias = Literal["paper", "release"]
Normalization: TypeAlias = Literal["divisive", "batch"]
Threshold: TypeAlias = Literal["quantile", "mean", "none"]
READINGS: tuple[Reading, ...] = get_args(Reading)
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
THRESHOLDS: tuple[Threshold, ...] = get_args(Threshold)

_RELEASE_EPSILON = 1e-7
_SORTED_IN_REGISTERS = 256


def top_count(fraction: float, total: int) -> int:
    """``ceil(fraction * total)``, at least 1, for a fraction in (0, 1]."""
    # 0.07 * 100 must give 7 although the product of floats lies a little above.
    return max(1, math.ceil(fraction * total - 1e-9))


def kth_largest(x: Tensor, k: int, dims: tuple[int, ...]) -> Tensor:
    """The ``k``-th largest value of ``x`` over ``dims``, which are kept with size 1; without gradient.

    On the CPU, at the sizes of a VGG, numpy's vectorised sort takes a tenth to a half of the time of ``torch.kthvalue``
    or ``torch.topk`` on one thread; its partition is no faster. Elsewhere the radix selection behind ``topk`` is used,
    chosen for its complexity and not measured.
    """
    last = tuple(range(-len(dims), 0))
    rows = x.detach().movedim(dims, last)
    batch = rows.shape[: -len(dims)]
    # Of tensors that lie channels-last this is a batch of transpositions, which torch copies thrice as fast as others.
    rows = rows.flatten(-len(dims)).clone(memory_format=torch.contiguous_format)
    if x.device.type == "cpu":
        # numpy has no bfloat16.
        values = rows.float() if x.dtype == torch.bfloat16 else rows
        kth = torch.from_numpy(_kth_largest_by_sorting(values.numpy(), k)).to(x.dtype)
    else:
        kth = rows.topk(k, dim=-1, sorted=False).values.amin(-1)
    return kth.view(*batch, *(1 for _ in dims)).movedim(last, dims)


def _kth_largest_by_sorting(values: np.ndarray, k: int) -> np.ndarray:
    """The ``k``-th largest along the last axis, which is lost; ``values`` is overwritten.

    numpy sorts up to 256 numbers in registers, and longer rows with many ties, such as the zeros of a ReLU, six times
    more slowly a number. So the larger half of each two sorted blocks is taken, max(a_i, b_(n-1-i)) (Batcher 1968),
    until one block is left.
    """
    block = _SORTED_IN_REGISTERS
    while k <= block and values.shape[-1] % (2 * block) == 0:
        pairs = values.reshape(*values.shape[:-1], -1, 2, block)
        # Negated, the second of a pair is sorted the other way round; a view that runs backwards would be slower.
        np.negative(pairs[..., 1, :], out=pairs[..., 1, :])
        pairs.sort(axis=-1)
        values = np.maximum(pairs[..., 0, :], -pairs[..., 1, :]).reshape(*values.shape[:-1], -1)
    values.sort(axis=-1)
    kth: np.ndarray = values[..., -k].copy()
    return kth


class _WeightOnlyCopy(torch.autograd.Function):
    """A 3 x 3 convolution returned twice: the gradient of the first reaches input and weight, that of the second the
    weight alone. Both share one pass over the weight gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight)
        output = functional.conv2d(x, weight, padding=1)
        return output, output.view_as(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, weight_grad: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_x = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        grad_x = conv2d_input(x.shape, weight, grad, padding=1) if needs_x else None  # type: ignore[no-untyped-call]
        return grad_x, conv2d_weight(x, weight.shape, grad + weight_grad, padding=1)  # type: ignore[no-untyped-call]


class ImplicitNormConv2d(nn.Conv2d):
    """3 x 3 convolution, padding 1, no bias, whose filters count as of unit l2 norm: eq. 1 without the ReLU.

    Maps (N, in_channels, H, W) to (N, out_channels, H, W). A filter of norm 0 gives 0.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=False)

    def unit_weight(self) -> Tensor:
        """The filters divided by their l2 norms, (out_channels, in_channels, 3, 3)."""
        norm = torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        unit: Tensor = self.weight / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        return unit

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.unit_weight(), padding=1)

    def forward_local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output twice; the gradient of the second copy reaches this layer's weight and not ``x``."""
        output, local = _WeightOnlyCopy.apply(x, self.unit_weight())
        return output, local


class DivisiveNorm2d(nn.Module):
    """Divisive normalisation over the channels of non-negative activations (N, C, H, W): eq. 2.

    Invariant to a positive rescaling of its input in the paper reading; an image that is 0 everywhere stays 0.

    Args:
        sigma: the weight of the image's maximum against the location's mean, in [0, 1].
        reading: see the module's docstring.
    """

    def __init__(self, sigma: float = 0.1, reading: Reading = "paper") -> None:
        super().__init__()
        self.sigma = sigma
        self.reading = reading

    def forward(self, y: Tensor) -> Tensor:
        release = self.reading == "release"
        field = functional.max_pool2d(y, kernel_size=3, stride=1, padding=1) if release else y
        mean = field.mean(dim=1, keepdim=True)
        divisor = self.sigma * mean.amax(dim=(2, 3), keepdim=True) + (1 - self.sigma) * mean
        if release:
            divisor = divisor + _RELEASE_EPSILON
        else:
            divisor = divisor.masked_fill(divisor < torch.finfo(divisor.dtype).tiny, 1.0)
        # A product with the small reciprocal saves the backward pass of the division three temporaries of y's size.
        return y * divisor.reciprocal()

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}, reading={self.reading!r}"


class AdaptiveThreshold(nn.Module):
    """Zeroes the small activations of each filter in each image: eq. 3, on (N, C, H, W).

    ``"quantile"`` keeps the ``ceil(active_fraction * H * W)`` largest locations; the paper reading also those that tie
    with the last one kept (z >= tau), the release reading none that tie with the first one dropped (z > tau).
    ``"mean"`` takes the filter's mean over the locations as tau.

    Args:
        kind: how tau is chosen.
        active_fraction: of the locations, in (0, 1].
        reading: see the module's docstring.
        straight_through: whether gradients pass as if nothing were zeroed: backward pass differentiable approximation
            (Athalye, Carlini and Wagner 2018, https://arxiv.org/abs/1802.00420, section 4.1).
    """

    def __init__(
        self,
        kind: Literal["quantile", "mean"] = "quantile",
        active_fraction: float = 0.2,
        reading: Reading = "paper",
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.active_fraction = active_fraction
        self.reading = reading
        self.straight_through = straight_through

    def forward(self, z: Tensor) -> Tensor:
        locations = z.shape[2] * z.shape[3]
        if self.kind == "mean":
            tau = z.detach().mean(dim=(2, 3), keepdim=True)
        elif self.reading == "paper":
            tau = kth_largest(z, top_count(self.active_fraction, locations), dims=(2, 3))
        else:
            dropped = math.floor((1 - self.active_fraction) * locations)
            if dropped == 0:
                return z
            tau = kth_largest(z, locations - dropped + 1, dims=(2, 3))
        # A product with a mask of floats takes a fifth of the time of torch.where or masked_fill on a CPU.
        exceeds = torch.ge if self.reading == "paper" else torch.gt
        kept: Tensor = z * exceeds(z.detach(), tau, out=torch.empty_like(z))
        # z + (z - z) and z + (0 - z) are exact.
        return z + (kept - z).detach() if self.straight_through else kept

    def extra_repr(self) -> str:
        through = ", straight_through=True" if self.straight_through else ""
        return f"{self.kind!r}, active_fraction={self.active_fraction}, reading={self.reading!r}{through}"


class HaHBlock(nn.Module):
    """Implicitly normalised convolution, ReLU, divisive normalisation, adaptive threshold: figure 1.

    Maps (N, C, H, W) to (N, C', H, W). ``relu`` outputs y of eq. 1, on which the HaH cost is defined.

    Args:
        in_channels: C.
        out_channels: C'.
        reading: see the module's docstring.
        normalization: ``"batch"`` is the ablation of table 3.
        threshold: see ``AdaptiveThreshold``; ``"none"`` is the ablation of table 3.
        active_fraction: see ``AdaptiveThreshold``.
        sigma: see ``DivisiveNorm2d``.
        straight_through: see ``AdaptiveThreshold``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        reading: Reading = "paper",
        normalization: Normalization = "divisive",
        threshold: Threshold = "quantile",
        active_fraction: float = 0.2,
        sigma: float = 0.1,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        self.conv = ImplicitNormConv2d(in_channels, out_channels)
        self.relu = nn.ReLU()
        self.normalization = (
            DivisiveNorm2d(sigma, reading) if normalization == "divisive" else nn.BatchNorm2d(out_channels)
        )
        self.threshold = (
            nn.Identity()
            if threshold == "none"
            else AdaptiveThreshold(threshold, active_fraction, reading, straight_through)
        )

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.activations(x)
        return self.compete(y)

    def activations(self, x: Tensor, *, local: bool = False) -> tuple[Tensor, Tensor]:
        """y of eq. 1, for the network and for the cost; ``local`` as in ``ImplicitNormConv2d.forward_local``."""
        if local:
            output, cost_output = self.conv.forward_local(x)
            return self.relu(output), self.relu(cost_output)
        y = self.relu(self.conv(x))
        return y, y

    def compete(self, y: Tensor) -> Tensor:
        """The block's output from y of eq. 1: eqs. 2 and 3."""
        output: Tensor = self.threshold(self.normalization(y))
        return output


class RegularBlock(nn.Module):
    """Convolution, ReLU, batch norm; maps (N, C, H, W) to (N, C', H, W).

    The convolution is implicitly normalised in the paper reading and plain in the release reading.
    """

    def __init__(self, in_channels: int, out_channels: int, *, reading: Reading = "paper") -> None:
        super().__init__()
        self.conv = (
            ImplicitNormConv2d(in_channels, out_channels)
            if reading == "paper"
            else nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        )
        self.relu = nn.ReLU()
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.normalization(self.relu(self.conv(x)))
        return output
