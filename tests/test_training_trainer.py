"""Training is repeatable, survives being killed, and leaves a card that loads."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from hahbench import catalog
from hahbench.data.base import ImageSet
from hahbench.errors import DataError, HahbenchError, ModelError
from hahbench.models.load import load_model
from hahbench.models.vgg import vgg16
from hahbench.spec import ModelCard
from hahbench.training.checkpoint import EpochRow
from hahbench.training.trainer import train

ALPHAS = [4.5e-3, 2.5e-3]
CARD = ModelCard(
    name="tiny/HaH",
    loader="hahbench.models.vgg:vgg16",
    params={"width": 1 / 16, "hah_blocks": 2, "classes": 3},
    train={"cost": "hah", "alphas": ALPHAS, "epochs": 5, "batch_size": 8, "lr": 0.01},
    display="HaH",
    reference="nobody 1999",
)


def images(split: str, n: int) -> ImageSet:
    generator = torch.Generator().manual_seed(len(split))
    labels = torch.arange(n) % 3
    pixels = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    pixels[torch.arange(n), labels] = 0
    return ImageSet("blobs", split, "made here", ("a", "b", "c"), pixels, labels)  # type: ignore[arg-type]


def trained(out: Path, card: ModelCard = CARD, **given: Any) -> ModelCard:
    defaults: dict[str, Any] = {"test": images("test", 12), "device": torch.device("cpu")}
    return train(card, images("train", 20), out=out, **{**defaults, **given})


def log(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "tiny-HaH.log.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    trained(out)
    return out


def assert_same_result(out: Path, expected: Path) -> None:
    assert (out / "tiny-HaH.safetensors").read_bytes() == (expected / "tiny-HaH.safetensors").read_bytes()
    pd.testing.assert_frame_equal(log(out).drop(columns="seconds"), log(expected).drop(columns="seconds"), rtol=0)


def test_the_same_training_twice_gives_the_same_bytes_wherever_the_global_generator_stands(
    finished: Path, tmp_path: Path
) -> None:
    torch.manual_seed(99)
    expected = torch.get_rng_state()
    trained(tmp_path)
    assert_same_result(tmp_path, finished)
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("cost", ["standard", "adversarial"])
def test_another_seed_gives_another_result(cost: str, tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, train={"cost": cost, "epochs": 1, "batch_size": 10, "steps": 2})
    first = trained(tmp_path / "first", card)
    other = trained(tmp_path / "other", dataclasses.replace(card, train={**card.train, "seed": 1}))
    assert first.sha256 != other.sha256


class Stop(Exception):
    """What a callback raises to end a training early."""


def stop_after(epoch: int) -> Any:
    def on_epoch(row: EpochRow) -> None:
        if row.epoch == epoch:
            raise Stop

    return on_epoch


@pytest.mark.parametrize("epoch", [1, 4, 5])
def test_a_training_stopped_after_an_epoch_resumes_to_the_same_result(
    epoch: int, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, on_epoch=stop_after(epoch))
    assert log(tmp_path)["epoch"].tolist() == list(range(1, epoch + 1))
    epochs: list[int] = []
    trained(tmp_path, on_epoch=lambda row: epochs.append(row.epoch))
    assert epochs == list(range(epoch + 1, 6))
    assert_same_result(tmp_path, finished)


def test_a_training_killed_within_an_epoch_resumes_to_the_same_result(finished: Path, tmp_path: Path) -> None:
    script = """
import os, signal, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_training_trainer as this
torch.set_num_threads(int(sys.argv[3]))
def on_batch(fraction, loss, accuracy):
    if fraction > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
