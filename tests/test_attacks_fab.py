"""Targeted FAB: its projection against SciPy, the attack against known distances and against pyautoattack's."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.fab_pt import FABAttack_PT
from scipy.optimize import brentq
from torch import Tensor, nn

from hahbench.attacks.engine import Driven, drive
from hahbench.attacks.fab import Fab
from hahbench.attacks.hyperplane import towards_hyperplane
from hahbench.outcome import Samples
from tests.linear_oracle import LinearOracle, linear_oracle

FabNorm = Literal["l2", "linf"]
IMAGES = torch.rand((12, 3, 16, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def oracle() -> LinearOracle:
    return linear_oracle(8)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Flatten()]
    last = nn.Linear(8 * 3 * 3, 5)
    network = nn.Sequential(*layers, last).eval().requires_grad_(False)
    last.bias.sub_(network(IMAGES).mean(dim=0))  # so that it uses more than one class
    return network


def attack(
    model: nn.Module, samples: Samples, norm: FabNorm, epsilon: float, *, batch_size: int = 64, steps: int = 100
) -> Driven:
    ranking = model(samples.images).argsort(dim=1, descending=True)
    fab = Fab(norm, epsilon, ranking=ranking, attempts=ranking.shape[1] - 1, steps=steps)
    return drive(fab, model, samples, batch_size=batch_size)


def distances(samples: Samples, candidates: Tensor, norm: FabNorm) -> Tensor:
    order = {"l2": 2, "linf": torch.inf}[norm]
    lengths: Tensor = torch.linalg.vector_norm((candidates - samples.images).double().flatten(1), ord=order, dim=1)
    return lengths


@st.composite
def hyperplanes(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Points, normals and values of up to four rows: some on the walls of the box, some components without weight, and
    some hyperplanes out of reach."""
    rows, size = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    points = rng.uniform(-0.3, 1.3, (rows, size)).clip(0, 1)
    normals = rng.standard_normal((rows, size)) * rng.choice([0, 1e-3, 1, 5], (rows, size))
    normals *= draw(st.sampled_from([1e-12, 1.0, 1e6]))
    share = rng.uniform(-1.5, 1.5, rows)
    furthest = np.where((normals * share[:, None]) > 0, 1, 0) - points
    values = np.abs(share) * (normals * furthest).sum(axis=1)
    return torch.tensor(points).float(), torch.tensor(normals).float(), torch.tensor(values).float()


def smallest_move(point: np.ndarray, normal: np.ndarray, value: float, norm: FabNorm) -> np.ndarray:
    """By bisection in float64."""
    towards = normal * (1 if value >= 0 else -1)
    low, high = np.where(normal == 0, 0, -point), np.where(normal == 0, 0, 1 - point)

    def move(t: float) -> np.ndarray:
        return np.clip(t * (towards if norm == "l2" else np.sign(towards)), low, high)

    furthest = 1 if norm == "linf" else 2 / np.abs(normal[normal != 0]).min(initial=np.inf)
    if towards @ move(furthest) <= abs(value):
        return move(furthest)
    return move(brentq(lambda t: towards @ move(t) - abs(value), 0, furthest, xtol=1e-300))


