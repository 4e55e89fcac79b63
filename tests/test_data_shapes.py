from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from hahbench.data import DATASETS, ImageSet, Split, shapes
from hahbench.errors import DataError


@pytest.fixture(scope="module")
def drawn() -> ImageSet:
    return DATASETS["shapes"]("test", None)


def test_images_are_rgb_of_32_by_32_pixels(drawn: ImageSet) -> None:
    assert drawn.images.shape == (2000, 3, 32, 32)
    assert (drawn.name, drawn.split, drawn.source) == ("shapes", "test", "drawn")


def test_classes_come_in_turn_so_that_every_prefix_is_balanced(drawn: ImageSet) -> None:
    assert len(drawn.classes) == 10
    assert torch.equal(drawn.labels, torch.arange(2000) % 10)


def test_the_first_images_are_the_same_to_the_bit_everywhere(drawn: ImageSet) -> None:
    assert (
        hashlib.sha256(drawn.images[:64].numpy().tobytes()).hexdigest()
        == "f78b41437cedc87b01e630d06f9ee98a4ac1e34f70a1f4051c893c844aac9ca9"
    )


@pytest.mark.parametrize("size", [7, 100])
def test_an_image_depends_on_its_split_and_position_alone(
    drawn: ImageSet, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "_CHUNK", 64)
    assert torch.equal(shapes.draw("test", size).images, drawn.images[:size])


def test_no_image_occurs_twice_in_or_across_splits(drawn: ImageSet) -> None:
    both = torch.cat([drawn.images, shapes.draw("train", 500).images])
    assert len({image.numpy().tobytes() for image in both}) == 2500


def test_pixels_use_the_range_without_being_clipped_much(drawn: ImageSet) -> None:
    assert drawn.images.min() < 16
    assert drawn.images.max() == 255
    assert ((drawn.images == 0) | (drawn.images == 255)).float().mean() < 0.02


@pytest.mark.parametrize("label", range(10))
def test_a_shape_is_brighter_than_its_background(drawn: ImageSet, label: int) -> None:
    """The mean image of a class is bright in the middle; corners show background alone."""
    mean = drawn.images[drawn.labels == label].float().mean(dim=(0, 1))
    corners = torch.stack([mean[:3, :3], mean[:3, -3:], mean[-3:, :3], mean[-3:, -3:]]).mean()
    assert mean[6:26, 6:26].mean() > corners + 10


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("disc", np.pi * 0.9**2),
        ("ring", np.pi * (0.95**2 - 0.55**2)),
        ("square", 1.6**2),
        ("frame", 1.7**2 - 0.9**2),
        ("triangle", 3 * np.sqrt(3) * 0.55**2),
        ("cross", 2 * 2.0 * 0.56 - 0.56**2),
        ("star", 5 * 0.33**2 * np.tan(np.pi / 5) / np.cos(2 * np.pi / 5)),
        ("bar", 2.2 * 0.5),
    ],
)
def test_a_shape_has_the_area_of_plane_geometry(name: str, area: float) -> None:
    side = np.linspace(-1.5, 1.5, 601)
    u, v = np.meshgrid(side, side)
    assert (shapes.SHAPES[name](u, v) < 0).mean() * 3.005**2 == pytest.approx(area, rel=0.02)


def test_it_is_drawn_once_in_a_process(drawn: ImageSet) -> None:
    assert shapes.load("test", None) is drawn


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_path_is_refused(split: Split) -> None:
    with pytest.raises(DataError, match=r"'shapes' is drawn and takes no path, not somewhere"):
        shapes.load(split, Path("somewhere"))
