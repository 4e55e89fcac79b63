"""Weights that do not fit their card are refused in one line; the digest follows what decides the outputs."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.transforms import Normalize

from hahbench.errors import ModelError
from hahbench.models.load import build_model, check_classifier, load_model, model_digest, save_weights
from hahbench.models.vgg import vgg16
from hahbench.spec import ModelCard

CARD = ModelCard(name="tiny", loader="hahbench.models.vgg:vgg16", params={"width": 1 / 64, "hah_blocks": 2})


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def with_weights(path: Path, sha256: str | None = None) -> ModelCard:
    return dataclasses.replace(CARD, weights=path, sha256=sha256)


@pytest.fixture
def saved(tmp_path: Path) -> ModelCard:
    path = tmp_path / "tiny.safetensors"
    return with_weights(path, save_weights(build_model(CARD), path))


# --- building and loading ---------------------------------------------------------------------------------------------


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    model = build_model(CARD)
    path = tmp_path / "folder" / "tiny.safetensors"
    sha256 = save_weights(model.to(memory_format=torch.channels_last), path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = load_model(with_weights(path, sha256))
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_half_precision_weights_load_into_float32(tmp_path: Path) -> None:
    model = build_model(CARD)
    path = tmp_path / "tiny.safetensors"
    card = with_weights(path, save_weights(model, path, half=True))
    stored = safetensors.torch.load_file(path)
    assert stored["classifier.weight"].dtype == torch.float16
    assert stored["features.3.normalization.num_batches_tracked"].dtype == torch.int64
    loaded = load_model(card).state_dict()
    assert loaded["classifier.weight"].dtype == torch.float32
    torch.testing.assert_close(loaded, model.state_dict(), rtol=1e-3, atol=1e-6)


def test_what_float16_cannot_hold_is_stored_as_it_is(tmp_path: Path) -> None:
    norm = nn.BatchNorm1d(2)
    state = {"running_var": torch.tensor([1e5, 1.0]), "running_mean": torch.tensor([float("inf"), 1.0])}
    norm.load_state_dict({**norm.state_dict(), **state})
    path = tmp_path / "norm.safetensors"
    card = ModelCard("norm", loader="torch.nn:BatchNorm1d", params={"num_features": 2}, weights=path)
    save_weights(norm, path, half=True)
    stored = safetensors.torch.load_file(path)
    assert stored["running_var"].dtype == torch.float32
    assert stored["running_mean"].dtype == stored["weight"].dtype == torch.float16
    torch.testing.assert_close(load_model(card).state_dict(), norm.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("values", "narrow"),
    [
        ([0.1, 1.0, 1e-8], True),
        ([1e-8], False),
        ([1e-6, 2e-6], False),
        ([*range(4096)], False),
        ([*range(2048)], True),
        ([float("nan")], False),
        ([], True),
    ],
)
def test_float16_is_for_what_it_hardly_rounds(tmp_path: Path, values: list[float], narrow: bool) -> None:
    """Tiny values, as an epsilon or the scale of a layer, would become zero; counts would become others."""
    model = nn.Module()
    model.register_buffer("values", torch.tensor(values, dtype=torch.float32))
    save_weights(model, tmp_path / "values.safetensors", half=True)
    stored = safetensors.torch.load_file(tmp_path / "values.safetensors")["values"]
    assert stored.dtype == (torch.float16 if narrow else torch.float32)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_torch_file_with_a_state_dict_loads(tmp_path: Path, suffix: str) -> None:
    model = build_model(CARD)
    path = tmp_path / f"tiny{suffix}"
    torch.save(model.state_dict(), path)
    torch.testing.assert_close(load_model(with_weights(path)).state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_callable_loads_its_own_weights() -> None:
    linear = nn.Linear(2, 3)
    card = ModelCard(name="mine", loader=lambda *, module: module, params={"module": linear})
    assert load_model(card) is linear


class Unpickled:
    """Stands for code that a pickle could run."""


def other(change: Callable[[dict[str, Tensor]], object]) -> dict[str, Tensor]:
    tensors = dict(build_model(CARD).state_dict())
    change(tensors)
    return tensors


TENSORS = dict(build_model(CARD).state_dict())


@pytest.mark.parametrize("name", ["tiny.ckpt", "tiny.pth.tar"])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_the_state_dict_of_a_checkpoint_is_found_and_a_prefix_left_out(tmp_path: Path, name: str, prefix: str) -> None:
    tensors = {prefix + name: value + 1 for name, value in TENSORS.items()}
    torch.save({"epoch": 3, "state_dict": tensors, "optimizer": {"state": {}}}, tmp_path / name)
    found = load_model(with_weights(tmp_path / name)).state_dict()
    torch.testing.assert_close(found, {name: value + 1 for name, value in TENSORS.items()})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (other(lambda t: t.pop("classifier.bias")), "1 missing tensors, such as 'classifier.bias'"),
        (
            {f"module.{name}": value for name, value in other(lambda t: t.pop("classifier.bias")).items()},
            f"{len(TENSORS)} missing tensors, such as {min(TENSORS)!r}",
        ),
        (other(lambda t: t.update(extra=torch.zeros(1))), "1 unexpected tensors, such as 'extra'"),
        (
            other(lambda t: t.update({"classifier.bias": torch.zeros(7)})),
            "tensor 'classifier.bias': shape (7,); the model needs (10,)",
        ),
        ([torch.zeros(1)], "allowed is a state dict, names to tensors; the file holds list"),
        (
            {"weight": torch.zeros(2), "epoch": 3},
            "allowed is a state dict, names to tensors; the file holds a dictionary in which 1 of 2 values are none, "
            "such as 'epoch'",
        ),
        (
            {"epoch": 3, "loops": {}, "net": {"weight": torch.zeros(2)}, "mean": {"weight": torch.zeros(2)}},
            "allowed is a state dict, names to tensors; the file holds a dictionary in which 4 of 4 values are none, "
            "such as 'epoch'; save one of 'net', 'mean' of it alone",
        ),
        ({"code": Unpickled()}, "damaged or truncated, or holds objects other than tensors"),
    ],
    ids=["missing", "missing under a prefix", "unexpected", "shape", "list", "numbers", "checkpoint", "objects"],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, content: Any, complaint: str) -> None:
    path = tmp_path / "tiny.pt"
    torch.save(content, path)
    assert error_of(lambda: load_model(with_weights(path))) == f"model 'tiny': weights {path}: {complaint}"


def test_a_file_that_is_not_the_cards_is_refused(saved: ModelCard) -> None:
    found = saved.sha256
    card = dataclasses.replace(saved, sha256="0" * 64)
    assert error_of(lambda: load_model(card)).endswith(f"its SHA-256 is {found}; the card gives {'0' * 64}")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kept", [0, 5, 2000])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, kept: int) -> None:
    model, path = build_model(CARD), tmp_path / f"tiny{suffix}"
    if suffix == ".pt":
        torch.save(model.state_dict(), path)
    else:
        save_weights(model, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert error_of(lambda: load_model(with_weights(path))).startswith(f"model 'tiny': weights {path}: ")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "is Git LFS's pointer to the weights; 'git lfs",
        ),
        (b"hello", "damaged or truncated: "),
    ],
)
def test_what_is_in_place_of_weights_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "tiny.pt").write_bytes(content)
    assert f": {complaint}" in error_of(lambda: load_model(with_weights(tmp_path / "tiny.pt")))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_weights_loaded_are_those_hashed_though_the_file_changes_meanwhile(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save: Callable[..., Any] = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    expected, later = build_model(CARD).state_dict(), build_model(CARD).state_dict()
    path = tmp_path / f"tiny{suffix}"
    save(expected, path)
    card = with_weights(path, hashlib.sha256(path.read_bytes()).hexdigest())
    read_bytes = Path.read_bytes

    def read_just_before_a_change(path: Path) -> bytes:
        content = read_bytes(path)
        save(later, path)
        return content

    monkeypatch.setattr(Path, "read_bytes", read_just_before_a_change)
    torch.testing.assert_close(load_model(card).state_dict(), expected, rtol=0, atol=0)


def test_a_missing_file_and_a_strange_suffix_are_refused(tmp_path: Path) -> None:
    assert error_of(lambda: load_model(with_weights(tmp_path / "no.pt"))).endswith("no.pt: no such file")
    allowed = "suffix '.bin'; allowed: .safetensors, .pt, .pth, .ckpt, .tar"
    assert error_of(lambda: load_model(with_weights(tmp_path / "no.bin"))).endswith(allowed)
    assert error_of(lambda: save_weights(nn.ReLU(), tmp_path / "no.pt")).endswith("allowed: .safetensors")


def broken_loader() -> nn.Module:
    raise RuntimeError("first line\nsecond line")


@pytest.mark.parametrize(
    ("loader", "params", "complaint"),
    [
        (broken_loader, {}, "raised RuntimeError: first line second line"),
        (lambda: "weights", {}, "returned str; allowed: a torch.nn.Module"),
        ("hahbench.models.vgg:vgg17", {}, "has no attribute 'vgg17'"),
        ("hahbench.models.vgg:vgg16", {"widht": 1}, "unexpected keyword argument 'widht'"),
        ("hahbench.models.vgg:vgg16", {"width": -1}, "width is -1; allowed: a number above 0"),
    ],
)
def test_a_loader_that_gives_no_module_is_named(loader: Any, params: dict[str, Any], complaint: str) -> None:
    message = error_of(lambda: build_model(ModelCard(name="mine", loader=loader, params=params)))
    assert message.startswith("model 'mine': ")
    assert message.endswith(complaint)


def names(classes: tuple[str, ...] = ("cat", "dog")) -> nn.Module:
    return nn.Linear(1, len(classes))


def test_a_loader_gets_the_number_of_classes_where_it_asks_for_a_number() -> None:
    def logits(**params: int) -> int:
        model = build_model(dataclasses.replace(CARD, params={**CARD.params, **params}), classes=5)
        return int(model(torch.rand(1, 3, 32, 32)).shape[1])

    assert logits() == 5
    assert logits(classes=7) == 7
    assert build_model(ModelCard(name="mine", loader=names), classes=5)(torch.rand(1, 1)).shape == (1, 2)


# --- digest -----------------------------------------------------------------------------------------------------------


def test_the_digest_is_that_of_what_decides_the_outputs(saved: ModelCard) -> None:
    model = load_model(saved)
    digest = model_digest(saved, model)
    assert len(digest) == 64
    renamed = dataclasses.replace(saved, name="other", display="Other", reference="nobody", train={"lr": 1})
    assert model_digest(renamed, load_model(saved).to(memory_format=torch.channels_last)) == digest
    assert model_digest(dataclasses.replace(saved, params={**saved.params, "sigma": 0.2}), model) != digest
    assert model_digest(dataclasses.replace(saved, loader="hahbench.models.vgg:VGG"), model) != digest
    with torch.no_grad():
        next(model.parameters()).view(-1)[0].add_(1e-3)
    assert model_digest(saved, model) != digest


SEQUENTIAL = ModelCard(name="net", loader="torch.nn:Sequential")


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor), persistent=False)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Normalize([0.4], [0.2]), Normalize([0.5], [0.2])),
        (nn.LeakyReLU(0.1), nn.LeakyReLU(0.5)),
        (Scaled(1.0), Scaled(2.0)),
    ],
    ids=["mean", "slope", "non-persistent buffer"],
)
def test_the_digest_follows_what_is_outside_the_state_dict(first: nn.Module, second: nn.Module) -> None:
    models = nn.Sequential(first, nn.ReLU()), nn.Sequential(second, nn.ReLU())
    assert models[0].state_dict() == models[1].state_dict() == {}
    assert model_digest(SEQUENTIAL, models[0]) != model_digest(SEQUENTIAL, models[1])


class Settings:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def scale(self, images: Tensor) -> Tensor:
        return images * self.factor


class Slots:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor


@dataclasses.dataclass
class Table:
    values: Tensor


def long(last: float) -> Tensor:
    """So long that a repr leaves its middle out, where it differs."""
    values = torch.zeros(3000)
    values[1500] = last
    return values


def scaling(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda images: images * factor


def with_factor(factor: float, *, is_keyword: bool) -> Callable[[Tensor], Tensor]:
    def scale(images: Tensor, *, by: float = factor if is_keyword else 1.0) -> Tensor:
        return images * by

    vars(scale)["factor"] = factor
    return scale


class Holding(nn.Module):
    """Keeps what it is given as a plain attribute."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda: 0.5, lambda: 0.6),
        (lambda: {"shift": [0.5]}, lambda: {"shift": [0.6]}),
        (lambda: {"a", "b"}, lambda: {"a", "c"}),
        (lambda: torch.tanh, lambda: torch.relu),
        (lambda: scaling(0.5), lambda: scaling(0.6)),
        (lambda: with_factor(0.5, is_keyword=True), lambda: with_factor(0.6, is_keyword=True)),
        (lambda: with_factor(0.5, is_keyword=False), lambda: with_factor(0.6, is_keyword=False)),
        (lambda: lambda images: images + 1, lambda: lambda images: images + 2),
        (lambda: Settings(0.5), lambda: Settings(0.6)),
        (lambda: Settings(0.5).scale, lambda: Settings(0.6).scale),
        (lambda: Slots(0.5), lambda: Slots(0.6)),
        (lambda: Table(long(0.5)), lambda: Table(long(0.6))),
        (lambda: types.SimpleNamespace(values=long(0.5)), lambda: types.SimpleNamespace(values=long(0.6))),
        (lambda: functools.partial(torch.mul, long(0.5)), lambda: functools.partial(torch.mul, long(0.6))),
        (lambda: collections.deque([long(0.5)]), lambda: collections.deque([long(0.6)])),
        (lambda: pd.DataFrame({"a": long(0.5).numpy()}), lambda: pd.DataFrame({"a": long(0.6).numpy()})),
        (lambda: pd.DataFrame({"a": [0.5]}), lambda: pd.DataFrame({"b": [0.5]})),
        (lambda: pd.Series([1, 2], index=["cat", "dog"]), lambda: pd.Series([1, 2], index=["dog", "cat"])),
        (lambda: torch.distributions.Normal(long(0.5), 1), lambda: torch.distributions.Normal(long(0.6), 1)),
        (lambda: np.array([long(0.5), "a"], dtype=object), lambda: np.array([long(0.6), "a"], dtype=object)),
        (lambda: [nn.LeakyReLU(0.5)], lambda: [nn.LeakyReLU(0.6)]),
        (lambda: [Scaled(0.5)], lambda: [Scaled(0.6)]),
        (lambda: np.array([0.5]), lambda: np.array([0.6])),
        (lambda: torch.tensor(0.5, dtype=torch.bfloat16), lambda: torch.tensor(0.75, dtype=torch.bfloat16)),
        (lambda: nn.MultiheadAttention(8, 2), lambda: nn.MultiheadAttention(8, 4)),
    ],
)
def test_the_digest_follows_attributes(make: Callable[[], object], other: Callable[[], object]) -> None:
    """They may come from a file of settings, which leaves weights, code and repr as they are."""
    torch.manual_seed(0)
    first = model_digest(SEQUENTIAL, Holding(make()))
    torch.manual_seed(0)
    assert model_digest(SEQUENTIAL, Holding(make())) == first
    torch.manual_seed(0)
    assert model_digest(SEQUENTIAL, Holding(other())) != first


