"""Exhibits of real runs: what is kept, that it is true, and that it is kept once."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from hahbench import catalog
from hahbench.data import load_images
from hahbench.errors import CatalogError, StoreError
from hahbench.exhibits import EXAMPLES, NOISE_STD, activations, most_fragile
from hahbench.models.load import load_model
from hahbench.outcome import ACTIVATION_COLUMNS, EXAMPLE_COLUMNS
from hahbench.plan import Job
from hahbench.run import Part, run
from hahbench.spec import EXHIBITS, AttackSpec, Exhibit, ModelCard
from hahbench.store import EXHIBIT_COLUMNS, Store

N = 8
ATTACKS = [
    AttackSpec("clean", "clean"),
    AttackSpec("noise", "gaussian-noise", levels=(NOISE_STD,)),
    AttackSpec("short-linf", "fmn", "linf", params={"steps": 10}),
    AttackSpec("short-l2", "fmn", "l2", params={"steps": 10}),
]


def constant() -> nn.Module:
    """No blocks, and always right or always wrong."""
    linear = nn.Linear(3 * 32 * 32, 10)
    nn.init.zeros_(linear.weight)
    linear.bias.data = 5 * torch.eye(10)[0]
    return nn.Sequential(nn.Flatten(), linear)


class Counting:
    def __init__(self) -> None:
        self.exhibits: list[Exhibit] = []

    def planned(self, jobs: Sequence[Job], done: int) -> None: ...
    def started(self, job: Job) -> None: ...
    def progress(self, job: Job, fraction: float, robust_accuracy: float) -> None: ...
    def warned(self, job: Job, message: str) -> None: ...
    def finished(self, job: Job, outcomes: pd.DataFrame, seconds: float) -> None: ...
    def exhibited(self, exhibit: Exhibit, seconds: float) -> None:
        self.exhibits.append(exhibit)


def start_run(folder: Path, kinds: Sequence[Any]) -> list[Exhibit]:
    """What was made in a run of a network and of one without blocks."""
    cards = [catalog.models()["shapes/HaH"], ModelCard("constant", constant)]
    observer = Counting()
    options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
    images = load_images("shapes", "test", None)
    run([Part(cards, ATTACKS, kinds)], images, N, store=Store(folder), observer=observer, **options)
    return observer.exhibits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run that asked for all exhibits after one that asked for none."""
    folder = tmp_path_factory.mktemp("store")
    assert start_run(folder, []) == []
    made = start_run(folder, EXHIBITS)
    assert len(made) == 2 + 2 * 2
    return folder


def test_what_is_kept_is_not_made_again(folder: Path) -> None:
    (lost,) = (folder / "activations").glob("shapes_HaH-*")
    lost.unlink()
    others = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    assert [(made.model, made.kind) for made in start_run(folder, EXHIBITS)] == [("shapes/HaH", "activations")]
    assert lost.exists()
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_activations_are_those_under_the_noise_of_the_attack(folder: Path) -> None:
    exhibits, shown = Store(folder).read_exhibits("activations")
    assert list(exhibits.columns) == list(EXHIBIT_COLUMNS)
    keys = exhibits.set_index("model")["key"]
    of_network = shown[shown["key"] == keys["shapes/HaH"]].drop(columns="key").reset_index(drop=True)
    model = load_model(catalog.models()["shapes/HaH"])
    pd.testing.assert_frame_equal(of_network, activations(model, load_images("shapes", "test", None).first(N)))
    assert len(of_network) == 13 * N
    assert of_network.dtypes.astype(str).to_dict() == ACTIVATION_COLUMNS
    # The first block's input is the image itself: 3 * 32 * 32 values under noise of 0.1, over deviations of about 0.25.
    first = of_network[of_network["block"] == 1]["noise_power"].mean()
    assert first == pytest.approx(3 * 32 * 32 * (NOISE_STD / 0.25) ** 2, rel=0.1)
    assert (shown["key"] != keys["constant"]).all(), "a model without blocks has an exhibit that shows nothing"