this.trained(Path(sys.argv[1]), on_batch=on_batch)
"""
    here = Path(__file__).parent
    arguments = [str(tmp_path), str(here), str(torch.get_num_threads())]
    environment = {**os.environ, "PYTHONPATH": str(here.parent)}
    run = subprocess.run([sys.executable, "-c", script, *arguments], env=environment, check=False, timeout=100)
    assert run.returncode == -signal.SIGKILL
    assert log(tmp_path)["epoch"].tolist() == [1, 2]
    trained(tmp_path)
    assert_same_result(tmp_path, finished)


def test_the_log_has_a_row_an_epoch(finished: Path) -> None:
    frame = log(finished)
    columns = ["epoch", "lr", "loss", "cross_entropy", "train_accuracy", "test_accuracy", "seconds"]
    assert list(frame) == columns
    assert frame["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert frame["lr"].tolist() == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-4])
    # Multiples of one image in 20, and of one in 12.
    assert (frame["train_accuracy"] * 20).round(9).mod(1).eq(0).all()
    assert (frame["test_accuracy"] * 12).round(9).mod(1).eq(0).all()


def test_beyond_the_cross_entropy_the_log_has_the_hah_costs(tmp_path: Path, finished: Path) -> None:
    assert (log(finished)["loss"] < log(finished)["cross_entropy"]).all()
    trained(tmp_path, dataclasses.replace(CARD, train={**CARD.train, "alphas": [0.0, 0.0]}), epochs=1)
    assert log(tmp_path)["loss"].tolist() == pytest.approx(log(tmp_path)["cross_entropy"].tolist())


def test_the_fraction_done_the_loss_and_the_accuracy_are_reported_for_each_batch(tmp_path: Path) -> None:
    reports: list[tuple[float, float, float]] = []
    trained(tmp_path, epochs=2, on_batch=lambda *report: reports.append(report))
    assert [fraction for fraction, _, _ in reports] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    losses = [loss for _, loss, _ in reports[:3]]
    accuracies = [accuracy for _, _, accuracy in reports[:3]]
    # Batches of 8, 8 and 4 images: the log's means are over images.
    assert log(tmp_path)["loss"][0] == pytest.approx(np.dot([8, 8, 4], losses) / 20)
    assert log(tmp_path)["train_accuracy"][0] == pytest.approx(np.dot([8, 8, 4], accuracies) / 20)


@pytest.mark.parametrize(
    ("epochs", "rates"),
    [
        (1, [1e-2]),
        (3, [1e-2, 1e-2, 1e-4]),
        (4, [1e-2, 1e-2, 1e-3, 1e-4]),
        (10, [1e-2] * 6 + [1e-3] * 2 + [1e-4] * 2),
    ],
)
def test_the_learning_rate_falls_at_60_and_80_percent_of_any_number_of_epochs(
    epochs: int, rates: list[float], tmp_path: Path
) -> None:
    trained(tmp_path, epochs=epochs)
    assert log(tmp_path)["lr"].tolist() == pytest.approx(rates)


def test_training_learns(tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, train={**CARD.train, "lr": 3e-3, "batch_size": 10})
    train(card, images("train", 60), test=images("test", 12), out=tmp_path, epochs=10, device=torch.device("cpu"))
    # A guess gets 4 of the 12 right.
    assert log(tmp_path)["test_accuracy"].iloc[-1] >= 0.75


def test_the_trained_card_loads_and_is_the_model_as_it_was_in_memory(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, on_epoch=stop_after(5))
    state = torch.load(tmp_path / "tiny-HaH.checkpoint.pt", weights_only=True)["model"]
    card = trained(tmp_path)
    model = load_model(card)
    in_memory = load_model(dataclasses.replace(card, weights=None, sha256=None))
    in_memory.load_state_dict(state)
    pixels = images("test", 12).first(12).images
    with torch.no_grad():
        logits, expected = model(pixels), in_memory.eval()(pixels)
    torch.testing.assert_close(logits, expected, rtol=2e-2, atol=2e-2)
    assert torch.equal(logits.argmax(1), expected.argmax(1))


def test_the_files_left_are_the_log_the_weights_and_a_card_that_needs_no_other(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "tiny-HaH.log.csv",
        "tiny-HaH.safetensors",
        "tiny-HaH.toml",
    ]
    assert tomllib.loads((finished / "tiny-HaH.toml").read_text()) == {
        "name": "blobs/HaH",
        "loader": "hahbench.models.vgg:vgg16",
        "display": "HaH",
        "reference": "nobody 1999",
        "dataset": "blobs",
        "weights": "tiny-HaH.safetensors",
        "sha256": hashlib.sha256((finished / "tiny-HaH.safetensors").read_bytes()).hexdigest(),
        "params": {"width": 1 / 16, "hah_blocks": 2, "classes": 3},
        "train": {
            "cost": "hah",
            "alphas": ALPHAS,
            "lambda": 0.1,
            "active_fraction": 0.1,
            "cost_reading": "paper",
            "epochs": 5,
            "batch_size": 8,
            "lr": 0.01,
            "milestones": [0.6, 0.8],
            "seed": 2022,
        },
    }


def assert_reads_as(path: Path, card: ModelCard) -> None:
    assert catalog.resolve_models(str(path), "blobs") == [card]
    pixels = images("test", 12).first(12).images
    with torch.no_grad():
        assert torch.equal(load_model(catalog.read_card(path))(pixels), load_model(card)(pixels))


def test_a_card_file_that_amends_a_shipped_card_is_trained_to_a_card_that_reads_as_the_one_returned(
    tmp_path: Path,
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "Standard"\n[params]\nclasses = 3\nwidth = 0.0625\n[train]\nbatch_size = 10\n')
    card = trained(tmp_path / "out", catalog.read_card(mine), epochs=1)
    assert (card.name, card.display) == ("blobs/mine", "mine")
    assert card.train == {**catalog.models()["Standard"].train, "batch_size": 10, "epochs": 1}
    mine.unlink()
    assert_reads_as(tmp_path / "out" / "mine.toml", card)


USER_MODULE = """
from hahbench.models.vgg import vgg16
def make(note=None, **params):
    return vgg16(**params)
