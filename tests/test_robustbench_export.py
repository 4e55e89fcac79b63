"""Results in RobustBench's format: its fields, its types, and numbers counted by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hahbench import __version__
from hahbench.corruptions import BENCHMARK
from hahbench.errors import HahbenchError
from hahbench.outcome import outcome_frame
from hahbench.reports.robustbench import export_robustbench
from hahbench.spec import ModelRecord

CELL = {
    "display": "HaH",
    "reference": "",
    "parameters": 1234,
    "dataset": "cifar10",
    "data_digest": "d" * 64,
    "n": 8,
    "kind": "clean",
    "norm": "",
    "params": "{}",
    "attack_version": "1, judge 1",
    "level": math.nan,
    "seed": 0,
    "worst_case": False,
    "verdict": "",
    "model_digest": "0123456789abcdef" * 4,
    "created": "2024-01-01",
}
WHOLE: dict[str, Any] = {"attack": "aa", "kind": "autoattack", "norm": "linf", "worst_case": True, "level": 8 / 255}
TWO_MEMBERS = json.dumps({"members": ["apgd-ce", "apgd-t"]})

# Of its own files, in its order, by threat model.
FIELDS = {
    "link": str,
    "name": str,
    "authors": str,
    "additional_data": bool,
    "number_forward_passes": int,
    "dataset": str,
    "venue": str,
    "architecture": str,
    "eps": str,
    "clean_acc": str,
    "reported": str,
    "autoattack_acc": str,
    "footnote": str,
}
CORRUPTION_FIELDS = {
    "corruptions_acc" if name == "autoattack_acc" else name: type(None) if name == "eps" else kind
    for name, kind in FIELDS.items()
}


def record(**facts: Any) -> ModelRecord:
    known: dict[str, Any] = {
        "model": "HaH",
        "model_digest": CELL["model_digest"],
        "loader": "hahbench.models.vgg:vgg16",
        "params": {"hah_blocks": 6},
        "weights_sha256": "",
        "dataset": "cifar10",
        "train": {},
        "reference": "",
        "link": "https://arxiv.org/abs/2210.00000",
        "additional_data": True,
        "training_log": (),
    }
    return ModelRecord(**{**known, **facts})


class Results:
    """Cells of eight samples, of which the model classifies the first six correctly."""

    def __init__(self) -> None:
        self.cells: list[dict[str, Any]] = []
        self.outcomes: list[pd.DataFrame] = []

    def add(self, right: int, model: str = "HaH", **facts: Any) -> Results:
        """Add a cell after which the first ``right`` samples are still classified correctly."""
        key = str(len(self.cells))
        self.cells.append({**CELL, "key": key, "model": model, **facts})
        nothing = np.zeros(8)
        told = {"member": np.full(8, ""), **dict.fromkeys(("step", "forwards", "backwards", "seconds"), nothing)}
        norms = dict.fromkeys(("l0", "l1", "l2", "linf"), nothing)
        frame = outcome_frame(
            index=np.arange(8),
            label=np.ones(8),
            clean_pred=np.arange(8) < 6,
            adv_pred=np.arange(8) < right,
            **norms,
            **told,
        )
        self.outcomes.append(frame.assign(key=key))
        return self

    def corrupt(self, model: str = "HaH", names: tuple[str, ...] = BENCHMARK, **facts: Any) -> Results:
        """Each corruption leaves as many samples right as its severity is; ``fog`` leaves none."""
        for name in names:
            for severity in range(1, 6):
                cell = {
                    "attack": f"corruption-{name}",
                    "kind": "corruption",
                    "params": json.dumps({"corruption": name}),
                    "attack_version": "CIFAR-10-C (regenerated), generator 1, judge 1",
                    "level": float(severity),
                    **facts,
                }
                self.add(0 if name == "fog" else severity, model, **cell)
        return self

    def export(self, out: Path, *records: ModelRecord) -> tuple[list[str], list[str]]:
        outcomes = pd.concat(self.outcomes)
        paths, left_out = export_robustbench(pd.DataFrame(self.cells), outcomes, records, out)
        return [path.relative_to(out / "model_info").as_posix() for path in paths], left_out


def read(out: Path, name: str) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((out / "model_info" / name).read_text())
    return entry


def test_a_file_has_the_fields_and_types_of_robustbenchs_own(tmp_path: Path) -> None:
    paths, left_out = Results().add(3, **WHOLE).export(tmp_path, record())
    assert (paths, left_out) == (["cifar10/Linf/HaH.json"], [])
    entry = read(tmp_path, paths[0])
    assert {name: type(value) for name, value in entry.items()} == FIELDS
    assert list(entry) == list(FIELDS)
    assert entry == {
        "link": "https://arxiv.org/abs/2210.00000",
        "name": "HaH",
        "authors": "N/A",
        "additional_data": True,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "venue": "N/A",
        "architecture": "vgg16(hah_blocks=6), 1,234 parameters",
        "eps": "8/255",
        "clean_acc": "75.0",
        "reported": "37.5",
        "autoattack_acc": "37.5",
        "footnote": f"measured by hahbench {__version__} on the first 8 test samples of cifar10",
    }


def test_corruptions_have_a_file_and_a_row_per_model(tmp_path: Path) -> None:
    results = Results().corrupt("HaH").corrupt("Standard", model_digest="5" * 64)
    paths, _ = results.export(tmp_path, record())
    folder = "cifar10/corruptions"
    assert paths == [f"{folder}/HaH.json", f"{folder}/Standard.json", f"{folder}/unaggregated_results.csv"]
    entry = read(tmp_path, paths[0])
    assert {name: type(value) for name, value in entry.items()} == CORRUPTION_FIELDS
    # 14 corruptions with 1 to 5 right of 8, and one with none.
    assert entry["corruptions_acc"] == str(round(100 * (14 * (1 + 2 + 3 + 4 + 5) / 8) / 75, 2)) == "35.0"
    assert entry["clean_acc"] == "75.0"
    assert entry["footnote"].endswith("test samples of cifar10; CIFAR-10-C (regenerated), generator 1")


def test_the_table_of_corruptions_is_read_as_robustbench_reads_it(tmp_path: Path) -> None:
    Results().corrupt().export(tmp_path)
    path = tmp_path / "model_info" / "cifar10" / "corruptions" / "unaggregated_results.csv"
    table = pd.read_csv(path, header=[0, 1], index_col=0)
    table.columns = table.columns.set_levels([table.columns.levels[0], table.columns.levels[1].astype(int)])  # type: ignore[attr-defined]
    assert list(table.index) == ["HaH"]
    wanted = [(name, severity) for name in BENCHMARK for severity in range(1, 6)]
    assert table.columns.equals(pd.MultiIndex.from_tuples(wanted))
    assert table.loc["HaH", ("snow", 3)] == 0.375
    assert table.loc["HaH", ("fog", 3)] == 0


@pytest.mark.parametrize(
    ("cells", "eps", "accuracy", "said"),
    [
        ([{"level": 2 / 255, "right": 4}, {"level": 8 / 255, "right": 1}], "8/255", "12.5", None),
        (
            [{"level": 1 / 255, "right": 5}, {"level": 2 / 255, "right": 4}],
            "2/255",
            "50.0",
            "epsilon 2/255, not 8/255",
        ),
        ([{"norm": "l2", "level": 0.5, "right": 2}], "0.5", "25.0", None),
        ([{"right": 2, "verdict": "suspect: no gradient"}], "8/255", "25.0", "suspect: no gradient"),
        ([{"right": 2, "dataset": "cifar10-jpeg"}], "8/255", "25.0", "test samples of cifar10-jpeg"),
        (
            [{"right": 2, "n": 500, "data_digest": "e"}, {"right": 1, "n": 8, "created": "2025-01-01"}],
            "8/255",
            "25.0",
            "the first 500 test samples",
        ),
    ],
    ids=["its epsilon first", "else the largest", "l2", "doubts", "another copy of the images", "most samples"],
)
def test_what_is_exported_and_what_is_said_of_it(
    cells: list[dict[str, Any]], eps: str, accuracy: str, said: str | None, tmp_path: Path
) -> None:
    results = Results()
    for cell in cells:
        results.add(**{**WHOLE, **cell})
    (path,), _ = results.export(tmp_path)
    entry = read(tmp_path, path)
    assert (entry["eps"], entry["autoattack_acc"]) == (eps, accuracy)
    assert said is None or said in entry["footnote"]
    assert said is not None or ";" not in entry["footnote"]


def test_what_a_network_loses_under_other_gradients_is_said(tmp_path: Path) -> None:
    """Of the six samples that withstand the attack through its own gradients, two withstand both."""
    params = {"HaH": {"hah_blocks": 6}, "HaH-BPDA": {"hah_blocks": 6, "straight_through": True}}
    records = [record(model=name, params=of_model, weights_sha256="w") for name, of_model in params.items()]
    Results().add(6, "HaH", **WHOLE).add(2, "HaH-BPDA", **WHOLE).export(tmp_path, *records)
    footnote = read(tmp_path, "cifar10/Linf/HaH.json")["footnote"]
    assert "loses 4 of the 6 samples that withstood; 25.0 % withstand both" in footnote


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({**WHOLE, "params": TWO_MEMBERS}, "it has neither AutoAttack with all four members"),
        ({**WHOLE, "params": '{"randomized": true}'}, "it has neither AutoAttack"),
        ({**WHOLE, "dataset": "shapes"}, "it was measured on shapes, and RobustBench has cifar10, cifar100, imagenet"),
        ({"attack": "clean"}, "it has neither AutoAttack"),
    ],
    ids=["two members", "another version", "another data set", "clean alone"],
)
def test_what_robustbench_has_no_place_for_is_left_out_and_said(
    facts: dict[str, Any], why: str, tmp_path: Path
) -> None:
    results = Results().add(3, "left", **facts)
    with pytest.raises(HahbenchError, match=rf"nothing to export; left out: left \(\w+\): {why}"):
        results.export(tmp_path)
    paths, left_out = results.add(3, "HaH", **WHOLE).export(tmp_path)
    assert paths == ["cifar10/Linf/HaH.json"]
    (sentence,) = left_out
    assert sentence.startswith("left out: left (")


def test_a_stand_in_for_frost_makes_no_average_of_robustbenchs(tmp_path: Path) -> None:
    others = tuple("frost_procedural" if name == "frost" else name for name in BENCHMARK)
    with pytest.raises(HahbenchError, match="with the photographs of frost"):
        Results().corrupt(names=others).export(tmp_path)


def test_autoattack_by_the_reference_engine_counts(tmp_path: Path) -> None:
    paths, _ = Results().add(3, **{**WHOLE, "kind": "autoattack-reference"}).export(tmp_path)
    assert paths == ["cifar10/Linf/HaH.json"]


def test_nothing_that_a_card_says_is_markup_or_leaves_the_folder(tmp_path: Path) -> None:
    hostile = '"><script>alert(1)</script>\n&'
    results = Results().add(3, f"../../{hostile}", display=hostile, reference=hostile, **WHOLE)
    said = record(
        model=f"../../{hostile}",
        params={hostile: hostile},
        link='https://x.org/"onclick="alert(1)',
    )
    (path,), _ = results.export(tmp_path, said)
    assert path == "cifar10/Linf/script_.json"
    text = (tmp_path / "model_info" / path).read_text()
    entry = json.loads(text)
    assert "<" not in text
    assert "\n" not in entry["name"]
    assert entry["link"] == ""
    assert not set('"<>') & set("".join(str(value) for value in entry.values()))


@pytest.mark.parametrize("link", ["javascript:alert(1)", "ftp://x.org", "https://x.org/ y", "https://x.org/'>"])
def test_only_an_address_is_a_link(link: str, tmp_path: Path) -> None:
    (path,), _ = Results().add(3, **WHOLE).export(tmp_path, record(link=link))
    assert read(tmp_path, path)["link"] == ""


def test_models_that_would_share_a_file_get_one_each(tmp_path: Path) -> None:
    results = Results().add(3, "cifar10/HaH", **WHOLE)
    results.add(2, "hah", **{**WHOLE, "model_digest": "5" * 64})
    paths, _ = results.export(tmp_path)
    assert paths == ["cifar10/Linf/HaH_01234567.json", "cifar10/Linf/hah_55555555.json"]
