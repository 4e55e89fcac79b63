"""Fast minimum-norm attacks against a classifier whose smallest perturbations are known, foolbox, and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor, nn

from hahbench.attacks.base import Attack
from hahbench.attacks.fmn import FastMinimumNorm, project_l0, project_l1
from hahbench.attacks.reference.foolbox_fmn import FoolboxFastMinimumNorm
from hahbench.errors import HahbenchError
from hahbench.measure import judge
from hahbench.outcome import Candidates, Samples
from hahbench.spec import NORMS, Norm
from tests.linear_oracle import LinearOracle, linear_oracle
from tests.small_network import small_network


@pytest.fixture(scope="module")
def oracle() -> LinearOracle:
    return linear_oracle(24)


def attacked(attack: Attack, model: nn.Module, samples: Samples) -> Candidates:
    return attack(model, samples, None, 0, lambda *_: None)


def judged_norms(
    attack: FastMinimumNorm | FoolboxFastMinimumNorm, model: nn.Module, samples: Samples
) -> NDArray[np.float64]:
    candidates = attacked(attack, model, samples)
    outcomes = judge(model, samples, candidates, norm=attack.norm, epsilon=None, worst_case=True, seconds=0.0)
    return outcomes[attack.norm].to_numpy()


def test_the_oracle_is_classified_correctly_and_its_distances_are_not_trivial(oracle: LinearOracle) -> None:
    assert torch.equal(oracle.model(oracle.samples.images).argmax(dim=1), oracle.samples.labels)
    l0, l1, l2, linf = (oracle.distances(norm) for norm in NORMS)
    assert np.median(l0) > 5
    assert (linf <= l2).all()
    assert (l2 <= l1).all()
    assert (l1 <= l0).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_oracle_agrees_with_the_distance_to_a_hyperplane_inside_the_box(oracle: LinearOracle, norm: Norm) -> None:
    images, labels = oracle.samples.images.flatten(1).double().numpy(), oracle.samples.labels.numpy()
    logits = images @ oracle.weight.T + oracle.bias
    margins = logits[np.arange(len(labels)), labels][:, None] - logits
    dual = {"l2": 2, "linf": 1}[norm]
    lengths = np.linalg.norm(oracle.weight[labels][:, None] - oracle.weight, ord=dual, axis=2)
    lengths[np.arange(len(labels)), labels] = np.nan
    np.testing.assert_allclose(oracle.distances(norm), np.nanmin(margins / lengths, axis=1), rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_perturbations_are_the_smallest(oracle: LinearOracle, norm: Norm) -> None:
    ratio = judged_norms(FastMinimumNorm(norm), oracle.model, oracle.samples) / oracle.distances(norm)
    assert np.isfinite(ratio).all(), "a linear classifier can always be made to err"
    assert ratio.min() >= 1 - 1e-4
    assert np.median(ratio) <= 1.02


@pytest.mark.parametrize("norm", NORMS)
def test_no_sample_of_a_linear_classifier_is_left_on_the_boundary(norm: Norm) -> None:
    oracle = linear_oracle(300, seed=1)
    assert np.isfinite(judged_norms(FastMinimumNorm(norm, steps=40), oracle.model, oracle.samples)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_found_stays_an_error_when_round_off_differs(norm: Norm) -> None:
    """The prepared model and the one that the judge asks agree to a relative 1e-5 of the logits, and no more."""
    network, samples = small_network(64)
    candidates = attacked(FastMinimumNorm(norm), network, samples)
    logits = network(candidates.images)
    broken = np.array(candidates.member) != ""
    for sign in (-1, 1):
        error = sign * 1e-5 * logits.abs().amax(dim=1, keepdim=True)
        favoured = logits.scatter_add(1, samples.labels.unsqueeze(1), error)
        assert (favoured.argmax(dim=1) != samples.labels).numpy()[broken].all()


@pytest.mark.parametrize("norm", NORMS)
def test_on_a_network_perturbations_are_no_larger_than_those_of_foolbox(norm: Norm) -> None:
    network, samples = small_network(32)
    ours = judged_norms(FastMinimumNorm(norm), network, samples)
    theirs = judged_norms(FoolboxFastMinimumNorm(norm), network, samples)
    assert np.median(theirs) > 0
    assert np.median(ours) <= 1.01 * np.median(theirs)


@pytest.mark.parametrize("norm", NORMS)
def test_more_steps_find_no_larger_norms_and_a_settled_sample_leaves_early(norm: Norm) -> None:
    network, samples = small_network(32)
    long = FastMinimumNorm(norm, steps=1000)
    forwards = attacked(long, network, samples).forwards
    assert set(forwards.tolist()) <= {1, 1 + 750, 1 + 1000}, "samples leave at the end of the second cycle or the third"
    assert (forwards == 1 + 750).double().mean() > 0.5
    short = judged_norms(FastMinimumNorm(norm), network, samples)
    assert np.median(judged_norms(long, network, samples)) <= np.median(short)


@pytest.mark.parametrize("steps", [1, 100, 101, 250, 300])
def test_a_sample_that_never_breaks_is_given_all_steps(steps: int) -> None:
    samples = Samples(torch.arange(1), torch.rand(1, 3, 8, 8), torch.tensor([9]))
    candidates = attacked(FastMinimumNorm("l2", steps=steps), Blind(), samples)
    assert candidates.forwards.tolist() == [1 + steps]
    assert candidates.backwards.tolist() == [steps]


@pytest.mark.parametrize("norm", NORMS)
def test_results_do_not_depend_on_the_batch_size(norm: Norm) -> None:
    network, samples = small_network(32)
    whole, split = (
        judged_norms(FastMinimumNorm(norm, steps=30, batch_size=size), network, samples) for size in (64, 7)
    )
    # Sums are rounded in another order, which can move a point across the boundary.
    assert np.isclose(whole, split, rtol=1e-3).mean() >= 0.9


def test_one_colour_value_is_changed_where_one_is_enough() -> None:
    layer = nn.Linear(4, 2)
    layer.weight.data = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    layer.bias.data = torch.tensor([-4.0, 0.0])
    model = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
    samples = Samples(torch.arange(1), torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]))
    candidates = attacked(FastMinimumNorm("l0"), model, samples)
    assert model(candidates.images).argmax(dim=1).tolist() == [1]
    assert (candidates.images != samples.images).flatten().tolist() == [True, False, False, False]


def test_l0_projection_keeps_exactly_the_largest_components() -> None:
    delta = torch.tensor([3.0, -5.0, 1.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 3).repeat(5, 1, 1, 1)
    projected = project_l0(delta, torch.tensor([1.0, 2.0, 3.0, 4.0, 6.0])).flatten(1)
    assert projected.count_nonzero(dim=1).tolist() == [1, 2, 3, 4, 5]
    assert projected[0].tolist() == [0, -5, 0, 0, 0, 0]
    assert projected[1].tolist() == [3, -5, 0, 0, 0, 0]
    assert torch.equal(projected[4], delta[4].flatten())
    assert (projected[2:, :2] == torch.tensor([3.0, -5.0])).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 1.5), st.floats(0.001, 100))
def test_l1_projection_shrinks_all_components_by_the_threshold_that_scipy_finds(
    seed: int, part: float, scale: float
) -> None:
    delta = (scale * np.random.default_rng(seed).standard_normal((1, 3, 4, 4)) ** 3).astype(np.float32)
    size, radius = np.abs(delta.astype(np.float64)), part * float(np.abs(delta).sum())
    threshold = 0.0
    if radius < size.sum():
        threshold = brentq(lambda value: np.maximum(size - value, 0).sum() - radius, 0, size.max())
    expected = np.sign(delta) * np.maximum(size - threshold, 0)
    projected = project_l1(torch.from_numpy(delta), torch.tensor([radius], dtype=torch.float32))
    np.testing.assert_allclose(projected.numpy(), expected, rtol=1e-4, atol=1e-5 * size.max())


class Blind(nn.Module):
    """Sees nothing: its answer is 9."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images.flatten(1)[:, :10] + torch.arange(10.0)


