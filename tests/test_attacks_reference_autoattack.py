"""AutoAttack against a classifier whose smallest perturbations are known, and against the library called directly."""

from __future__ import annotations

import copy
import logging
import math
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pyautoattack
import pytest
import torch
from torch import Tensor, nn

from hahbench.attacks.reference.pyautoattack import Member, PyAutoAttack
from hahbench.errors import HahbenchError
from hahbench.measure import judge
from hahbench.outcome import Candidates, Samples
from hahbench.spec import Norm
from tests.linear_oracle import LinearOracle, linear_oracle

IMAGES = torch.rand((20, 3, 16, 16), generator=torch.Generator().manual_seed(0))
LIBRARY_NORMS = {"l2": "L2", "linf": "Linf"}


@pytest.fixture(scope="module")
def oracle() -> LinearOracle:
    return linear_oracle(8)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Flatten()]
    last = nn.Linear(8 * 3 * 3, 10)
    network = nn.Sequential(*layers, last).eval().requires_grad_(False)
    last.bias.sub_(network(IMAGES).mean(dim=0))  # so that it uses more than one class
    return network


@pytest.fixture(scope="module")
def samples(network: nn.Module) -> Samples:
    """Twenty images, of which the network gets three wrong."""
    labels = network(IMAGES).argmax(dim=1)
    labels[::7] = (labels[::7] + 1) % 10
    return Samples(torch.arange(20), IMAGES, labels)


def broken(model: nn.Module, samples: Samples, images: Tensor) -> list[bool]:
    flags: list[bool] = (model(images).argmax(dim=1) != samples.labels).tolist()
    return flags


@pytest.mark.parametrize(("norm", "member"), [("linf", "apgd-ce"), ("linf", "fab"), ("l2", "apgd-ce"), ("l2", "fab")])
def test_a_sample_breaks_only_when_epsilon_exceeds_its_distance(
    oracle: LinearOracle, norm: Norm, member: Member
) -> None:
    distances = oracle.distances(norm)
    epsilon = float(np.median(distances))
    assert (abs(distances / epsilon - 1) > 0.01).all()
    attack = PyAutoAttack(norm, (member,))  # type: ignore[arg-type]
    candidates = attack(oracle.model, oracle.samples, epsilon, 0, lambda *_: None)
    outcomes = judge(oracle.model, oracle.samples, candidates, norm=norm, epsilon=epsilon, worst_case=True, seconds=0.0)
    assert np.isfinite(outcomes[norm]).tolist() == (distances < epsilon).tolist()


@pytest.mark.parametrize(
    ("norm", "epsilon", "members", "batch_size"),
    [
        ("linf", 0.004, ["apgd-ce", "apgd-dlr"], 12),
        ("l2", 0.05, ["apgd-ce", "fab"], 20),
    ],
)
def test_what_breaks_is_what_the_library_breaks(
    network: nn.Module, samples: Samples, norm: Norm, epsilon: float, members: list[Member], batch_size: int
) -> None:
    attack = PyAutoAttack(norm, tuple(members), batch_size=batch_size)  # type: ignore[arg-type]
    ours = attack(network, samples, epsilon, 3, lambda *_: None)
    library = pyautoattack.AutoAttack(network, norm=LIBRARY_NORMS[norm], eps=epsilon, seed=3, version="standard")
    library.attacks_to_run = members
    images, _ = library.run_standard_evaluation(samples.images, samples.labels, batch_size=batch_size)
    flags = broken(network, samples, images)
    assert 6 <= sum(flags) <= 17
    assert broken(network, samples, ours.images) == flags
    assert torch.equal(ours.images, images)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.006), ("l2", 0.05)])
def test_the_standard_version_breaks_what_the_library_breaks(norm: Norm, epsilon: float) -> None:
    torch.manual_seed(0)
    last = nn.Linear(32, 4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 32), nn.ReLU(), last).eval().requires_grad_(False)
    images = IMAGES[:8, :, ::2, ::2]
    last.bias.sub_(network(images).mean(dim=0))
    labels = network(images).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 4
    samples = Samples(torch.arange(8), images, labels)

    library = pyautoattack.AutoAttack(network, norm=LIBRARY_NORMS[norm], eps=epsilon, seed=3, version="standard")
    assert library.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
    library.apgd_targeted.n_target_classes = library.fab.n_target_classes = 3
    theirs, _ = library.run_standard_evaluation(images.contiguous(), labels)
    attack = PyAutoAttack(norm)  # type: ignore[arg-type]
    ours = attack(network, samples, epsilon, 3, lambda *_: None)

    found, expected = (
        judge(network, samples, candidates, norm=norm, epsilon=epsilon, worst_case=True, seconds=0.0)
        for candidates in (ours, Candidates.untold(theirs))
    )
    flags = expected["adv_pred"] != expected["label"]
    assert 3 <= flags.sum() <= 6
    assert (found["adv_pred"] != found["label"]).tolist() == flags.tolist()
    # The others went through all four members, of which Square alone makes 5,000 queries.
    assert (found["forwards"][~flags] > 5500).all()


def test_the_same_seed_gives_the_same_candidates_and_leaves_the_global_generator(
    network: nn.Module, samples: Samples
) -> None:
    def run(seed: int) -> Tensor:
        return PyAutoAttack("linf", ("apgd-ce",))(network, samples[:4], 0.01, seed, lambda *_: None).images

    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(10)
    assert torch.equal(run(0), first)
    assert not torch.equal(run(1), first)


