"""Numbers that papers printed, to stand beside ours."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from hahbench.errors import CatalogError


@dataclasses.dataclass(frozen=True)
class Ordering:
    """One model is more accurate than another.

    Attributes:
        higher: the name of the one.
        lower: the name of the other.
        attack: under which this is so.
        level: None for attacks without levels, and for the mean over severities.
        by_more_than: in percentage points; what is below 0 allows the other to be so much more accurate.
    """

    higher: str
    lower: str
    attack: str
    level: float | None
    by_more_than: float


@dataclasses.dataclass(frozen=True)
class Published:
    """The accuracies of one paper.

    Attributes:
        citation: the paper.
        networks: what the paper measured, in a sentence.
        dataset: the name of the data set that they were measured on.
        accuracies: a row per number, with the columns ``table``, ``model``, ``attack``, ``level`` and ``published``, in
            [0, 1]. ``level`` is NaN without perturbation, and where the paper averages over levels.
        orderings: what it concludes from them.
    """

    citation: str
    networks: str
    dataset: str
    accuracies: pd.DataFrame
    orderings: tuple[Ordering, ...] = ()


def read_published(path: Path) -> Published:
    """The published accuracies in a TOML file.

    Raises:
        CatalogError: the file is missing, is no TOML, lacks a key, or a row has not one number per column.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        citation, networks, dataset = (given.pop(key) for key in ("citation", "networks", "dataset"))
        orderings = tuple(_ordering(row) for row in given.pop("orderings", []))
        rows = [row for name, table in given.items() for row in _rows(path, name, table)]
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{path}: is no TOML: {error}") from error
    except KeyError as error:
        raise CatalogError(f"{path}: lacks the key {error}") from None
    columns = ["table", "model", "attack", "level", "published"]
    return Published(citation, networks, dataset, pd.DataFrame(rows, columns=columns), orderings)


def _ordering(row: dict[str, Any]) -> Ordering:
    level = float(Fraction(row["level"])) if "level" in row else None
    return Ordering(row["higher"], row["lower"], row["attack"], level, float(row.get("by_more_than", 0)))


def _rows(path: Path, name: str, table: dict[str, Any]) -> list[tuple[str, str, str, float, float]]:
    columns = [
        (column["attack"], float(Fraction(column["level"])) if "level" in column else math.nan)
        for column in table["columns"]
    ]
    rows = []
    for model, percents in table["models"].items():
        if len(percents) != len(columns):
            raise CatalogError(f"{path}: {name}.models.{model}: {len(percents)} numbers for {len(columns)} columns")
        rows += [
            (name, model, attack, level, float(percent / 100))
            for (attack, level), percent in zip(columns, percents, strict=True)
        ]
    return rows
