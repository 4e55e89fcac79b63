"""How a model is trained: the ``[train]`` table of its card."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from hahbench.errors import CatalogError
from hahbench.models.layers import READINGS
from hahbench.registry import suggest
from hahbench.spec import ModelCard
from hahbench.training.costs import AdversarialCost, Cost, HaHCost, StandardCost


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Adam without weight decay, its learning rate divided by ten at the milestones.

    The defaults are those of Cekic, Bakiskan and Madhow 2022.

    Attributes:
        cost: what is minimised.
        epochs: passes over the training images.
        batch_size: images a step.
        lr: the learning rate before the first milestone.
        milestones: fractions of the epochs, in (0, 1), ascending; each falls on the nearest whole epoch.
        seed: of the initial weights, the order of the images, their augmentation and the attack's random starts.
    """

    cost: Cost
    epochs: int = 100
    batch_size: int = 128
    lr: float = 1e-3
    milestones: tuple[float, ...] = (0.6, 0.8)
    seed: int = 2022

    @classmethod
    def from_card(cls, card: ModelCard) -> Recipe:
        """The recipe that a card's ``train`` mapping describes.

        Keys that belong to another cost than the mapping's are ignored, so that a card can amend the cost of its base.

        Raises:
            CatalogError: the mapping is empty, has an unknown key or a value that is not allowed, or lacks a key that
                its cost needs.
        """
        if not card.train:
            raise CatalogError(f"model {card.name!r} has no [train] table, so it cannot be trained")
        name = card.train.get("cost")
        if not isinstance(name, str) or name not in _COSTS:
            raise _not_allowed(card, "cost", name, f"one of {', '.join(_COSTS)}")
        given: dict[str, Any] = {}
        for key, value in card.train.items():
            if key == "cost":
                continue
            if key not in _VALUES:
                hint = suggest(key, ["cost", *_VALUES])
                raise CatalogError(f"model {card.name!r}: unknown key train.{key}; {hint}")
            parse, allowed = _VALUES[key]
            try:
                given[key] = parse(value)
            except (TypeError, ValueError, ZeroDivisionError, OverflowError):
                raise _not_allowed(card, key, value, allowed) from None
        cost_type, cost_keys = _COSTS[name]
        if cost_type is HaHCost and "alphas" not in given:
            raise CatalogError(f"model {card.name!r}: train.alphas is missing; the cost 'hah' needs one for each block")
        cost = cost_type(**{field: given[key] for key, field in cost_keys.items() if key in given})
        return cls(cost, **{key: given[key] for key in _RECIPE_KEYS if key in given})

    def to_card(self, card: ModelCard) -> dict[str, Any]:
        """The ``train`` mapping that says all of this recipe and nothing else, as ``card`` words it where it does."""
        name = card.train["cost"]
        used = {key: getattr(self.cost, field) for key, field in _COSTS[name][1].items()}
        words = {key: card.train.get(key, value) for key, value in used.items()}
        # Epochs may be others than the card's.
        found = {"cost": name, **words, **{key: getattr(self, key) for key in _RECIPE_KEYS}}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def _not_allowed(card: ModelCard, key: str, value: object, allowed: str) -> CatalogError:
    return CatalogError(f"model {card.name!r}: train.{key} must be {allowed}, not {value!r}")


def _whole(least: int, most: float = math.inf) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return parse


def _number(allowed: Callable[[float], bool]) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if isinstance(value, bool):
            raise TypeError
        number = float(Fraction(value))
        if not allowed(number):
            raise ValueError
        return number

    return parse


def _numbers(allowed: Callable[[float], bool]) -> Callable[[Any], tuple[float, ...]]:
    number = _number(allowed)

    def parse(value: Any) -> tuple[float, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(number(item) for item in value)

    return parse


def _milestones(value: Any) -> tuple[float, ...]:
    fractions = _numbers(lambda fraction: 0 < fraction < 1)(value)
    if list(fractions) != sorted(set(fractions)):
        raise ValueError
    return fractions


def _reading(value: Any) -> str:
    if value not in READINGS:
        raise ValueError
    return str(value)


_COSTS: Mapping[str, tuple[Callable[..., Cost], Mapping[str, str]]] = {
    "standard": (StandardCost, {}),
    "hah": (
        HaHCost,
        {
            "alphas": "alphas",
            "lambda": "anti_hebbian_weight",
            "active_fraction": "active_fraction",
            "cost_reading": "reading",
        },
    ),
    "adversarial": (AdversarialCost, {"epsilon": "epsilon", "step_size": "step_size", "steps": "steps"}),
}
"""The costs by their name in a card, each with the keys that it reads and the field that each key sets."""

_RECIPE_KEYS = ("epochs", "batch_size", "lr", "milestones", "seed")

_VALUES: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "epochs": (_whole(1), "a whole number of at least 1"),
    "batch_size": (_whole(1), "a whole number of at least 1"),
    "lr": (_number(lambda lr: lr > 0), "a number above 0"),
    "milestones": (_milestones, "ascending fractions of the epochs, each above 0 and below 1, such as [0.6, 0.8]"),
    "seed": (_whole(0, 2**63 - 1), "a whole number from 0 to 2^63 - 1"),
    "alphas": (_numbers(lambda alpha: alpha >= 0), "a list of numbers of at least 0, one for each HaH block"),
    "lambda": (_number(lambda weight: weight >= 0), "a number of at least 0"),
    "active_fraction": (_number(lambda fraction: 0 < fraction <= 1), "a number above 0 and at most 1"),
    "cost_reading": (_reading, "'paper' or 'release'"),
    "epsilon": (_number(lambda epsilon: 0 < epsilon <= 1), "above 0 and at most 1, such as 0.03 or '8/255'"),
    "step_size": (_number(lambda step: 0 < step <= 1), "above 0 and at most 1, such as 0.008 or '2/255'"),
    "steps": (_whole(1), "a whole number of at least 1"),
}
