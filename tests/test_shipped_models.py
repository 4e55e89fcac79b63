"""The weights that come with the package, on the data set that comes with it."""

from __future__ import annotations

import pytest

from hahbench import catalog
from hahbench.attacks import build_attack
from hahbench.data import DATASETS
from hahbench.measure import judge
from hahbench.models.load import load_model
from hahbench.spec import AttackSpec

SHIPPED = [name for name in catalog.models() if name.startswith("shapes/")]
N = 200


def robust_accuracy(name: str, attack: AttackSpec, n: int = N) -> float:
    model = load_model(catalog.models()[name]).requires_grad_(False)
    samples = DATASETS["shapes"]("test", None).first(n)
    built = build_attack(attack)
    level = attack.levels[0] if attack.levels else None
    candidates = built(model, samples, level, 0, lambda *_: None)
    epsilon = level if built.worst_case else None
    outcomes = judge(
        model, samples, candidates, norm=attack.norm, epsilon=epsilon, worst_case=built.worst_case, seconds=1
    )
    return float((outcomes["adv_pred"] == outcomes["label"]).mean())


CLEAN = AttackSpec("clean", "clean")
NOISE = AttackSpec("noise", "gaussian-noise", levels=(0.1,))
APGD = AttackSpec("apgd", "autoattack", "linf", levels=(2 / 255,), params={"members": ["apgd-ce"]})


def test_every_model_of_the_quick_suite_has_weights() -> None:
    assert sorted(SHIPPED) == sorted(f"shapes/{name}" for name in catalog.suites()["quick"].models)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_match_their_card_and_classify(name: str) -> None:
    card = catalog.models()[name]
    assert card.sha256
    assert card.dataset == "shapes"
    assert robust_accuracy(name, CLEAN) >= 0.9


def test_standard_is_as_fragile_on_shapes_as_on_natural_images() -> None:
    clean = robust_accuracy("shapes/Standard", CLEAN)
    assert robust_accuracy("shapes/Standard", NOISE) <= clean - 0.25
    assert robust_accuracy("shapes/Standard", APGD, n=50) <= clean - 0.25
