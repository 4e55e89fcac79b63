"""Floors: the least robustness that a project asks of its models."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hahbench.catalog import read_number
from hahbench.errors import CatalogError, HahbenchError
from hahbench.registry import suggest
from hahbench.regress.compare import Comparison, Metric, Value

_KEYS = ("model", "attack", "level", "min")


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
    """Whether a floor holds: the lower end of the score's 95 % interval reaches it."""

    floor: Floor
    metric: Metric
    value: Value
    n: int

    @property
    def held(self) -> bool:
        """False where nothing was measured, too."""
        return self.value[1] >= self.floor.least


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
        given = tool.get("hahbench", {}) if isinstance(tool, dict) else {}
    tables = given.get("expect", []) if isinstance(given, dict) else []
    tables = tables if isinstance(tables, list) else [tables]
    if not tables and path.name != "pyproject.toml":
        raise CatalogError(f"{path}: has no table [[expect]] with the keys {', '.join(_KEYS)}")
    return [_floor(table, f"{path}: expect {place}") for place, table in enumerate(tables, 1)]


def check_floors(floors: Sequence[Floor], comparisons: Sequence[Comparison]) -> list[FloorResult]:
    """Each floor beside what was measured; a model may be named without its data set's folder.

    Raises:
        HahbenchError: nothing was to be measured that the floor asks for.
    """
    results = []
    for floor in floors:
        found = [comparison for comparison in comparisons if _is_of(floor, comparison)]
        if not found:
            allowed = [f"{other.model} {other.attack} {other.level}" for other in comparisons]
            asked = f"{floor.model} {floor.attack} {floor.level}"
            raise HahbenchError(f"{floor.where}: {asked!r} is not in the baseline; {suggest(asked, allowed)}")
        results += [FloorResult(floor, comparison.metric, comparison.now, comparison.n) for comparison in found]
    return results


def _is_of(floor: Floor, measured: Comparison) -> bool:
    same_level = floor.level == measured.level or (
        floor.level is not None and measured.level is not None and math.isclose(floor.level, measured.level)
    )
    names = (measured.model, measured.model.rpartition("/")[2])
    return floor.model in names and floor.attack == measured.attack and same_level


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
