"""Models that only look robust are caught, each by the sign of its own trick; honest ones are not."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Mapping
from typing import Literal

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hahbench import catalog
from hahbench.attacks.apgd import Apgd
from hahbench.attacks.diagnostics import diagnose, diagnose_minimum_norm
from hahbench.attacks.engine import begin, drive, merge
from hahbench.attacks.fmn import FastMinimumNorm
from hahbench.attacks.square import Square
from hahbench.data import DATASETS
from hahbench.measure import judge
from hahbench.models.load import load_model
from hahbench.outcome import Candidates, Samples
from hahbench.spec import Norm
from tests.linear_oracle import linear_oracle
from tests.masked_models import HonestWithoutGradients, OneHotOutput, QuantizedInput, RandomResizing, SteepSigmoid

N = 6
SMALL, LARGE = 2 / 255, 8 / 255


@functools.cache
def shipped(name: str) -> nn.Module:
    return load_model(catalog.models()[f"shapes/{name}"]).requires_grad_(False)


@functools.cache
def shapes() -> Samples:
    return DATASETS["shapes"]("test", None).first(N)


def attacked(
    model: nn.Module, samples: Samples, epsilon: float, *, norm: Literal["l2", "linf"] = "linf", queries: int = 0
) -> pd.DataFrame:
    """Judged outcomes of a short APGD and, on what it leaves, as many queries of Square."""
    candidates, logits = begin(model, samples, N)
    ranking = logits.argsort(dim=1, descending=True)
    rows = (ranking[:, 0] == samples.labels).nonzero().squeeze(1)
    images = candidates.images
    apgd = Apgd(norm, epsilon, "ce", ranking=ranking[rows], seed=0, iterations=10)
    driven = drive(apgd, model, samples, batch_size=N, rows=rows, candidates=images)
    merge(candidates, rows, driven, "apgd-ce")
    left = rows[~driven.broken]
    if queries:
        square = Square(norm, epsilon, seed=0, queries=queries)
        driven = drive(square, model, samples, batch_size=N, rows=left, candidates=images)
        merge(candidates, left, driven, "square")
    return judge(model, samples, candidates, norm=norm, epsilon=epsilon, worst_case=True, seconds=1)


def outcomes_of_a_failed_attack(model: nn.Module, samples: Samples, *, backwards: int) -> pd.DataFrame:
    nothing = Candidates.untold(samples.images, forwards=100, backwards=backwards)
    return judge(model, samples, nothing, norm="linf", epsilon=LARGE, worst_case=True, seconds=1)


def reasons(
    model: nn.Module,
    samples: Samples,
    outcomes: pd.DataFrame,
    epsilon: float,
    *,
    norm: Literal["l1", "l2", "linf"] = "linf",
    others: Mapping[str, nn.Module] = types.MappingProxyType({}),
) -> list[str]:
    return diagnose(model, samples, outcomes, norm=norm, epsilon=epsilon, seed=0, others=others)


class Tampered(nn.Module):
    """A classifier of which only the call is replaced."""

    def __init__(self, classifier: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.classifier, self.tampered = classifier, forward

    def forward(self, images: Tensor) -> Tensor:
        return self.tampered(self.classifier, images)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", SMALL), ("linf", LARGE), ("l2", 0.25), ("l2", 2.0)])
def test_an_honest_model_gives_no_reason(norm: Literal["l2", "linf"], epsilon: float) -> None:
    model = shipped("Standard")
    outcomes = attacked(model, shapes(), epsilon, norm=norm)
    assert reasons(model, shapes(), outcomes, epsilon, norm=norm, others={"HaH": shipped("HaH")}) == []


def test_pixels_that_a_model_leaves_out_are_no_reason() -> None:
    model = Tampered(shipped("Standard"), lambda model, images: model(images[..., ::4, ::4].repeat(1, 1, 4, 4)))
    samples = Samples(shapes().index, shapes().images, model(shapes().images).argmax(dim=1))
    assert reasons(model, samples, attacked(model, samples, LARGE), LARGE) == []


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_linear_model_whose_robust_samples_are_known_gives_no_reason(norm: Literal["l1", "l2", "linf"]) -> None:
    oracle = linear_oracle(N)
    distances = torch.from_numpy(oracle.distances(norm))
    epsilon = float(distances.median()) * 1.001
    outcomes = outcomes_of_a_failed_attack(oracle.model, oracle.samples, backwards=100)
    outcomes.loc[(distances < epsilon).numpy(), "adv_pred"] = -1
    assert reasons(oracle.model, oracle.samples, outcomes, epsilon, norm=norm) == []


@pytest.mark.parametrize(
    ("masked", "sign"),
    [
        (QuantizedInput, f"the gradient of {N} of {N} samples is zero in over 90% of the colour values"),
        (SteepSigmoid, f"the gradient of {N} of {N} samples is zero in over 90% of the colour values"),
        (RandomResizing, r"the output is random: .* of \d+ (predictions|images) change"),
        (OneHotOutput, f"{N} of {N} outputs are one-hot or saturated probabilities"),
        (
            HonestWithoutGradients,
            r"the output is another one when gradients are asked for: \d+ of \d+ predictions change",
        ),
    ],
)
def test_each_way_to_mask_gradients_is_caught(masked: Callable[[nn.Module], nn.Module], sign: str) -> None:
    model = masked(shipped("Standard")).eval()
    torch.manual_seed(0)
    outcomes = attacked(model, shapes(), SMALL)
    assert any(re.match(sign, reason) for reason in reasons(model, shapes(), outcomes, SMALL))


@pytest.mark.parametrize("norm", ["l0", "l1", "l2", "linf"])
def test_minimum_norms_of_an_honest_model_give_no_reason(norm: Norm) -> None:
    assert reasons_against_norms(shipped("Standard"), norm) == []


@pytest.mark.parametrize(
    ("masked", "sign"),
    [
        (QuantizedInput, f"{N} of {N} samples were not broken at any distance"),
        (SteepSigmoid, f"the gradient of {N} of {N} samples is zero in over 90% of the colour values"),
        (RandomResizing, "the output is random"),
    ],
)
def test_minimum_norms_of_masked_gradients_are_doubted(masked: Callable[[nn.Module], nn.Module], sign: str) -> None:
    assert any(reason.startswith(sign) for reason in reasons_against_norms(masked(shipped("Standard")).eval(), "l2"))


def reasons_against_norms(model: nn.Module, norm: Norm) -> list[str]:
    attack = FastMinimumNorm(norm, steps=60)
    candidates = attack(model, shapes(), None, 0, lambda *_: None)
    outcomes = judge(model, shapes(), candidates, norm=norm, epsilon=None, worst_case=True, seconds=1)
    return diagnose_minimum_norm(model, shapes(), outcomes, seed=0)


def test_what_square_broke_and_white_box_attacks_did_not_is_told_from_the_outcomes() -> None:
    model = QuantizedInput(shipped("Standard"))
    outcomes = attacked(model, shapes(), 16 / 255, queries=50)
    by_square, robust = (outcomes["member"] == "square").sum(), (outcomes["adv_pred"] == outcomes["label"]).sum()
    assert by_square >= 2
    sign = f"Square, which sees no gradient, broke {by_square} of {by_square + robust} samples"
    assert any(reason.startswith(sign) for reason in reasons(model, shapes(), outcomes, 16 / 255))


def test_an_attack_that_failed_is_outdone_by_every_weaker_one() -> None:
    model = shipped("Standard")
    outcomes = outcomes_of_a_failed_attack(model, shapes(), backwards=100)
    found = reasons(model, shapes(), outcomes, LARGE)
    assert [re.sub(r"broke \d+", "broke k", reason) for reason in found] == [
        f"100 queries of Square, which sees no gradient, broke k of {N} samples left robust",
        f"a single step broke k of {N} samples that the white-box attacks did not",
    ]


def test_images_perturbed_on_the_honest_model_break_the_masked_one() -> None:
    model = HonestWithoutGradients(shipped("Standard"))
    outcomes = attacked(model, shapes(), LARGE)
    assert (outcomes["adv_pred"] == outcomes["label"]).all()
    standard = shipped("Standard")
    sign = f"images perturbed on model Standard broke {N} of {N} samples left robust"
    assert sign in reasons(model, shapes(), outcomes, LARGE, others={"Standard": standard})
    several = {"Copy": standard, "Itself": model, "Standard": standard}
    sign = f"images perturbed on 2 of 3 other models broke up to {N} of {N} samples left robust, most on Standard"
    assert sign in reasons(model, shapes(), outcomes, LARGE, others=several)


def test_an_attack_without_gradients_is_not_blamed_for_being_weak() -> None:
    oracle = linear_oracle(N)
    outcomes = outcomes_of_a_failed_attack(oracle.model, oracle.samples, backwards=0)
    assert reasons(oracle.model, oracle.samples, outcomes, LARGE) == []


def test_a_model_that_nothing_breaks_is_doubted() -> None:
    level = torch.arange(4.0).flip(0)
    model = Tampered(shipped("Standard"), lambda _, images: level + 1e-3 * images.mean(dim=(1, 2, 3)).unsqueeze(1))
    images = DATASETS["shapes"]("test", None).first(24).images
    samples = Samples(torch.arange(24), images, torch.zeros(24, dtype=torch.int64))
    outcomes = outcomes_of_a_failed_attack(model, samples, backwards=100)
    outcomes.loc[:11, "adv_pred"] = 1
    found = reasons(model, samples, outcomes, LARGE)
    assert "24 of 24 samples stay robust when the perturbation is unbounded" in found
    assert "twice the epsilon broke none of 12 samples left robust, although epsilon broke 50% of all" in found


@pytest.mark.parametrize(
    ("tampered", "sign"),
    [
        (lambda model, images: model(images).detach(), "the logits have no gradient"),
        (lambda model, images: model(images + 0 * (0 * images).sqrt()), f"the gradient of {N} of {N} samples is NaN"),
        (lambda model, images: model(images - images.mean(dim=0)), "the output depends on the other images of a batch"),
    ],
)
def test_other_signs(tampered: Callable[[nn.Module, Tensor], Tensor], sign: str) -> None:
    oracle = linear_oracle(N)
    model = Tampered(oracle.model, tampered)
    labels = model(oracle.samples.images).argmax(dim=1)
    samples = Samples(oracle.samples.index, oracle.samples.images, labels)
    outcomes = outcomes_of_a_failed_attack(model, samples, backwards=100)
    assert any(reason.startswith(sign) for reason in reasons(model, samples, outcomes, SMALL))


def test_a_random_model_is_diagnosed_the_same_again_and_leaves_the_generator_alone() -> None:
    oracle = linear_oracle(N)
    model = RandomResizing(oracle.model)
    outcomes = outcomes_of_a_failed_attack(model, oracle.samples, backwards=100)
    outcomes["clean_pred"] = outcomes["adv_pred"] = outcomes["label"]
    state = torch.get_rng_state()
    first = reasons(model, oracle.samples, outcomes, SMALL)
    assert first
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert reasons(model, oracle.samples, outcomes, SMALL) == first


def test_where_nothing_is_classified_correctly_there_is_nothing_to_doubt() -> None:
    wrong = Samples(shapes().index, shapes().images, (shapes().labels + 1) % 4)
    model = OneHotOutput(shipped("Standard"))
    outcomes = outcomes_of_a_failed_attack(model, wrong, backwards=100)
    assert reasons(model, wrong, outcomes, SMALL) == []
