"""The leaderboard as JSON, by the schema that is published with it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

from hahbench.catalog import data_folder
from hahbench.reports import write_reports
from hahbench.spec import ModelRecord
from tests.test_reports_corruptions import add_corruptions
from tests.test_reports_write import FMN, L2, LINF, NOISE, Results

SCHEMA = json.loads((data_folder("reports") / "schema" / "leaderboard.schema.json").read_text(encoding="utf-8"))
DIGEST = "0123456789abcdef" * 4


def record(model: str, **said: Any) -> ModelRecord:
    facts: dict[str, Any] = {
        "loader": "a:b",
        "params": {"width": 0.25},
        "weights_sha256": "f" * 64,
        "dataset": "cifar10",
        "train": {"epochs": 10},
        "reference": "A paper",
        "link": "https://example.org/paper",
        "additional_data": False,
        "training_log": ({"epoch": "1", "loss": "2.5"},),
    }
    return ModelRecord(model=model, model_digest=DIGEST, **{**facts, **said})


def write(results: Results, out: Path, *records: ModelRecord) -> Path:
    """Write the reports of ``results``, which are of one data set, and return their folder."""
    cells, outcomes = pd.DataFrame(results.cells), pd.concat(results.outcomes)
    paths = write_reports(cells, outcomes, out, store=Path("results"), command="hahbench x", records=records)
    return paths[0].parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = Results().add("robust", 9).add("robust", 6, **LINF, verdict="ok").add("robust", 1, **L2)
    results.add("robust", 10, **FMN)
    results.add("weak", 10).add("weak", 0, **LINF).add("weak", 7, **L2, verdict="suspect: so | so").add(
        "weak", 0, 0.5, **FMN
    )
    results.add("noisy", 8).add("noisy", 4, **NOISE)
    return write(results, tmp_path_factory.mktemp("reports"), record("weak"))


@pytest.fixture(scope="module")
def board(folder: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    return written


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_json_keeps_the_schema(board: dict[str, Any]) -> None:
    jsonschema.validate(board, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("unknown",), 1),
        (("dataset", "n"), 0),
        (("models", 0, "verdict"), "perhaps"),
        (("models", 0, "ranks", "l7"), 1),
        (("models", 0, "weights_sha256"), "abc"),
        (("models", 0, "scores", 0, "value"), "infinite"),
        (("columns", 0, "threat_model"), "l7"),
    ],
)
def test_the_schema_refuses_what_is_wrong(board: dict[str, Any], path: tuple[Any, ...], value: object) -> None:
    changed = copy.deepcopy(board)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, SCHEMA)


def test_models_are_ranked_within_each_threat_model(board: dict[str, Any]) -> None:
    """By accuracy under AutoAttack; noise alone was measured of the third."""
    ranks = {model["name"]: (model["rank"], model["ranks"]) for model in board["models"]}
    assert ranks == {
        "robust": (1, {"linf": 1, "l2": 2}),
        "weak": (2, {"linf": 2, "l2": 1}),
        "noisy": (3, {"noise": 1}),
    }


def test_scores_are_those_of_the_csv_and_none_is_made_up(board: dict[str, Any], folder: Path) -> None:
    measured = pd.read_csv(folder / "leaderboard.csv").dropna(subset="value")
    found = [score for model in board["models"] for score in model["scores"]]
    assert [float(score["value"]) for score in found] == pytest.approx(measured["value"].tolist())
    assert [float(score["high"]) for score in found] == pytest.approx(measured["high"].tolist())
    (endless,) = [score for score in board["models"][0]["scores"] if score["title"] == "FMN l2, median norm"]
    assert (endless["value"], endless["high"]) == ("inf", "inf")


def test_columns_say_what_the_scores_are(board: dict[str, Any]) -> None:
    assert [(column["title"], column["threat_model"], column["metric"]) for column in board["columns"]] == [
        ("Clean", None, "accuracy"),
        ("APGD l_inf 2/255", "linf", "accuracy"),
        ("APGD l2 0.25", "l2", "accuracy"),
        ("Gaussian noise sigma 0.1", "noise", "accuracy"),
        ("FMN l2, median norm", "l2", "median_norm"),
    ]


def test_clean_images_that_were_not_measured_are_no_threat_model(tmp_path: Path) -> None:
    folder = write(Results().add("attacked", 5, **LINF), tmp_path)
    board = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    assert [(column["title"], column["threat_model"]) for column in board["columns"]] == [
        ("Clean", None),
        ("APGD l_inf 2/255", "linf"),
    ]


def test_a_model_is_as_doubtful_as_its_most_doubtful_score(board: dict[str, Any]) -> None:
    # That nothing breaks "robust" within any norm, as FMN says, AutoAttack denies.
    assert [model["verdict"] for model in board["models"]] == ["suspect", "suspect", None]


def test_the_record_of_a_model_adds_what_cells_do_not_say(board: dict[str, Any]) -> None:
    names = ("reference", "link", "dataset", "additional_data", "width", "weights_sha256")
    said = {model["name"]: tuple(model[name] for name in names) for model in board["models"]}
    assert said["weak"] == ("A paper", "https://example.org/paper", "cifar10", False, 0.25, "f" * 64)
    assert said["robust"] == ("", None, None, None, None, None)


def test_mean_corruptions_stand_on_the_leaderboard_under_a_name_that_tells_what_they_are(tmp_path: Path) -> None:
    """Without the photographs of frost: nine of ten samples right at severity 5 alone, of frost's stand-in four."""
    results = add_corruptions(Results().add("HaH"), "HaH", "frost_procedural", 5)
    written = json.loads((write(results, tmp_path) / "leaderboard.json").read_text(encoding="utf-8"))
    jsonschema.validate(written, SCHEMA)
    titles = [column["title"] for column in written["columns"] if column["threat_model"] == "corruptions"]
    assert titles == [
        "Mean of RobustBench's 15 corruptions but frost",
        "Mean of RobustBench's 15 corruptions, frost procedural",
    ]
    (model,) = written["models"]
    values = {score["title"]: score["value"] for score in model["scores"]}
    assert [values[title] for title in titles] == pytest.approx([0.98, (14 * 0.98 + 0.4) / 15])
    assert model["ranks"] == {"corruptions": 1}


