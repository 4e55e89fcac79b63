"""What the model and the attack promise."""

from __future__ import annotations

import torch
from my_plugin.attack import UniformNoise
from my_plugin.model import network

from hahbench.attacks import ATTACK_KINDS
from hahbench.catalog import models
from hahbench.outcome import Samples

SAMPLES = Samples(torch.arange(4), torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))


def test_hahbench_finds_what_is_installed() -> None:
    assert models()["my-plugin-network"].loader == "my_plugin.model:network"
    assert ATTACK_KINDS["my-plugin-uniform-noise"] is UniformNoise


def test_the_model_gives_a_logit_for_each_class() -> None:
    assert network(num_classes=7)(SAMPLES.images).shape == (4, 7)


def test_the_noise_keeps_its_budget_and_does_not_depend_on_the_batch() -> None:
    attack = UniformNoise(epsilon=0.1)
    images = attack(network(), SAMPLES, None, 0, lambda done, accuracy: None).images
    assert 0.05 < (images - SAMPLES.images).abs().max() <= 0.1 + 1e-6
    alone = attack(network(), SAMPLES[2:3], None, 0, lambda done, accuracy: None).images
    torch.testing.assert_close(alone, images[2:3])
