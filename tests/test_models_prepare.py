"""Models prepared for attack compute what they computed before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from hahbench.catalog import models
from hahbench.data import load_images
from hahbench.models.layers import ImplicitNormConv2d
from hahbench.models.load import load_model
from hahbench.models.prepare import prepare
from hahbench.models.vgg import vgg16

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def gradient(model: nn.Module, images: Tensor) -> Tensor:
    point = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(model(point).square().sum(), point)
    return found


def lively(model: nn.Module) -> nn.Module:
    """Batch-norm statistics and weights that matter."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    return model.eval()


@pytest.mark.parametrize(
    "model",
    [
        vgg16(width=0.125),
        vgg16(width=0.125, hah_blocks=6),
        vgg16(width=0.125, hah_blocks=6, reading="release"),
        torchvision.models.resnet18(num_classes=10),
    ],
    ids=["Standard", "HaH", "HaH release", "ResNet-18"],
)
def test_logits_and_gradients_stay(model: nn.Module) -> None:
    lively(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepared = prepare(model, IMAGES)
    wanted = model(IMAGES).detach()
    assert float((prepared(IMAGES) - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    slope = gradient(model, IMAGES)
    torch.testing.assert_close(gradient(prepared, IMAGES), slope, atol=1e-3 * float(slope.abs().max()), rtol=0)
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    assert prepared.memory_format == torch.channels_last
    # The model itself stays as it was.
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_batch_norm_is_folded_where_it_follows_a_convolution() -> None:
    prepared = prepare(lively(torchvision.models.resnet18(num_classes=10)), IMAGES)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.model.modules())
    # In this VGG a ReLU lies between.
    assert any(isinstance(module, nn.BatchNorm2d) for module in prepare(vgg16(width=0.125).eval(), IMAGES).modules())


def test_filters_are_normalised_once() -> None:
    prepared = prepare(vgg16(width=0.125, hah_blocks=6).eval(), IMAGES)
    assert not any(isinstance(module, ImplicitNormConv2d) for module in prepared.modules())


class Views(nn.Module):
    """A network that cannot have activations that lie channels-last, and that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(4 * 32 * 32, 10)

    def forward(self, images: Tensor) -> Tensor:
        if images.sum() < 0:
            raise ValueError("no image")
        features: Tensor = self.norm(self.conv(images))
        logits: Tensor = self.last(features.view(len(images), -1))
        return logits


class Steady(nn.Module):
    """Its output is changed by ``change``, from which gradients do not come."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 10)
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.linear(images.flatten(1)))


@pytest.mark.parametrize(
    ("change", "is_random", "depends_on_batch"),
    [
        (lambda z: z, False, False),
        (lambda z: z + torch.randn_like(z), True, True),
        (lambda z: z - z.mean(dim=0) + torch.arange(10), False, True),
        # Nor where there is no gradient, so that the model cannot be tried out.
        (lambda z: (z + torch.randn_like(z)).detach().requires_grad_(False), True, True),
    ],
)
def test_what_a_model_answers_besides_the_image_is_found_out(
    change: Callable[[Tensor], Tensor], is_random: bool, depends_on_batch: bool
) -> None:
    torch.manual_seed(0)
    prepared = prepare(Steady(change).eval(), IMAGES)
    assert (prepared.is_random, prepared.depends_on_batch) == (is_random, depends_on_batch)


def test_a_model_that_bears_no_change_is_left_as_it_is() -> None:
    model = lively(Views())
    prepared = prepare(model, IMAGES)
    assert prepared.memory_format == torch.contiguous_format
    assert type(prepared.model) is Views
    assert torch.equal(prepared(IMAGES), model(IMAGES))
    assert torch.equal(prepared(IMAGES.contiguous(memory_format=torch.channels_last)), model(IMAGES))


def test_a_model_that_fails_in_low_precision_is_attacked_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class ThroughNumpy(Views):
        def forward(self, images: Tensor) -> Tensor:
            features = self.conv(images)
            features.detach().numpy()  # raises for bfloat16
            logits: Tensor = self.last(features.flatten(1))
            return logits

    monkeypatch.setattr("hahbench.models.prepare.has_fast_bfloat16", lambda device: True)
    model = lively(ThroughNumpy())
    prepared = prepare(model, IMAGES)
    assert prepared.low_precision is None
    torch.testing.assert_close(prepared(IMAGES), model(IMAGES))


@pytest.mark.parametrize(("name", "in_float32"), [("Standard", 0), ("HaH", 6)])
def test_what_bears_it_is_in_low_precision(name: str, in_float32: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hahbench.models.prepare.has_fast_bfloat16", lambda device: True)
    samples = load_images("shapes", "test", None).first(64)
    prepared = prepare(load_model(models()[f"shapes/{name}"]), samples.images)
    assert prepared.low_precision is not None
    # Thresholds, in the first six blocks of HaH, jump with the last bits of what they compare.
    kinds = [module.weight.dtype for module in prepared.low_precision.modules() if isinstance(module, nn.Conv2d)]
    assert kinds == [torch.float32] * in_float32 + [torch.bfloat16] * (13 - in_float32)
    logits, rough = prepared(samples.images), prepared.low_precision(samples.images)
    assert rough.dtype == torch.float32
    error = (logits - rough).abs().amax(dim=1) / (logits.amax(dim=1) - logits.amin(dim=1))
    assert 1e-5 < float(error.max()) < 0.012
    # Not even small changes are rounded away in the last layer.
    assert len(rough.unique()) > 500


def test_a_model_that_jumps_at_the_end_is_attacked_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Jumping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(6)))
            self.last = nn.Linear(3 * 32 * 32, 10)

        def forward(self, images: Tensor) -> Tensor:
            features = self.convolutions(images)
            logits: Tensor = self.last((features > features.mean()).float().flatten(1) + 0 * features.flatten(1))
            return logits

    monkeypatch.setattr("hahbench.models.prepare.has_fast_bfloat16", lambda device: True)
    torch.manual_seed(0)
    assert prepare(Jumping().eval(), IMAGES).low_precision is None