@pytest.mark.parametrize("width", ["wide", True, float("nan"), float("inf"), [1], None])
def test_a_width_that_is_no_number_is_left_out(tmp_path: Path, width: object) -> None:
    folder = write(Results().add("HaH"), tmp_path, record("HaH", params={"width": width}))
    written = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    jsonschema.validate(written, SCHEMA)
    assert written["models"][0]["width"] is None


def latex_rows(lines: list[str]) -> list[list[str]]:
    return [[text.strip() for text in line.removesuffix(r"\\").split(" & ")] for line in lines if " & " in line][1:]


def test_a_difference_in_latex_has_a_minus_sign_and_no_name_does(tmp_path: Path) -> None:
    folder = write(Results().add("HaH-1", 0, **NOISE).add("HaH", 0, **NOISE).add("Standard", 10, **NOISE), tmp_path)
    rows = latex_rows((folder / "orderings.tex").read_text(encoding="utf-8").splitlines())
    here = {row[0]: row[3] for row in rows if row[1].startswith("Gaussian")}
    assert set(here) == {"HaH above Standard", "HaH-1 above Standard"}
    assert all(difference.startswith("$-$100.0 [$-$") for difference in here.values())
    rows = latex_rows((folder / "table1.tex").read_text(encoding="utf-8").splitlines())
    assert "HaH-1" in [row[0] for row in rows]


def test_latex_has_a_row_a_model_and_takes_names_literally(tmp_path: Path) -> None:
    results = Results().add("a", 9, display="50 % of\nA&B_c {x}").add("b").add("b", 10, **FMN)
    lines = (write(results, tmp_path) / "leaderboard.tex").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "% Leaderboard"
    rows = latex_rows(lines)
    assert [row[:4] for row in rows] == [
        ["1", "b", "100.0 [72.2, 100.0]", r"$\infty$ [$\infty$, $\infty$]"],
        ["2", r"50 \% of A\&B\_c \{x\}", "90.0 [59.6, 98.2]", "missing"],
    ]