def outer():
    return lambda **params: vgg16(**params)
local = outer()
"""


def test_a_loader_that_can_be_imported_is_written_as_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "importable_loader.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    make = importlib.import_module("importable_loader").make
    card = trained(tmp_path, dataclasses.replace(CARD, loader=make), epochs=1)
    assert card.loader == "importable_loader:make"
    assert_reads_as(tmp_path / "tiny-HaH.toml", card)


def test_a_loader_that_no_card_can_name_is_said_before_the_first_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user.py").write_text(USER_MODULE)
    user = runpy.run_path(str(tmp_path / "user.py"), run_name="loader_run_from_a_file")
    # As for a file that --model names: it is among the modules of this process, and of no other.
    monkeypatch.setitem(sys.modules, "loader_run_from_a_file", types.SimpleNamespace(**user))
    for loader in (user["make"], user["local"], functools.partial(vgg16)):
        with pytest.raises(HahbenchError, match="put the loader into an importable module and name it in a card"):
            trained(tmp_path / "out", dataclasses.replace(CARD, loader=loader), on_batch=never)
    assert not (tmp_path / "out").exists()


def test_a_loader_beside_its_card_is_refused_where_the_trained_card_would_not_find_it(tmp_path: Path) -> None:
    (tmp_path / "loader_beside_a_card.py").write_text(USER_MODULE)
    (tmp_path / "mine.toml").write_text(
        'loader = "loader_beside_a_card:make"\n[params]\nclasses = 3\nwidth = 0.05\n[train]\ncost = "standard"\n'
    )
    card = catalog.read_card(tmp_path / "mine.toml")
    with pytest.raises(HahbenchError, match=r"is not found from .*elsewhere; choose the folder of the former"):
        trained(tmp_path / "elsewhere", card, on_batch=never)
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(HahbenchError, match=r"mine\.toml is the card that is trained; choose another --out"):
        trained(tmp_path, card, on_batch=never)
    (tmp_path / "mine.toml").rename(tmp_path / "other.toml")
    card = trained(tmp_path, dataclasses.replace(catalog.read_card(tmp_path / "other.toml"), name="mine"), epochs=1)
    assert_reads_as(tmp_path / "mine.toml", card)


def never(_fraction: float, _loss: float, _accuracy: float) -> None:
    raise AssertionError("training has begun")


def one_line(error: pytest.ExceptionInfo[HahbenchError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("card", "given"),
    [
        (dataclasses.replace(CARD, params={**CARD.params, "sigma": 0.2}), {}),
        (dataclasses.replace(CARD, train={**CARD.train, "lr": 0.02}), {}),
        (dataclasses.replace(CARD, train={**CARD.train, "alphas": [0.0, 0.0]}), {}),
        (CARD, {"epochs": 6}),
        (CARD, {"test": images("test", 11)}),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(card: ModelCard, given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, on_epoch=stop_after(1))
    before = (tmp_path / "tiny-HaH.checkpoint.pt").read_bytes()
    with pytest.raises(HahbenchError, match="choose another --out, or delete it to train from the start") as error:
        trained(tmp_path, card, **given)
    assert str(tmp_path / "tiny-HaH.checkpoint.pt") in one_line(error)
    assert (tmp_path / "tiny-HaH.checkpoint.pt").read_bytes() == before


def test_the_checkpoint_of_other_code_or_attributes_is_refused(tmp_path: Path) -> None:
    """A mixture of two networks would have one log and one card; attributes may come from a file."""
    card = tmp_path / "edited.toml"
    card.write_text('loader = "edited_network:make"\n[train]\ncost = "standard"\nepochs = 2\n')
    script = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_training_trainer as this
card = this.catalog.read_card(Path(sys.argv[1]) / "edited.toml")
this.trained(Path(sys.argv[1]), this.dataclasses.replace(card, name="mine"), on_epoch=lambda row: os._exit(3))
"""

    def train_on(rate: float, slope: float = 1.0) -> subprocess.CompletedProcess[str]:
        (tmp_path / "slope").write_text(str(slope))
        (tmp_path / "edited_network.py").write_text(f"""
from pathlib import Path
from torch import nn
RATE = {rate}
def make():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    network.slope = float(Path(__file__).with_name("slope").read_text())
    return network
""")
        here = Path(__file__).parent
        command = [sys.executable, "-c", script, str(tmp_path), str(here)]
        environment = {**os.environ, "PYTHONPATH": str(here.parent)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)

    assert train_on(0.2).returncode == 3
    for other in (train_on(0.9), train_on(0.2, slope=0.5)):
        assert "of another model, its code, recipe, data set, number of epochs, or version" in other.stderr
    assert train_on(0.2).returncode == 3


