"""Leaderboard and table 1 of small stores whose counts are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hahbench import __version__, catalog
from hahbench.outcome import OUTCOME_COLUMNS, outcome_frame
from hahbench.reports import write_reports
from hahbench.spec import EXHIBITS, ModelRecord, digest
from hahbench.store import Store

CELL = {
    "display": "",
    "reference": "",
    "parameters": 1234567,
    "dataset_argument": "cifar10",
    "from_path": True,
    "dataset": "cifar10-jpeg",
    "source": "JPEG copy",
    "data_digest": "d" * 64,
    "n": 10,
    "kind": "",
    "params": "{}",
    "attack_version": "1",
    "norm": "",
    "level": math.nan,
    "seed": 0,
    "worst_case": False,
    "verdict": "",
    "model_digest": "0123456789abcdef" * 4,
    "seconds": 1.0,
    "device": "cpu",
    "versions": "",
    "created": "2024-01-01",
}
LINF: dict[str, Any] = {"attack": "apgd-linf", "level": 2 / 255, "norm": "linf", "worst_case": True}
L2: dict[str, Any] = {"attack": "apgd-l2", "level": 0.25, "norm": "l2", "worst_case": True}
AUTOATTACK: dict[str, Any] = {**LINF, "attack": "autoattack-linf"}
FMN: dict[str, Any] = {"attack": "fmn-l2", "norm": "l2", "worst_case": True}
NOISE: dict[str, Any] = {"attack": "gaussian-noise", "level": 0.1}

TABLE1_PAGE = f"""\
# Table 1: accuracy (%) under noise and adversarial attacks

| Model    | Clean                                  | Gaussian noise sigma 0.1             | APGD l_inf 2/255                    | APGD l2 0.25                         | Parameters   |
|:---------|:---------------------------------------|:-------------------------------------|:------------------------------------|:-------------------------------------|:-------------|
| Standard | 100.0 [72.2, 100.0], paper 92.5 (+7.5) | 30.0 [10.8, 60.3], paper 26.6 (+3.4) | 10.0 [1.8, 40.4], paper 10.4 (-0.4) | 0.0 [0.0, 27.8], paper 13.9 (-13.9)  | 1,234,567    |
| HaH      | 90.0 [59.6, 98.2], paper 87.3 (+2.7)   | 60.0 [31.3, 83.2], paper 64.0 (-4.0) | 20.0 [5.7, 51.0], paper 21.5 (-1.5) | 30.0 [10.8, 60.3], paper 27.6 (+2.4) | 1,234,567    |

- Data: cifar10-jpeg (JPEG copy), the first 10 test samples, digest dddddddd.
- Seeds: 0.
- Accuracies in percent, severities and draws of noise averaged; in brackets Wilson's 95 % interval over the samples, which is \
conservative for averages.
- After "paper": M. Cekic, C. Bakiskan and U. Madhow, Layerwise Hebbian/anti-Hebbian (HaH) Learning In Deep Networks: \
A Neuro-inspired Approach To Robustness, 2022. Its networks are VGG-16 of full width, 14.7 million parameters, trained \
for 100 epochs; its AutoAttack is taken to be the two members that its authors' script runs, APGD on cross-entropy and \
targeted APGD. In brackets ours less the paper's, in percentage points.
- Made with hahbench {__version__} by:

      hahbench x
