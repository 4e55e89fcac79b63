"""Floors: the least robustness that a project asks of its models."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hahbench.catalog import read_number
from hahbench.errors import CatalogError, HahbenchError
from hahbench.registry import suggest
from hahbench.regress import sequential
from hahbench.regress.baseline import BaselineCell
from hahbench.regress.compare import Metric, Pairs, Value
from hahbench.spec import level_text, name_without_folder

_KEYS = ("model", "attack", "level", "min")
_EARLY_ERROR = 0.01


@dataclasses.dataclass(frozen=True)
class Floor:
    """The score of ``model`` under ``attack`` at ``level`` is to be ``least`` or more; ``where`` it is asked for."""

    model: str
    attack: str
    level: float | None
    least: float
    where: str


@dataclasses.dataclass(frozen=True)
class FloorResult:
    """Whether a floor holds: the lower end of the score's 95 % interval on all samples reaches it.

    On some of them only what is beyond doubt decides, as they are looked at again and again.

    Attributes:
        floor: what is asked.
        metric: of the score.
        value: the score and its 95 % interval; NaN where nothing was measured.
        n: the number of samples measured.
        complete: whether these are all.
        deciding: the ends of the interval that decides: the same where complete, else one that misses the truth at any
            look with a chance of 1 % at most.
    """

    floor: Floor
    metric: Metric
    value: Value
    n: int
    complete: bool
    deciding: tuple[float, float]

    @property
    def held(self) -> bool:
        """False where nothing was measured, too."""
        return self.deciding[0] >= self.floor.least

    @property
    def broken(self) -> bool:
        """Of some of the samples the whole interval must lie below."""
        return self.n > 0 and (not self.held if self.complete else self.deciding[1] < self.floor.least)

    @property
    def decided(self) -> bool:
        """Whether it is known that the floor holds, or that it does not."""
        return self.held or self.broken


def read_floors(path: Path) -> list[Floor]:
    """The floors in a TOML file: in its tables ``[[expect]]``, or ``[[tool.hahbench.expect]]`` of ``pyproject.toml``.

    Raises:
        CatalogError: the file is missing, is no TOML, or a table has a wrong key or value.
    """
    try:
        given: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{path}: cannot be read as TOML: {error}") from error
    if path.name == "pyproject.toml":
        tool = given.get("tool", {})
        if "expect" in given:
            raise CatalogError(f"{path}: has a table [[expect]]; in this file its name is [[tool.hahbench.expect]]")
        given = tool.get("hahbench", {}) if isinstance(tool, dict) else {}
        for key in given:
            if key != "expect":
                raise CatalogError(f"{path}: unknown key tool.hahbench.{key}; allowed: [[tool.hahbench.expect]]")
    tables = given.get("expect", []) if isinstance(given, dict) else []
    tables = tables if isinstance(tables, list) else [tables]
    if not tables and path.name != "pyproject.toml":
        raise CatalogError(f"{path}: has no table [[expect]] with the keys {', '.join(_KEYS)}")
    return [_floor(table, f"{path}: expect {place}") for place, table in enumerate(tables, 1)]


def floors_of(floors: Sequence[Floor], cells: Sequence[BaselineCell], models: Collection[str]) -> list[Floor]:
    """The floors of ``models``; others belong to checks of other models.

    Args:
        floors: what a project asks; a model may be named without its data set's folder.
        cells: of the baseline.
        models: the names of those that are checked.

    Raises:
        HahbenchError: a floor, of whichever model, is of nothing that the baseline holds, or is no possible score.
    """
    for floor in floors:
        found = [cell for cell in cells if _is_of(floor, cell.model, cell.attack.name, cell.level)]
        for cell in found:
            check_floor(cell.metric, floor.least, f"{floor.where}: key 'min': {floor.least:g}")
        if not found:
            allowed = [_named(cell.model, cell.attack.name, cell.level) for cell in cells]
            asked = _named(floor.model, floor.attack, floor.level)
            without = dataclasses.replace(floor, level=None)
            levels = [cell.level for cell in cells if _is_of(without, cell.model, cell.attack.name, None)]
            known = f"its levels there: {', '.join(map(level_text, filter(None, levels)))}" if any(levels) else ""
            raise HahbenchError(f"{floor.where}: {asked!r} is not in the baseline; {known or suggest(asked, allowed)}")
    names = {*models, *map(name_without_folder, models)}
    return [floor for floor in floors if floor.model in names]


def check_floor(metric: str, least: float, where: str) -> None:
    """Refuse a floor that always or never holds; ``where`` begins the message.

    Raises:
        HahbenchError: it is one.
    """
    if metric == "accuracy" and not 0 < least <= 1:
        raise HahbenchError(f"{where}; allowed: an accuracy above 0 and up to 1")
    if not 0 < least < math.inf:
        raise HahbenchError(f"{where}; allowed: a norm above 0")


def check_floors(floors: Sequence[Floor], measured: Sequence[Pairs]) -> list[FloorResult]:
    """Each floor beside what was measured of it."""
    return [
        FloorResult(floor, pair.metric, pair.score_now, pair.n, pair.n == pair.baseline_n, _deciding(pair))
        for floor in floors
        for pair in measured
        if _is_of(floor, pair.model, pair.attack, pair.level)
    ]


def _deciding(pair: Pairs) -> tuple[float, float]:
    # Looks that the time cuts short come on top of those that double the samples.
    early = 1 - _EARLY_ERROR / (2 * sequential.most_looks(pair.baseline_n))
    _, low, high = pair.score_now if pair.n == pair.baseline_n else pair.score_with(early)
    return low, high


def _named(model: str, attack: str, level: float | None) -> str:
    return f"{model} {attack}" if level is None else f"{model} {attack} {level_text(level)}"


def _is_of(floor: Floor, model: str, attack: str, level: float | None) -> bool:
    same_level = floor.level == level or (
        floor.level is not None and level is not None and math.isclose(floor.level, level)
    )
    return floor.model in (model, name_without_folder(model)) and floor.attack == attack and same_level


def _floor(table: object, where: str) -> Floor:
    if not isinstance(table, Mapping):
        raise CatalogError(f"{where}: {table!r}; allowed: a table with the keys {', '.join(_KEYS)}")
    for key in table:
        if key not in _KEYS:
            raise CatalogError(f"{where}: unknown key {key!r}; {suggest(key, list(_KEYS))}")
    for key in ("model", "attack"):
        if not isinstance(table.get(key), str):
            raise CatalogError(f"{where}: key {key!r}: {table.get(key)!r}; allowed: a name")
    level = None if "level" not in table else read_number(table["level"], f"{where}: key 'level'")
    least = read_number(table.get("min"), f"{where}: key 'min'")
    return Floor(table["model"], table["attack"], level, least, where)
