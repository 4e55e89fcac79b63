"""Models by the names of other libraries, from files that hold them whole, and out of Python files."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from hahbench.catalog import find_model, models, resolve_models
from hahbench.data import load_images
from hahbench.errors import HahbenchError, ModelError
from hahbench.models.conventions import PROBED, broken_conventions
from hahbench.models.load import build_model, check_classifier, load_model, model_digest
from hahbench.models.sources import Normalized
from hahbench.spec import ModelCard

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def card_of(argument: object) -> ModelCard:
    (card,) = resolve_models(str(argument), "shapes")
    return card


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(HahbenchError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- torchvision and timm ---------------------------------------------------------------------------------------------


def test_an_architecture_of_torchvision_has_the_classes_of_the_data_set() -> None:
    card = card_of("torchvision:squeezenet1_1")
    assert (card.name, card.argument) == ("torchvision:squeezenet1_1", "torchvision:squeezenet1_1")
    assert load_model(card, classes=7)(IMAGES).shape == (3, 7)


def test_random_weights_are_the_same_each_time_so_that_a_run_can_be_resumed() -> None:
    card = card_of("torchvision:squeezenet1_1")
    first = model_digest(card, load_model(card))
    torch.manual_seed(1)
    assert model_digest(card, load_model(card)) == first


def test_who_draws_random_weights_decides_on_their_seed() -> None:
    """As training does."""
    first, second = (
        build_model(card_of("torchvision:squeezenet1_1")).state_dict()["features.0.weight"]
        for seed in (1, 2)
        if torch.manual_seed(seed)
    )
    assert not torch.equal(first, second)


def test_a_card_gives_an_architecture_weights_of_ones_own(tmp_path: Path) -> None:
    own = torchvision.models.squeezenet1_1(num_classes=4).eval()
    torch.save(own.state_dict(), tmp_path / "own.pt")
    (tmp_path / "own.toml").write_text('base = "torchvision:squeezenet1_1"\nweights = "own.pt"\n')
    model = load_model(card_of(tmp_path / "own.toml"), classes=4)
    torch.testing.assert_close(model(IMAGES), own(IMAGES))


def test_pretrained_weights_bring_their_normalisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights in torchvision's cache stand in for a download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    plain = torchvision.models.squeezenet1_1().eval()
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    torch.save(plain.state_dict(), checkpoints / url.rpartition("/")[2])
    card = tmp_path / "pretrained.toml"
    card.write_text('base = "torchvision:squeezenet1_1"\n[params]\nweights = "DEFAULT"\nnum_classes = 1000\n')
    normalised = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(IMAGES)
    torch.testing.assert_close(load_model(card_of(card))(IMAGES), plain(normalised))


def test_pretrained_weights_of_other_classes_are_refused_before_they_are_fetched(tmp_path: Path) -> None:
    card = tmp_path / "pretrained.toml"
    card.write_text('base = "torchvision:squeezenet1_1"\n[params]\nweights = "DEFAULT"\n')
    message = error_of(lambda: load_model(card_of(card), classes=10))
    assert "the pretrained weights of 'squeezenet1_1' tell 1000 classes apart, where 10 are asked for" in message
    card.write_text('base = "torchvision:squeezenet1_1"\n[params]\nweights = "DEFALT"\nnum_classes = 1000\n')
    assert "DEFALT" in error_of(lambda: load_model(card_of(card)))
    if importlib.util.find_spec("timm") is not None:
        card.write_text('base = "timm:mobilenetv3_small_050"\n[params]\npretrained = true\n')
        message = error_of(lambda: load_model(card_of(card), classes=10))
        assert "the pretrained weights of 'mobilenetv3_small_050' tell 1000 classes apart" in message


def test_normalisation_inside_the_model_by_hand() -> None:
    model = Normalized(nn.Identity(), mean=[0.5, 0.25], std=[0.5, 0.1])
    image = torch.tensor([1.0, 0.45]).view(1, 2, 1, 1)
    torch.testing.assert_close(model(image), torch.tensor([1.0, 2.0]).view(1, 2, 1, 1))


def test_timm_has_its_architectures_too() -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    assert load_model(card_of("timm:mobilenetv3_small_050"), classes=7)(IMAGES).shape == (3, 7)
    message = error_of(lambda: load_model(card_of("timm:mobilenetv3_smal_050")))
    assert "timm has no model 'mobilenetv3_smal_050'; did you mean 'mobilenetv3_small_050'" in message


def test_without_timm_its_models_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "timm is not installed; pip install timm does that" in error_of(lambda: load_model(card_of("timm:vgg11")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet19", "torchvision has no classifier 'resnet19'; did you mean 'resnet18'"),
        ("torchvison:resnet18", "unknown model 'torchvison:resnet18'; before the colon: did you mean 'torchvision'?"),
        ("robustbench:cifar10/Linf", "allowed: 'robustbench:DATASET/THREAT_MODEL/NAME'"),
        ("robustbench:cifar10/linf/Standard", "threat_model 'linf'; did you mean 'Linf'?"),
        ("robustbench:cifar/Linf/Standard", "dataset 'cifar'; did you mean 'cifar10'"),
    ],
)
def test_a_wrong_name_says_what_is_allowed(name: str, message: str) -> None:
    assert message in error_of(lambda: load_model(find_model(name)))


def test_a_model_of_robustbench_knows_what_it_was_trained_on() -> None:
    card = find_model("robustbench:cifar10/L2/Standard")
    assert card.dataset == "cifar10"
    assert card.params == {"dataset": "cifar10", "threat_model": "L2", "name": "Standard"}


# --- files that hold a whole model ------------------------------------------------------------------------------------


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 10)).eval()


def save_torchscript(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model).save(str(path))  # type: ignore[no-untyped-call]
    return path


def save_traced(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, IMAGES).save(str(path))  # type: ignore[no-untyped-call]
    return path


def save_exported(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (IMAGES,), dynamic_shapes=({0: torch.export.Dim("n")},))
        torch.export.save(program, path)
    return path


@pytest.mark.parametrize(
    ("name", "save"),
    [("net.pt", save_torchscript), ("net.ts", save_torchscript), ("net.pt2", save_exported)],
)
def test_a_program_in_a_file_is_a_model(name: str, save: Callable[[nn.Module, Path], Path], tmp_path: Path) -> None:
    model = network()
    card = card_of(save(model, tmp_path / name))
    loaded = load_model(card, classes=10)
    assert (card.name, loaded.training) == ("net", False)
    for images in (IMAGES, IMAGES[:1]):
        torch.testing.assert_close(loaded(images), model(images))


class Constants(nn.Module):
    """Holds a tensor that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.mean = network(), torch.full((3, 1, 1), 0.5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images - self.mean)
        return logits


