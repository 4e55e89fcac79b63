"""The published numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from hahbench.catalog import data_folder
from hahbench.corruptions import PAPER
from hahbench.errors import CatalogError
from hahbench.reports.published import read_published


@pytest.fixture(scope="module")
def accuracies() -> pd.DataFrame:
    return read_published(data_folder("reports") / "published" / "hah-2022.toml").accuracies


@pytest.mark.parametrize(
    ("table", "model", "attack", "level", "accuracy"),
    [
        ("table1", "Standard", "clean", math.nan, 0.925),
        ("table1", "Standard", "apgd-linf", 2 / 255, 0.104),
        ("table1", "HaH", "gaussian-noise", 0.1, 0.64),
        ("table2", "Adv", "corruption-contrast", math.nan, 0.18),
        ("table3", "HaH-no-threshold", "apgd-l2", 0.25, 0.025),
    ],
)
def test_numbers_of_the_paper(
    accuracies: pd.DataFrame, table: str, model: str, attack: str, level: float, accuracy: float
) -> None:
    row = accuracies.query("table == @table and model == @model and attack == @attack").set_index("attack").loc[attack]
    assert row["published"] == accuracy
    assert row["level"] == pytest.approx(level, nan_ok=True, rel=0, abs=0)


def test_the_mean_of_the_corruptions_is_what_the_paper_prints(accuracies: pd.DataFrame) -> None:
    """A slip in the transcription of table 2 would show here: its last column is the mean of the sixteen before."""
    table2 = accuracies[accuracies["table"] == "table2"].pivot(index="model", columns="attack", values="published")
    corruptions = table2.drop(columns=["clean", "corruptions-paper"])
    assert set(corruptions) == {f"corruption-{name.replace('_', '-')}" for name in PAPER}
    assert ((corruptions.mean(axis=1) - table2["corruptions-paper"]).abs() <= 0.0005 + 1e-9).all()


def test_tables_agree_where_they_overlap(accuracies: pd.DataFrame) -> None:
    assert (accuracies.groupby(["model", "attack", "level"], dropna=False)["published"].nunique() == 1).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("citation = ", "is no TOML"),
        ("citation = 'c'\nnetworks = 'n'", "lacks the key 'dataset'"),
        ("citation = 'c'\nnetworks = 'n'\ndataset = 'd'\n[t]\ncolumns = []", "lacks the key 'models'"),
        (
            "citation = 'c'\nnetworks = 'n'\ndataset = 'd'\n[t]\ncolumns = [{attack = 'clean'}]\nmodels.M = [1.0, 2.0]",
            "t.models.M: 2 numbers for 1 columns",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "paper.toml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=message) as caught:
        read_published(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"none\.toml: cannot be read"):
        read_published(tmp_path / "none.toml")