"""  # noqa: E501


class Results:
    """Cells of ten samples each, as the store gives them."""

    def __init__(self) -> None:
        self.cells: list[dict[str, Any]] = []
        self.outcomes: list[pd.DataFrame] = []

    def add(self, model: str, right: int = 10, l2: float = 0.0, **facts: Any) -> Results:
        """Add a cell of which the first ``right`` samples are classified correctly, the others broken at ``l2``."""
        key = str(len(self.cells))
        self.cells.append({**CELL, "key": key, "model": model, "model_argument": model, "attack": "clean", **facts})
        zeros, ones, survives = np.zeros(10), np.ones(10), np.arange(10) < right
        norms = dict.fromkeys(("l0", "l1", "linf"), zeros) | {"l2": np.where(survives, math.inf, l2)}
        frame = outcome_frame(
            index=np.arange(10),
            label=ones,
            clean_pred=ones,
            adv_pred=survives,
            member=np.full(10, ""),
            step=zeros,
            forwards=zeros,
            backwards=zeros,
            seconds=zeros,
            **norms,
        )
        self.outcomes.append(frame.assign(key=key))
        return self

    def write(self, out: Path) -> list[str]:
        paths = write_reports(
            pd.DataFrame(self.cells),
            pd.concat(self.outcomes),
            out,
            store=Path("results"),
            command="hahbench x",
        )
        return [path.relative_to(out).as_posix() for path in paths]


def table_of(path: Path) -> list[list[str]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table1_sets_our_numbers_beside_the_published_ones(tmp_path: Path) -> None:
    results = Results()
    for model, clean, noise, linf, l2 in (("HaH", 9, 6, 2, 3), ("Standard", 10, 3, 1, 0)):
        results.add(model, clean).add(model, noise, **NOISE).add(model, linf, **LINF).add(model, l2, **L2)
    results.write(tmp_path)
    assert (tmp_path / "cifar10-jpeg-n10" / "table1.md").read_text(encoding="utf-8") == TABLE1_PAGE


def test_a_caption_says_with_which_parameters_attacks_were_made(tmp_path: Path) -> None:
    given: dict[str, Any] = {"params": '{"members": ["apgd-ce", "apgd-t"], "sizes": [2, 4], "steps": 100}'}
    Results().add("HaH", 2, **LINF, **given).write(tmp_path)
    page = (tmp_path / "cifar10-jpeg-n10" / "table1.md").read_text(encoding="utf-8")
    assert "\n- Parameters: members apgd-ce+apgd-t, sizes 2+4, steps 100 of apgd-linf.\n" in page


def test_missing_cells_are_marked_and_come_with_their_command(tmp_path: Path) -> None:
    Results().add("HaH", 9).add("my net", 8, **NOISE).write(tmp_path)
    page = tmp_path / "cifar10-jpeg-n10" / "table1.md"
    assert table_of(page)[1:] == [
        ["Standard", "missing, paper 92.5", "missing, paper 26.6", "missing, paper 10.4", "missing, paper 13.9", ""],
        [
            "HaH",
            "90.0 [59.6, 98.2], paper 87.3 (+2.7)",
            "missing, paper 64.0",
            "missing, paper 21.5",
            "missing, paper 27.6",
            "1,234,567",
        ],
        ["my net", "missing", "80.0 [49.0, 94.3]", "missing", "missing", "1,234,567"],
    ]
    assert page.read_text(encoding="utf-8").endswith("""
## Missing

Standard: Clean; Gaussian noise sigma 0.1; APGD l_inf 2/255; APGD l2 0.25

    hahbench run paper --model Standard --dataset cifar10 --data PATH --n 10 --store results

HaH: Gaussian noise sigma 0.1; APGD l_inf 2/255; APGD l2 0.25

    hahbench run paper --model HaH --dataset cifar10 --data PATH --n 10 --store results

my net: Clean; APGD l_inf 2/255; APGD l2 0.25

    hahbench run paper --model 'my net' --dataset cifar10 --data PATH --n 10 --store results
