"""Square attack against linear classifiers with known distances, and against the reference implementation."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from hahbench import catalog
from hahbench.attacks import square
from hahbench.attacks.engine import Driven, Lanes, drive
from hahbench.attacks.losses import margin
from hahbench.attacks.projections import lengths
from hahbench.attacks.square import Square, SquareLanes
from hahbench.data import load_images
from hahbench.models.load import load_model
from hahbench.outcome import Samples
from tests.linear_oracle import LinearOracle, linear_oracle

BallNorm = Literal["l2", "linf"]
NORMS: tuple[BallNorm, ...] = ("l2", "linf")


@pytest.fixture(scope="module")
def oracle() -> LinearOracle:
    return linear_oracle(24)


def small_net(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(8 * 4, 4)
    )
    return net.eval().requires_grad_(False)


def small_samples(n: int, model: nn.Module, channels: int = 3) -> Samples:
    images = torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(1)).mul(1.4).sub(0.2).clamp(0, 1)
    return Samples(torch.arange(n) + 100, images, model(images).argmax(dim=1))


def fresh_lanes(samples: Samples) -> Lanes:
    zero, false = torch.zeros_like(samples.labels), torch.zeros_like(samples.labels, dtype=torch.bool)
    images = samples.images
    return Lanes(
        zero,
        samples.index,
        zero,
        zero.clone(),
        images,
        samples.labels,
        images,
        false,
        false,
        zero - 1,
        zero.clone(),
        zero,
    )


def steps(stepper: Square, model: nn.Module, samples: Samples, count: int) -> list[SquareLanes]:
    """What the lanes hold after each of the first steps; none is freed."""
    lanes = stepper.start(fresh_lanes(samples))
    after = []
    for _ in range(count):
        stepper.step(model, lanes)
        lanes.step = lanes.step + 1
        after.append(SquareLanes(**vars(lanes)))
    return after


def within(candidate: Tensor, images: Tensor, norm: BallNorm, epsilon: float) -> bool:
    """In the box, and in the ball up to the round-off that the judge lets through."""
    round_off = 2.0**-23 * {"l2": images[0].numel() ** 0.5, "linf": 1.0}[norm]
    size = lengths(candidate.double() - images.double(), norm)
    in_box = candidate.min() >= 0 and candidate.max() <= 1
    return bool(in_box and size.max() <= epsilon * (1 + 1e-5) + round_off)


# A random linear classifier is the hardest for a search over windows: each colour value wants a sign of its own. With
# 500 queries the threshold lies at 4 times (l_inf) and 5 times (l2) the distance; the reference's lies there too.
@pytest.mark.parametrize(("norm", "excess"), [("linf", 4.5), ("l2", 6.0)])
@pytest.mark.parametrize("part", [0.2, 0.8])
def test_a_linear_classifier_breaks_above_and_never_below_the_known_distance(
    oracle: LinearOracle, norm: BallNorm, excess: float, part: float
) -> None:
    distances = oracle.distances(norm)
    epsilon = float(excess * np.quantile(distances, part))
    driven = drive(Square(norm, epsilon, seed=0, queries=500), oracle.model, oracle.samples, batch_size=64)
    broken = driven.broken.numpy()
    assert broken[distances * excess <= epsilon].all()
    found = lengths(driven.candidates.double() - oracle.samples.images.double(), norm).numpy()
    assert (found[broken] >= distances[broken]).all()
    assert within(driven.candidates, oracle.samples.images, norm, epsilon)


@pytest.mark.parametrize(("ratio", "breaks"), [(0.999, False), (1.4, True)])
def test_linf_comes_close_to_the_distance_where_one_sign_a_channel_is_the_best(ratio: float, breaks: bool) -> None:
    weight = torch.tensor([0.5, -1.0, 2.0]).repeat_interleave(32 * 32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)).requires_grad_(False)
    model[1].weight.data = torch.stack([weight, -weight])
    model[1].bias.data = torch.tensor([0.0, 0.0])
    images = torch.full((8, 3, 32, 32), 0.5)
    distance = 0.1
    model[1].bias.data[0] = 2 * float(distance * weight.abs().sum() - weight @ images[0].flatten())
    samples = Samples(torch.arange(8), images, torch.zeros(8, dtype=torch.int64))
    driven = drive(Square("linf", ratio * distance, seed=0, queries=500), model, samples, batch_size=8)
    assert driven.broken.tolist() == [breaks] * 8


@settings(max_examples=20, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    epsilon=st.floats(0.01, 3.0),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32),
)
def test_the_best_image_stays_in_ball_and_box_and_its_margin_never_rises(
    norm: BallNorm, epsilon: float, channels: int, seed: int
) -> None:
    model = small_net(channels)
    samples = small_samples(5, model, channels)
    last = torch.full((5,), torch.inf)
    for lanes in steps(Square(norm, epsilon, seed=seed, queries=30), model, samples, 25):
        assert within(lanes.candidate, samples.images, norm, epsilon)
        torch.testing.assert_close(lanes.margin, margin(model(lanes.candidate), samples.labels), rtol=1e-5, atol=1e-6)
        assert (lanes.margin <= last).all()
        last = lanes.margin


@pytest.mark.parametrize("norm", NORMS)
def test_every_proposal_stays_in_ball_and_box_over_many_queries(norm: BallNorm) -> None:
    proposals: list[Tensor] = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).requires_grad_(False)
    model[1].bias.data = torch.tensor([100.0, -100.0])
    model.register_forward_pre_hook(lambda _, inputs: proposals.append(inputs[0].clone()))
    samples = small_samples(6, small_net())
    samples = Samples(samples.index, samples.images, torch.zeros_like(samples.labels))
    epsilon = {"l2": 0.5, "linf": 0.1}[norm]
    drive(Square(norm, epsilon, seed=3, queries=500), model, samples, batch_size=6)
    # Where no proposal of a query is the best image itself, a pass has all lanes.
    of_all_lanes = [proposal for proposal in proposals if len(proposal) == len(samples)]
    assert len(of_all_lanes) > 200
    assert all(within(proposal, samples.images, norm, epsilon) for proposal in of_all_lanes)
    # l2 proposals use up epsilon, unless the box takes part of it.
    if norm == "l2":
        assert lengths(of_all_lanes[-1] - samples.images, "l2").min() > 0.9 * epsilon


@pytest.mark.parametrize("norm", NORMS)
def test_outcomes_do_not_depend_on_the_number_of_lanes(norm: BallNorm) -> None:
    model = small_net()
    samples = small_samples(100, model)
    epsilon = {"l2": 0.6, "linf": 0.06}[norm]

    def outcome(batch_size: int) -> Driven:
        return drive(Square(norm, epsilon, seed=5, queries=60), model, samples, batch_size=batch_size)

    whole = outcome(100)
    assert 10 < int(whole.broken.sum()) < 90
    for batch_size in (7, 64):
        driven = outcome(batch_size)
        for name, value in vars(whole).items():
            assert torch.equal(getattr(driven, name), value), (batch_size, name)


def test_samples_seeds_and_attempts_draw_windows_of_their_own() -> None:
    model = small_net()
    one = small_samples(1, model)
    two = Samples(torch.tensor([100, 101]), one.images.repeat(2, 1, 1, 1), one.labels.repeat(2))

    def candidate(samples: Samples, seed: int, attempt: int = 0) -> Tensor:
        lanes = fresh_lanes(samples)
        lanes.attempt = lanes.attempt + attempt
        return Square("linf", 0.1, seed=seed).start(lanes).candidate

    first, second = candidate(two, 0)
    assert torch.equal(first, candidate(one, 0)[0])
    for other in (second, candidate(one, 1)[0], candidate(one, 0, attempt=1)[0]):
        assert not torch.equal(first, other)


def test_a_proposal_that_changes_nothing_is_a_query_without_a_pass() -> None:
    """Of one channel, every other window of one pixel has the sign that it has already."""
    model = small_net(channels=1)
    samples = small_samples(40, model, channels=1)
    driven = drive(Square("linf", 0.08, seed=0, queries=200), model, samples, batch_size=40)
    robust = ~driven.broken
    assert 5 < int(robust.sum()) < 35
    assert (driven.forwards[robust] < 0.8 * 201).all()
    assert (driven.forwards[robust] > 0.4 * 201).all()


@pytest.mark.parametrize("norm", NORMS)
def test_proposals_made_ahead_change_no_outcome(norm: BallNorm) -> None:
    model = small_net()
    samples = small_samples(9, model)
    epsilon = {"l2": 0.6, "linf": 0.06}[norm]

    def outcome(batch_size: int) -> tuple[Square, Driven]:
        stepper = Square(norm, epsilon, seed=5, queries=100, batch_size=batch_size)
        stepper.kept_share = 0.01  # as if few were kept
        return stepper, drive(stepper, model, samples, batch_size=9)

    (_, one), (stepper, many) = outcome(1), outcome(200)
    assert stepper.kept_share < 0.5
    assert int(one.forwards.sum()) < int(many.forwards.sum()) < 3 * int(one.forwards.sum())
    for name in ("broken", "candidates", "step"):
        assert torch.equal(getattr(one, name), getattr(many, name)), name


class _Fixed(nn.Module):
    """The same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def test_an_approximate_model_alone_breaks_nothing() -> None:
    samples = Samples(torch.arange(4), torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))
    stepper = Square("l2", 0.1, seed=0, queries=9, approximate=_Fixed(0.0, 1.0))
    driven = drive(stepper, _Fixed(1.0, 0.0), samples, batch_size=4)
    assert not driven.broken.any()
    # The approximate model's answer to the start is below the slack; the model's own is kept and never beaten.
    assert (driven.forwards == 20).all()