def test_progress_is_told_often_and_only_goes_forward(network: nn.Module, samples: Samples) -> None:
    told: list[tuple[float, float]] = []
    attack = PyAutoAttack("linf", ("apgd-ce", "apgd-dlr"), batch_size=6)
    candidates = attack(network, samples, 0.004, 0, lambda *values: told.append(values))
    done, accuracy = zip(*told, strict=True)
    assert len(told) > 20
    assert list(done) == sorted(done)
    assert list(accuracy) == sorted(accuracy, reverse=True)
    assert 0 <= done[0] < 0.01
    assert done[-1] == 1
    assert accuracy[0] == 0.85
    assert accuracy[-1] == pytest.approx(1 - np.mean(broken(network, samples, candidates.images)))


def test_queries_are_forward_passes(network: nn.Module, samples: Samples) -> None:
    seen: list[int] = []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    candidates = PyAutoAttack("linf", ("apgd-ce",))(network, samples, 0.008, 0, lambda *_: None)
    handle.remove()
    assert candidates.forwards.sum().item() == pytest.approx(sum(seen))
    assert candidates.forwards[0] == 1
    assert 102 < candidates.forwards[1] < 120


def test_samples_that_are_all_wrong_or_alone(network: nn.Module, samples: Samples) -> None:
    wrong = samples[torch.tensor([0, 7, 14])]
    told: list[tuple[float, float]] = []
    candidates = PyAutoAttack("linf")(network, wrong, 0.1, 0, lambda *values: told.append(values))
    assert torch.equal(candidates.images, wrong.images)
    assert candidates.forwards.tolist() == [1, 1, 1]
    assert told == [(1.0, 0.0)]
    alone = samples[1:2]
    candidates = PyAutoAttack("l2", ("apgd-ce", "apgd-t"))(network, alone, 2.0, 0, lambda *_: None)
    assert broken(network, alone, candidates.images) == [True]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_images_and_models_may_lie_channels_last(network: nn.Module, samples: Samples, norm: Any) -> None:
    model = copy.deepcopy(network).to(memory_format=torch.channels_last)
    few = samples[1:4]
    few = Samples(few.index, few.images.to(memory_format=torch.channels_last), few.labels)
    candidates = PyAutoAttack(norm, ("apgd-ce", "fab"))(model, few, 1.0, 0, lambda *_: None)
    assert broken(network, few, candidates.images) == [True] * 3


def test_few_classes(samples: Samples) -> None:
    torch.manual_seed(0)
    four = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).eval().requires_grad_(False)
    few = Samples(samples.index[:4], samples.images[:4], four(samples.images[:4]).argmax(dim=1))
    candidates = PyAutoAttack("linf", ("apgd-t", "fab-t"))(four, few, 0.5, 0, lambda *_: None)
    assert broken(four, few, candidates.images) == [True] * 4
    two = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)).eval().requires_grad_(False)
    with pytest.raises(HahbenchError, match="member 'apgd-t' needs at least 4 classes, there are 2"):
        PyAutoAttack("linf")(two, few, 0.5, 0, lambda *_: None)


class Quantized(nn.Module):
    """A network that sees 32 grey levels, and so has no gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images * 32).round() / 32)
        return logits


class Random(nn.Module):
    """A network with noise in its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits + torch.empty_like(logits).normal_(0, 0.01, generator=self.generator)


class Dynamic(nn.Module):
    """A network that moves its input along a gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            moved = images.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.network(moved).logsumexp(1).sum(), moved)
        logits: Tensor = self.network(images + 1e-3 * gradient)
        return logits


@pytest.mark.parametrize(
    ("wrap", "members", "doubts"),
    [
        (lambda network: nn.Sequential(network, nn.Softmax(1)), ["apgd-ce"], ["output is a probability distribution"]),
        (Quantized, ["apgd-dlr"], ["points with zero gradient"]),
        (Quantized, ["apgd-ce", "square"], ["Square Attack has decreased the robust accuracy of"]),
        (Random, ["apgd-ce"], ["it seems to be a randomized defense"]),
        (Dynamic, ["apgd-ce"], ["it seems to be a dynamic defense"]),
        (lambda network: network, ["apgd-ce", "apgd-dlr", "square"], []),
    ],
    ids=["softmax", "zero gradient", "square", "random", "dynamic", "ordinary"],
)
def test_a_doubt_of_the_library_is_a_warning_said_once(
    network: nn.Module,
    samples: Samples,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    wrap: Callable[[nn.Module], nn.Module],
    members: list[Member],
    doubts: list[str],
) -> None:
    attack = PyAutoAttack("linf", tuple(members), batch_size=6)
    correct = samples[network(samples.images).argmax(dim=1) == samples.labels]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attack(wrap(network), correct, 0.05, 0, lambda *_: None)
    assert len(caught) == len(doubts)
    for warning, doubt in zip(caught, doubts, strict=True):
        assert str(warning.message).startswith("AutoAttack: ")
        assert doubt in str(warning.message)
        assert warning.filename == __file__
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_the_process_is_left_as_it_was(
    network: nn.Module, samples: Samples, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def trace(frame: FrameType, event: str, argument: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        PyAutoAttack("linf", ("apgd-ce",))(network, samples[:3], 0.01, 0, lambda *_: None)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
    logger = logging.getLogger("auto-attack")
    assert (logger.level, logger.propagate, logger.handlers) == (logging.NOTSET, True, [])


@pytest.mark.parametrize("level", [None, 0.0, -1.0, math.nan])
def test_a_level_is_needed(level: float | None) -> None:
    with pytest.raises(HahbenchError, match=rf"level = {level} is not allowed; .* an epsilon > 0"):
        PyAutoAttack("linf").check_level(level)
    PyAutoAttack("linf").check_level(1e-3)
