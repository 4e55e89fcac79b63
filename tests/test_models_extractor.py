"""The extractor records the last forward pass and leaves the model as it was."""

from __future__ import annotations

import hahtorch
import pytest
import torch
from torch import nn

from hahbench.errors import ModelError
from hahbench.models.extractor import ActivationExtractor
from hahbench.models.vgg import vgg16


def test_it_records_what_hahtorch_records() -> None:
    # Its own attribute look-up goes to the wrapped model, with which torch 2 cannot construct it.
    extractor_class = type("Theirs", (hahtorch.ActivationExtractor,), {"__getattribute__": object.__getattribute__})
    model = vgg16(width=1 / 16, hah_blocks=6).eval()
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.ReLU)}
    images = torch.rand(2, 3, 32, 32)
    theirs = extractor_class(model, nn.ReLU)
    theirs(images)
    theirs.close()
    with ActivationExtractor(model, layers) as extractor:
        model(torch.rand(1, 3, 32, 32))
        model(images)
    assert len(extractor.outputs) == 13
    torch.testing.assert_close(extractor.outputs, dict(theirs.layer_outputs), rtol=0, atol=0)
    torch.testing.assert_close(extractor.inputs, dict(theirs.layer_inputs), rtol=0, atol=0)


def test_gradients_flow_through_the_record() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with ActivationExtractor(model, {"y": model[1]}) as extractor:
        model(torch.ones(2, 3))
    torch.autograd.backward(extractor.outputs["y"].sum())
    assert model[0].weight.grad is not None


def test_nothing_is_recorded_after_the_block_even_if_it_raised() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    extractor = ActivationExtractor(model, {"y": model[0]})
    with pytest.raises(RuntimeError, match="shapes"), extractor:
        model(torch.zeros(1, 3))
    model(torch.ones(1, 2))
    assert extractor.outputs["y"].tolist() == [[0, 0, 0]]
    assert not model[0]._forward_hooks


def test_a_layer_of_another_model_is_refused() -> None:
    with pytest.raises(ModelError, match="layer 'y' is not part of the model"):
        ActivationExtractor(nn.Sequential(nn.ReLU()), {"y": nn.ReLU()})
