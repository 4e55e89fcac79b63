"""A card's [train] table becomes a recipe, or an error that names the key, what was given and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from hahbench.catalog import models
from hahbench.errors import CatalogError
from hahbench.spec import ModelCard
from hahbench.training.costs import AdversarialCost, HaHCost, StandardCost
from hahbench.training.recipe import Recipe


def recipe(**train: Any) -> Recipe:
    return Recipe.from_card(ModelCard("M", "module:loader", train=train))


def test_the_defaults_are_the_paper_s() -> None:
    assert recipe(cost="standard") == Recipe(
        StandardCost(), epochs=100, batch_size=128, lr=1e-3, milestones=(0.6, 0.8), seed=2022
    )
    assert recipe(cost="adversarial").cost == AdversarialCost(epsilon=8 / 255, step_size=2 / 255, steps=10)
    assert recipe(cost="hah", alphas=[1e-3]).cost == HaHCost((1e-3,), 0.1, 0.1, "paper")


def test_every_key_is_read() -> None:
    common = {"epochs": 7, "batch_size": 5, "lr": 0.25, "milestones": [0.5], "seed": 3}
    hah = {"alphas": [1, 0.5], "lambda": 0.2, "active_fraction": 0.3, "cost_reading": "release"}
    assert recipe(cost="hah", **common, **hah) == Recipe(
        HaHCost((1.0, 0.5), 0.2, 0.3, "release"), 7, 5, 0.25, (0.5,), 3
    )
    assert recipe(cost="adversarial", epsilon="4/255", step_size=0.01, steps=2).cost == AdversarialCost(
        4 / 255, 0.01, 2
    )


def test_keys_of_another_cost_are_ignored_so_that_a_card_can_amend_the_cost_of_its_base() -> None:
    assert recipe(cost="standard", alphas=[1e-3], epsilon="8/255") == recipe(cost="standard")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({}, "model 'M' has no [train] table, so it cannot be trained"),
        ({"epochs": 3}, "model 'M': train.cost must be one of standard, hah, adversarial, not None"),
        ({"cost": "hebb"}, "model 'M': train.cost must be one of standard, hah, adversarial, not 'hebb'"),
        ({"cost": ["hah"]}, "model 'M': train.cost must be one of standard, hah, adversarial, not ['hah']"),
        ({"cost": "standard", "epoch": 3}, "model 'M': unknown key train.epoch; did you mean 'epochs'?"),
        ({"cost": "hah"}, "model 'M': train.alphas is missing; the cost 'hah' needs one for each block"),
        ({"cost": "standard", "lr": "fast"}, "model 'M': train.lr must be a number above 0, not 'fast'"),
    ],
)
def test_the_message_says_what_was_given_and_what_is_allowed(train: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        recipe(**train)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", 0),
        ("lr", 0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", True),
        ("milestones", [0.8, 0.6]),
        ("milestones", [0.6, 0.6]),
        ("milestones", [60, 80]),
        ("milestones", 0.6),
        ("seed", -1),
        ("seed", 2**63),
        ("alphas", 0.1),
        ("alphas", [-0.1]),
        ("alphas", ["a"]),
        ("lambda", -1),
        ("active_fraction", 0),
        ("active_fraction", 1.1),
        ("cost_reading", "other"),
        ("epsilon", "8/0"),
        ("epsilon", "8//255"),
        ("epsilon", 8),
        ("step_size", 0),
        ("steps", 0),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(key: str, value: Any) -> None:
    with pytest.raises(CatalogError, match=rf"^model 'M': train\.{key} must be .*, not "):
        recipe(**{"cost": "standard", key: value})


def test_the_shipped_cards_have_recipes_that_fit_their_models() -> None:
    registry = models()
    cards = [registry[name] for name in registry if registry[name].train]
    assert {"Standard", "Adv", "HaH"} <= {card.name for card in cards}
    for card in cards:
        cost = Recipe.from_card(card).cost
        if isinstance(cost, HaHCost):
            assert len(cost.alphas) == card.params["hah_blocks"]
    # The values of Cekic, Bakiskan and Madhow 2022.
    assert registry["HaH"].train["alphas"] == [4.5e-3, 2.5e-3, 1.3e-3, 1e-3, 8e-4, 5e-4]
