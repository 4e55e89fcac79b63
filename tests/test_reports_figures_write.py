"""Which figures a report has, where they lie, and what it says of those that it lacks."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hahbench import catalog
from hahbench.outcome import ACTIVATION_COLUMNS, EXAMPLE_COLUMNS
from hahbench.reports import write_reports
from hahbench.spec import ExhibitKind
from hahbench.store import EXHIBIT_COLUMNS
from tests.test_reports_write import CELL, L2, LINF, NOISE, Results

SHAPES: dict[str, Any] = {"dataset": "shapes", "dataset_argument": "shapes", "from_path": False}
FMN: dict[str, dict[str, Any]] = {
    norm: {"attack": f"fmn-{norm}", "norm": norm, "worst_case": True} for norm in ("l0", "l1", "l2", "linf")
}
CORRUPTED: dict[str, Any] = {"attack": "corruption-gaussian-noise", "kind": "corruption", "level": 1.0}


class Store:
    """Cells and exhibits, as the store gives them."""

    def __init__(self) -> None:
        self.results = Results()
        self.exhibits: dict[ExhibitKind, list[dict[str, str]]] = {"activations": [], "adversarial-examples": []}
        self.shown: dict[ExhibitKind, list[pd.DataFrame]] = {"activations": [], "adversarial-examples": []}

    def keep(self, kind: ExhibitKind, model: str, shown: list[dict[str, Any]], attack: str = "") -> None:
        key = f"{kind} {model}"
        row = {"key": key, "kind": kind, "model": model, "attack": attack, "norm": attack.removeprefix("fmn-")}
        row |= {name: str(CELL[name]) for name in ("model_digest", "data_digest", "created")}
        self.exhibits[kind].append({**row, "version": "1", "cell": ""})
        self.shown[kind].append(pd.DataFrame(shown).assign(key=key))

    def write(self, out: Path) -> Path:
        columns = {"activations": ACTIVATION_COLUMNS, "adversarial-examples": EXAMPLE_COLUMNS}
        exhibits = {
            kind: (
                pd.DataFrame(self.exhibits[kind], columns=list(EXHIBIT_COLUMNS)),
                pd.concat([pd.DataFrame(columns=[*columns[kind], "key"]), *self.shown[kind]])
                if self.shown[kind]
                else pd.DataFrame(columns=[*columns[kind], "key"]),
            )
            for kind in self.exhibits
        }
        paths = write_reports(
            pd.DataFrame(self.results.cells),
            pd.concat(self.results.outcomes, ignore_index=True),
            out,
            store=Path("results"),
            command="hahbench report",
            exhibits=exhibits,
        )
        assert all(path.is_file() for path in paths)
        (page,) = [path for path in paths if path.name == "figures.md"]
        return page


def figures(page: Path) -> set[str]:
    return {path.relative_to(page.parent / "figures").as_posix() for path in page.parent.rglob("*.png")}


def missing(page: Path) -> dict[str, list[str]]:
    """Title of a figure to the commands that make what it lacks."""
    paragraphs = page.read_text(encoding="utf-8").partition("## Missing")[2].strip().split("\n\n")
    found: dict[str, list[str]] = {}
    for names, commands in zip(paragraphs[::2], paragraphs[1::2], strict=True):
        for title in names.partition(": ")[2].split("; "):
            found.setdefault(title.partition(":")[0], []).extend(line.strip() for line in commands.splitlines())
    return found


def activations(level: float) -> list[dict[str, Any]]:
    return [
        {"index": index, "block": block, "hoyer": level, "signal_power": 4.0 + index, "noise_power": 1.0}
        for index in range(3)
        for block in (1, 2)
    ]


def examples() -> list[dict[str, Any]]:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, format="png")
    pictures = {"image": file.getvalue(), "perturbation": file.getvalue()}
    return [{"index": 0, "label": "cat", "predicted": "dog", "size": 0.1, **pictures}]


def test_a_report_without_the_cells_of_a_figure_says_what_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No weights come with hahbench, then.
    monkeypatch.setattr(catalog, "models", dict)
    store = Store()
    store.results.add("HaH", 9)
    page = store.write(tmp_path)
    assert figures(page) == set()
    run = "--model HaH --dataset cifar10 --data PATH --n 10 --store results"
    commands = missing(page)
    titles = ["Figure 2", "Figure 3b", "Figure 4", "Figure 5", "Robust accuracy against epsilon"]
    for title in [*titles, "Corruptions", "Worst adversarial examples"]:
        assert commands[title] == [f"hahbench run paper {run}"]
    *trained, run_trained = commands["Figure 6"][1:]
    others = ["Standard", *(f"HaH-{number}" for number in range(1, 6))]
    assert trained == [f"hahbench train {name} --dataset cifar10 --data PATH" for name in others]
    assert run_trained.startswith("hahbench run paper --model trained/Standard.toml --model trained/HaH-1.toml ")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on Standard and HaH, of which there is everything, and on others, of which there is less."""
    store = Store()
    for model in ("Standard", "HaH"):
        store.results.add(model, 9).add(model, 6, **NOISE).add(model, 3, **LINF).add(model, 2, **L2)
        store.results.add(model, 5, **CORRUPTED)
        for fmn in FMN.values():
            store.results.add(model, 2, l2=0.2, **fmn)
        store.keep("activations", model, activations(0.5))
        store.keep("adversarial-examples", model, examples(), "fmn-l2")
    store.results.add("HaH-3", 9).add("HaH-3", 5, **NOISE).add("HaH-3", 3, **LINF).add("HaH-3", 2, **L2)
    store.results.add("ResNet-18", 9, display="ResNet|18").add("ResNet-18", 5, **NOISE, display="ResNet|18")
    store.keep("activations", "ResNet-18", [])
    return store.write(tmp_path_factory.mktemp("out"))