@given(hyperplanes(), st.sampled_from(["l2", "linf"]))
@settings(max_examples=200, deadline=None)
def test_the_move_to_the_hyperplane_is_the_smallest_or_leads_to_the_corner(
    case: tuple[Tensor, Tensor, Tensor], norm: FabNorm
) -> None:
    moves = towards_hyperplane(*case, norm)
    points, normals, values = (tensor.double().numpy() for tensor in case)
    expected = [smallest_move(*row, norm) for row in zip(points, normals, values, strict=True)]
    np.testing.assert_allclose(moves.numpy(), np.stack(expected), atol=5e-5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_point_does_not_move_where_there_is_nowhere_to_go(norm: FabNorm) -> None:
    points = torch.rand(3, 10)
    normals = torch.stack([torch.zeros(10), torch.ones(10), torch.zeros(10)])
    assert torch.equal(towards_hyperplane(points, normals, torch.tensor([1.0, 0.0, 0.0]), norm), torch.zeros(3, 10))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_sample_breaks_exactly_when_epsilon_exceeds_its_distance(oracle: LinearOracle, norm: FabNorm) -> None:
    known = oracle.distances(norm)
    for row in range(len(known)):
        samples = oracle.samples[row : row + 1]
        below, above = (attack(oracle.model, samples, norm, known[row] * factor, steps=5) for factor in (0.99, 1.01))
        assert (below.broken.item(), above.broken.item()) == (False, True)
        assert oracle.model(above.candidates).argmax(dim=1) != samples.labels
        assert distances(samples, above.candidates, norm).item() <= known[row] * 1.01 * (1 + 1e-6)


def test_attempts_aim_at_the_classes_in_the_order_given(oracle: LinearOracle) -> None:
    sample = oracle.samples[:1]
    ranking = oracle.model(sample.images).argsort(dim=1, descending=True)
    nearest, others = ranking[:, 1:2], ranking[:, 2:]
    ranking = torch.cat([ranking[:, :1], others[:, :3], nearest, others[:, 3:]], dim=1)
    epsilon = oracle.distances("linf")[0] * 1.01
    driven = drive(Fab("linf", epsilon, ranking=ranking, attempts=9, steps=5), oracle.model, sample, batch_size=1)
    assert driven.attempt.tolist() == [3]
    assert oracle.model(driven.candidates).argmax(dim=1).tolist() == nearest.squeeze(1).tolist()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.002), ("linf", 0.01), ("l2", 0.03), ("l2", 0.16)])
def test_what_breaks_is_what_the_library_breaks(network: nn.Module, norm: FabNorm, epsilon: float) -> None:
    samples = Samples(torch.arange(12), IMAGES, network(IMAGES).argmax(dim=1))
    library_norm = {"linf": "Linf", "l2": "L2"}[norm]
    library = FABAttack_PT(
        network, library_norm, n_iter=30, eps=epsilon, targeted=True, n_target_classes=4, device="cpu"
    )
    expected = network(library.perturb(IMAGES, samples.labels)).argmax(dim=1).ne(samples.labels)
    driven = attack(network, samples, norm, epsilon, steps=30)
    assert driven.broken.tolist() == expected.tolist()
    assert 0 < expected.sum() < 12
    assert network(driven.candidates).argmax(dim=1).ne(samples.labels).tolist() == expected.tolist()
    assert distances(samples, driven.candidates, norm).max() <= epsilon * (1 + 1e-6)


def test_nothing_depends_on_the_number_of_lanes(network: nn.Module) -> None:
    samples = Samples(torch.arange(12), IMAGES, network(IMAGES).argmax(dim=1))
    alone, together = (attack(network, samples, "linf", 0.005, batch_size=size, steps=20) for size in (1, 12))
    assert torch.equal(alone.broken, together.broken)
    assert torch.equal(alone.attempt, together.attempt)
    assert torch.equal(alone.step, together.step)
    assert torch.equal(alone.forwards, together.forwards)
    torch.testing.assert_close(alone.candidates, together.candidates)


def test_passes_are_those_that_the_model_saw_and_backward_passes_one_a_step(network: nn.Module) -> None:
    class Counted(nn.Module):
        seen = 0

        def forward(self, images: Tensor) -> Tensor:
            self.seen += len(images)
            logits: Tensor = network(images)
            return logits

    samples = Samples(torch.arange(12), IMAGES, network(IMAGES).argmax(dim=1))
    counted = Counted()
    driven = attack(counted, samples, "linf", 0.002, steps=7)
    assert counted.seen == len(samples) + int(driven.forwards.sum())  # the ranking too
    assert set(driven.backwards[~driven.broken].tolist()) == {4 * 7}
    assert (driven.forwards <= 2 * driven.backwards).all()


def test_a_sample_that_is_wrong_already_is_its_own_candidate(network: nn.Module) -> None:
    labels = (network(IMAGES).argmax(dim=1) + 1) % 5
    driven = attack(network, Samples(torch.arange(12), IMAGES, labels), "l2", 0.1)
    assert driven.broken.all()
    assert torch.equal(driven.candidates, IMAGES)
    assert driven.attempt.tolist() == [0] * 12
    assert driven.step.tolist() == [1] * 12
