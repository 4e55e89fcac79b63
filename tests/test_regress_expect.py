"""Floors from TOML: what they ask for, whether they hold, and what is wrong with them."""

from __future__ import annotations

import bisect
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from hahbench.errors import CatalogError, HahbenchError
from hahbench.regress.baseline import BaselineCell
from hahbench.regress.compare import Pairs
from hahbench.regress.expect import Floor, check_floors, floors_of, read_floors
from hahbench.spec import AttackSpec

ONE = '[[{table}]]\nmodel = "HaH"\nattack = "apgd-linf"\nlevel = "2/255"\nmin = 0.4\n'
LOOKS = (32, 64, 128, 256, 512, 1000)
FLOOR = Floor("HaH", "apgd-linf", 2 / 255, 0.4, "here")


def measured(
    right: int, n: int = 100, model: str = "shapes/HaH", attack: str = "apgd-linf", level: float | None = 2 / 255
) -> Pairs:
    """``right`` of the first ``n`` of 100 samples classified correctly."""
    now = np.arange(n) < right
    return Pairs(model, attack, level, "accuracy", np.ones((1, 100), bool), now[None], np.ones(100, bool), now)


def cell(model: str = "shapes/HaH", attack: str = "apgd-linf", levels: tuple[float, ...] = (2 / 255,)) -> BaselineCell:
    return BaselineCell(
        model, AttackSpec(attack, "apgd", "linf", levels), "1", (0,), "accuracy", np.ones((1, 100), bool)
    )


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
        (
            "[[tool.hahbench.expects]]\nmin = 0.9",
            "unknown key tool.hahbench.expects; allowed: [[",
        ),
        ("[[expect]]\nmin = 0.9", "has a table [[expect]]; in this file its name is [[tool.hahbench.expect]]"),
    ],
)
def test_a_floor_that_would_be_passed_over_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(CatalogError) as raised:
        read_floors(tmp_path / "pyproject.toml")
    assert message in str(raised.value)


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


@pytest.mark.parametrize(
    ("right", "n", "held", "broken"),
    [
        # The lower ends of Wilson's 95 % intervals of 50 and 49 in 100 are 0.404 and 0.394.
        (50, 100, True, False),
        (49, 100, False, True),
        # Of a part of the samples more is asked: of twice three looks at 100 each may err with a chance of 0.01 / 6.
        # The ends of Clopper and Pearson's interval of that confidence are 0.412, 0.371, 0.448 and 0.393.
        (18, 24, True, False),
        (17, 24, False, False),
        (3, 24, False, False),
        (2, 24, False, True),
        (0, 0, False, False),
    ],
)
def test_the_lower_end_of_the_interval_on_all_samples_decides(right: int, n: int, held: bool, broken: bool) -> None:
    others = [measured(0, level=0.1), measured(0, attack="clean"), measured(0, model="other/HaH2")]
    (result,) = check_floors([FLOOR], [measured(right, n), *others])
    assert (result.held, result.broken) == (held, broken)


@pytest.mark.parametrize(("least", "at_last"), [(0.4, 0.035), (0.005, 0.1)])
def test_looking_again_and_again_decides_wrongly_as_seldom_as_looking_once(least: float, at_last: float) -> None:
    """The true accuracy is just the floor: 1 % is said to hold it early, and on all samples what Wilson's errs."""
    n = 1000
    floor = dataclasses.replace(FLOOR, least=least)
    seen = (np.random.default_rng(0).random((20_000, n)) < least).cumsum(axis=1)

    def held(looked: int, right: int) -> bool:
        now = np.arange(looked) < right
        every = np.ones(n, bool)
        pairs = Pairs("HaH", "apgd-linf", 2 / 255, "accuracy", every[None], now[None], every, now)
        return check_floors([floor], [pairs])[0].held

    enough = {
        looked: bisect.bisect_left(range(looked + 1), True, key=lambda right: held(looked, right)) for looked in LOOKS
    }
    by_look = np.array([seen[:, looked - 1] >= count for looked, count in enough.items()])
    assert 0 < by_look[:-1].any(axis=0).mean() < 0.01
    assert by_look.any(axis=0).mean() < at_last


@pytest.mark.parametrize("other", [cell(levels=(0.1,)), cell(attack="clean", levels=()), cell(model="shapes/Standard")])
def test_a_floor_of_what_the_baseline_lacks_is_refused(other: BaselineCell) -> None:
    with pytest.raises(HahbenchError, match="here: 'HaH apgd-linf 2/255' is not in the baseline; "):
        floors_of([FLOOR], [other], ["shapes/HaH"])


@pytest.mark.parametrize("least", [0.0, -3.0, math.nan])
def test_a_floor_that_always_or_never_holds_is_refused(least: float) -> None:
    with pytest.raises(HahbenchError, match="allowed: an accuracy above 0 and up to 1"):
        floors_of([dataclasses.replace(FLOOR, least=least)], [cell()], ["shapes/HaH"])


def test_a_floor_of_another_level_is_told_the_levels() -> None:
    with pytest.raises(HahbenchError, match="'HaH apgd-linf' is not in the baseline; its levels there: 2/255"):
        floors_of([dataclasses.replace(FLOOR, level=None)], [cell()], ["shapes/HaH"])


def test_an_accuracy_in_percent_is_refused_and_a_norm_above_one_is_not() -> None:
    percent = dataclasses.replace(FLOOR, least=60.0)
    with pytest.raises(HahbenchError, match="key 'min': 60; allowed: an accuracy above 0 and up to 1"):
        floors_of([percent], [cell()], ["shapes/HaH"])
    of_norm = dataclasses.replace(percent, attack="fmn-l1", level=None)
    of_norms = dataclasses.replace(cell(attack="fmn-l1", levels=()), metric="median_norm")
    assert floors_of([of_norm], [of_norms], ["shapes/HaH"]) == [of_norm]


def test_a_floor_of_a_model_that_is_not_checked_is_left_to_other_checks() -> None:
    of_other = dataclasses.replace(FLOOR, model="shapes/Standard")
    cells = [cell(), cell(model="shapes/Standard")]
    assert floors_of([FLOOR, of_other], cells, ["shapes/HaH"]) == [FLOOR]
    assert floors_of([FLOOR, of_other], cells, ["shapes/Standard"]) == [of_other]