def test_a_report_shows_every_figure_that_it_can(page: Path) -> None:
    assert figures(page) == {
        "figure2-sparsity.png",
        "figure3b-signal-to-noise.png",
        "figure4-noise.png",
        "figure5-minimum-norms.png",
        "robust-accuracy.png",
        "figure6-blocks.png",
        "corruptions-Standard.png",
        "corruptions-HaH.png",
        "local/examples-fmn-l2.png",
    }
    text = page.read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)]*)\)", text)
    assert {link for link in linked if link.endswith(".png")} == {f"figures/{name}" for name in figures(page)} - {
        "figures/local/examples-fmn-l2.png"
    }
    assert all((page.parent / link).is_file() for link in linked)
    for figure in ("figure2-sparsity", "figure3b-signal-to-noise"):
        assert f"figures/{figure}.csv" in linked
        assert set(pd.read_csv(page.parent / "figures" / f"{figure}.csv")["display"]) == {"HaH", "Standard"}
    assert "Made with hahbench" in text
    assert "\n      hahbench report\n" in text


def test_images_of_other_data_sets_than_our_own_stay_out_of_git(page: Path, tmp_path: Path) -> None:
    assert (page.parent / "figures" / "local" / ".gitignore").read_text() == "*\n"
    (of_model,) = (page.parent / "models").glob("HaH-????????.html")
    embedded = of_model.read_text(encoding="utf-8")
    assert "<figcaption>Figure 5: norms of minimum-norm attacks. The smallest perturbations that FMN found" in embedded
    assert "Worst adversarial examples" not in embedded
    store = Store()
    store.results.add("HaH", 9, **SHAPES)
    store.keep("adversarial-examples", "HaH", examples(), "fmn-l2")
    ours = store.write(tmp_path)
    assert figures(ours) == {"examples-fmn-l2.png"}
    assert "](figures/examples-fmn-l2.png)" in ours.read_text(encoding="utf-8")


def test_only_what_lacks_is_asked_for(page: Path) -> None:
    commands = missing(page)
    assert {title for title, lines in commands.items() if any("HaH-3" in line for line in lines)} == set()
    asked_of_resnet = {title for title, lines in commands.items() if any("ResNet-18" in line for line in lines)}
    assert asked_of_resnet == {
        "Figure 5",
        "Robust accuracy against epsilon",
        "Corruptions",
        "Worst adversarial examples",
    }
    assert set(re.findall(r"HaH-\d", " ".join(commands["Figure 6"]))) == {"HaH-1", "HaH-2", "HaH-4", "HaH-5"}
    text = page.read_text(encoding="utf-8")
    assert text.count("Without HaH or regular blocks, and so without a line: ResNet&#124;18.") == 2


def test_exhibits_of_other_data_or_weights_are_not_shown(tmp_path: Path) -> None:
    store = Store()
    store.results.add("HaH", 9, **SHAPES)
    store.keep("activations", "HaH", activations(0.5))
    store.keep("adversarial-examples", "HaH", examples(), "fmn-l2")
    store.exhibits["activations"][0]["data_digest"] = "e" * 64
    store.exhibits["adversarial-examples"][0]["model_digest"] = "e" * 64
    page = store.write(tmp_path)
    assert figures(page) == set()
    assert {"Figure 2", "Worst adversarial examples"} <= set(missing(page))


def test_noise_without_level_is_no_accident(tmp_path: Path) -> None:
    """A model with the clean cell alone has no curve, and the other's is drawn."""
    store = Store()
    store.results.add("HaH", 9, **SHAPES).add("HaH", 4, **NOISE, **SHAPES).add("Standard", 9, **SHAPES, level=math.nan)
    page = store.write(tmp_path)
    assert figures(page) == {"figure4-noise.png"}
    assert [line for line in missing(page)["Figure 4"] if "--model Standard" in line]