def test_the_checkpoint_of_another_version_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "tiny-HaH.checkpoint.pt"
    torch.save({"identity": "of another version", "rows": [{"epoch": 1}], "model": {}}, path)
    with pytest.raises(HahbenchError, match="or version of hahbench; choose another --out"):
        trained(tmp_path)


def test_that_the_weights_of_a_card_are_not_used_is_said(finished: Path, tmp_path: Path) -> None:
    card = catalog.read_card(finished / "tiny-HaH.toml")
    with pytest.warns(UserWarning, match=r"starts from initial weights; tiny-HaH\.safetensors is not used"):
        trained(tmp_path, dataclasses.replace(card, name="tiny/HaH"))
    assert_same_result(tmp_path, finished)


def test_the_card_of_a_trained_model_says_what_was_used_and_nothing_else(tmp_path: Path) -> None:
    """A card that amends HaH's cost keeps HaH's keys, which do not count."""
    train = {**CARD.train, "cost": "adversarial", "epsilon": "4/255", "steps": 2}
    assert trained(tmp_path, dataclasses.replace(CARD, train=train), epochs=1).train == {
        "cost": "adversarial",
        "epsilon": "4/255",
        "step_size": 2 / 255,
        "steps": 2,
        "epochs": 1,
        "batch_size": 8,
        "lr": 0.01,
        "milestones": [0.6, 0.8],
        "seed": 2022,
    }


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_refused(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "tiny-HaH.checkpoint.pt").write_bytes(damage)
    with pytest.raises(HahbenchError, match=r"cannot be read \(\w+\); choose another --out") as error:
        trained(tmp_path)
    one_line(error)