def test_the_digest_follows_hooks_and_the_tensors_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(mean: float) -> str:
        model = Holding(None)
        model.register_forward_pre_hook(lambda _, images: (images[0] - mean,))
        return model_digest(SEQUENTIAL, model)

    def digest_of_gradients(factor: float) -> str:
        model = Holding(None)
        model.register_full_backward_hook(lambda _, given, back: (factor * given[0],))  # type: ignore[index]
        return model_digest(SEQUENTIAL, model)

    assert digest(0.5) == digest(0.5) != digest(0.6)
    assert digest_of_gradients(0.5) == digest_of_gradients(0.5) != digest_of_gradients(0.6)
    digests = {model_digest(SEQUENTIAL, Holding(None))}
    for mean in (torch.tensor(0.5), [torch.tensor(0.5)], [torch.tensor(0.6)]):
        monkeypatch.setattr(Holding, "mean", mean, raising=False)
        digests.add(model_digest(SEQUENTIAL, Holding(None)))
    assert len(digests) == 4


def test_the_digest_follows_what_ones_own_loader_puts_on_a_shipped_network() -> None:
    def digest(factor: float) -> str:
        def darker(**params: Any) -> nn.Module:
            network = vgg16(**params)
            network.register_forward_pre_hook(lambda _, images: (images[0] * factor,))
            return network

        torch.manual_seed(0)
        card = ModelCard("mine", darker, params={"width": 0.02})
        return model_digest(card, build_model(card))

    assert digest(0.5) == digest(0.5) != digest(0.6)


