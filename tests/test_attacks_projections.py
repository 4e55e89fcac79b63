"""Projections against SciPy's minimiser and by what defines them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from hahbench.attacks.projections import lengths, project_l1_in_box, project_l2, project_linf, unit
from hahbench.spec import NORMS, Norm


def perturbations(seed: int, n: int = 5, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 4, 4, generator=generator), scale * torch.randn(n, 3, 4, 4, generator=generator)


@pytest.mark.parametrize(("norm", "expected"), [("l0", 2.0), ("l1", 7.0), ("l2", 5.0), ("linf", 4.0)])
def test_lengths_of_a_known_vector(norm: Norm, expected: float) -> None:
    delta = torch.zeros(2, 3, 4, 4)
    delta[1, 0, 0, 0], delta[1, 2, 3, 3] = 3.0, -4.0
    assert lengths(delta, norm).tolist() == [0.0, expected]
    assert NORMS == ("l0", "l1", "l2", "linf")


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.01, 30))
def test_l2_and_linf_are_nearest_points(seed: int, radius: float) -> None:
    _, delta = perturbations(seed)
    radii = torch.full((5,), radius)
    torch.testing.assert_close(project_linf(delta, radii), delta.clamp(-radius, radius))
    projected = project_l2(delta, radii)
    length = lengths(delta, "l2")
    torch.testing.assert_close(lengths(projected, "l2"), length.minimum(radii))
    torch.testing.assert_close(unit(projected), unit(delta))
    assert torch.equal(projected[length <= radius], delta[length <= radius])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.01, 40), scale=st.sampled_from([0.01, 0.3, 1.0, 10.0]))
def test_l1_in_the_box_solves_its_optimality_conditions(seed: int, radius: float, scale: float) -> None:
    """The minimiser of |d - delta|^2 with |d|_1 <= radius in the box has one multiplier for the norm: Karush, Kuhn and
    Tucker. It is found here by bisection in float64."""
    images, delta = perturbations(seed, 3, scale)
    found = project_l1_in_box(images, delta, torch.full((3,), radius))
    for image, wanted, ours in zip(images.double(), delta.double(), found.double(), strict=True):
        room = torch.where(wanted > 0, 1 - image, image)

        def at(multiplier: float, wanted: Tensor = wanted, room: Tensor = room) -> Tensor:
            return (wanted.abs() - multiplier).clamp(min=0).minimum(room) * wanted.sign()

        multiplier = 0.0
        if float(at(0.0).abs().sum()) > radius:
            multiplier = brentq(lambda value: float(at(value).abs().sum()) - radius, 0, float(wanted.abs().max()))
        torch.testing.assert_close(ours, at(multiplier), atol=2e-5, rtol=1e-4)
        assert float(ours.abs().sum()) <= radius * (1 + 1e-5)
