"""Corruptions as attacks: where their images come from, and what a run says of it."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hahbench.attacks import build_attack
from hahbench.attacks.corruption import on_same_sources, on_source
from hahbench.catalog import attacks
from hahbench.corruptions import CORRUPTIONS, OFFICIAL, SEVERITIES
from hahbench.corruptions.generate import corrupted
from hahbench.corruptions.official import MD5
from hahbench.data import DATASETS
from hahbench.errors import HahbenchError
from hahbench.outcome import Samples
from hahbench.spec import AttackSpec, Cell

FOG = attacks()["corruption-fog"]
FROST = attacks()["corruption-frost"]


def shapes(n: int) -> Samples:
    return DATASETS["shapes"]("test", None).first(n)


def attack(spec: AttackSpec, samples: Samples, severity: float) -> torch.Tensor:
    return build_attack(spec)(nn.Identity(), samples, severity, 0, lambda *_: None).images


def test_each_published_corruption_has_a_spec_with_five_severities() -> None:
    for name in OFFICIAL:
        spec = attacks()[f"corruption-{name.replace('_', '-')}"]
        assert spec.params == {"corruption": name}
        assert spec.levels == SEVERITIES
        build_attack(on_source(spec, None))


@pytest.mark.parametrize("severity", [1, 5])
def test_the_images_are_those_of_the_generator_at_the_samples_indices(severity: int) -> None:
    samples = shapes(10)[torch.tensor([7, 2])]
    images = (samples.images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    expected = corrupted(CORRUPTIONS["fog"], images, severity, index=np.array([7, 2]), seed=0)
    found = attack(FOG, samples, severity)
    assert torch.equal((found * 255).round().byte(), torch.from_numpy(expected).permute(0, 3, 1, 2))
    assert found.dtype == torch.float32


def test_the_images_kept_for_the_next_model_are_those_of_the_same_cell_alone() -> None:
    samples, others = shapes(4), shapes(5)
    first = attack(FOG, samples, 1)
    assert not torch.equal(attack(FOG, samples, 2), first)
    assert torch.equal(attack(FOG, samples, 1), first)
    assert len(attack(FOG, others, 1)) == 5
    assert not torch.equal(attack(attacks()["corruption-snow"], samples, 1), first)


def test_published_files_are_preferred_and_give_the_cell_another_version(tmp_path: Path) -> None:
    assert on_source(FOG, tmp_path) == FOG
    (tmp_path / "fog.npy").touch()
    official = on_source(FOG, tmp_path)
    assert official.name == FOG.name
    assert official.params == {"corruption": "fog", "folder": str(tmp_path)}
    assert build_attack(official).version == "CIFAR-10-C, published files"
    assert build_attack(on_source(FOG, None)).version == "CIFAR-10-C (regenerated), generator 1"


def test_published_files_are_preferred_to_photographs(tmp_path: Path) -> None:
    (tmp_path / "frost.npy").touch()
    assert on_source(FROST, tmp_path, tmp_path / "photographs").kind == "corruption-official"


def test_where_the_files_lie_does_not_tell_results_apart(tmp_path: Path) -> None:
    keys = set()
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
        (folder / "fog.npy").touch()
        spec = on_source(FOG, folder)
        assert spec.portable_params == {"corruption": "fog"}
        keys.add(Cell("m", "w", "d", spec, "1", 1.0, 0).key)
    assert len(keys) == 1
    assert keys != {Cell("m", "w", "d", FOG, "1", 1.0, 0).key}


def test_what_another_machine_measured_is_read_from_where_it_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.zeros(50_000, np.uint8))
    content = (folder / "labels.npy").read_bytes()
    monkeypatch.setitem(MD5, "labels", hashlib.md5(content, usedforsecurity=False).hexdigest())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    elsewhere = AttackSpec("corruption-fog", "corruption-official", params={"corruption": "fog"})
    regenerated = attacks()["corruption-snow"]
    labels = np.zeros(3, np.int64)
    found, same = on_same_sources([elsewhere, regenerated], labels, tmp_path)
    assert found.params == {"corruption": "fog", "folder": str(folder)}
    assert same is regenerated
    with pytest.raises(HahbenchError, match="'corruption-fog' reads the published files; --data has no folder"):
        on_same_sources([elsewhere], labels, None)
    photographs = dataclasses.replace(FROST, params={"corruption": "frost", "photographs_digest": "0"})
    with pytest.raises(HahbenchError, match="'corruption-frost' was made of photographs"):
        on_same_sources([photographs], labels, tmp_path)


def test_frost_of_photographs_keeps_its_name_and_their_digest(tmp_path: Path) -> None:
    with pytest.raises(HahbenchError, match=r"frost1\.png: cannot read this photograph of frost: No such file"):
        on_source(FROST, None, tmp_path)
    digests = set()
    for colour in (0, 200):
        for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
            Image.new("RGB", (200, 200), (colour, colour, colour)).save(tmp_path / name)
        spec = on_source(FROST, None, tmp_path)
        assert spec.name == "corruption-frost"
        digests.add(spec.params["photographs_digest"])
        build_attack(spec)
    assert len(digests) == 2
    assert on_source(FOG, None, tmp_path) == FOG
    assert float(attack(spec, shapes(2), 5).min()) >= 0.45 * 200 / 255 - 1 / 255


def test_frost_without_photographs_has_another_name(tmp_path: Path) -> None:
    spec = on_source(FROST, None)
    assert spec.name == "corruption-frost-procedural"
    assert spec.params == {"corruption": "frost_procedural"}
    (tmp_path / "frost.npy").touch()
    assert on_source(FROST, tmp_path).name == "corruption-frost"


def test_other_attacks_are_left_alone() -> None:
    noise = attacks()["gaussian-noise"]
    assert on_source(noise, Path("CIFAR-10-C")) is noise


@pytest.mark.parametrize(
    ("params", "levels", "message"),
    [
        ({"corruption": "fogg"}, (1,), "corruption = 'fogg' is not allowed; did you mean 'fog'"),
        ({"corruption": "frost"}, (1,), "corruption 'frost' needs --photographs FOLDER or the published files"),
        ({"corruption": "fog", "photographs": "x"}, (1,), "only 'frost' takes them"),
        ({"corruption": "fog"}, (6,), "level = 6 is not allowed; each of the levels must be a severity, 1 to 5"),
        ({"corruption": "fog"}, (1.5,), "level = 1.5 is not allowed"),
        ({"corruption": "fog"}, (), "level = None is not allowed"),
        ({}, (1,), "missing 1 required positional argument: 'corruption'"),
    ],
)
def test_what_cannot_be_run_is_said_before(params: dict[str, str], levels: tuple[float, ...], message: str) -> None:
    with pytest.raises(HahbenchError, match=message):
        build_attack(AttackSpec("own", "corruption", levels=levels, params=params))


def test_grey_images_are_refused() -> None:
    grey = Samples(torch.arange(2), torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(HahbenchError, match="corruptions need colour images, not images of 1 channels"):
        attack(FOG, grey, 1)
