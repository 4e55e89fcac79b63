"""What training minimises. A cost maps a model and a batch to the loss and the logits."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from hahbench.device import has_fast_bfloat16
from hahbench.errors import ModelError
from hahbench.models.hah import network_hah_cost
from hahbench.models.layers import Reading
from hahbench.models.vgg import VGG


class Cost(Protocol):
    """A cost with its parameters; construction holds them, the call is stateless."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The scalar loss and the (N, classes) logits that it was computed from.

        Args:
            model: in training mode.
            images: (N, C, H, W) float32 in [0, 1].
            labels: (N,) int64.
            generator: on the CPU; the source of every random draw.
        """
        ...


@dataclasses.dataclass(frozen=True)
class StandardCost:
    """Cross-entropy."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Cost`."""
        logits = model(images)
        return functional.cross_entropy(logits, labels), logits


@dataclasses.dataclass(frozen=True)
class HaHCost:
    """Cross-entropy less the weighted HaH costs of the blocks (Cekic, Bakiskan and Madhow 2022, eq. 5).

    Attributes:
        alphas: the weight of each HaH block's cost, in the order of the blocks.
        anti_hebbian_weight: lambda of eq. 4.
        active_fraction: the share of a location's channels that eq. 4 promotes.
        reading: ``paper`` takes eq. 5 literally; ``release`` keeps each block's cost to its own weights, as
            hahtorch 0.0.5 does.
    """

    alphas: tuple[float, ...]
    anti_hebbian_weight: float = 0.1
    active_fraction: float = 0.1
    reading: Reading = "paper"

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Cost`.

        Raises:
            ModelError: the model is no VGG, or has another number of HaH blocks than ``alphas``.
        """
        if not isinstance(model, VGG):
            raise ModelError(f"the cost 'hah' needs a VGG with HaH blocks, not {type(model).__name__}")
        logits, weighted_cost = network_hah_cost(
            model,
            images,
            self.alphas,
            self.reading,
            active_fraction=self.active_fraction,
            anti_hebbian_weight=self.anti_hebbian_weight,
        )
        return functional.cross_entropy(logits, labels) - weighted_cost, logits


@dataclasses.dataclass(frozen=True)
class AdversarialCost:
    """Cross-entropy on l_inf PGD examples from a random start (Madry et al. 2018, eq. 2.1).

    The attack sees the model in training mode, so that it maximises the very loss that is minimised next, but it leaves
    the model's buffers, such as batch-norm statistics, and the gradients of its weights as they were. Where the device
    multiplies bfloat16 numbers the attack's passes are made of such, in half the time; the loss on what it finds is
    computed in float32.

    Attributes:
        epsilon: radius of the ball, in pixel values of [0, 1].
        step_size: of each step, in the same unit.
        steps: gradient steps a batch.
    """

    epsilon: float = 8 / 255
    step_size: float = 2 / 255
    steps: int = 10

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Cost`."""
        logits = model(self.perturb(model, images, labels, generator))
        return functional.cross_entropy(logits, labels), logits

    def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """(N, C, H, W) images within ``epsilon`` of ``images`` and in [0, 1]. Arguments as for the call."""
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        low, high = (images - self.epsilon).clamp_(min=0), (images + self.epsilon).clamp_(max=1)
        low_precision = has_fast_bfloat16(images.device)
        noise = torch.empty(images.shape).uniform_(-self.epsilon, self.epsilon, generator=generator)
        adversarial = (images + noise.to(images.device)).clamp_(low, high)
        for _ in range(self.steps):
            adversarial.requires_grad_()
            with torch.autocast(images.device.type, torch.bfloat16, enabled=low_precision):
                logits = model(adversarial)
            loss = functional.cross_entropy(logits.float(), labels)
            (gradient,) = torch.autograd.grad(loss, adversarial)
            adversarial = adversarial.detach().add_(gradient.sign_(), alpha=self.step_size).clamp_(low, high)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        return adversarial