@pytest.mark.parametrize(("name", "save"), [("net.pt", save_traced), ("net.pt2", save_exported)])
def test_a_program_goes_to_another_device_with_all_it_holds(
    name: str, save: Callable[[nn.Module, Path], Path], tmp_path: Path
) -> None:
    """The device ``meta`` stands for a GPU: tensors on both in one operation raise, too."""
    if name.endswith("2"):
        pytest.importorskip("torch.export.passes")
    loaded = load_model(card_of(save(Constants(), tmp_path / name)), classes=10).to("meta")
    assert loaded(IMAGES.to("meta")).device.type == "meta"
    assert not loaded.training


def test_the_digest_of_a_program_follows_its_content_and_not_its_place(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    here = save_torchscript(network(), tmp_path / "net.pt")
    (tmp_path / "moved" / "net.pt").write_bytes(here.read_bytes())
    # The same weights in another program.
    other = save_torchscript(nn.Sequential(network(), nn.Tanh()), tmp_path / "other.pt")
    cards = [card_of(path) for path in (here, tmp_path / "moved" / "net.pt", other)]
    first, moved, changed = (model_digest(card, load_model(card)) for card in cards)
    assert first == moved
    assert first != changed


def test_a_program_that_is_not_the_cards_is_not_run(tmp_path: Path) -> None:
    path = save_torchscript(network(), tmp_path / "net.pt")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    card = card_of(path)
    load_model(dataclasses.replace(card, sha256=found))
    message = error_of(lambda: load_model(dataclasses.replace(card, sha256="0" * 64)))
    assert message == f"model 'net': weights {path}: its SHA-256 is {found}; the card gives {'0' * 64}"


@pytest.mark.parametrize("name", ["net.pt", "net.pt2"])
def test_a_file_of_weights_alone_is_told_apart(name: str, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / name)
    message = error_of(lambda: load_model(card_of(tmp_path / name)))
    assert f"program; weights alone are named in a card, as weights = '{name}'" in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert error_of(lambda: load_model(card_of(tmp_path / "no.pt2"))).endswith("no.pt2: no such file")


def test_a_program_exported_for_one_batch_size_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(network(), (IMAGES,)), tmp_path / "static.pt2")
    model = load_model(card_of(tmp_path / "static.pt2"))
    assert "images (2, 3, 32, 32) make it raise" in error_of(lambda: check_classifier(model, IMAGES[:2], 10, "static"))