@pytest.mark.parametrize("norm", NORMS)
def test_wrong_and_unbreakable_samples_come_back_as_they_are(norm: Norm) -> None:
    samples = Samples(torch.arange(3), torch.rand(3, 3, 8, 8), torch.tensor([9, 0, 9]))
    told: list[tuple[float, float]] = []
    candidates = FastMinimumNorm(norm, steps=5)(Blind(), samples, None, 0, lambda *values: told.append(values))
    assert torch.equal(candidates.images, samples.images)
    assert candidates.forwards.tolist() == [6, 1, 6]
    assert candidates.backwards.tolist() == [5, 0, 5]
    assert list(candidates.member) == ["", "", ""]
    assert candidates.step.tolist() == [-1, -1, -1]
    assert told[-1] == pytest.approx((1.0, 2 / 3))


def test_where_every_sample_is_already_wrong_nothing_is_driven() -> None:
    samples = Samples(torch.arange(2), torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
    candidates = attacked(FastMinimumNorm("l2"), Blind(), samples)
    assert torch.equal(candidates.images, samples.images)
    assert candidates.forwards.tolist() == [1, 1]


def test_broken_samples_are_credited(oracle: LinearOracle) -> None:
    candidates = attacked(FastMinimumNorm("linf", steps=20), oracle.model, oracle.samples)
    assert set(candidates.member) == {"fmn-linf"}
    assert (candidates.step >= 1).all()


def test_a_level_is_refused() -> None:
    FastMinimumNorm("l2").check_level(None)
    with pytest.raises(HahbenchError, match=r"level = 0.5 is not allowed; this kind has no levels"):
        FastMinimumNorm("l2").check_level(0.5)


def test_values_out_of_range_are_refused() -> None:
    for name, value, allowed in [
        ("steps", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("max_stepsize", 0.0, "positive"),
        ("gamma", 1.0, "between 0 and 1"),
    ]:
        with pytest.raises(HahbenchError, match=rf"{name} = {value} is not allowed; it must .*{allowed}"):
            FastMinimumNorm("l2", **{name: value})  # type: ignore[arg-type]


class Undefined(nn.Module):
    """Class 1 where the mean of an image exceeds 0.56, undefined where it exceeds 0.6."""

    def forward(self, images: Tensor) -> Tensor:
        own = (0.6 - images.flatten(1).mean(dim=1)).sqrt()
        return torch.stack([own, torch.full_like(own, 0.2)], dim=1)


@pytest.mark.parametrize(("norm", "distance"), [("linf", 0.16), ("l2", 0.16 * 2), ("l1", 0.16 * 4)])
def test_answers_that_are_not_a_number_do_not_end_the_search(norm: Norm, distance: float) -> None:
    samples = Samples(torch.arange(3), torch.full((3, 1, 2, 2), 0.4), torch.zeros(3, dtype=torch.int64))
    assert judged_norms(FastMinimumNorm(norm), Undefined(), samples) == pytest.approx([distance] * 3, rel=0.02)