def test_an_approximate_model_is_enough_where_its_margin_is_wide() -> None:
    samples = Samples(torch.arange(4), torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))
    stepper = Square("l2", 0.1, seed=0, queries=9, approximate=_Fixed(1.0, 0.0))
    driven = drive(stepper, _Fixed(0.0, 1.0), samples, batch_size=4)
    assert not driven.broken.any()
    assert (driven.forwards == 10).all()


@pytest.mark.parametrize(("norm", "name", "smallest"), [("linf", "Linf", 1), ("l2", "L2", 3)])
@pytest.mark.parametrize("queries", [1000, 5000])
def test_windows_shrink_as_in_the_reference(norm: BallNorm, name: str, smallest: int, queries: int) -> None:
    reference = SquareAttack(None, norm=name, n_queries=queries)
    wanted = [max(round((reference.p_selection(query) * 1024) ** 0.5), smallest) for query in range(queries)]
    if norm == "l2":
        wanted = [size + 1 - size % 2 for size in wanted]
    ours = Square(norm, 0.1, seed=0, queries=queries)
    sizes = ours._window_sizes(32, 32)
    assert [sizes[level] for level in ours._level(torch.arange(1, queries + 1)).tolist()] == wanted


@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 15, 29])
def test_bumps_are_those_of_the_reference(size: int) -> None:
    reference = SquareAttack(None, norm="L2", eps=1.0, device="cpu")
    ours = square._bumps(size)
    wanted = reference.eta(size)
    assert any(torch.allclose(bump, wanted, atol=1e-6) for bump in ours)
    torch.testing.assert_close(ours[0].T, ours[1])