def test_a_model_whose_gradients_vanish_in_low_precision_is_attacked_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In bfloat16 the hyperbolic tangent of 5 is 1, and its derivative 0."""
    monkeypatch.setattr("hahbench.models.prepare.has_fast_bfloat16", lambda device: True)
    torch.manual_seed(0)
    first, last = nn.Linear(3 * 32 * 32, 8), nn.Linear(8, 4)
    model = nn.Sequential(nn.Flatten(), first, nn.Tanh(), last).eval()
    assert prepare(model, IMAGES).low_precision is not None
    with torch.no_grad():
        first.bias.add_(5)
    assert prepare(model, IMAGES).low_precision is None


class Rounded(torch.autograd.Function):
    """Rounds, and passes gradients as if it did not: BPDA, Athalye et al. 2018."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class ByFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = Rounded.apply(x)
        return rounded


class WithoutGradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            change = (8 * x).round() / 8 - x
        return x + change


class ByHook(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_full_backward_hook(lambda module, inputs, outputs: outputs)

    def forward(self, x: Tensor) -> Tensor:
        return 0.0 * x + (8 * x.detach()).round() / 8


@pytest.mark.parametrize("rounding", [ByFunction, WithoutGradient, ByHook])
def test_gradients_of_ones_own_stay(rounding: Callable[[], nn.Module]) -> None:
    """A model whose batch norm could be folded, but for what rewriting it would do to its gradients."""
    torch.manual_seed(0)
    layers = [rounding(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 5)]
    model = lively(nn.Sequential(*layers)).requires_grad_(False)
    wanted = gradient(model, IMAGES)
    assert wanted.abs().amax() > 0
    torch.testing.assert_close(gradient(prepare(model, IMAGES), IMAGES), wanted, rtol=1e-3, atol=1e-6)
