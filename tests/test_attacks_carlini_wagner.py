"""Carlini and Wagner's l2 attack against known distances and against foolbox."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hahbench.attacks.carlini_wagner import CarliniWagner
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples
from tests.linear_oracle import linear_oracle
from tests.small_network import small_network

with warnings.catch_warnings():
    # foolbox 3.3.4 imports from a namespace that SciPy deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel


def attacked(attack: CarliniWagner, model: nn.Module, samples: Samples) -> Candidates:
    return attack(model, samples, None, 0, lambda *_: None)


def distances(model: nn.Module, samples: Samples, images: Tensor) -> Tensor:
    broken = model(images).argmax(dim=1) != samples.labels
    return torch.where(broken, (images - samples.images).double().flatten(1).norm(dim=1), torch.inf)


def test_perturbations_are_the_smallest() -> None:
    oracle = linear_oracle(24)
    candidates = attacked(CarliniWagner(), oracle.model, oracle.samples)
    ratio = distances(oracle.model, oracle.samples, candidates.images).numpy() / oracle.distances("l2")
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.03
    assert set(candidates.member) == {"carlini-wagner"}


def test_on_a_network_the_median_is_that_of_foolbox() -> None:
    network, samples = small_network(24)
    ours = CarliniWagner(steps=200, search_steps=6, learning_rate=0.01, initial_constant=0.1)
    theirs = L2CarliniWagnerAttack(binary_search_steps=6, steps=200, stepsize=0.01, initial_const=0.1)
    found = theirs.run(PyTorchModel(network, bounds=(0, 1)), samples.images, Misclassification(samples.labels))
    candidates = attacked(ours, network, samples)
    assert float(distances(network, samples, candidates.images).median()) == pytest.approx(
        float(distances(network, samples, found).median()), rel=0.02
    )


def test_a_label_is_exceeded_by_the_confidence() -> None:
    oracle = linear_oracle(6)
    candidates = attacked(CarliniWagner(steps=300, confidence=2.0), oracle.model, oracle.samples)
    logits = oracle.model(candidates.images)
    label = logits.gather(1, oracle.samples.labels.unsqueeze(1)).squeeze(1)
    lead = logits.amax(dim=1) - label
    assert lead.min() >= 2 - 1e-3
    assert lead.max() <= 2.5


def test_a_search_whose_loss_stalls_is_given_up_and_its_sample_takes_the_next_constant() -> None:
    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 0 * images.flatten(1)[:, :10] + torch.arange(10.0)

    samples = Samples(torch.arange(3), torch.rand(3, 3, 8, 8), torch.tensor([9, 0, 9]))
    candidates = attacked(CarliniWagner(steps=100, search_steps=4), Blind(), samples)
    assert torch.equal(candidates.images, samples.images)
    # The loss is checked at steps 1 and 11 of each of the four searches; the sample that is wrong is not attacked.
    assert candidates.forwards.tolist() == [1 + 4 * 11, 1, 1 + 4 * 11]
    assert list(candidates.member) == ["", "", ""]


def test_black_and_white_images_are_perturbed_as_little_as_grey_ones() -> None:
    """There the derivative of the hyperbolic tangent is 1e-6 of that in between."""
    grey = linear_oracle(8)
    images = grey.samples.images.round()
    samples = Samples(grey.samples.index, images, grey.model(images).argmax(dim=1))
    oracle = dataclasses.replace(grey, samples=samples)
    candidates = attacked(CarliniWagner(), oracle.model, samples)
    ratio = distances(oracle.model, samples, candidates.images).numpy() / oracle.distances("l2")
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.03


def test_results_do_not_depend_on_the_batch_size() -> None:
    oracle = linear_oracle(20)
    attack = {"steps": 60, "search_steps": 4, "learning_rate": 0.01}
    whole, split = (
        distances(
            oracle.model,
            oracle.samples,
            attacked(CarliniWagner(**attack, batch_size=size), oracle.model, oracle.samples).images,  # type: ignore[arg-type]
        ).numpy()
        for size in (64, 7)
    )
    assert np.isclose(whole, split, rtol=1e-3).mean() >= 0.9


def test_a_level_and_values_out_of_range_are_refused() -> None:
    CarliniWagner().check_level(None)
    with pytest.raises(HahbenchError, match=r"level = 0.5 is not allowed; this kind has no levels"):
        CarliniWagner().check_level(0.5)
    for name, value, allowed in [
        ("steps", 0, "at least 1"),
        ("search_steps", 0, "at least 1"),
        ("learning_rate", 0.0, "positive"),
        ("initial_constant", -1.0, "positive"),
        ("confidence", -0.1, "at least 0"),
    ]:
        with pytest.raises(HahbenchError, match=rf"{name} = {value} is not allowed; it must be {allowed}"):
            CarliniWagner(**{name: value})  # type: ignore[arg-type]