@pytest.mark.parametrize(("norm", "name"), [("linf", "Linf"), ("l2", "L2")])
def test_margins_fall_as_those_of_the_reference(oracle: LinearOracle, norm: BallNorm, name: str) -> None:
    """On a linear classifier, which no epsilon used here breaks, over 24 samples and 2 seeds each."""
    images, labels = oracle.samples.images, oracle.samples.labels
    epsilon = float(oracle.distances(norm).min())
    start = margin(oracle.model(images), labels)
    ours, theirs = [], []
    for seed in (0, 1):
        lanes = steps(Square(norm, epsilon, seed=seed, queries=200), oracle.model, oracle.samples, 195)[-1]
        ours.append((start - lanes.margin) / start)
        torch.manual_seed(seed)
        attack = SquareAttack(oracle.model, norm=name, n_queries=200, eps=epsilon, seed=seed, device="cpu")
        attack.init_hyperparam(images)
        _, best = attack.attack_single_run(images, labels)
        theirs.append((start - margin(oracle.model(best), labels)) / start)
    assert torch.stack(ours).mean() == pytest.approx(float(torch.stack(theirs).mean()), rel=0.1)


@pytest.mark.parametrize(("norm", "name", "epsilon"), [("linf", "Linf", 12 / 255), ("l2", "L2", 2.0)])
def test_as_many_samples_break_as_with_the_reference(norm: BallNorm, name: str, epsilon: float) -> None:
    model = load_model(catalog.models()["shapes/Standard"]).eval().requires_grad_(False)
    samples = load_images("shapes", "test", None).first(60)
    samples = samples[(model(samples.images).argmax(dim=1) == samples.labels).nonzero().squeeze(1)[:40]]
    ours = int(drive(Square(norm, epsilon, seed=0, queries=100), model, samples, batch_size=40).broken.sum())
    reference = SquareAttack(model, norm=name, n_queries=100, eps=epsilon, seed=0, device="cpu")
    adversarial = reference.perturb(samples.images, samples.labels)
    theirs = int((model(adversarial).argmax(dim=1) != samples.labels).sum())
    assert 10 < theirs < 30
    assert abs(ours - theirs) <= 6  # two standard deviations of one binomial count; the samples are the same


class Saturated(nn.Module):
    """Two classes whose logits are the same in images of a mean below 0.5, where the judge finds the first."""

    def forward(self, images: Tensor) -> Tensor:
        lead = (images.flatten(1).mean(dim=1) - 0.5).relu()
        return torch.stack([torch.ones_like(lead), 1 + 100 * lead], dim=1)


def test_a_tie_that_the_judge_counts_as_an_error_is_one() -> None:
    samples = Samples(torch.arange(4), torch.full((4, 3, 8, 8), 0.55), torch.ones(4, dtype=torch.long))
    driven = drive(Square("linf", 0.1, seed=0, queries=500), Saturated(), samples, batch_size=4)
    assert driven.broken.all()
    assert Saturated()(driven.candidates).argmax(dim=1).tolist() == [0] * 4
