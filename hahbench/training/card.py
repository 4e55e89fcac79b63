"""The card of a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from hahbench.errors import HahbenchError
from hahbench.registry import import_attribute
from hahbench.spec import ModelCard
from hahbench.user_code import is_importable_from


def trained_card(card: ModelCard, dataset: str, recipe: Mapping[str, Any], weights: Path) -> ModelCard:
    """The card of what ``card`` becomes when it is trained; it needs no other card, and lacks the weights' SHA-256.

    Args:
        card: what is trained.
        dataset: the name of the data set, which takes the place of the folder in the card's name.
        recipe: its ``train`` table, which takes the place of the card's.
        weights: the file that the weights go to; the card goes beside it, as ``.toml``.

    Raises:
        HahbenchError: another process could not import the card's loader.
    """
    name = f"{dataset}/{card.name.rpartition('/')[2]}"
    return dataclasses.replace(
        card,
        name=name,
        loader=loader_path(card, weights.parent),
        weights=weights,
        sha256=None,
        dataset=dataset,
        train=recipe,
        display=card.display or name,
        argument=str(weights.with_suffix(".toml")),
    )


def card_toml(card: ModelCard) -> str:
    """The text of a trained model's card file.

    Raises:
        HahbenchError: TOML has no such type as one of the parameters.
    """
    assert card.weights is not None
    top: dict[str, object] = {"name": card.name, "loader": card.loader, "display": card.display}
    top["reference"] = card.reference
    if card.link:
        top["link"] = card.link
    if card.additional_data is not None:
        top["additional_data"] = card.additional_data
    file = {"dataset": card.dataset, "weights": card.weights.name, "sha256": card.sha256 or ""}
    try:
        return tomli_w.dumps({**top, **file, "params": dict(card.params), "train": dict(card.train)})
    except TypeError as error:
        raise HahbenchError(f"model {card.name!r}: a parameter cannot be written as TOML: {error}") from error


def loader_path(card: ModelCard, out: Path) -> str:
    """The loader as a card in the folder ``out`` can name it.

    Raises:
        HahbenchError: another process could not import it.
    """
    loader = card.loader
    if isinstance(loader, str):
        if not is_importable_from(out, loader.partition(":")[0]):
            raise HahbenchError(
                f"model {card.name!r}: its trained card could not name the loader {loader!r}, which lies beside "
                f"{card.argument} and is not found from {out}; choose the folder of the former for --out, with a key "
                "'name' in the card that is not the name of its file, or put the loader into an importable module"
            )
        return loader
    module = str(getattr(loader, "__module__", ""))
    path = f"{module}:{getattr(loader, '__qualname__', '')}"
    try:
        # A script, or a file that --model names, can be imported here only because it has been run already.
        if is_importable_from(out, module) and import_attribute(path) is loader:
            return path
    except HahbenchError:
        pass
    raise HahbenchError(
        f"model {card.name!r}: its trained card could not name the loader {path!r}, which cannot be imported; "
        "put the loader into an importable module and name it in a card"
    )
