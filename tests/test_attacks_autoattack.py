"""AutoAttack: what its members make together, against linear classifiers and against pyautoattack."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyautoattack
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from hahbench.attacks.autoattack import AutoAttack, Member
from hahbench.errors import HahbenchError
from hahbench.measure import judge
from hahbench.outcome import Candidates, Samples
from tests.linear_oracle import linear_oracle
from tests.small_network import small_network

BallNorm = Literal["l2", "linf"]


def judged(model: nn.Module, samples: Samples, candidates: Candidates, norm: BallNorm, epsilon: float) -> pd.DataFrame:
    return judge(model, samples, candidates, norm=norm, epsilon=epsilon, worst_case=True, seconds=0.0)


def quiet(*_: float) -> None:
    return None


@pytest.mark.parametrize("members", [("apgd-ce",), ("apgd-dlr",), ("apgd-t",), ("fab-t",)])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_sample_breaks_exactly_when_epsilon_exceeds_its_distance(norm: BallNorm, members: tuple[Member, ...]) -> None:
    """By a margin of 1 %. Square, a random search, is far from that: see its own tests."""
    oracle = linear_oracle(3)
    for row, distance in enumerate(oracle.distances(norm)):
        sample = oracle.samples[torch.tensor([row])]
        for factor, breaks in ((0.99, False), (1.01, True)):
            epsilon = float(factor * distance)
            found = AutoAttack(norm, members)(oracle.model, sample, epsilon, 0, quiet)
            outcomes = judged(oracle.model, sample, found, norm, epsilon)
            assert bool(outcomes["adv_pred"][0] != outcomes["label"][0]) == breaks


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.0015), ("l2", 0.035)])
def test_the_standard_version_breaks_what_the_library_breaks(norm: BallNorm, epsilon: float) -> None:
    network, samples = small_network(30)
    samples = Samples(samples.index, samples.images, samples.labels.clone())
    samples.labels[0] = (samples.labels[0] + 1) % 10
    library = pyautoattack.AutoAttack(
        network, norm={"l2": "L2", "linf": "Linf"}[norm], eps=epsilon, seed=0, version="standard", device="cpu"
    )
    library.square.n_queries = 300
    with torch.random.fork_rng():
        theirs, _ = library.run_standard_evaluation(samples.images.contiguous(), samples.labels)
    expected = judged(network, samples, Candidates.untold(theirs), norm, epsilon)
    candidates = AutoAttack(norm)(network, samples, epsilon, 0, quiet)
    outcomes = judged(network, samples, candidates, norm, epsilon)

    flags = expected["adv_pred"] != expected["label"]
    assert 8 <= flags.sum() <= 22
    assert (flags != (outcomes["adv_pred"] != outcomes["label"])).sum() <= 1
    # The already wrong sample is asked once; what withstands goes through all members.
    assert (outcomes["forwards"][0], outcomes["backwards"][0], outcomes["member"][0]) == (1, 0, "")
    broken = (outcomes["adv_pred"] != outcomes["label"]) & (outcomes["clean_pred"] == outcomes["label"])
    assert set(outcomes.loc[broken, "member"]) <= {"apgd-ce", "apgd-t", "fab-t", "square"}
    assert (outcomes.loc[~broken, "member"] == "").all()
    robust = outcomes["adv_pred"] == outcomes["label"]
    assert (outcomes.loc[robust, "backwards"] == 101 + 9 * 101 + 9 * 100).all()
    assert outcomes.loc[robust, "forwards"].between(4000, 9000).all()
    assert (outcomes.loc[broken, "step"] >= 1).all()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.0015), ("l2", 0.035)])
def test_flags_do_not_depend_on_batch_size_order_shard_or_threads(norm: BallNorm, epsilon: float) -> None:
    network, samples = small_network(18)
    members: tuple[Member, ...] = ("apgd-ce", "apgd-t", "fab-t")

    def flags(rows: Tensor, batch_size: int) -> list[bool]:
        found = AutoAttack(norm, members, batch_size=batch_size)(network, samples[rows], epsilon, 0, quiet)
        outcomes = judged(network, samples[rows], found, norm, epsilon)
        return (outcomes["adv_pred"] != outcomes["label"]).tolist()

    before = torch.get_num_threads()
    order = torch.randperm(18, generator=torch.Generator().manual_seed(0))
    whole = np.array(flags(torch.arange(18), 18))
    assert 4 < whole.sum() < 14
    assert flags(torch.arange(18), 7) == whole.tolist()
    assert flags(order, 18) == whole[order.numpy()].tolist()
    torch.set_num_threads(2)
    try:
        assert flags(torch.arange(18), 64) == whole.tolist()
    finally:
        torch.set_num_threads(before)
    assert [flag for shard in torch.arange(18).chunk(3) for flag in flags(shard, 64)] == whole.tolist()


def test_progress_only_goes_forward() -> None:
    network, samples = small_network(30)
    told: list[tuple[float, float]] = []
    candidates = AutoAttack("linf", ("apgd-ce", "apgd-dlr"), batch_size=6)(
        network, samples, 0.004, 0, lambda *values: told.append(values)
    )
    done, accuracy = zip(*told, strict=True)
    assert len(told) > 20
    assert list(done) == sorted(done)
    assert list(accuracy) == sorted(accuracy, reverse=True)
    assert done[-1] == 1
    assert accuracy[-1] == pytest.approx(candidates.member.count("") / 30)


def test_the_rand_version_averages_over_twenty_passes() -> None:
    network, samples = small_network(6)
    candidates = AutoAttack("linf", randomized=True)(network, samples, 1e-5, 0, quiet)
    # The last member proposes its best point wherever there is no error.
    assert candidates.member == ["apgd-dlr"] * 6
    assert judged(network, samples, candidates, "linf", 1e-5)["member"].tolist() == [""] * 6
    assert candidates.forwards.tolist() == [1 + 2 * 101 * 20] * 6
    assert candidates.backwards.tolist() == [2 * 101 * 20] * 6


@pytest.mark.parametrize("member", ["apgd-ce", "apgd-t"])
def test_in_l1_there_are_five_restarts_and_five_targets(member: Member) -> None:
    network, samples = small_network(3)
    candidates = AutoAttack("l1", (member,))(network, samples, 1e-5, 0, quiet)
    # Three stages of 30, 30 and 40 moves, each of which evaluates its start, too.
    assert candidates.backwards.tolist() == [5 * 103] * 3


class Coin(nn.Module):
    """Class 1 where the mean of an image, and noise of standard deviation 0.2 on it, exceed 0.5."""

    def forward(self, images: Tensor) -> Tensor:
        lead = images.flatten(1).mean(dim=1) - 0.5
        lead = lead + 0.2 * torch.randn(len(images))
        return torch.stack([-lead, lead], dim=1)


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.1, 0.4])
def test_of_a_random_model_the_point_that_errs_most_often_is_found_for_every_sample(epsilon: float) -> None:
    count, mean = 400, 0.4
    samples = Samples(torch.arange(count), torch.full((count, 1, 2, 2), mean), torch.zeros(count, dtype=torch.int64))
    # Right on the clean image and then on the perturbed one, which the model is asked about once each.
    right, still_right = stats.norm(0.5, 0.2).cdf([1 - mean, 1 - mean - epsilon])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        candidates = AutoAttack("linf", ("apgd-ce",), randomized=True)(Coin(), samples, epsilon, 0, quiet)
        outcomes = judged(Coin(), samples, candidates, "linf", epsilon)
    # Noise may make an earlier point look best.
    assert float((candidates.images - samples.images).mean()) > 0.9 * epsilon
    robust = float((outcomes["adv_pred"] == outcomes["label"]).mean())
    expected = float(right * still_right)
    assert robust == pytest.approx(expected, abs=4 * (expected * (1 - expected) / count) ** 0.5)


class Undefined(nn.Module):
    """Class 0, and no answer at all where the mean of an image exceeds 0.6."""

    def forward(self, images: Tensor) -> Tensor:
        own = (0.6 - images.flatten(1).mean(dim=1)).sqrt()
        return torch.stack([own, torch.zeros_like(own)], dim=1)


@pytest.mark.parametrize("member", ["apgd-ce", "square"])
def test_an_answer_that_is_not_a_number_is_an_error(member: Member) -> None:
    samples = Samples(torch.arange(4), torch.full((4, 1, 4, 4), 0.4), torch.zeros(4, dtype=torch.int64))
    candidates = AutoAttack("linf", (member,))(Undefined(), samples, 0.25, 0, quiet)
    outcomes = judged(Undefined(), samples, candidates, "linf", 0.25)
    assert outcomes["adv_pred"].tolist() == [-1] * 4


@pytest.mark.parametrize(
    ("members", "classes", "fewest", "others"),
    [
        (("apgd-t",), 2, 4, '["apgd-ce"]'),
        (("apgd-dlr",), 2, 3, '["apgd-ce"]'),
        ((), 2, 4, '["apgd-ce", "fab-t", "square"]'),
        ((), 3, 4, '["apgd-ce", "apgd-dlr", "fab-t", "square"]'),
    ],
)
def test_too_few_classes_for_a_member_are_named_with_those_that_need_no_more(
    members: tuple[Member, ...], classes: int, fewest: int, others: str
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, classes)).requires_grad_(False)
    samples = Samples(torch.arange(2), torch.rand(2, 3, 2, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(HahbenchError, match=f"needs at least {fewest} classes, there are {classes};") as error:
        AutoAttack("linf", members)(model, samples, 0.1, 0, quiet)
    assert str(error.value).endswith(f"members = {others}")
    AutoAttack("linf", tuple(json.loads(others)))(model, samples, 0.1, 0, quiet)


def test_fewer_classes_than_targets_are_all_tried() -> None:
    network, samples = small_network(8)
    five: Any = nn.Sequential(*network.children(), nn.Linear(10, 5)).requires_grad_(False)
    labels = five(samples.images).argmax(dim=1)
    candidates = AutoAttack("l2", ("apgd-t", "fab-t"))(
        five, Samples(samples.index, samples.images, labels), 1e-4, 0, quiet
    )
    robust = [row for row, member in enumerate(candidates.member) if not member]
    assert len(robust) > 4
    assert candidates.backwards[robust].tolist() == [4 * 101 + 4 * 100] * len(robust)


def test_low_precision_breaks_nothing_by_itself() -> None:
    """Where the prepared model is asked in low precision first, its breaks are confirmed by the model itself."""
    network, samples = small_network(10)

    class Prepared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.low_precision = nn.Sequential(network, Reversed())

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network(images)
            return logits

    class Reversed(nn.Module):
        def forward(self, logits: Tensor) -> Tensor:
            return -logits

    candidates = AutoAttack("linf", ("apgd-t",))(Prepared(), samples, 1e-5, 0, quiet)
    assert candidates.member == [""] * 10
