"""Fast minimum-norm attacks by foolbox against a classifier whose smallest perturbations are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from eagerpy.astensor import astensor
from numpy.typing import NDArray
from torch import Tensor, nn

from hahbench.attacks.reference.foolbox_fmn import FoolboxFastMinimumNorm, ProjectedL0, ProjectedL2
from hahbench.errors import HahbenchError
from hahbench.measure import judge
from hahbench.outcome import Samples
from hahbench.spec import NORMS, Norm
from tests.linear_oracle import LinearOracle, linear_oracle


@pytest.fixture(scope="module")
def oracle() -> LinearOracle:
    return linear_oracle(24)


@pytest.mark.parametrize("norm", NORMS)
def test_perturbations_are_the_smallest(oracle: LinearOracle, norm: Norm) -> None:
    ratio = judged_norms(oracle, norm) / oracle.distances(norm)
    assert np.isfinite(ratio).all(), "a linear classifier can always be made to err"
    assert ratio.min() >= 1 - 1e-4
    assert np.median(ratio) <= 1.02


def test_no_sample_of_a_linear_classifier_is_left_on_the_boundary() -> None:
    assert np.isfinite(judged_norms(linear_oracle(300, seed=1), "l2")).all()


def test_one_colour_value_is_changed_where_one_is_enough() -> None:
    layer = nn.Linear(4, 2)
    layer.weight.data = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    layer.bias.data = torch.tensor([-4.0, 0.0])
    model = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
    samples = Samples(torch.arange(1), torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]))
    candidates = FoolboxFastMinimumNorm("l0")(model, samples, None, 0, lambda *_: None)
    assert model(candidates.images).argmax(dim=1).tolist() == [1]
    assert (candidates.images != samples.images).flatten().tolist() == [True, False, False, False]


def judged_norms(oracle: LinearOracle, norm: Norm) -> NDArray[np.float64]:
    candidates = FoolboxFastMinimumNorm(norm)(oracle.model, oracle.samples, None, 0, lambda *_: None)
    outcomes = judge(oracle.model, oracle.samples, candidates, norm=norm, epsilon=None, worst_case=True, seconds=0.0)
    return outcomes[norm].to_numpy()


def project(attack: ProjectedL0 | ProjectedL2, clean: Tensor, delta: Tensor, epsilon: Tensor) -> Tensor:
    points = [astensor(tensor) for tensor in (clean + delta, clean, epsilon)]
    projected: Tensor = attack.project(*points).raw
    return projected - clean


def test_l2_projection_shortens_what_is_outside_and_leaves_what_is_inside() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, delta = torch.rand((2, 6, 3, 8, 8), generator=generator)
    length = delta.flatten(1).norm(dim=1)
    epsilon = length * torch.tensor([0.1, 0.5, 0.9, 1.1, 2.0, 10.0])
    projected = project(ProjectedL2(), clean, delta, epsilon)
    torch.testing.assert_close(projected.flatten(1).norm(dim=1), torch.minimum(length, epsilon), rtol=2e-5, atol=0)
    torch.testing.assert_close(projected[3:], delta[3:])
    cosine = nn.functional.cosine_similarity(projected.flatten(1), delta.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(6))


def test_l0_projection_keeps_exactly_the_largest_components() -> None:
    delta = torch.tensor([3.0, -5.0, 1.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 3).repeat(5, 1, 1, 1)
    clean = torch.zeros_like(delta)
    projected = project(ProjectedL0(), clean, delta, torch.tensor([1.0, 2.0, 3.0, 4.0, 6.0])).flatten(1)
    assert projected.count_nonzero(dim=1).tolist() == [1, 2, 3, 4, 5]
    assert projected[0].tolist() == [0, -5, 0, 0, 0, 0]
    assert projected[1].tolist() == [3, -5, 0, 0, 0, 0]
    assert torch.equal(projected[4], delta[4].flatten())
    assert (projected[2:, :2] == torch.tensor([3.0, -5.0])).all()


def test_wrong_and_unbreakable_samples_come_back_as_they_are() -> None:
    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 0 * images.flatten(1)[:, :10] + torch.arange(10.0)

    samples = Samples(torch.arange(3), torch.rand(3, 3, 8, 8), torch.tensor([9, 0, 9]))
    told: list[tuple[float, float]] = []
    for norm in NORMS:
        candidates = FoolboxFastMinimumNorm(norm, steps=5)(
            Blind().eval(), samples, None, 0, lambda *values: told.append(values)
        )
        assert torch.equal(candidates.images, samples.images)
        assert candidates.forwards.tolist() == [6, 1, 6]
        assert told[-1] == (1.0, 2 / 3)


def test_progress_moves_within_a_batch_and_follows_the_batches() -> None:
    oracle = linear_oracle(130)
    told: list[tuple[float, float]] = []
    FoolboxFastMinimumNorm("linf", steps=20)(oracle.model, oracle.samples, None, 0, lambda *values: told.append(values))
    done, accuracy = zip(*told, strict=True)
    first, both = 128 / 130, 1.0
    assert done == pytest.approx(
        [first * part for part in (0.25, 0.5, 0.75, 1)]
        + [first]
        + [first + (both - first) * part for part in (0.25, 0.5, 0.75, 1)]
        + [both]
    )
    assert accuracy == pytest.approx([1.0] * 4 + [0.0] + [2 / 130] * 4 + [0.0])


def test_a_level_is_refused() -> None:
    FoolboxFastMinimumNorm("l2").check_level(None)
    with pytest.raises(HahbenchError, match=r"level = 0.5 is not allowed; this kind has no levels"):
        FoolboxFastMinimumNorm("l2").check_level(0.5)
