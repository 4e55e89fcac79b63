"""hahbench's models in RobustBench: after this module is imported, RobustBench's ``load_model`` finds them::

    import hahbench.robustbench_plugin
    import robustbench

    model = robustbench.load_model("their-model", dataset="cifar10", threat_model="Linf")

Every registered model is there under its own name, for the data set that it was trained on, or for all of RobustBench's
where its card names none. ``offer`` adds what has no name yet, such as the card of a model that was just trained. The
names of RobustBench's own models stay theirs.
"""

from __future__ import annotations

import functools
import importlib
import warnings

from torch import nn

from hahbench.catalog import models, resolve_models
from hahbench.errors import ModelError
from hahbench.models.load import load_model
from hahbench.models.robustbench_import import import_robustbench
from hahbench.spec import ModelCard


def offer(argument: str) -> list[str]:
    """Put models into RobustBench's zoo.

    Args:
        argument: what stands for them after ``--model``: a name or the path of a card, a Python file or a program.

    Returns:
        The names under which RobustBench has them, without folders.

    Raises:
        HahbenchError: there is no such model, or RobustBench cannot be imported.
    """
    return [_offer(card) for card in resolve_models(argument, "cifar10")]


def _offer(card: ModelCard) -> str:
    enums = importlib.import_module("robustbench.model_zoo.enums")
    classes = importlib.import_module("robustbench.utils").DATASET_CLASSES
    zoo = importlib.import_module("robustbench.model_zoo").model_dicts
    name = card.name.rpartition("/")[2]
    trained_on = (card.dataset or "").removesuffix("-jpeg")
    taken = []
    for dataset in enums.BenchmarkDataset:
        if trained_on not in ("", dataset.value):
            continue
        # A list of files to download that is empty: what the function returns is taken with the weights that it has.
        entry = {"model": functools.partial(_load, card, classes[dataset]), "gdrive_id": []}
        for threat_model, known in zoo[dataset].items():
            if name in known and not _is_ours(known[name]):
                taken.append(f"{dataset.value}/{threat_model.value}")
            else:
                known[name] = entry
    if taken:
        warnings.warn(
            f"RobustBench has a model {name!r} of its own under {', '.join(taken)}, which stays; a card's key 'name' "
            "can give the other one another name",
            stacklevel=3,
        )
    return name


def _is_ours(entry: dict[str, object]) -> bool:
    return getattr(entry["model"], "func", None) is _load


def _load(card: ModelCard, classes: int) -> nn.Module:
    if card.train and card.weights is None:
        raise ModelError(
            f"model {card.name!r} has no weights; train it with 'hahbench train {card.name} --dataset cifar10', then "
            "give hahbench.robustbench_plugin.offer the card that it writes"
        )
    return load_model(card, classes)


def _offer_all() -> None:
    import_robustbench()
    registry = models()
    with warnings.catch_warnings():
        # Nobody asked for the one model of the same name, Standard.
        warnings.simplefilter("ignore")
        for name in registry:
            _offer(registry[name])


_offer_all()