def test_a_checkpoint_whose_log_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny-HaH.checkpoint.pt"
    with pytest.raises(Stop):
        trained(tmp_path, on_epoch=stop_after(1))
    torch.save({**torch.load(path), "rows": [{"epoch": 1}]}, path)
    with pytest.raises(HahbenchError, match=r"cannot be read \(TypeError\); choose another --out"):
        trained(tmp_path)


def test_a_trained_model_is_not_overwritten(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    with pytest.raises(HahbenchError, match="holds this model already; choose another --out, or delete it"):
        trained(tmp_path)


def test_an_out_folder_that_cannot_be_made_is_said_before_the_first_batch(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(HahbenchError, match=r"cannot be written: .*; choose another --out") as error:
            trained(out, on_batch=never)
        assert str(out) in one_line(error)


def test_too_little_room_is_said_before_the_first_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(HahbenchError, match=r"0 MB free; the checkpoints need \d+ MB; choose another --out"):
        trained(tmp_path, on_batch=never)


def test_a_parameter_that_no_card_can_hold_is_said_before_the_first_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loader_with_a_note.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    card = dataclasses.replace(CARD, loader="loader_with_a_note:make", params={**CARD.params, "note": None})
    with pytest.raises(HahbenchError, match="a parameter cannot be written as TOML"):
        trained(tmp_path, card, on_batch=never)


def test_a_loss_that_is_not_finite_stops_the_training_and_the_last_checkpoint_stays(
    finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, on_epoch=stop_after(2))
    checkpoint = tmp_path / "tiny-HaH.checkpoint.pt"
    good = checkpoint.read_bytes()
    state = torch.load(checkpoint, weights_only=True)
    next(iter(tensor for tensor in state["model"].values() if tensor.ndim == 4)).fill_(float("nan"))
    torch.save(state, checkpoint)
    with pytest.raises(HahbenchError, match=r"the loss is nan in epoch 3, batch 1; try") as error:
        trained(tmp_path)
    one_line(error)
    assert torch.load(checkpoint, weights_only=True)["rows"][-1]["epoch"] == 2
    checkpoint.write_bytes(good)
    trained(tmp_path)
    assert_same_result(tmp_path, finished)


def linear() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (dataclasses.replace(CARD, params={**CARD.params, "hah_blocks": 3}), "alphas has 2 values; the model has 3"),
        (dataclasses.replace(CARD, params={**CARD.params, "classes": 4}), "allowed: logits"),
        (
            dataclasses.replace(CARD, params={}, loader=linear),
            "the cost 'hah' needs a VGG with HaH blocks, not Sequential",
        ),
    ],
)
def test_a_model_that_does_not_fit_leaves_nothing_behind(card: ModelCard, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        trained(tmp_path, card)
    assert list(tmp_path.iterdir()) == []


def test_epochs_and_test_images_are_checked(tmp_path: Path) -> None:
    with pytest.raises(HahbenchError, match="epochs must be at least 1, not 0"):
        trained(tmp_path, epochs=0)
    other = dataclasses.replace(images("test", 12), classes=("a", "b", "d"))
    with pytest.raises(DataError, match="differ in shape or classes"):
        trained(tmp_path, test=other)


def small_card(*layers: str) -> ModelCard:
    return dataclasses.replace(
        CARD,
        loader="layers_by_name:make",
        params={"layers": list(layers)},
        train={"cost": "standard", "epochs": 3, "batch_size": 19},
    )


@pytest.fixture
def layers_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from torch import nn
LAYERS = {"linear": lambda: nn.Linear(3072, 3), "dropout": nn.Dropout, "batch norm": lambda: nn.BatchNorm1d(3072),
          "first classes": lambda: nn.Unflatten(1, (3, 1024)), "mean": lambda: nn.AvgPool1d(1024)}
def make(layers):
    return nn.Sequential(nn.Flatten(), *(LAYERS[layer]() for layer in layers), nn.Flatten())
"""
    (tmp_path / "layers_by_name.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "layers_by_name", raising=False)


def test_a_model_that_views_its_activations_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``view`` fails on activations that lie channels-last."""
    code = """
from torch import nn
class Viewing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, stride=4), nn.Linear(256, 3)
    def forward(self, x):
        return self.linear(self.conv(x).view(len(x), -1))
"""
    (tmp_path / "viewing.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    trained(tmp_path / "out", dataclasses.replace(small_card(), loader="viewing:Viewing", params={}))
    assert len(log(tmp_path / "out")) == 3


@pytest.mark.usefixtures("layers_by_name")
def test_a_training_with_dropout_resumes_to_the_same_result(tmp_path: Path) -> None:
    card = small_card("dropout", "linear")
    torch.manual_seed(1)
    trained(tmp_path / "whole", card)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    with pytest.raises(Stop):
        trained(tmp_path / "stopped", card, on_epoch=stop_after(1))
    trained(tmp_path / "stopped", card)
    assert_same_result(tmp_path / "stopped", tmp_path / "whole")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("layers_by_name")
@pytest.mark.parametrize(
    ("layers", "raised"),
    [
        (("first classes", "mean"), "ValueError: optimizer got an empty parameter list"),
        (("batch norm", "linear"), "ValueError: Expected more than 1 value per channel when training, got input size"),
    ],
    ids=["no parameters", "a last batch of one image"],
)
def test_what_cannot_be_trained_is_said_in_one_line(layers: tuple[str, ...], raised: str, tmp_path: Path) -> None:
    with pytest.raises(HahbenchError) as error:
        trained(tmp_path / "out", small_card(*layers))
    message = one_line(error)
    assert message.startswith(f"training 'tiny/HaH': epoch 1 raised {raised}")
    assert message.endswith("; the epochs finished before are kept")


@pytest.mark.usefixtures("layers_by_name")
@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (
            RuntimeError("out of\nmemory"),
            HahbenchError,
            "training 'tiny/HaH': epoch 3 raised RuntimeError: out of memory; the epochs finished before are kept",
        ),
        (KeyboardInterrupt("by hand"), KeyboardInterrupt, "by hand"),
    ],
    ids=["error", "interrupt"],
)
def test_the_epochs_before_a_model_that_raises_are_kept(
    raised: BaseException, expected: type[BaseException], message: str, tmp_path: Path
) -> None:
    card = small_card("dropout", "linear")
    trained(tmp_path / "whole", card)
    epochs_done = 0

    def count(row: EpochRow) -> None:
        nonlocal epochs_done
        epochs_done = row.epoch

    def fail_in_the_third_epoch(module: torch.nn.Module, _inputs: Any) -> None:
        if epochs_done == 2:
            raise raised

    hook = torch.nn.modules.module.register_module_forward_pre_hook(fail_in_the_third_epoch)
    try:
        with pytest.raises(expected, match=f"^{message}$"):
            trained(tmp_path / "out", card, on_epoch=count)
    finally:
        hook.remove()
    assert log(tmp_path / "out")["epoch"].tolist() == [1, 2]
    trained(tmp_path / "out", card)
    assert_same_result(tmp_path / "out", tmp_path / "whole")