""")


def test_a_model_of_the_paper_without_weights_comes_with_the_command_that_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = "HaH-batch-norm"
    shipped = catalog.models()
    monkeypatch.setattr(catalog, "models", lambda: {name: shipped[name] for name in shipped if untrained not in name})
    Results().add("HaH", 9).write(tmp_path)
    page = (tmp_path / "cifar10-jpeg-n10" / "table3.md").read_text(encoding="utf-8")
    train = f"    hahbench train {untrained} --dataset cifar10 --data PATH\n"
    assert f"{train}    hahbench run paper --model trained/{untrained}.toml --dataset cifar10 --data PATH " in page


@pytest.mark.parametrize(("widths", "options"), [((0.25, 0.25), " --width 0.25 --epochs 40"), ((0.25, 1.0), "")])
def test_what_is_trained_yet_is_like_what_was_measured(
    tmp_path: Path, widths: tuple[float, float], options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "models", dict)
    results = Results().add("HaH", 9).add("Standard", 9)
    said: dict[str, Any] = {"loader": "a:b", "weights_sha256": "", "dataset": "cifar10", "reference": "", "link": ""}
    said |= {"model_digest": CELL["model_digest"], "additional_data": None, "training_log": ()}
    records = [
        ModelRecord(model=model, params={"width": width}, train={"epochs": epochs}, **said)
        for model, width, epochs in zip(("HaH", "Standard"), widths, (40, 25), strict=True)
    ]
    cells, outcomes = pd.DataFrame(results.cells), pd.concat(results.outcomes)
    write_reports(cells, outcomes, tmp_path, store=Path("results"), command="hahbench x", records=records)
    page = (tmp_path / "cifar10-jpeg-n10" / "table3.md").read_text(encoding="utf-8")
    assert f"    hahbench train HaH-batch-norm --dataset cifar10 --data PATH{options}\n" in page


def with_figures(results: Results, out: Path) -> Path:
    """The folder of a report with figures; of ``NAME`` and ``NAME-BPDA`` the weights are the same."""
    said: dict[str, Any] = {"loader": "a:b", "dataset": "cifar10", "reference": "", "link": "", "train": {}}
    said |= {"model_digest": CELL["model_digest"], "additional_data": None, "training_log": ()}
    records = [
        ModelRecord(
            model=model,
            params={"straight_through": True} if model.endswith("-BPDA") else {},
            weights_sha256=model.removesuffix("-BPDA"),
            **said,
        )
        for model in dict.fromkeys(cell["model"] for cell in results.cells)
    ]
    cells, outcomes = pd.DataFrame(results.cells), pd.concat(results.outcomes)
    none = {kind: Store(out / "none").read_exhibits(kind) for kind in EXHIBITS}
    write_reports(cells, outcomes, out, store=Path("s"), command="hahbench x", exhibits=none, records=records)
    return out / "cifar10-jpeg-n10"


def test_figure_6_compares_networks_under_the_same_attack(tmp_path: Path) -> None:
    def drawn(out: Path, right: int, right_of_other_gradients: int) -> bytes:
        results = Results()
        for model in ("Standard", "HaH-3", "HaH"):
            results.add(model, 9).add(model, 8, **NOISE).add(model, right, **LINF).add(model, right, **L2)
        for attack in (LINF, L2):
            results.add("HaH-3-BPDA", right_of_other_gradients, **attack)
        return (with_figures(results, out) / "figures" / "figure6-blocks.png").read_bytes()

    drawn_first = drawn(tmp_path / "a", 5, 5)
    assert drawn(tmp_path / "b", 5, 3) == drawn_first
    assert drawn(tmp_path / "c", 3, 5) != drawn_first


def test_figures_show_a_network_once_with_all_attacks_on_it(tmp_path: Path) -> None:
    results = Results()
    for model in ("HaH", "HaH-BPDA", "HaH-3", "HaH-3-BPDA", "other-BPDA"):
        results.add(model).add(model, 7, **NOISE).add(model, 5, **{**NOISE, "level": 0.2})
        for norm in ("l0", "l1", "l2", "linf"):
            results.add(model, 4, l2=0.1, **{**FMN, "attack": f"fmn-{norm}"})
    folder = with_figures(results, tmp_path)
    found = {
        page.name.partition("-BPDA")[0]: ["Figure 4" in page.read_text(), "Figure 5" in page.read_text()]
        for page in (folder / "models").iterdir()
        if "BPDA" in page.name
    }
    # HaH-3 stands in figure 6 alone.
    assert found == {"HaH": [False, True], "HaH-3": [False, False], "other": [True, True]}
    text = (folder / "figures.md").read_text(encoding="utf-8")
    assert text.count("also attacked through other gradients (HaH), the lower of the two norms") == 2
    (of_hah,) = (folder / "models").glob("HaH-????????.html")
    assert of_hah.read_text().count("also attacked through other gradients (HaH)") == 2


def test_marks_are_of_all_attacks_on_a_network_though_its_norms_are_of_one(tmp_path: Path) -> None:
    results = Results().add("HaH").add("HaH-BPDA").add("HaH", 4, **LINF).add("HaH-BPDA", 3, **LINF)
    for norm in ("l0", "l1", "l2", "linf"):
        results.add("HaH", 4, l2=0.1, **{**FMN, "attack": f"fmn-{norm}"})
    text = (with_figures(results, tmp_path) / "figures.md").read_text(encoding="utf-8")
    assert "through other gradients (HaH), hollow marks are of what withstands both." in text
    assert "the lower of the two norms" not in text


def test_a_model_of_another_library_is_not_the_paper_s(tmp_path: Path) -> None:
    Results().add("robustbench:cifar10/Linf/Standard", 9).add("cifar10/Standard", 8).write(tmp_path)
    rows = table_of(tmp_path / "cifar10-jpeg-n10" / "table1.md")[1:]
    assert [(row[0], "paper 92.5" in row[1]) for row in rows] == [
        ("cifar10/Standard", True),
        ("HaH", False),
        ("robustbench:cifar10/Linf/Standard", False),
    ]


def test_seeds_are_those_of_each_attack(tmp_path: Path) -> None:
    results = Results().add("HaH").add("HaH", 7, **LINF)
    results.add("HaH", 7, **NOISE).add("HaH", 6, **NOISE, seed=1).write(tmp_path)
    page = (tmp_path / "cifar10-jpeg-n10" / "table1.md").read_text(encoding="utf-8")
    assert "- Seeds: 0; 0, 1 of gaussian-noise.\n" in page


def test_a_trained_card_in_a_folder_stands_beside_the_papers_model(tmp_path: Path) -> None:
    Results().add("cifar10-jpeg/HaH", 9, display="HaH", model_argument="trained/HaH.toml").write(tmp_path)
    page = tmp_path / "cifar10-jpeg-n10" / "table1.md"
    assert table_of(page)[2][:2] == ["HaH", "90.0 [59.6, 98.2], paper 87.3 (+2.7)"]
    assert "hahbench run paper --model trained/HaH.toml " in page.read_text(encoding="utf-8")


def test_a_missing_cell_comes_with_a_suite_that_has_its_attack(tmp_path: Path) -> None:
    by_library = {**LINF, "attack": "autoattack-linf-reference"}
    unknown = {**LINF, "attack": "pgd-linf"}
    Results().add("HaH", 9, **by_library).add("HaH", 9, **unknown).add("my net", 8).write(tmp_path)
    page = (tmp_path / "cifar10-jpeg-n10" / "leaderboard.md").read_text(encoding="utf-8")
    assert "| AutoAttack l_inf 2/255 by the reference engine   | PGD l_inf 2/255 " in page
    missing = page.partition("## Missing")[2]
    assert "by the reference engine\n\n    hahbench run autoattack --engine reference --model 'my net' " in missing
    assert "PGD" not in missing  # which is in no suite


def test_a_robust_accuracy_that_is_in_doubt_is_marked_and_the_reason_given(tmp_path: Path) -> None:
    results = Results().add("HaH", 9).add("HaH", 9, **LINF, verdict="suspect: the output is random | at times")
    results.add("HaH", 3, **L2, verdict="ok").write(tmp_path)
    for name in ("leaderboard", "table1"):
        page = tmp_path / "cifar10-jpeg-n10" / f"{name}.md"
        text = page.read_text(encoding="utf-8")
        assert "90.0 [59.6, 98.2], suspect" in text
        assert text.count(", suspect") == 1
        assert ["HaH", "APGD l_inf 2/255", "suspect: the output is random &#124; at times"] in table_of(page)
        assert ["HaH", "APGD l2 0.25", "ok"] in table_of(page)


def test_the_paper_says_nothing_about_other_data(tmp_path: Path) -> None:
    Results().add("HaH", 9, dataset_argument="shapes", dataset="shapes", from_path=False).write(tmp_path)
    page = tmp_path / "shapes-n10" / "table1.md"
    assert table_of(page)[1:] == [["HaH", "90.0 [59.6, 98.2]", "missing", "missing", "missing", "1,234,567"]]
    assert "paper 8" not in page.read_text(encoding="utf-8")
    assert "hahbench run paper --model HaH --dataset shapes --n 10 --store results" in page.read_text(encoding="utf-8")


def test_the_csv_holds_unrounded_numbers(tmp_path: Path) -> None:
    Results().add("HaH", 9).add("HaH", 7, **NOISE).add("HaH", 6, **NOISE, seed=1).write(tmp_path)
    table = pd.read_csv(tmp_path / "cifar10-jpeg-n10" / "table1.csv")
    names = "model model_digest display parameters attack level metric value low high n draws verdict published"
    assert list(table.columns) == names.split()
    assert len(table) == 8
    noise = table[(table["model"] == "HaH") & (table["attack"] == "gaussian-noise")].iloc[0]
    assert (noise["level"], noise["metric"], noise["n"], noise["draws"]) == (0.1, "accuracy", 10, 2)
    assert (noise["value"], noise["published"]) == (0.65, 0.64)
    # Wilson's interval of 6.5 out of 10, to more digits than a page shows.
    assert (noise["low"], noise["high"]) == pytest.approx((0.3541, 0.8639), abs=1e-3)
    assert len(repr(float(noise["low"]))) > 10
    missing = table[(table["model"] == "Standard") & (table["attack"] == "apgd-linf")].iloc[0]
    assert missing[["value", "low", "high", "n", "draws"]].isna().all()
    assert missing["published"] == 0.104


def test_the_leaderboard_ranks_by_autoattack_then_by_noise(tmp_path: Path) -> None:
    results = Results().add("unattacked", 10).add("unattacked", 9, **NOISE)
    for model, linf, noise in (("weak", 1, 9), ("noisy", 4, 2), ("robust", 4, 5)):
        results.add(model, 10).add(model, linf, **LINF).add(model, noise, **NOISE)
    results.add("weak", 0, l2=0.5, **FMN).add("robust", 10, **FMN)
    results.write(tmp_path)
    head, *rows = table_of(tmp_path / "cifar10-jpeg-n10" / "leaderboard.md")
    assert head == [
        "Rank",
        "Model",
        "Clean",
        "APGD l_inf 2/255",
        "Gaussian noise sigma 0.1",
        "FMN l2, median norm",
        "Parameters",
        "Digest",
        "n",
    ]
    clean, known = "100.0 [72.2, 100.0]", ["1,234,567", "01234567", "10"]
    assert rows == [
        ["1", "robust", clean, "40.0 [16.8, 68.7]", "50.0 [23.7, 76.3]", "∞ [∞, ∞]", *known],
        ["2", "noisy", clean, "40.0 [16.8, 68.7]", "20.0 [5.7, 51.0]", "missing", *known],
        ["3", "weak", clean, "10.0 [1.8, 40.4]", "90.0 [59.6, 98.2]", "0.500 [0.500, 0.500]", *known],
        ["4", "unattacked", clean, "missing", "90.0 [59.6, 98.2]", "missing", *known],
    ]
    board = pd.read_csv(tmp_path / "cifar10-jpeg-n10" / "leaderboard.csv")
    names = "rank model model_digest display parameters attack level metric value low high n draws verdict"
    assert list(board.columns) == names.split()
    assert board.groupby("model")["rank"].first().to_dict() == {"robust": 1, "noisy": 2, "weak": 3, "unattacked": 4}
    assert set(board["parameters"]) == {1234567}


def test_networks_of_equal_scores_share_a_rank(tmp_path: Path) -> None:
    results = Results()
    for model, linf in (("a", 5), ("b", 3), ("c", 5), ("d", None), ("e", None)):
        results.add(model, 10)
        if linf is not None:
            results.add(model, linf, **LINF)
    results.write(tmp_path)
    rows = table_of(tmp_path / "cifar10-jpeg-n10" / "leaderboard.md")[1:]
    assert [row[:2] for row in rows] == [["1", "a"], ["1", "c"], ["2", "b"], ["3", "d"], ["3", "e"]]


def test_a_network_under_two_gradients_has_one_rank_by_the_lower_accuracy(tmp_path: Path) -> None:
    results = Results()
    for model, right, noise in (("A", 5, 9), ("HaH", 6, 8), ("HaH-BPDA", 3, 8), ("Z", 4, 1)):
        results.add(model).add(model, right, **LINF).add(model, noise, **NOISE)
    folder = with_figures(results, tmp_path)
    page = folder / "leaderboard.md"
    assert [row[:2] for row in table_of(page)[1:5]] == [["1", "A"], ["2", "Z"], ["3", "HaH"], ["3", "HaH-BPDA"]]
    assert "are one network and share a rank" in page.read_text(encoding="utf-8")
    table1 = (folder / "table1.md").read_text(encoding="utf-8")
    assert "of a network that has a second row, for the attack through other gradients" in table1
    models = json.loads((folder / "leaderboard.json").read_text())["models"]
    assert {model["name"]: model["ranks"] for model in models} == {
        "A": {"linf": 1, "noise": 1},
        "HaH": {"linf": 3, "noise": 2},
        "HaH-BPDA": {"linf": 3, "noise": 2},
        "Z": {"linf": 2, "noise": 3},
    }
    (of_hah,) = (folder / "models").glob("HaH-????????.html")
    assert "Rank 3 of 3" in of_hah.read_text()


def test_corruptions_are_of_a_network_not_of_its_gradients(tmp_path: Path) -> None:
    results = Results()
    for model in ("HaH", "HaH-BPDA"):
        results.add(model)
        for level in range(1, 6):
            results.add(model, 5, attack="corruption-fog", kind="corruption", level=float(level))
    folder = with_figures(results, tmp_path)
    assert table_of(folder / "table2.md")[0][1:] == ["Standard", "Adv", "HaH"]
    assert "HaH-BPDA" not in (folder / "corruptions.md").read_text().partition("- Data")[0]


def test_other_attacks_and_epsilons_have_columns_and_ranks(tmp_path: Path) -> None:
    far = {**AUTOATTACK, "level": 8 / 255}
    results = Results().add("a", 10).add("a", 2, **far).add("b", 10).add("b", 5, **far)
    results.add("b", 9, attack="mine", norm="l2", worst_case=True, level=0.1).add("c", 10).add("c", 10, **NOISE)
    # Noise does not search for an error, whatever its name and however many have been through it.
    for model in "abc":
        results.add(model, 10, attack="grain", level=0.3)
    # What a library finds is there to compare with.
    results.add("a", 10, **{**LINF, "attack": "apgd-linf-reference", "level": 0.1})
    results.write(tmp_path)
    page = tmp_path / "cifar10-jpeg-n10" / "leaderboard.md"
    head, *rows = table_of(page)
    reference = "APGD l_inf 0.1 by the reference engine"
    attacks = ["AutoAttack l_inf 8/255", "grain 0.3", "mine 0.1"]
    assert head[2:8] == ["Clean", "Gaussian noise sigma 0.1", reference, *attacks]
    assert [row[1] for row in rows[:3]] == ["b", "a", "c"]
    ranked = "- Ranked by AutoAttack l_inf 8/255, then mine 0.1, then Gaussian noise sigma 0.1, then grain 0.3.\n"
    assert ranked in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("facts", "title"),
    [
        ({**LINF, "attack": "apgd-l2", "norm": "l2", "level": 0.25}, "APGD l2 0.25"),
        ({**LINF, "attack": "apgd-linf-reference"}, "APGD l_inf 2/255 by the reference engine"),
        ({"attack": "clean", "created": "2025-01-01"}, "Clean"),
    ],
)
def test_whatever_was_measured_makes_the_rank(facts: dict[str, Any], title: str, tmp_path: Path) -> None:
    results = Results().add("a", 10).add("b", 10)
    results.add("a", 1, **facts).add("b", 9, **facts).write(tmp_path)
    page = tmp_path / "cifar10-jpeg-n10" / "leaderboard.md"
    assert [row[1] for row in table_of(page)[1:3]] == ["b", "a"]
    assert f"- Ranked by {title}.\n" in page.read_text(encoding="utf-8")


def test_models_are_ranked_by_what_most_of_them_have_been_through(tmp_path: Path) -> None:
    results = Results().add("a", 10).add("b", 10).add("a", 5, **LINF).add("b", 6, **LINF).add("a", 4, **AUTOATTACK)
    results.write(tmp_path / "some")
    results.add("b", 3, **AUTOATTACK).write(tmp_path / "all")
    for folder, ranking, by in (("some", "ba", "APGD l_inf"), ("all", "ab", "AutoAttack l_inf")):
        page = tmp_path / folder / "cifar10-jpeg-n10" / "leaderboard.md"
        assert [row[1] for row in table_of(page)[1:3]] == list(ranking)
        assert f"- Ranked by {by} 2/255, then " in page.read_text(encoding="utf-8")


def test_models_that_lack_the_same_have_one_command(tmp_path: Path) -> None:
    results = Results().add("a").add("b").add("c d").add("a", **FMN).add("a", 5, **LINF).add("c d", 5, **LINF).add("e")
    results.write(tmp_path)
    page = (tmp_path / "cifar10-jpeg-n10" / "leaderboard.md").read_text(encoding="utf-8")
    run, rest = "hahbench run paper --model", "--dataset cifar10 --data PATH --n 10 --store results"
    assert page.partition("## Missing")[2].split("\n\n")[1:] == [
        "c d: FMN l2, median norm",
        f"    {run} 'c d' {rest}",
        "b; e: APGD l_inf 2/255; FMN l2, median norm",
        f"    {run} b --model e {rest}\n",
    ]


def test_table2_has_the_models_whose_corruptions_were_measured(tmp_path: Path) -> None:
    every: dict[str, Any] = {"kind": "corruption", "attack_version": "regenerated, judge 1"}
    results = Results().add("mine", 9).add("other", 9)
    for level in range(1, 6):
        results.add("mine", 5, attack="corruption-fog", level=float(level), **every)
    results.write(tmp_path)
    head, *_ = table_of(tmp_path / "cifar10-jpeg-n10" / "table2.md")
    assert head == ["", "Standard", "Adv", "HaH", "mine"]


def test_ranks_within_a_threat_model_go_by_the_same_rule(tmp_path: Path) -> None:
    results = Results()
    for model, right in zip("abcd", (2, 3, 7, 8), strict=True):
        results.add(model, 10).add(model, right, **LINF)
    results.add("a", 1, **AUTOATTACK).add("b", 2, **AUTOATTACK)
    # Another epsilon is another score.
    for model in "abcd":
        results.add(model, 1, **{**AUTOATTACK, "level": 8 / 255})
    results.write(tmp_path)
    board = json.loads((tmp_path / "cifar10-jpeg-n10" / "leaderboard.json").read_text(encoding="utf-8"))
    ranks = {model["name"]: (model["rank"], model["ranks"]["linf"]) for model in board["models"]}
    assert ranks == {"d": (1, 1), "c": (2, 2), "b": (3, 3), "a": (4, 4)}


def test_a_missing_epsilon_comes_with_a_suite_that_has_it(tmp_path: Path) -> None:
    far, farther = {**AUTOATTACK, "level": 8 / 255}, {**AUTOATTACK, "level": 16 / 255}
    Results().add("a").add("a", 2, **far).add("a", 1, **farther).add("b").write(tmp_path)
    missing = (tmp_path / "cifar10-jpeg-n10" / "leaderboard.md").read_text(encoding="utf-8").partition("## Missing")[2]
    assert "b: AutoAttack l_inf 8/255\n\n    hahbench run robustbench --model b " in missing
    assert "16/255" not in missing


def test_a_hostile_display_name_stays_in_its_cell(tmp_path: Path) -> None:
    name = "a|b <script>alert(1)</script>\n| [x](javascript:y)"
    Results().add("HaH\n<img src=x>", 9, display=name, source="<b>|").write(tmp_path)
    for page in ("leaderboard", "table1"):
        text = (tmp_path / "cifar10-jpeg-n10" / f"{page}.md").read_text(encoding="utf-8")
        assert "a&#124;b &lt;script&gt;alert(1)&lt;/script&gt; &#124; &#91;x&#93;(javascript:y)" in text
        assert "(&lt;b&gt;&#124;)" in text
        # What is left of "<" stands in the indented command, where Markdown shows it as it is.
        assert all(line.startswith("    hahbench run") for line in text.splitlines() if "<" in line)
        table = table_of(tmp_path / "cifar10-jpeg-n10" / f"{page}.md")
        assert {len(row) for row in table} == {len(table[0])}


def test_same_names_with_other_weights_are_told_apart(tmp_path: Path) -> None:
    Results().add("HaH", 9).add("HaH", 3, model_digest="f" * 64, created="2024-01-02").write(tmp_path)
    page = tmp_path / "cifar10-jpeg-n10" / "table1.md"
    assert "through other gradients" not in page.read_text(encoding="utf-8")
    rows = table_of(page)[1:]
    assert [row[:2] for row in rows] == [
        ["Standard", "missing, paper 92.5"],
        ["HaH (01234567)", "90.0 [59.6, 98.2], paper 87.3 (+2.7)"],
        ["HaH (ffffffff)", "30.0 [10.8, 60.3], paper 87.3 (-57.3)"],
    ]


def test_one_model_under_two_names_is_told_apart_by_them(tmp_path: Path) -> None:
    Results().add("HaH", 9, display="Mine").add("HaH-2", 8, display="Mine").write(tmp_path)
    rows = table_of(tmp_path / "cifar10-jpeg-n10" / "leaderboard.md")[1:]
    assert [row[1] for row in rows] == ["Mine (01234567) HaH", "Mine (01234567) HaH-2"]


def test_an_attack_under_one_name_that_was_made_in_two_ways_has_the_newest_alone(tmp_path: Path) -> None:
    results = Results().add("A").add("B").add("A", 9, **LINF, params='{"steps": 1}')
    results.add("B", 2, **LINF, params='{"steps": 100}', created="2024-01-02").add("A", 9, seed=7, **NOISE)
    results.add("A", 8, **NOISE, kind="other", seed=3, created="2024-01-02")
    with pytest.warns(
        match="attack 'apgd-linf' was given other parameters, .* on A than on the model it was last made on"
    ):
        results.write(tmp_path)
    page = tmp_path / "cifar10-jpeg-n10" / "leaderboard.md"
    assert [row[:4] for row in table_of(page)[1:3]] == [
        ["1", "B", "100.0 [72.2, 100.0]", "20.0 [5.7, 51.0]"],
        ["2", "A", "100.0 [72.2, 100.0]", "missing"],
    ]
    # Not the seed of what no longer counts.
    assert "Seeds: 0; 3 of gaussian-noise." in page.read_text()


def test_table3_shows_the_ablations_of_the_paper_alone(tmp_path: Path) -> None:
    results = Results().add("Standard").add("shapes/HaH-no-loss", 8, display="No HaH loss").add("HaH", 9)
    results.write(tmp_path)
    assert [row[:2] for row in table_of(tmp_path / "cifar10-jpeg-n10" / "table3.md")[1:]] == [
        ["HaH", "90.0 [59.6, 98.2], paper 87.3 (+2.7)"],
        ["No HaH loss", "80.0 [49.0, 94.3], paper 89.7 (-9.7)"],
        ["HaH-batch-norm", "missing, paper 90.4"],
        ["HaH-no-threshold", "missing, paper 89.9"],
    ]


def test_data_without_ablations_has_no_table3(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"dataset": "shapes", "dataset_argument": "shapes"}
    assert not any("table3" in path for path in Results().add("Standard", **facts).write(tmp_path))


def test_tables_in_latex_are_literal_and_on_one_line_a_model(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"dataset": "shapes", "dataset_argument": "shapes"}
    Results().add("a", 9, display="50 % of\nA&B_c {x}", **facts).write(tmp_path)
    lines = (tmp_path / "shapes-n10" / "table1.tex").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "% Table 1: accuracy (%) under noise and adversarial attacks"
    table = [line for line in lines if not line.startswith("%")]
    assert table[0] == r"\begin{tabular}{llllll}"
    assert table[-1] == r"\end{tabular}"
    row = table[4]
    assert row.startswith(r" 50 \% of A\&B\_c \{x\} & 90.0 [59.6, 98.2] & missing ")
    assert row.endswith(r"\\")


def test_every_data_set_has_its_folder(tmp_path: Path) -> None:
    results = Results().add("HaH").add("HaH", n=20, data_digest="e" * 64).add("HaH", n=20, data_digest="f" * 64)
    results.add("HaH", dataset="../a b", data_digest="a" * 64)
    folders = ("..-a-b-n10", "cifar10-jpeg-n10", "cifar10-jpeg-n20-eeeeeeee", "cifar10-jpeg-n20-ffffffff")
    tables = [f"{table}.{suffix}" for table in ("table1", "table3") for suffix in ("md", "csv", "tex")]
    boards = [f"leaderboard.{suffix}" for suffix in ("md", "csv", "tex", "json")]
    page = f"models/HaH-{digest('HaH', CELL['model_digest'])[:8]}.html"
    files = (*boards, *tables, "scores.csv", "leaderboard.html", page)
    assert results.write(tmp_path) == [f"{folder}/{file}" for folder in folders for file in files]
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {f"{folder}/{file}" for folder in folders for file in files}


def test_an_empty_store_has_no_reports(tmp_path: Path) -> None:
    cells = pd.DataFrame(columns=[*CELL, "key", "model", "attack"])
    outcomes = pd.DataFrame(columns=[*OUTCOME_COLUMNS, "key"]).astype({**OUTCOME_COLUMNS, "key": "str"})
    assert write_reports(cells, outcomes, tmp_path, store=tmp_path, command="hahbench x") == []
