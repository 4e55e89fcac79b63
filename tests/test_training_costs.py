"""The three costs, against analytic optima and an independent reading of the paper's equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hahbench.catalog import models
from hahbench.data import load_images
from hahbench.models.load import load_model
from hahbench.models.vgg import vgg16
from hahbench.training.costs import AdversarialCost, HaHCost, StandardCost

EPSILON = 8 / 255


def batch(n: int, size: int) -> tuple[Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(n, 3, size, size, generator=generator), torch.arange(n) % 2, generator


def linear_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    scores = logits.detach().double().numpy()
    return float(np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), labels.numpy()]))


def test_the_standard_cost_is_cross_entropy() -> None:
    images, labels, generator = batch(6, 4)
    model = linear_model()
    loss, logits = StandardCost()(model, images, labels, generator)
    assert loss.item() == pytest.approx(cross_entropy(model(images), labels), rel=1e-5)
    assert torch.equal(logits, model(images))


def test_pgd_finds_the_worst_case_of_a_linear_classifier() -> None:
    images, labels, generator = batch(50, 4)
    model = linear_model()
    weight = next(model.parameters())
    # Of two logits only the difference counts; it falls fastest in l_inf along the sign of its gradient.
    towards_other = torch.sign(weight[1 - labels] - weight[labels]).reshape(images.shape)
    worst = (images + EPSILON * towards_other).clamp(0, 1)

    cost = AdversarialCost(EPSILON, 2 / 255, steps=10)
    torch.testing.assert_close(cost.perturb(model, images, labels, generator), worst, rtol=0, atol=1e-6)
    loss, logits = cost(model, images, labels, generator)
    assert loss.item() == pytest.approx(cross_entropy(model(worst), labels), rel=1e-5)
    torch.testing.assert_close(logits, model(worst), rtol=0, atol=1e-5)


def test_pgd_starts_uniformly_in_the_ball() -> None:
    labels, generator = torch.zeros(2000, dtype=torch.int64), torch.Generator().manual_seed(1)
    images = torch.full((2000, 3, 4, 4), 0.5)
    cost = AdversarialCost(EPSILON, step_size=1e-9, steps=1)
    noise = (cost.perturb(linear_model(), images, labels, generator) - images).double()
    # 96,000 draws: the standard error of the mean is 6e-5, that of the standard deviation about 3e-5.
    assert noise.mean().item() == pytest.approx(0, abs=4e-4)
    assert noise.std().item() == pytest.approx(EPSILON / math.sqrt(3), abs=2e-4)
    assert noise.abs().max().item() == pytest.approx(EPSILON, rel=1e-3)


def small_vgg(hah_blocks: int = 0) -> nn.Module:
    torch.manual_seed(0)
    return vgg16(width=1 / 16, hah_blocks=hah_blocks).train()


def test_pgd_stays_in_the_ball_and_the_box_and_raises_the_loss() -> None:
    images, labels, generator = batch(8, 32)
    images[:4] = images[:4].round()
    model = small_vgg()
    adversarial = AdversarialCost().perturb(model, images, labels, generator)
    assert (adversarial - images).abs().max().item() == pytest.approx(EPSILON, abs=1e-6)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    clean, _ = StandardCost()(model, images, labels, generator)
    perturbed, _ = StandardCost()(model, adversarial, labels, generator)
    assert perturbed > clean


def test_pgd_in_bfloat16_is_as_strong_as_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(models()["shapes/Standard"]).train()
    samples = load_images("shapes", "test", None).first(64)
    images, labels = samples.images, samples.labels
    losses = []
    for bfloat16 in (False, True):
        monkeypatch.setattr("hahbench.training.costs.has_fast_bfloat16", lambda device, answer=bfloat16: answer)
        found = AdversarialCost().perturb(model, images, labels, torch.Generator().manual_seed(0))
        losses.append(cross_entropy(model(found), labels))
    assert losses[0] > 10 * cross_entropy(model(images), labels)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_pgd_leaves_the_model_as_it_was() -> None:
    images, labels, generator = batch(8, 32)
    model = small_vgg()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    AdversarialCost().perturb(model, images, labels, generator)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_adversarial_batches_enter_the_batch_norm_statistics_once() -> None:
    images, labels, generator = batch(8, 32)
    model = small_vgg()
    AdversarialCost()(model, images, labels, generator)
    tracked = [buffer for name, buffer in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert tracked
    assert all(count == 1 for count in tracked)


def test_the_hah_cost_is_cross_entropy_less_the_weighted_costs_of_the_blocks() -> None:
    images, labels, generator = batch(4, 32)
    model = small_vgg(hah_blocks=6)
    alphas, weight, fraction = (0.3, 0.2, 0.1, 0.4, 0.0, 0.5), 0.25, 0.3
    outputs: list[Tensor] = []
    for block in model.hah_blocks:  # type: ignore[union-attr]
        block.relu.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.detach()))
    loss, logits = HaHCost(alphas, weight, fraction)(model, images, labels, generator)

    expected = cross_entropy(logits, labels)
    assert len(outputs) == 6
    for alpha, output in zip(alphas, outputs, strict=True):
        locations = output.double().numpy().transpose(0, 2, 3, 1).reshape(-1, output.shape[1])
        ordered = -np.sort(-locations, axis=1)
        active = math.ceil(fraction * output.shape[1])
        expected -= alpha * (ordered[:, :active].mean() - weight * ordered[:, active:].mean())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reading", ["paper", "release"])
def test_both_readings_have_the_same_loss(reading: str) -> None:
    images, labels, generator = batch(4, 32)
    alphas = (4.5e-3, 2.5e-3, 1.3e-3, 1e-3, 8e-4, 5e-4)
    paper, _ = HaHCost(alphas)(small_vgg(hah_blocks=6), images, labels, generator)
    other, _ = HaHCost(alphas, reading=reading)(small_vgg(hah_blocks=6), images, labels, generator)  # type: ignore[arg-type]
    assert other.item() == pytest.approx(paper.item(), rel=1e-5)
