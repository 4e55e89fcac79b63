"""Table 2 and the page of all corruptions, of small stores whose counts are known."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from hahbench.corruptions import OFFICIAL, SEVERITIES
from tests.test_reports_write import Results, table_of

FOLDER = "cifar10-jpeg-n10"


def add_corruptions(results: Results, model: str, frost: str, broken_at_severity: int) -> Results:
    """Each corruption but frost leaves ten of ten samples right, and one less a severity from the given one."""
    for name in [*OFFICIAL, "frost_procedural"]:
        if name.startswith("frost") and name != frost:
            continue
        for severity in SEVERITIES:
            right = 4 if name == frost else 10 - max(0, severity - broken_at_severity + 1)
            results.add(
                model,
                right,
                attack=f"corruption-{name.replace('_', '-')}",
                level=float(severity),
                kind="corruption",
                params=json.dumps({"corruption": name}),
                attack_version="CIFAR-10-C (regenerated), generator 1, judge 1",
            )
    return results


@pytest.fixture
def regenerated(tmp_path: Path) -> Path:
    results = Results().add("Standard").add("HaH", 9)
    add_corruptions(results, "Standard", "frost_procedural", 1)
    add_corruptions(results, "HaH", "frost_procedural", 5)
    written = results.write(tmp_path)
    assert f"{FOLDER}/table2.md" in written
    assert f"{FOLDER}/corruptions.csv" in written
    return tmp_path / FOLDER


def rows(path: Path) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in table_of(path)}


def test_table2_has_a_row_for_each_score_beside_the_published_one(regenerated: Path) -> None:
    table = rows(regenerated / "table2.md")
    assert table[""] == ["Standard", "Adv", "HaH"]
    assert table["Clean"][2].endswith("], paper 87.3 (+2.7)")
    standard, adv, hah = table["Gaussian noise"]
    assert standard.startswith("70.0 [")
    assert standard.endswith("], paper 32.4 (+37.6)")
    assert adv == "missing, paper 74.2"
    assert hah.startswith("98.0 [")


def test_table2_without_photographs_says_so_and_does_not_claim_the_paper_s_mean(regenerated: Path) -> None:
    table = rows(regenerated / "table2.md")
    assert table["Frost, procedural"][0].startswith("40.0 [")
    assert "paper" not in table["Frost, procedural"][0]
    assert table["Mean of the paper's 16 corruptions but frost"][0].startswith("70.0 [")
    assert table["Mean of the paper's 16 corruptions, frost procedural"][0].startswith("68.1 [")
    assert "Frost" not in table
    page = (regenerated / "table2.md").read_text()
    assert "- Corruptions: CIFAR-10-C (regenerated), generator 1." in page


def test_relative_errors_are_percent_of_the_baseline_s(regenerated: Path) -> None:
    """Under all but frost Standard errs in 30 % and HaH in 2 %."""
    table = rows(regenerated / "table2.md")
    relative = table["Mean of the paper's 16 corruptions but frost, error relative to Standard"]
    assert relative[0].startswith("100.0 [")
    assert relative[2].startswith("6.7 [")


def test_table2_with_photographs_is_the_paper_s(tmp_path: Path) -> None:
    add_corruptions(Results().add("HaH", 9), "HaH", "frost", 1).write(tmp_path)
    table = rows(tmp_path / FOLDER / "table2.md")
    assert table["Frost"][-1] == "40.0 [16.8, 68.7], paper 73.3 (-33.3)"
    assert table["Mean of the paper's 16 corruptions"][-1].endswith("paper 67.7 (+0.4)")
    # The paper prints accuracies, and no relative error.
    assert table["Mean of the paper's 16 corruptions, error relative to Standard"] == ["missing"] * 3


def test_what_is_missing_comes_with_the_command_of_the_suite(tmp_path: Path) -> None:
    results = Results().add("HaH", 9)
    results.add("HaH", 5, attack="corruption-fog", level=1.0, kind="corruption", params='{"corruption": "fog"}')
    results.write(tmp_path)
    page = (tmp_path / FOLDER / "table2.md").read_text()
    command = "hahbench run paper --model HaH --dataset cifar10 --data PATH --n 10 --store results"
    assert page.count(command) == 1


def test_the_page_of_corruptions_has_a_row_each_with_every_severity(regenerated: Path) -> None:
    page = (regenerated / "corruptions.md").read_text()
    assert page.index("## HaH") < page.index("## Standard")
    hah = page[page.index("## HaH") : page.index("## Standard")]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in hah.splitlines() if line[:1] == "|"]
    assert lines[0] == ["Corruption", *(f"Severity {severity}" for severity in SEVERITIES), "Mean"]
    found = {line[0]: line[1:] for line in lines[2:]}
    assert [cell.split()[0] for cell in found["Fog"]] == ["100.0", "100.0", "100.0", "100.0", "90.0", "98.0"]
    assert found["Mean of all 19 corruptions but frost"][:5] == [""] * 5
    assert len([name for name in found if "Mean" not in name]) == 19


def test_numbers_of_the_csv_are_those_of_the_page(regenerated: Path) -> None:
    frame = pd.read_csv(regenerated / "corruptions.csv")
    fog = frame.query("attack == 'corruption-fog' and model == 'HaH' and level == 5")
    assert fog["value"].tolist() == [0.9]
