"""Floors from TOML: what they ask for, whether they hold, and what is wrong with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hahbench.errors import CatalogError, HahbenchError
from hahbench.regress.compare import Comparison, Metric
from hahbench.regress.expect import Floor, check_floors, read_floors

ONE = '[[{table}]]\nmodel = "HaH"\nattack = "apgd-linf"\nlevel = "2/255"\nmin = 0.4\n'
FLOOR = Floor("HaH", "apgd-linf", 2 / 255, 0.4, "here")


def measured(low: float, n: int = 100, metric: Metric = "accuracy", **changes: object) -> Comparison:
    facts: dict[str, object] = {
        "model": "shapes/HaH", "attack": "apgd-linf", "level": 2 / 255, "metric": metric, "verdict": "same", "n": n,
        "baseline_n": 100, "before": (0.5, 0.4, 0.6), "now": (low + 0.1, low, low + 0.2), "change": 0.0, "lost": 0,
        "gained": 0, "lost_clean": 0, "p_value": 1.0, "samples_to_settle": None,
    }  # fmt: skip
    return Comparison(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "table"), [("pyproject.toml", "tool.hahbench.expect"), ("floors.toml", "expect")])
def test_floors_are_tables_of_either_file(tmp_path: Path, name: str, table: str) -> None:
    (tmp_path / name).write_text(ONE.format(table=table) + ONE.format(table=table).replace("HaH", "Standard"))
    first, second = read_floors(tmp_path / name)
    assert (first.model, first.attack, first.least, second.model) == ("HaH", "apgd-linf", 0.4, "Standard")
    assert first.level == pytest.approx(2 / 255)
    assert first.where == f"{tmp_path / name}: expect 1"


def test_a_single_table_is_one_floor(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text('[expect]\nmodel = "HaH"\nattack = "fmn-l2"\nmin = 0.3\n')
    (floor,) = read_floors(tmp_path / "f.toml")
    assert (floor.attack, floor.level, floor.least) == ("fmn-l2", None, 0.3)


def test_a_project_without_floors_has_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert read_floors(tmp_path / "pyproject.toml") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[expect]]\nmodel = 1", "expect 1: key 'model': 1; allowed: a name"),
        ('[[expect]]\nmodle = "HaH"', "unknown key 'modle'; did you mean 'model'"),
        ('[[expect]]\nmodel = "HaH"\nattack = "clean"', "key 'min': None; allowed: numbers or fractions"),
        ("expect = [1]", "expect 1: 1; allowed: a table"),
        ("x = 1", "has no table"),
        ("[[expect]", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_with_a_floor_is_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(CatalogError) as raised:
        read_floors(tmp_path / "f.toml")
    assert message in str(raised.value)


@pytest.mark.parametrize(("low", "held"), [(0.4, True), (0.41, True), (0.39, False), (math.nan, False)])
def test_the_lower_end_of_the_interval_decides(low: float, held: bool) -> None:
    (result,) = check_floors([FLOOR], [measured(low), measured(0.0, level=0.1), measured(0.0, attack="clean")])
    assert result.held is held


@pytest.mark.parametrize("changes", [{"level": 0.1}, {"attack": "clean", "level": None}, {"model": "shapes/Standard"}])
def test_a_floor_of_what_the_baseline_lacks_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(HahbenchError, match=r"here: 'HaH apgd-linf 0\.00784"):
        check_floors([FLOOR], [measured(0.5, **changes)])
