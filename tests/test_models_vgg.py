"""The network of Cekic, Bakiskan and Madhow 2022, figure 1, and its ablations."""

from __future__ import annotations

from typing import Any

import hahtorch
import pytest
import torch
from torch import nn

from hahbench.errors import ModelError
from hahbench.models.layers import AdaptiveThreshold, DivisiveNorm2d, HaHBlock, ImplicitNormConv2d
from hahbench.models.vgg import VGG, vgg16


def channels(model: VGG) -> list[int]:
    return [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_width_1_is_vgg16() -> None:
    model = vgg16()
    assert channels(model) == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    # 14,710,464 weights of convolutions, 2 x 4224 of batch norms, 5130 of the linear layer.
    assert parameters(model) == 14_724_042
    assert parameters(vgg16(hah_blocks=6)) == 14_724_042 - 2 * (64 + 64 + 128 + 128 + 256 + 256)


def test_width_scales_the_channels() -> None:
    model = vgg16(width=0.25)
    assert channels(model) == [16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128]
    assert parameters(model) == 923_130
    assert channels(vgg16(width=0.001)) == [1] * 13


@pytest.mark.parametrize("n", [0, 1, 6, 13])
@pytest.mark.parametrize("reading", ["paper", "release"])
def test_the_first_n_blocks_are_hah_blocks(n: int, reading: Any) -> None:
    model = vgg16(width=1 / 16, hah_blocks=n, reading=reading, classes=7).eval()
    blocks = [layer for layer in model.features if not isinstance(layer, nn.MaxPool2d)]
    assert model.hah_blocks == blocks[:n]
    assert sum(isinstance(layer, HaHBlock) for layer in blocks) == n
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert model(torch.rand(2, 3, 70, 45)).isfinite().all()


def test_the_readings_differ_in_the_regular_convolution() -> None:
    def normalised(model: VGG) -> int:
        return sum(isinstance(module, ImplicitNormConv2d) for module in model.modules())

    assert normalised(vgg16(width=1 / 16, hah_blocks=6)) == 13
    assert normalised(vgg16(width=1 / 16, hah_blocks=6, reading="release")) == 6


def test_the_ablations_replace_one_part_of_every_hah_block() -> None:
    batch_norm = vgg16(width=1 / 16, hah_blocks=6, normalization="batch")
    assert all(isinstance(block.normalization, nn.BatchNorm2d) for block in batch_norm.hah_blocks)
    assert all(isinstance(block.threshold, AdaptiveThreshold) for block in batch_norm.hah_blocks)
    no_threshold = vgg16(width=1 / 16, hah_blocks=6, threshold="none")
    assert all(isinstance(block.normalization, DivisiveNorm2d) for block in no_threshold.hah_blocks)
    assert all(isinstance(block.threshold, nn.Identity) for block in no_threshold.hah_blocks)


def test_the_release_reading_is_the_network_of_hahtorch() -> None:
    model = vgg16(hah_blocks=6, reading="release").double().eval()
    theirs = hahtorch.HaHVGG16().double().eval()
    names = {".conv.": ".conv_layer.", ".normalization.": ".normalization_layer."}
    state = {}
    for name, tensor in model.state_dict().items():
        for ours, their in names.items():
            name = name.replace(ours, their)
        state[name] = tensor
    theirs.load_state_dict(state)
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_images_are_standardised_inside() -> None:
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1).expand(1, 3, 32, 32)
    standardize = vgg16(width=1 / 16).standardize
    torch.testing.assert_close(standardize(mean), torch.zeros(1, 3, 32, 32))
    std = torch.tensor([0.2471, 0.2435, 0.2616]).view(3, 1, 1)
    torch.testing.assert_close(standardize(mean + std), torch.ones(1, 3, 32, 32))


def test_channels_last_gives_the_same_logits() -> None:
    model = vgg16(width=0.25, hah_blocks=6).double().eval()
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images)
        logits = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("argument", "given", "allowed"),
    [
        ("width", 0, "a number above 0"),
        ("width", "wide", "a number above 0"),
        ("classes", 1, "a whole number of at least 2"),
        ("hah_blocks", 14, "0 to 13"),
        ("hah_blocks", True, "0 to 13"),
        ("reading", "book", "paper or release"),
        ("normalization", "layer", "divisive or batch"),
        ("threshold", "median", "quantile, mean, none"),
        ("active_fraction", 0.0, "above 0 and at most 1"),
        ("sigma", 1.5, "0 to 1"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(argument: str, given: object, allowed: str) -> None:
    kwargs: dict[str, Any] = {argument: given}
    with pytest.raises(ModelError) as caught:
        vgg16(**kwargs)
    assert str(caught.value) == f"vgg16: {argument} is {given!r}; allowed: {allowed}"