# --- out of a Python file ---------------------------------------------------------------------------------------------

PYTHON_FILE = """
import torch
import hahbench

def build(num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, num_classes))

class Network(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(3072, 10))

built = build(10)
number = 3

@hahbench.register_model("NAME", weights="w.pt", display="shown")
def decorated():
    return build(10)
"""


@pytest.fixture
def python_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    # Names are registered for the whole process.
    path.write_text(PYTHON_FILE.replace("NAME", f"of {tmp_path.name}"))
    return path


@pytest.mark.parametrize("attribute", ["build", "Network", "built"])
def test_a_function_a_class_or_a_module_of_a_python_file_is_a_model(attribute: str, python_file: Path) -> None:
    card = card_of(f"{python_file}:{attribute}")
    model = load_model(card, classes=10)
    assert card.name == attribute
    assert card.argument == f"{python_file}:{attribute}"
    assert model(IMAGES).shape == (3, 10)


def test_a_module_that_is_built_already_goes_by_the_code_that_built_it(tmp_path: Path) -> None:
    text = """
import torch
built = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10).requires_grad_(False))
built[1].weight.fill_(0.5)
built[1].bias.zero_()
built.register_forward_hook(lambda module, inputs, logits: logits HOOK)
"""
    digests = []
    for folder, hook in (("first", "* 2"), ("again", "* 2"), ("other", "* 3")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text.replace("HOOK", hook))
        card = card_of(f"{tmp_path / folder / 'mine.py'}:built")
        digests.append(model_digest(card, load_model(card, classes=10)))
    assert digests[0] == digests[1] != digests[2]


def test_a_registered_model_is_found_by_its_name_and_by_its_functions(python_file: Path) -> None:
    name = f"of {python_file.parent.name}"
    by_name, by_function = card_of(f"{python_file}:{name}"), card_of(f"{python_file}:decorated")
    assert by_name.display == by_function.display == "shown"
    assert by_name.weights == by_function.weights == python_file.parent / "w.pt"
    assert by_name.loader is models()[name].loader


@pytest.mark.parametrize("imported_first", [False, True])
def test_a_file_that_registers_may_be_imported_too(imported_first: bool, python_file: Path) -> None:
    name = f"of {python_file.parent.name}"
    stem = f"net_{imported_first}"
    path = python_file.rename(python_file.with_name(f"{stem}.py"))
    user = python_file.with_name(f"user_of_{stem}.py")
    user.write_text(f"from {stem} import Network\n")
    asked = [f"{path}:{name}", f"{user}:Network"]
    cards = [card_of(argument) for argument in (reversed(asked) if imported_first else asked)]
    assert {card.name for card in cards} == {name, "Network"}
    assert [card.name for card in resolve_models(str(path), "cifar10")] == [name]