def test_the_digest_ends_where_attributes_hold_each_other() -> None:
    model = Holding(Settings(0.5))
    model.value.model = model  # type: ignore[attr-defined]
    assert len(model_digest(SEQUENTIAL, model)) == 64


class Applied(nn.Module):
    """Shows a function in its repr, as modules with an activation function do."""

    def __init__(self) -> None:
        super().__init__()
        self.function = lambda x: x

    def extra_repr(self) -> str:
        return f"function={self.function}"


def test_the_digest_does_not_follow_where_in_memory_the_model_lies() -> None:
    models = Applied(), Applied()
    assert repr(models[0]) != repr(models[1])
    assert model_digest(SEQUENTIAL, models[0]) == model_digest(SEQUENTIAL, models[1])


def run_file(path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Run a user's file as a module named after it; the card of its function ``make``."""
    path.parent.mkdir()
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return ModelCard(name="net", loader=module.make)


CLASS = """
from torch import nn
class Net(nn.Module):
    # A comment.
    def forward(self, x):
        return 2 * x
make = Net
"""
FUNCTION = """
from torch import nn
def make():
    # A comment.
    net = nn.ReLU()
    net.register_forward_hook(lambda module, inputs, x: 2 * x)
    return net
"""
BOTH = f"{CLASS}\ndef make():\n    return Net()\n"


@pytest.mark.parametrize("code", [CLASS, FUNCTION], ids=["class", "function"])
def test_the_digest_follows_the_code_but_not_comments_docstrings_and_layout(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(folder: str, old: str, new: str) -> str:
        assert old in code
        card = run_file(tmp_path / folder / "user_model.py", code.replace(old, new), monkeypatch)
        return model_digest(card, build_model(card))

    expected = digest("as it is", "2 * x", "2 * x")
    assert digest("layout", "2 * x", "2  *  ( x )") == expected
    assert digest("docstring", "# A comment.", '"""Not a comment."""') == expected
    assert digest("docstring of the file", "\nfrom", '"""A file."""\nfrom') == expected
    assert digest("code", "2 * x", "3 * x") != expected


def test_the_digest_follows_tensors_that_are_mere_attributes() -> None:
    net = nn.Flatten()
    net.bank = torch.zeros(3)
    before = model_digest(SEQUENTIAL, net)
    net.bank[1] = 1.0
    assert model_digest(SEQUENTIAL, net) != before


def test_a_later_file_with_the_same_module_name_leaves_the_digest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = run_file(tmp_path / "first" / "user_model.py", BOTH, monkeypatch)
    model = build_model(card)
    alone = model_digest(card, model)
    run_file(tmp_path / "second" / "user_model.py", BOTH.replace("2 * x", "3 * x"), monkeypatch)
    assert model_digest(card, model) == alone


def test_a_class_without_source_counts_by_its_name() -> None:
    nets = [type(name, (nn.Module,), {"__module__": "nowhere"})() for name in ("Net", "Net", "Other")]
    digests = [model_digest(SEQUENTIAL, net) for net in nets]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


# --- what counts as a classifier --------------------------------------------------------------------------------------


class Answer(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        return self.answer(images)


def fail(images: Tensor) -> Tensor:
    return images @ torch.zeros(7, 7)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (fail, "images (2, 3, 32, 32) make it raise RuntimeError: "),
        (lambda images: [1, 2], "returns list; allowed: a tensor of logits (2, 10)"),
        (lambda images: torch.zeros(2, 9), "returns shape (2, 9); allowed: logits (2, 10)"),
        (lambda images: torch.zeros(2, 10).long(), "returns logits of type torch.int64; allowed: floating point"),
        (lambda images: torch.full((2, 10), float("nan")), "returns logits that are NaN or infinite"),
        (lambda images: torch.full((2, 10), float("inf")), "returns logits that are NaN or infinite"),
    ],
    ids=["raises", "list", "shape", "integers", "nan", "inf"],
)
def test_what_is_no_classifier_is_refused(answer: Callable[[Tensor], Any], complaint: str) -> None:
    message = error_of(lambda: check_classifier(Answer(answer), torch.rand(2, 3, 32, 32), 10, "mine"))
    assert message.startswith(f"model 'mine': {complaint}")


def test_a_model_must_leave_the_images_alone() -> None:
    def centred(images: Tensor) -> Tensor:
        images -= 0.5
        return images.flatten(1)[:, :10]

    images = torch.rand(2, 3, 32, 32)
    before = images.clone()
    assert "writes into the images" in error_of(lambda: check_classifier(Answer(centred), images, 10, "mine"))
    assert torch.equal(images, before)


def test_a_classifier_passes_and_is_given_no_gradient() -> None:
    def linear(images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return images.flatten(1)[:, :10]

    check_classifier(Answer(linear), torch.rand(2, 3, 32, 32), 10, "mine")
