"""Gaussian noise: its distribution, and that a sample's draw depends on nothing but seed and index."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from hahbench.attacks.clean import Clean
from hahbench.attacks.noise import GaussianNoise
from hahbench.errors import HahbenchError
from hahbench.outcome import Samples


def grey(n: int, value: float = 0.5) -> Samples:
    return Samples(torch.arange(n), torch.full((n, 3, 32, 32), value), torch.zeros(n, dtype=torch.int64))


def noisy(samples: Samples, level: float = 0.1, seed: int = 0) -> Tensor:
    return GaussianNoise()(nn.Identity(), samples, level, seed, lambda *_: None).images


def test_mean_and_standard_deviation_are_those_asked_for() -> None:
    perturbation = (noisy(grey(200), 0.1) - 0.5).double()
    n = perturbation.numel()
    assert abs(perturbation.mean()) < 5 * 0.1 / n**0.5
    assert abs(perturbation.std() - 0.1) < 5 * 0.1 / (2 * n) ** 0.5
    assert abs((perturbation.abs() < 0.1).double().mean() - 0.682689) < 5 * (0.683 * 0.317 / n) ** 0.5


def test_images_stay_in_the_box() -> None:
    images = noisy(grey(20, value=0.9), 0.3)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() == 1
    clamped = (images == 1).double().mean()
    assert clamped == pytest.approx(0.36944, abs=0.01)  # P(Z > 1/3)


def test_a_draw_depends_on_seed_and_index_alone() -> None:
    together = noisy(grey(50))
    shuffled = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(noisy(grey(50)[shuffled]), together[shuffled])
    assert torch.equal(torch.cat([noisy(grey(50)[:7]), noisy(grey(50)[7:])]), together)


def test_the_global_generators_play_no_part() -> None:
    torch.manual_seed(1)
    first = noisy(grey(2))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(noisy(grey(2)), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_and_indices_are_not_interchangeable() -> None:
    draws = torch.stack([noisy(grey(4), seed=seed) for seed in range(4)]).flatten(0, 1)
    assert len(torch.unique(draws, dim=0)) == 16
    correlation = torch.corrcoef((draws - 0.5).flatten(1)) - torch.eye(16)
    assert correlation.abs().max() < 5 / 3072**0.5


def test_levels_share_their_draw() -> None:
    torch.testing.assert_close(noisy(grey(3), 0.02) - 0.5, (noisy(grey(3), 0.01) - 0.5) * 2, rtol=0, atol=2e-7)


def test_a_draw_is_the_same_on_every_machine() -> None:
    golden = torch.tensor([0.259439, 0.686303, 0.537254, 0.468636])
    torch.testing.assert_close(noisy(grey(3), 0.1, seed=5)[2, 0, 0, :4], golden, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [None, -0.1, math.nan])
def test_a_level_is_needed(level: float | None) -> None:
    with pytest.raises(HahbenchError, match=rf"level = {level} is not allowed; .* a standard deviation >= 0"):
        GaussianNoise().check_level(level)
    GaussianNoise().check_level(0.0)


def test_clean_changes_nothing() -> None:
    samples = grey(3)
    candidates = Clean()(nn.Identity(), samples, None, 0, lambda *_: None)
    assert torch.equal(candidates.images, samples.images)
    assert candidates.forwards.tolist() == [0, 0, 0]
    Clean().check_level(None)
    with pytest.raises(HahbenchError, match=r"level = 0.1 is not allowed; this kind has no levels"):
        Clean().check_level(0.1)
