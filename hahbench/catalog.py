"""Model cards, attack specs and suites: TOML files to specs, and names to either."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import tomllib
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hahbench.errors import CatalogError, UnknownNameError
from hahbench.registry import Registry, suggest
from hahbench.spec import EXHIBITS, NORMS, AttackSpec, ModelCard, Suite
from hahbench.user_code import import_from, run_file

F = TypeVar("F", bound=Callable[..., Any])

_CARD_KEYS = {
    "name": str,
    "base": str,
    "loader": str,
    "params": dict,
    "weights": str,
    "sha256": str,
    "dataset": str,
    "train": dict,
    "display": str,
    "reference": str,
    "link": str,
    "additional_data": bool,
}
# Of files that hold a whole model; from_file in models/sources.py reads them.
_PROGRAM_SUFFIXES = (".pt", ".ts", ".pt2")
_SOURCES = ("robustbench", "timm", "torchvision")
_ROBUSTBENCH = {
    "dataset": ("cifar10", "cifar100", "imagenet"),
    "threat_model": ("Linf", "L2", "corruptions", "corruptions_3d"),
}
_ATTACK_KEYS = {"kind": str, "norm": str, "levels": list, "params": dict, "seed": int, "draws": int}
_SUITE_KEYS = {"models": list, "attacks": list, "dataset": str, "n": int, "exhibits": list, "include": list}
_MOST = 2**31 - 1
_TYPE_NAMES = {str: "a string", dict: "a table", list: "a list", int: "a whole number", bool: "true or false"}


def data_folder(noun: str) -> Path:
    """The folder of shipped ``models``, ``attacks`` or ``reports``: in the wheel, else in the checkout."""
    package = Path(__file__).parent
    installed = package / "catalog_data" / noun
    return installed if installed.is_dir() else package.parent / noun


# --- models -----------------------------------------------------------------------------------------------------------


@functools.cache
def models() -> Registry[ModelCard]:
    """Every model that has a name: the shipped cards, those of installed packages and those registered in code."""
    registry: Registry[ModelCard] = Registry(
        "model", "hahbench.models", plugin=lambda name, path: ModelCard(name=name, loader=path, display=name)
    )
    folder = data_folder("models")
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.toml"))}
    cards: dict[str, ModelCard] = {}

    def card(name: str, where: Path) -> ModelCard:
        if name not in files:
            raise CatalogError(f"{where}: key 'base': {name!r} is no model; {suggest(name, list(files))}")
        if name not in cards:
            cards[name] = _read_card(files[name], name, card)
        return cards[name]

    for name, path in files.items():
        registry.register(name, card(name, path))
    return registry


def register_model(
    name: str,
    *,
    weights: str | None = None,
    dataset: str | None = None,
    display: str | None = None,
    reference: str = "",
    link: str = "",
    additional_data: bool | None = None,
) -> Callable[[F], F]:
    """Decorator: give a model a name.

    The decorated function returns a module that maps images in [0, 1] of shape (N, C, H, W) to logits.

    Args:
        name: the name to use on the command line.
        weights: a ``.safetensors`` or ``.pt`` file that is loaded into the module; its path counts from the folder of
            the decorated function's file.
        dataset: what the weights were trained on, as for ``--dataset``; runs on another are refused. None where nobody
            says.
        display: the name shown in reports; by default ``name``.
        reference: the paper.
        link: its address.
        additional_data: whether the weights were trained on more than the data set; None where nobody says.

    Raises:
        DuplicateNameError: the name is taken.
    """

    def register(loader: F) -> F:
        path = None if weights is None else Path(inspect.getfile(loader)).parent / weights
        card = ModelCard(
            name=name,
            loader=loader,
            weights=path,
            dataset=dataset,
            display=display or name,
            reference=reference,
            link=link,
            additional_data=additional_data,
        )
        models().register(name, card)
        return loader

    return register


def resolve_models(name: str, dataset: str) -> list[ModelCard]:
    """The cards that a model argument stands for.

    Args:
        name: as for ``find_model``; or the path of a card (``.toml``); or that of a Python file (``.py``), which stands
            for all models that it registers; or ``file.py:NAME``, one that it registers, or a module, or a function
            that returns one, of that name in it; or the path of a TorchScript (``.pt``, ``.ts``) or ``torch.export``
            (``.pt2``) file. Cards and Python files may name modules that lie beside them.
        dataset: the data set in use; on ``shapes``, ``HaH`` stands for ``shapes/HaH`` where there is such a card.

    Raises:
        UnknownNameError: there is no such model.
        CatalogError: the file is missing or wrong.
    """
    return [dataclasses.replace(card, argument=name) for card in _resolve(name, dataset)]


def _resolve(name: str, dataset: str) -> list[ModelCard]:
    if name.endswith(".toml"):
        return [read_card(Path(name))]
    registry = models()
    if name.endswith(".py"):
        registered = run_python_file(Path(name))
        if not registered:
            raise CatalogError(
                f"{name}: registers no model; call register_model in it, or give {name}:NAME, a class in it"
            )
        return [registry[model] for model in registered]
    file, separator, attribute = name.rpartition(".py:")
    if separator:
        return [_in_python_file(Path(f"{file}.py"), attribute)]
    path = Path(name)
    if path.suffix in _PROGRAM_SUFFIXES:
        return [ModelCard(path.stem, "hahbench.models.sources:from_file", weights=path, display=path.stem)]
    return [find_model(f"{dataset}/{name}" if f"{dataset}/{name}" in registry else name)]


def find_model(name: str) -> ModelCard:
    """The model of this name.

    Args:
        name: a registered name; or ``torchvision:NAME`` or ``timm:NAME``, an architecture of these libraries with
            random weights; or ``robustbench:DATASET/THREAT_MODEL/NAME``, a model of RobustBench's zoo with its weights.

    Raises:
        UnknownNameError: there is no such model.
        CatalogError: a name of RobustBench's has not that form.
    """
    source, separator, path = name.partition(":")
    if not separator or name in models():
        return models()[name]
    if source not in _SOURCES:
        raise UnknownNameError(f"unknown model {name!r}; before the colon: {suggest(source, list(_SOURCES))}")
    card = ModelCard(name, f"hahbench.models.sources:from_{source}", {"name": path}, display=f"{path} ({source})")
    if source != "robustbench":
        return card
    parts = path.split("/")
    for part, (key, allowed) in zip(parts, _ROBUSTBENCH.items(), strict=False):
        if part not in allowed:
            raise CatalogError(f"model {name!r}: {key} {part!r}; {suggest(part, list(allowed))}")
    if len(parts) != len(_ROBUSTBENCH) + 1:
        raise CatalogError(f"model {name!r}; allowed: 'robustbench:DATASET/THREAT_MODEL/NAME'")
    given = dict(zip((*_ROBUSTBENCH, "name"), parts, strict=True))
    return dataclasses.replace(card, params=given, dataset=parts[0], display=f"{parts[-1]} (RobustBench)")


def _in_python_file(path: Path, attribute: str) -> ModelCard:
    registered = [models()[name] for name in run_python_file(path)]
    module = _run_once(path.resolve())[0]
    found = vars(module).get(attribute)
    for card in registered:
        if card.name == attribute or card.loader is found:
            return card
    if not callable(found):
        raise UnknownNameError(
            f"{path}: neither registers a model {attribute!r} nor has a module, or a function that returns one, of "
            "that name"
        )
    # A module that is built already says nothing of where that was done.
    is_definition = inspect.isroutine(found) or inspect.isclass(found)
    return ModelCard(attribute, found if is_definition else f"{module.__name__}:{attribute}", display=attribute)


def read_card(path: Path) -> ModelCard:
    """The model card in a TOML file; its loader, and the card that it amends, may lie beside it.

    Raises:
        CatalogError: the file is missing, is no TOML, or has a wrong key, value or base.
    """
    return _read_amended(path, ())


def _read_amended(path: Path, amending: tuple[Path, ...]) -> ModelCard:
    """``amending`` are the cards that this one is the base of, and the base of its base."""

    def registered(name: str, where: Path) -> ModelCard:
        if name.endswith(".toml"):
            base = where.parent / name
            if base.resolve() in (path.resolve(), *amending):
                raise CatalogError(f"{where}: key 'base': {name!r} is the card itself, or has it as its base")
            return _read_amended(base, (*amending, path.resolve()))
        try:
            return find_model(name)
        except UnknownNameError as error:
            raise CatalogError(f"{where}: key 'base': {error}") from None

    card = _read_card(path, path.stem, registered)
    import_from(path.parent)
    return dataclasses.replace(card, argument=str(path))


def _read_card(path: Path, name: str, base_card: Callable[[str, Path], ModelCard]) -> ModelCard:
    given = _read_toml(path, _CARD_KEYS)
    if "base" in given:
        base = base_card(given["base"], path)
    elif "loader" in given:
        base = ModelCard(name=name, loader=given["loader"])
    else:
        raise CatalogError(f"{path}: needs the key 'loader' ('module:attribute') or 'base' (another card's name)")
    return dataclasses.replace(
        base,
        name=given.get("name", name),
        loader=given.get("loader", base.loader),
        params={**base.params, **given.get("params", {})},
        weights=path.parent / given["weights"] if "weights" in given else base.weights,
        sha256=given.get("sha256", None if "weights" in given else base.sha256),
        dataset=given.get("dataset", base.dataset),
        train={**base.train, **given.get("train", {})},
        display=given.get("display", given.get("name", name)),
        reference=given.get("reference", base.reference),
        link=given.get("link", base.link),
        additional_data=given.get("additional_data", base.additional_data),
    )


def run_python_file(path: Path) -> list[str]:
    """Execute a user's Python file, once in a process, for what it registers; it may import what lies beside it.

    Returns:
        The names of the models that it registered.

    Raises:
        CatalogError: there is no such file, or it raises.
    """
    if not path.is_file():
        raise CatalogError(f"{path}: no such Python file")
    return _run_once(path.resolve())[1]


@functools.cache
def _run_once(path: Path) -> tuple[types.ModuleType, list[str]]:
    registry = models()
    before = set(registry)
    module = run_file(path)
    # What another file imported from this one, by its name, was registered before.
    mine = {name for name in registry if getattr(registry[name].loader, "__module__", None) == module.__name__}
    return module, [name for name in registry if name not in before or name in mine]


# --- attacks and suites -----------------------------------------------------------------------------------------------


@functools.cache
def attacks() -> Registry[AttackSpec]:
    """Every shipped attack; and each kind of attack of an installed package, as it is without levels or parameters."""
    registry: Registry[AttackSpec] = Registry(
        "attack", "hahbench.attacks", plugin=lambda name, path: AttackSpec(name=name, kind=name)
    )
    folder = data_folder("attacks")
    for path in sorted([*folder.glob("*.toml"), *(folder / "corruptions").glob("*.toml")]):
        registry.register(path.stem, read_attack(path))
    return registry


def read_attack(path: Path) -> AttackSpec:
    """The attack spec in a TOML file, named after the file.

    Raises:
        CatalogError: the file is missing, is no TOML, or has a wrong key or value.
    """
    given = _read_toml(path, _ATTACK_KEYS)
    if "kind" not in given:
        raise CatalogError(f"{path}: needs the key 'kind', such as 'fmn'")
    if given.get("norm") not in (None, *NORMS):
        raise CatalogError(f"{path}: key 'norm': {given['norm']!r}; allowed: {', '.join(NORMS)}")
    for key, least in (("draws", 1), ("seed", 0)):
        if not least <= given.get(key, least) <= _MOST:
            raise CatalogError(f"{path}: key {key!r}: {given[key]}; allowed: {least} to {_MOST}")
    return AttackSpec(
        name=path.stem,
        kind=given["kind"],
        norm=given.get("norm"),
        levels=tuple(read_number(level, f"{path}: key 'levels'") for level in given.get("levels", [])),
        params=given.get("params", {}),
        seed=given.get("seed", 0),
        draws=given.get("draws", 1),
    )


@functools.cache
def suites() -> Registry[Suite]:
    """Every shipped suite."""
    registry: Registry[Suite] = Registry("suite")
    for path in sorted((data_folder("attacks") / "suites").glob("*.toml")):
        registry.register(path.stem, read_suite(path))
    return registry


def read_suite(path: Path) -> Suite:
    """The suite in a TOML file, named after the file.

    Raises:
        CatalogError: the file is missing, is no TOML, or has a wrong key or value.
    """
    given = {"exhibits": [], "include": [], **_read_toml(path, _SUITE_KEYS)}
    missing = [key for key in _SUITE_KEYS if key not in given]
    if missing:
        raise CatalogError(f"{path}: needs the key {missing[0]!r}; a suite has {', '.join(_SUITE_KEYS)}")
    for key in ("models", "attacks", "include"):
        if not all(isinstance(name, str) for name in given[key]):
            raise CatalogError(f"{path}: key {key!r}: {given[key]!r}; allowed: a list of names")
    for exhibit in given["exhibits"]:
        if exhibit not in EXHIBITS:
            raise CatalogError(f"{path}: key 'exhibits': {exhibit!r}; allowed: {', '.join(EXHIBITS)}")
    return Suite(
        path.stem,
        tuple(_beside(path, name) for name in given["models"]),
        tuple(given["attacks"]),
        _beside(path, given["dataset"]),
        given["n"],
        tuple(given["exhibits"]),
        tuple(given["include"]),
    )


def _beside(suite: Path, name: str) -> str:
    """The path of what lies beside a suite; what does not, or is no file, as it stands there."""
    file, is_python, attribute = name.partition(".py:")
    path = suite.parent / f"{file}{is_python.removesuffix(':')}"
    return f"{path}{':' if is_python else ''}{attribute}" if path.suffix and path.is_file() else name


def resolve_suites(name: str) -> list[tuple[Suite, list[AttackSpec]]]:
    """A suite and those that it includes, each once and with its attacks, in the order in which they are run.

    Args:
        name: as for ``resolve_suite``; included suites are likewise names or paths, which count from the folder of the
            suite that includes them.

    Raises:
        UnknownNameError: nothing is registered under a name.
        CatalogError: as for ``resolve_suite``; or an included suite is of another data set.
    """
    found: dict[str | Path, tuple[Suite, list[AttackSpec]]] = {}
    due = [name]
    while due:
        asked = due.pop(0)
        # Of a file there may be several paths.
        identity = Path(asked).resolve() if asked.endswith(".toml") else asked
        if identity in found:
            continue
        suite, _ = found[identity] = resolve_suite(asked)
        first = next(iter(found.values()))[0]
        if suite.dataset != first.dataset:
            raise CatalogError(
                f"suite {asked!r}: key 'dataset': {suite.dataset!r}; allowed: {first.dataset!r}, that of suite "
                f"{name!r}, which includes it"
            )
        due += [
            str(Path(asked).parent / included) if included.endswith(".toml") else included for included in suite.include
        ]
    return list(found.values())


def resolve_suite(name: str) -> tuple[Suite, list[AttackSpec]]:
    """A suite and its attacks.

    Args:
        name: a registered name, or the path of a suite (``.toml``). The suite's attacks are likewise names or paths,
            which count from the suite's folder; ``NAME:LEVEL``, such as ``autoattack-linf:8/255``, is a registered
            attack at another level than its own.

    Raises:
        UnknownNameError: nothing is registered under a name.
        CatalogError: a file is missing or wrong, or an attack's file takes the name of another attack.
    """
    suite = read_suite(Path(name)) if name.endswith(".toml") else suites()[name]
    specs: list[AttackSpec] = []
    for attack in suite.attacks:
        if attack.endswith(".toml"):
            path = Path(name).parent / attack
            if path.stem in attacks():
                raise CatalogError(f"{path}: {path.stem!r} is the name of another attack; rename the file")
            spec = read_attack(path)
            ways = {(other.kind, other.norm, repr(other.params)) for other in (*specs, spec) if other.name == spec.name}
            if len(ways) > 1:
                raise CatalogError(
                    f"{path}: another attack of suite {name!r} has the name {spec.name!r}; rename the file"
                )
            specs.append(spec)
        else:
            registered, colon, level = attack.partition(":")
            spec = attacks()[registered]
            where = f"suite {name!r}: attack {attack!r}: level"
            specs.append(dataclasses.replace(spec, levels=(read_number(level, where),)) if colon else spec)
    return suite, specs


# --- TOML -------------------------------------------------------------------------------------------------------------


def _read_toml(path: Path, keys: Mapping[str, type]) -> dict[str, Any]:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CatalogError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{path}: cannot be read as TOML: {error}") from error
    for key, value in given.items():
        if key not in keys:
            raise CatalogError(f"{path}: unknown key {key!r}; {suggest(key, list(keys))}")
        # For Python, a bool is an int.
        if not isinstance(value, keys[key]) or isinstance(value, bool) != (keys[key] is bool):
            raise CatalogError(f"{path}: key {key!r}: {value!r}; allowed: {_TYPE_NAMES[keys[key]]}")
    return given


def read_number(value: object, where: str) -> float:
    """A number of a TOML file, which may be written as a fraction, such as ``"8/255"``.

    Raises:
        CatalogError: it is none; ``where`` it stands begins the message.
    """
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            numerator, is_fraction, denominator = str(value).partition("/")
            number = float(numerator) / float(denominator if is_fraction else 1)
            if math.isfinite(number):
                return number
    except (ValueError, ZeroDivisionError, OverflowError):
        pass
    raise CatalogError(f"{where}: {value!r}; allowed: numbers or fractions such as '8/255'")
