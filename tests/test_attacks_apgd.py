"""APGD against linear classifiers with known distances, and against the reference implementation."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import nn

from hahbench.attacks.apgd import Apgd, ApgdLoss
from hahbench.attacks.apgd_l1 import ApgdL1
from hahbench.attacks.engine import Driven, drive
from hahbench.attacks.projections import lengths
from hahbench.outcome import Samples
from tests.linear_oracle import LinearOracle, linear_oracle
from tests.small_network import small_network

BallNorm = Literal["l1", "l2", "linf"]
LOSSES: dict[ApgdLoss, int] = {"ce": 1, "dlr": 1, "dlr-targeted": 9}


def attack(
    model: nn.Module,
    samples: Samples,
    norm: BallNorm,
    epsilon: float,
    loss: ApgdLoss,
    batch_size: int = 16,
    iterations: int = 100,
    seed: int = 0,
) -> Driven:
    ranking = model(samples.images).argsort(dim=1, descending=True)
    apgd = ApgdL1 if norm == "l1" else Apgd
    stepper = apgd(norm, epsilon, loss, ranking=ranking, seed=seed, attempts=LOSSES[loss], iterations=iterations)
    return drive(stepper, model, samples, batch_size=batch_size)


@pytest.fixture(scope="module")
def oracle() -> LinearOracle:
    return linear_oracle(10)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_sample_breaks_exactly_when_epsilon_exceeds_its_distance(
    oracle: LinearOracle, norm: BallNorm, loss: ApgdLoss
) -> None:
    """By a margin of 1 %."""
    for row, distance in enumerate(oracle.distances(norm)[:3]):
        sample = oracle.samples[torch.tensor([row])]
        assert not attack(oracle.model, sample, norm, 0.99 * distance, loss).broken.any()
        found = attack(oracle.model, sample, norm, 1.01 * distance, loss)
        assert found.broken.all()
        assert float(lengths(found.candidates - sample.images, norm)) <= 1.01 * distance * (1 + 1e-5)
        assert 0 <= float(found.candidates.min()) <= float(found.candidates.max()) <= 1


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("norm", "epsilon"), [("l1", 0.3), ("l2", 0.06), ("linf", 0.0025)])
def test_as_many_samples_break_as_with_the_reference(norm: BallNorm, epsilon: float, loss: ApgdLoss) -> None:
    network, samples = small_network(60)
    found = attack(network, samples, norm, epsilon, loss, iterations=30).broken
    shared = {
        "norm": {"l1": "L1", "l2": "L2", "linf": "Linf"}[norm],
        "eps": epsilon,
        "n_iter": 30,
        "device": "cpu",
        "use_largereps": norm == "l1",
        "logger": logging.getLogger("reference"),
    }
    reference = (
        APGDAttack_targeted(network, n_target_classes=9, **shared)
        if loss == "dlr-targeted"
        else APGDAttack(network, loss=loss, **shared)
    )
    with torch.random.fork_rng():
        adversarial = reference.perturb(samples.images, samples.labels)
    expected = network(adversarial).argmax(dim=1) != samples.labels
    assert 15 <= int(expected.sum()) <= 45
    # Random starts differ: samples on the edge may go either way.
    assert int((found != expected).sum()) <= 3


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("norm", "epsilon"), [("l1", 0.3), ("l2", 0.06), ("linf", 0.0025)])
def test_outcomes_do_not_depend_on_the_number_of_lanes(norm: BallNorm, epsilon: float, loss: ApgdLoss) -> None:
    network, samples = small_network(20)
    whole = attack(network, samples, norm, epsilon, loss, batch_size=20, iterations=20)
    assert 4 < int(whole.broken.sum()) < 16
    for batch_size in (3, 11):
        driven = attack(network, samples, norm, epsilon, loss, batch_size=batch_size, iterations=20)
        assert torch.equal(driven.broken, whole.broken)
        assert torch.equal(driven.attempt, whole.attempt)
        assert torch.equal(driven.step, whole.step)


def test_a_broken_sample_leaves_at_once_and_counts_its_passes() -> None:
    network, samples = small_network(30)
    driven = attack(network, samples, "linf", 0.02, "ce")
    broken = driven.broken
    assert int(broken.sum()) > 25
    assert torch.equal(driven.forwards, driven.backwards)
    assert torch.equal(driven.forwards[broken], driven.step[broken])
    assert np.median(driven.step[broken].numpy()) < 10
    robust = attack(network, samples, "linf", 1e-5, "ce")
    assert robust.forwards[~robust.broken].tolist() == [101] * int((~robust.broken).sum())


def test_seeds_start_at_other_points() -> None:
    network, samples = small_network(5)

    def start(seed: int) -> torch.Tensor:
        return attack(network, samples, "l2", 2.0, "ce", seed=seed, iterations=1).candidates

    assert torch.equal(start(0), start(0))
    assert not torch.equal(start(0), start(1))


class Noisy(nn.Module):
    """A linear classifier of two classes, whose answers lie by noise far larger than what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.flatten(1).mean(dim=1) - 0.5
        noise = 0.2 * torch.randn(len(images), generator=self.generator)
        return torch.stack([noise - mean, mean - noise], dim=1)


def test_many_passes_see_through_a_random_output() -> None:
    samples = Samples(torch.arange(20), torch.full((20, 3, 8, 8), 0.2), torch.zeros(20, dtype=torch.int64))
    ranking = torch.tensor([[0, 1]]).expand(20, 2)
    stepper = Apgd("linf", 0.1, "ce", ranking=ranking, seed=0, iterations=20, passes=100)
    driven = drive(stepper, Noisy(), samples, batch_size=20)
    # One answer in 1 is wrong by chance at a distance of 0.2; the mean of 100 is wrong by chance in none.
    assert not driven.broken.any()
    assert driven.forwards.tolist() == driven.backwards.tolist() == [2100] * 20
    once = drive(Apgd("linf", 0.1, "ce", ranking=ranking, seed=0, iterations=20), Noisy(), samples, batch_size=20)
    assert once.broken.all()
