"""hahbench with RobustBench itself, both ways; skipped where that is not installed."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from hahbench import register_model
from hahbench.cache import cache_folder
from hahbench.catalog import find_model, models
from hahbench.errors import ModelError
from hahbench.models.load import load_model
from hahbench.models.robustbench_import import import_robustbench
from tests.command import run_command

if importlib.util.find_spec("robustbench") is None:
    pytest.skip("RobustBench is not installed", allow_module_level=True)

# A small network of its zoo: a pre-activation ResNet-18.
NAME = "Addepalli2022Efficient_RN18"
ARGUMENT = f"robustbench:cifar10/Linf/{NAME}"
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def robustbench() -> ModuleType:
    return import_robustbench()


@pytest.fixture
def zoo(robustbench: ModuleType) -> Any:
    return importlib.import_module("robustbench.model_zoo").model_dicts


@pytest.fixture
def random_weights(zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """Random weights in the cache folder, which stand in for a download; the network that has them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (of_dataset,) = (known for dataset, known in zoo.items() if dataset.value == "cifar10")
    (of_threat,) = (known for threat, known in of_dataset.items() if threat.value == "Linf")
    torch.manual_seed(0)
    network: torch.nn.Module = of_threat[NAME]["model"]().eval()
    folder = cache_folder() / "robustbench" / "cifar10" / "Linf"
    folder.mkdir(parents=True)
    torch.save({"state_dict": network.state_dict()}, folder / f"{NAME}.pt")
    return network


def test_a_model_of_its_zoo_is_loaded_with_weights_in_the_cache_folder(random_weights: torch.nn.Module) -> None:
    model = load_model(find_model(ARGUMENT))
    assert not model.training
    torch.testing.assert_close(model(IMAGES), random_weights(IMAGES))


def test_an_unknown_model_gets_a_suggestion(robustbench: ModuleType) -> None:
    with pytest.raises(ModelError, match=r"RobustBench has no model .* did you mean 'Carmon2019Unlabeled'"):
        load_model(find_model("robustbench:cifar10/Linf/Carmon2019Unlabelled"))


def test_damaged_weights_are_one_line_that_says_where_they_lie(random_weights: torch.nn.Module) -> None:
    path = cache_folder() / "robustbench" / "cifar10" / "Linf" / f"{NAME}.pt"
    path.write_bytes(b"half a download")
    with pytest.raises(ModelError) as caught:
        load_model(find_model(ARGUMENT))
    assert "\n" not in str(caught.value)
    assert str(path.parent) in str(caught.value)


def test_a_model_of_its_zoo_goes_through_run_and_back_into_its_format(
    random_weights: torch.nn.Module,
    robustbench: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = tmp_path / "images" / "test" / "cat"
    images.mkdir(parents=True)
    for number in range(4):
        pil_image().save(images / f"{number}.png")
    (tmp_path / "strong.toml").write_text('kind = "autoattack"\nnorm = "linf"\nlevels = ["8/255"]\n')
    suite = tmp_path / "suite.toml"
    suite.write_text(f'dataset = "cifar10"\nn = 4\nmodels = ["{ARGUMENT}"]\nattacks = ["strong.toml"]\n')
    store = ["--store", str(tmp_path / "store")]
    assert run_command("run", suite, "--data", tmp_path / "images", *store) == 0
    capsys.readouterr()
    assert run_command("export", "robustbench", "--out", tmp_path, *store) == 0
    (path,) = capsys.readouterr().out.splitlines()
    assert Path(path) == tmp_path / "model_info" / "cifar10" / "Linf" / f"{NAME}.json"
    entry = json.loads(Path(path).read_text())
    info = importlib.import_module("robustbench.utils").ModelInfo(**entry)
    assert {key: value for key, value in dataclasses.asdict(info).items() if value is not None} == entry
    # Its own reader, which looks below the working folder.
    monkeypatch.chdir(tmp_path)
    importlib.import_module("robustbench.utils").list_available_models("cifar10", "Linf")
    assert NAME in capsys.readouterr().out


def pil_image() -> Any:
    from PIL import Image

    return Image.new("RGB", (32, 32), (90, 120, 150))


# --- our models in its zoo --------------------------------------------------------------------------------------------


@register_model("of-ours")
def linear(num_classes: int = 10) -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, num_classes))


def test_a_registered_model_is_found_by_its_load_model(robustbench: ModuleType, tmp_path: Path) -> None:
    importlib.reload(importlib.import_module("hahbench.robustbench_plugin"))
    for dataset, classes in (("cifar10", 10), ("cifar100", 100)):
        loaded = robustbench.load_model("of-ours", model_dir=tmp_path, dataset=dataset, threat_model="Linf")
        torch.testing.assert_close(loaded(IMAGES), linear(classes)(IMAGES))


def test_a_card_is_offered_under_its_own_data_set(robustbench: ModuleType, zoo: Any, tmp_path: Path) -> None:
    plugin = importlib.import_module("hahbench.robustbench_plugin")
    shipped = models()["shapes/Standard"]
    card = tmp_path / "lately-trained.toml"
    card.write_text('base = "shapes/Standard"\ndataset = "cifar10"\n')
    assert plugin.offer(str(card)) == ["lately-trained"]
    loaded = robustbench.load_model("lately-trained", model_dir=tmp_path, dataset="cifar10", threat_model="Linf")
    torch.testing.assert_close(loaded(IMAGES), load_model(shipped)(IMAGES))
    having = {dataset.value for dataset in zoo for known in zoo[dataset].values() if "lately-trained" in known}
    assert having == {"cifar10"}


def test_its_own_models_stay_its_own(zoo: Any) -> None:
    plugin = importlib.import_module("hahbench.robustbench_plugin")
    with pytest.warns(UserWarning, match="RobustBench has a model 'Standard' of its own under cifar10/Linf, "):
        plugin.offer("Standard")
    (cifar10, *_) = zoo.values()
    assert all(known["Standard"]["gdrive_id"] for known in cifar10.values())


def test_a_model_without_weights_says_how_to_train_it(robustbench: ModuleType, tmp_path: Path) -> None:
    importlib.import_module("hahbench.robustbench_plugin")
    with pytest.raises(ModelError, match="model 'HaH' has no weights; train it with 'hahbench train HaH"):
        robustbench.load_model("HaH", model_dir=tmp_path, dataset="cifar10", threat_model="Linf")