def pixels(png: bytes) -> npt.NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(png))) / 255.0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_adversarial_examples_are_the_samples_that_broke_most_easily(folder: Path, norm: str) -> None:
    store = Store(folder)
    exhibits, shown = store.read_exhibits("adversarial-examples")
    cells, outcomes = store.read()
    of_network = exhibits[(exhibits["model"] == "shapes/HaH") & (exhibits["norm"] == norm)].iloc[0]
    assert of_network["cell"] in set(cells["key"])
    examples = shown[shown["key"] == of_network["key"]]
    assert list(examples.columns) == [*EXAMPLE_COLUMNS, "key"]

    found = outcomes[outcomes["key"] == of_network["cell"]].set_index("index")[norm]
    assert set(examples["index"]) == set(found[(found > 0) & (found < np.inf)].nsmallest(EXAMPLES).index)
    assert examples["size"].tolist() == pytest.approx(found[examples["index"]].tolist(), rel=0.02)
    assert examples["size"].is_monotonic_increasing

    images = load_images("shapes", "test", None)
    samples = images.first(N)
    for example in examples.to_dict("records"):
        clean = samples.images[example["index"]].permute(1, 2, 0).numpy()
        change = pixels(example["image"]) - clean
        assert np.abs(change).max() <= (example["size"] if norm == "linf" else 1.0) + 0.5 / 255 + 1e-6
        assert example["label"] == images.classes[samples.labels[example["index"]]] != example["predicted"]
        direction = pixels(example["perturbation"]) - 0.5
        assert np.abs(direction).max() == pytest.approx(0.5, abs=0.01)
        if norm == "l2":
            scale = np.linalg.norm(direction) / example["size"]
            rounding = (0.5 + 0.5 / scale) * np.sqrt(direction.size / 3) / 255
            assert np.linalg.norm(change - direction / scale) < rounding


def test_what_no_perturbation_broke_is_no_example(folder: Path) -> None:
    exhibits, shown = Store(folder).read_exhibits("adversarial-examples")
    of_constant = exhibits[exhibits["model"] == "constant"]
    assert len(of_constant) == 2
    assert not shown["key"].isin(of_constant["key"]).any()


def test_the_most_fragile_are_right_at_first_and_broken() -> None:
    outcomes = pd.DataFrame(
        {"label": 1, "clean_pred": [1, 0, 1, 1, 1, 1], "l2": [0.5, 0.0, np.inf, 0.2, 0.2, 0.9], "index": range(6)}
    )
    assert most_fragile(outcomes, "l2").tolist() == [3, 4, 0]


def exhibit(**changes: str) -> Exhibit:
    return dataclasses.replace(Exhibit("activations", "m", "w" * 64, "d" * 64, "1"), **changes)  # type: ignore[arg-type]


def rows(*blocks: int) -> pd.DataFrame:
    return pd.DataFrame(dict.fromkeys(ACTIVATION_COLUMNS, blocks)).astype(ACTIVATION_COLUMNS)


def test_of_two_exhibits_of_the_same_model_the_newest_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_exhibit(exhibit(version="2"), rows(1, 2), "2024-02-02")
    store.write_exhibit(exhibit(version="1"), rows(3), "2024-01-01")
    store.write_exhibit(exhibit(model_digest="v" * 64), rows(4), "2023-01-01")
    exhibits, shown = store.read_exhibits("activations")
    assert sorted(shown["block"]) == [1, 2, 4]
    assert set(exhibits["version"]) == {"1", "2"}


def test_no_exhibits_are_two_empty_frames(tmp_path: Path) -> None:
    for kind in EXHIBITS:
        exhibits, shown = Store(tmp_path).read_exhibits(kind)
        assert exhibits.empty
        assert shown.empty
        assert "key" in shown


def test_a_damaged_exhibit_is_one_clear_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_exhibit(exhibit(), rows(1), "2024-01-01")
    path = store.path(exhibit())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="is no result file; delete it and run the suite again"):
        store.read_exhibits("activations")


def test_a_suite_names_its_exhibits(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    asked = 'models = []\nattacks = []\ndataset = "shapes"\nn = 1\n'
    suite.write_text(asked)
    assert catalog.read_suite(suite).exhibits == ()
    suite.write_text(asked + 'exhibits = ["activations"]\n')
    assert catalog.read_suite(suite).exhibits == ("activations",)
    suite.write_text(asked + 'exhibits = ["activation"]\n')
    with pytest.raises(CatalogError, match="key 'exhibits': 'activation'; allowed: activations, adversarial-examples"):
        catalog.read_suite(suite)
