"""One attack on a model and images at hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hahbench.errors import HahbenchError
from hahbench.evaluation import evaluate
from hahbench.spec import Norm
from tests.linear_oracle import LinearOracle, linear_oracle
from tests.small_network import small_network


def one_logit() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 1))


def weight_normed() -> torch.nn.Module:
    with warnings.catch_warnings():
        # Deprecated, and still what many models have.
        warnings.simplefilter("ignore", FutureWarning)
        return torch.nn.utils.weight_norm(torch.nn.Linear(3072, 10))


class Leaving(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise SystemExit("no licence")


class Small(torch.nn.Module):
    """On a device without room for more than two images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise MemoryError("too many")
        return images.flatten(1)[:, :10]


@pytest.fixture(scope="module")
def oracle() -> LinearOracle:
    return linear_oracle(30)


@pytest.mark.parametrize(("attack", "norm"), [("apgd-linf", "linf"), ("apgd-l2", "l2")])
def test_what_is_nearer_than_epsilon_breaks_and_the_images_prove_it(
    oracle: LinearOracle, attack: str, norm: Norm
) -> None:
    samples, distances = oracle.samples, oracle.distances(norm)
    epsilon = float(np.median(distances))
    found = evaluate(oracle.model, samples.images, samples.labels, attack, epsilon)
    assert found.metric == "accuracy"
    assert found.value == (distances > epsilon).mean()
    assert found.low < found.value < found.high
    predicted = oracle.model(found.images).argmax(1)
    is_broken = torch.from_numpy(distances <= epsilon)
    assert torch.equal(predicted != samples.labels, is_broken)
    assert torch.equal(found.images[~is_broken], samples.images[~is_broken])
    order = {"linf": torch.inf, "l2": 2}[norm]
    sizes = torch.linalg.vector_norm((found.images - samples.images).flatten(1), order, dim=1)
    assert sizes.max() <= epsilon * (1 + 1e-5)
    np.testing.assert_allclose(found.outcomes[norm][is_broken.numpy()], sizes[is_broken], rtol=1e-4)


def test_an_attack_without_a_level_has_a_median_norm(oracle: LinearOracle) -> None:
    found = evaluate(oracle.model, oracle.samples.images, oracle.samples.labels, "fmn-l2")
    assert (found.metric, found.verdict) == ("median_norm", "ok")
    assert found.value == pytest.approx(np.median(oracle.distances("l2")), rel=0.02)


def test_of_noise_every_image_is_perturbed(oracle: LinearOracle, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('kind = "gaussian-noise"\nlevels = [0.1]')
    first, again, other = (
        evaluate(oracle.model, oracle.samples.images, oracle.samples.labels, file, 0.1, seed=seed) for seed in (0, 0, 1)
    )
    assert (first.images != oracle.samples.images).flatten(1).any(1).all()
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert first.verdict == ""


def test_the_model_and_the_images_stay_as_they_are(oracle: LinearOracle) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(3072, 10)).train()
    images = oracle.samples.images.clone()
    evaluate(model, images, oracle.samples.labels, "pgd-linf", 2 / 255)
    assert model[1].training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert torch.equal(images, oracle.samples.images)


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)])
@pytest.mark.parametrize(("attack", "level"), [("pgd-linf", 0.01), ("fmn-l2", None)])
def test_what_is_set_around_a_call_changes_nothing(
    around: Callable[[], AbstractContextManager[Any]], attack: str, level: float | None
) -> None:
    network, samples = small_network(8)
    plain = evaluate(network, samples.images, samples.labels, attack, level)
    with around():
        inside = evaluate(network, samples.images.clone(), samples.labels, attack, level)
    assert torch.equal(inside.images, plain.images)
    assert (inside.value, inside.verdict) == (plain.value, plain.verdict)


def test_a_broken_convention_is_warned_of_at_the_line_that_called(oracle: LinearOracle) -> None:
    samples = oracle.samples[:4]
    with pytest.warns(match="returns probabilities, not logits") as told:
        evaluate(torch.nn.Sequential(oracle.model, torch.nn.Softmax(1)), samples.images, samples.labels, "clean")
    assert {warning.filename for warning in told} == {__file__}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)}, "images: .* torch.uint8; allowed: .*floating point"),
        ({"images": torch.full((2, 3, 32, 32), 255.0)}, "images: 255 to 255; allowed: 0 to 1"),
        ({"images": torch.full((2, 3, 32, 32), torch.nan)}, "images: nan to nan; allowed: 0 to 1"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels: \(3,\) torch.int64; allowed: \(2,\), whole numbers"),
        ({"labels": torch.tensor([0, 10])}, "labels: 0 to 10; allowed: 0 to 9"),
        ({"labels": torch.tensor([0, -1])}, "labels: -1 to 0; allowed: 0 to 9"),
        ({"attack": "apgd-linv"}, "did you mean 'apgd-linf'"),
        ({"level": None}, "must be an epsilon"),
        ({"level": 8.0}, "in l_inf each of the levels must be an epsilon of 1 or less"),
        ({"level": "8/0"}, "level: '8/0'; allowed: numbers or fractions"),
        ({"seed": -1}, "seed = -1; allowed: 0 or more"),
        ({"model": torch.nn.Conv2d(3, 10, 32)}, "returns shape"),
        (
            {"model": one_logit(), "labels": torch.zeros(2, dtype=torch.int64)},
            "returns one logit; allowed: one for each",
        ),
        ({"model": weight_normed()}, "'Linear' cannot be copied: .*; .* use torch.nn.utils.parametrizations"),
        ({"images": np.zeros((2, 3, 32, 32))}, "images: ndarray; allowed: a torch.Tensor"),
        ({"labels": [0, 1]}, "labels: list; allowed: a torch.Tensor"),
        ({"model": torch.nn.Conv2d(1, 10, 32)}, r"float32 images \(1, 3, 32, 32\) on cpu make it raise RuntimeError"),
        ({"model": Leaving()}, r"float32 images \(1, 3, 32, 32\) on cpu make it raise SystemExit: no licence"),
        (
            {"model": Small(), "images": torch.rand(8, 3, 32, 32), "labels": torch.zeros(8, dtype=torch.int64)},
            r"model 'Small': images \(8, 3, 32, 32\) make it raise MemoryError: too many",
        ),
    ],
)
def test_what_is_not_allowed_is_said(oracle: LinearOracle, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "model": oracle.model,
        "images": oracle.samples.images[:2],
        "labels": oracle.samples.labels[:2],
        "attack": "apgd-linf",
        "level": 0.01,
    }
    with pytest.raises(HahbenchError, match=message):
        evaluate(**{**given, **change})
