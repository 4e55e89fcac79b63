"""The weights that come with the package."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from hahbench import catalog
from hahbench.attacks import build_attack
from hahbench.data import DATASETS, ImageSet, load_images
from hahbench.measure import judge
from hahbench.models.load import load_model
from hahbench.spec import AttackSpec

SHAPES, CIFAR10 = (
    [name for name in catalog.models() if name.startswith(f"{dataset}/")] for dataset in ("shapes", "cifar10")
)
N = 200

CLEAN = AttackSpec("clean", "clean")
NOISE = AttackSpec("noise", "gaussian-noise", levels=(0.1,))
APGD = AttackSpec("apgd", "autoattack", "linf", levels=(2 / 255,), params={"members": ["apgd-ce"]})


@pytest.fixture(scope="module")
def shapes() -> ImageSet:
    return DATASETS["shapes"]("test", None)


@pytest.fixture(scope="module")
def cifar10() -> ImageSet:
    folder = os.environ.get("HAHBENCH_CIFAR10_ORIGINAL")
    if not folder:
        pytest.skip("HAHBENCH_CIFAR10_ORIGINAL names no folder of the first 846 test images")
    return load_images("cifar10", "test", Path(folder))


def robust_accuracy(name: str, images: ImageSet, attack: AttackSpec, n: int = N) -> float:
    model = load_model(catalog.models()[name]).requires_grad_(False)
    samples = images.first(n)
    built = build_attack(attack)
    level = attack.levels[0] if attack.levels else None
    candidates = built(model, samples, level, 0, lambda *_: None)
    epsilon = level if built.worst_case else None
    outcomes = judge(
        model, samples, candidates, norm=attack.norm, epsilon=epsilon, worst_case=built.worst_case, seconds=1
    )
    return float((outcomes["adv_pred"] == outcomes["label"]).mean())


def test_every_model_of_a_shipped_suite_has_weights() -> None:
    suites = catalog.suites()
    assert sorted(SHAPES) == sorted(f"shapes/{name}" for name in suites["quick"].models)
    of_paper = [model for suite, _ in catalog.resolve_suites("paper") for model in suite.models]
    # Figure 6 is of the plain attack on networks of one to five blocks; the paper has one reading of its loss.
    again = ("HaH-release-loss", "HaH-seed-2023", "HaH-eighth-width", "HaH-eighth-width-100-epochs")
    others = {*(f"HaH-{blocks}-BPDA" for blocks in range(1, 6)), *again, *(f"{name}-BPDA" for name in again)}
    others |= {f"Standard-eighth-width{end}" for end in ("", "-100-epochs", "-jpeg-20")}
    assert sorted(CIFAR10) == sorted(f"cifar10/{name}" for name in {*of_paper, *others})
    for name in ("corruptions", "autoattack"):
        assert set(suites[name].models) <= set(of_paper)


@pytest.mark.parametrize("name", [*SHAPES, *CIFAR10])
def test_shipped_weights_match_their_card(name: str) -> None:
    card = catalog.models()[name]
    assert card.sha256
    assert card.dataset == ("shapes" if name in SHAPES else "cifar10-jpeg")
    load_model(card)


@pytest.mark.parametrize("name", SHAPES)
def test_models_of_shapes_classify(name: str, shapes: ImageSet) -> None:
    assert robust_accuracy(name, shapes, CLEAN) >= 0.9


def test_standard_is_as_fragile_on_shapes_as_on_natural_images(shapes: ImageSet) -> None:
    clean = robust_accuracy("shapes/Standard", shapes, CLEAN)
    assert robust_accuracy("shapes/Standard", shapes, NOISE) <= clean - 0.25
    assert robust_accuracy("shapes/Standard", shapes, APGD, n=50) <= clean - 0.25


@pytest.mark.parametrize("name", CIFAR10)
def test_models_of_cifar10_classify_the_originals_as_their_log_says_of_jpeg(name: str, cifar10: ImageSet) -> None:
    """Within four standard deviations of 846 samples, and two points for the difference between the images."""
    weights = catalog.models()[name].weights
    assert weights is not None
    logged = pd.read_csv(weights.with_suffix(".log.csv"))["test_accuracy"].iloc[-1]
    tolerance = 4 * (logged * (1 - logged) / len(cifar10)) ** 0.5 + 0.02
    assert robust_accuracy(name, cifar10, CLEAN, len(cifar10)) == pytest.approx(logged, abs=tolerance)