def test_a_file_that_needs_its_package_says_how_to_name_it(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "net.py").write_text("from .layers import act\n")
    assert error_of(lambda: card_of(f"{tmp_path / 'package' / 'net.py'}:Net")).endswith(
        "give a card (.toml) beside the folder 'package' instead, with loader = 'package.net:NAME'"
    )


@pytest.mark.parametrize("attribute", ["number", "nothing"])
def test_what_is_no_model_is_refused(attribute: str, python_file: Path) -> None:
    message = error_of(lambda: card_of(f"{python_file}:{attribute}"))
    assert f"mine.py: neither registers a model '{attribute}' nor has a module" in message


def test_the_card_of_a_program_needs_its_file() -> None:
    card = ModelCard("none", "hahbench.models.sources:from_file")
    with pytest.raises(ModelError, match="no file is given"):
        load_model(card)


# --- what a model takes and gives -------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """The shipped Standard for shapes, between two functions."""

    def __init__(self, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.model = load_model(models()["shapes/Standard"])

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.model(self.before(images)))


def same(values: Tensor) -> Tensor:
    return values


def in_unit_range(images: Tensor) -> Tensor:
    assert images.min() >= 0
    assert images.max() <= 1
    return images


def signs_of(model: nn.Module) -> list[str]:
    samples = load_images("shapes", "test", None).first(PROBED)
    return broken_conventions(model.eval(), samples.images, samples.labels)


@pytest.mark.parametrize(
    ("before", "remedies"),
    [
        # What is right for one of these two is nearly right for the other.
        (lambda images: 0.22 * images + 0.45, ["normalised by mean and standard deviation", "in [-1, 1]"]),
        (lambda images: (images + 1) / 2, ["normalised by mean and standard deviation", "in [-1, 1]"]),
        (lambda images: images / 255, ["in [0, 255]"]),
    ],
    ids=["normalised", "signed", "bytes"],
)
def test_a_model_that_was_trained_on_scaled_images_is_noticed(
    before: Callable[[Tensor], Tensor], remedies: list[str]
) -> None:
    (sign,) = signs_of(Wrapped(before, same))
    found = re.fullmatch(
        r"is right about (\d+) of 32 images in \[0, 1\], but about (\d+) of the same images (.+); .*", sign
    )
    assert found is not None
    assert int(found[1]) + 11 <= int(found[2])
    assert found[3] in remedies


def test_probabilities_are_noticed() -> None:
    (sign,) = signs_of(Wrapped(same, lambda logits: logits.softmax(dim=1)))
    assert sign.startswith("returns probabilities, not logits")


@pytest.mark.parametrize(
    "after", [lambda logits: logits + 1e5, lambda logits: torch.cat([logits, torch.full_like(logits, -1e9)], dim=1)]
)
def test_logits_too_large_for_their_differences_are_noticed(after: Callable[[Tensor], Tensor]) -> None:
    (sign,) = signs_of(Wrapped(same, after))
    assert re.match(r"has logits of up to 1e\+0[59] where the largest two differ by \d", sign)


@pytest.mark.parametrize(
    "model",
    [
        Wrapped(same, same),
        Wrapped(same, lambda logits: logits.log_softmax(dim=1)),
        Wrapped(in_unit_range, same),
        network(),
        nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)),
    ],
    ids=["logits", "log-probabilities", "one that checks its range", "random", "linear"],
)
def test_a_model_that_keeps_the_conventions_raises_no_doubt(model: nn.Module) -> None:
    assert signs_of(model) == []


@pytest.mark.parametrize("name", [name for name in models() if name.startswith("shapes/")])
def test_no_shipped_model_raises_doubts(name: str) -> None:
    assert signs_of(load_model(models()[name])) == []
