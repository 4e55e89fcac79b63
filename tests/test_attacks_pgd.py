"""Projected gradient descent against a classifier whose robustness is known."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from hahbench.attacks.base import Attack
from hahbench.attacks.engine import Lanes
from hahbench.attacks.pgd import Pgd, ProjectedGradientDescent
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples
from tests.linear_oracle import LinearOracle, linear_oracle

NORMS: tuple[Literal["l2", "linf"], ...] = ("l2", "linf")


@pytest.fixture(scope="module")
def oracle() -> LinearOracle:
    return linear_oracle(30)


def attacked(attack: Attack, model: nn.Module, samples: Samples, epsilon: float, seed: int = 0) -> Candidates:
    return attack(model, samples, epsilon, seed, lambda *_: None)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("random_start", [False, True])
def test_a_sample_breaks_exactly_when_epsilon_exceeds_its_distance(
    oracle: LinearOracle, norm: Literal["l2", "linf"], random_start: bool
) -> None:
    attack = ProjectedGradientDescent(norm, steps=60, relative_step_size=0.1, random_start=random_start)
    for row, distance in enumerate(oracle.distances(norm)):
        sample = oracle.samples[row : row + 1]
        assert attacked(attack, oracle.model, sample, 0.99 * float(distance)).member == [""]
        assert attacked(attack, oracle.model, sample, 1.01 * float(distance)).member == [f"pgd-{norm}"]


@pytest.mark.parametrize("norm", NORMS)
def test_candidates_are_errors_within_epsilon_and_the_box(oracle: LinearOracle, norm: Literal["l2", "linf"]) -> None:
    epsilon = 1.3 * float(oracle.distances(norm).max())
    candidates = attacked(ProjectedGradientDescent(norm), oracle.model, oracle.samples, epsilon)
    delta = (candidates.images - oracle.samples.images).double().flatten(1)
    assert (delta.norm(p={"l2": 2, "linf": torch.inf}[norm], dim=1) <= epsilon * (1 + 1e-5)).all()
    assert candidates.images.min() >= 0
    assert candidates.images.max() <= 1
    assert (oracle.model(candidates.images).argmax(dim=1) != oracle.samples.labels).all()


@pytest.mark.parametrize("norm", NORMS)
def test_results_depend_on_the_seed_and_neither_on_the_batch_size_nor_on_the_shard(
    oracle: LinearOracle, norm: Literal["l2", "linf"]
) -> None:
    epsilon, samples = float(sorted(oracle.distances(norm))[15]), oracle.samples

    def found(samples: Samples, size: int, seed: int = 0) -> Tensor:
        attack = ProjectedGradientDescent(norm, steps=20, restarts=2, batch_size=size)
        return attacked(attack, oracle.model, samples, epsilon, seed).images

    whole = found(samples, 64)
    torch.testing.assert_close(found(samples, 7), whole)
    torch.testing.assert_close(torch.cat([found(samples[:11], 64), found(samples[11:], 64)]), whole)
    assert not torch.allclose(found(samples, 64, seed=1), whole)


def test_a_broken_sample_leaves_at_once(oracle: LinearOracle) -> None:
    attack = ProjectedGradientDescent("linf", steps=10, relative_step_size=2.0)
    epsilon = 1.05 * float(oracle.distances("linf").max())
    candidates = attacked(attack, oracle.model, oracle.samples, epsilon)
    # A step as long as the ball is wide reaches the best corner from any start, where the gradient points there.
    assert candidates.step.max() <= 4
    assert torch.equal(candidates.forwards, 1 + candidates.step)
    assert torch.equal(candidates.backwards, candidates.step)


def test_a_sample_that_does_not_break_is_tried_again(oracle: LinearOracle) -> None:
    attack = ProjectedGradientDescent("linf", steps=10, restarts=3)
    candidates = attacked(attack, oracle.model, oracle.samples, 0.9 * float(oracle.distances("linf").min()))
    assert set(candidates.forwards.tolist()) == {1 + 3 * 11}
    assert set(candidates.backwards.tolist()) == {3 * 11}
    assert set(candidates.step.tolist()) == {-1}


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_uniform_in_the_ball_and_differ_between_restarts(norm: Literal["l2", "linf"]) -> None:
    n, epsilon = 4000, 0.25
    row, zero = torch.arange(n), torch.zeros(n, dtype=torch.int64)
    false, images = torch.zeros(n, dtype=torch.bool), torch.full((n, 1, 1, 2), 0.5)

    def starts(attempt: Tensor) -> Tensor:
        lanes = Lanes(row, row, attempt, zero, images, zero, images.clone(), false, false, zero, zero, zero)
        lanes_started = Pgd(ProjectedGradientDescent(norm, restarts=2), epsilon, seed=0).start(lanes)
        return (lanes_started.point - images).flatten(1) / epsilon

    first, second = starts(zero), starts(zero + 1)
    size = first.norm(p={"l2": 2, "linf": torch.inf}[norm], dim=1)
    assert size.max() <= 1 + 1e-5
    # In two dimensions a quarter of either ball lies within half its radius.
    assert float((size < 0.5).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert first.mean(dim=0).abs().max() < 0.05
    assert abs(float(torch.corrcoef(torch.stack([first[:, 0], second[:, 0]]))[0, 1])) < 0.06


def test_what_is_not_allowed_is_refused() -> None:
    ProjectedGradientDescent("l2").check_level(0.5)
    for level in (None, 0.0):
        with pytest.raises(HahbenchError, match=f"level = {level} is not allowed; each of the levels must be an eps"):
            ProjectedGradientDescent("l2").check_level(level)
    for name, value, allowed in [
        ("steps", 0, "at least 1"),
        ("restarts", 0, "at least 1"),
        ("relative_step_size", 0.0, "positive"),
    ]:
        with pytest.raises(HahbenchError, match=rf"{name} = {value} is not allowed; it must be {allowed}"):
            ProjectedGradientDescent("l2", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(HahbenchError, match="restarts = 2 is not allowed with random_start = false"):
        ProjectedGradientDescent("l2", restarts=2, random_start=False)
