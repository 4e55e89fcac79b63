from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest
import torch

from hahbench.data import DATASETS, ImageSet
from hahbench.errors import DataError


@pytest.fixture
def image_set() -> ImageSet:
    images = torch.arange(3 * 1 * 2 * 2, dtype=torch.uint8).reshape(3, 1, 2, 2)
    return ImageSet("tiny", "test", "by hand", ("a", "b"), images, torch.tensor([0, 1, 1]))


def test_first_gives_float_images_in_the_unit_interval(image_set: ImageSet) -> None:
    samples = image_set.first(2)
    assert samples.images.dtype == torch.float32
    assert samples.images.flatten().tolist() == pytest.approx([k / 255 for k in range(8)], abs=1e-7)
    assert samples.labels.tolist() == [0, 1]
    assert samples.index.tolist() == [0, 1]
    assert len(image_set.first(3)) == len(image_set) == 3


@pytest.mark.parametrize("n", [0, -1, 4])
def test_first_allows_one_to_all(image_set: ImageSet, n: int) -> None:
    with pytest.raises(DataError, match=rf"^n must be in 1\.\.3, the size of 'tiny' \(test\), not {n}$"):
        image_set.first(n)


def test_digest_is_that_of_shape_images_and_labels(image_set: ImageSet) -> None:
    content = b"(3, 1, 2, 2)" + bytes(range(12)) + struct.pack("<3q", 0, 1, 1)
    assert image_set.digest == hashlib.sha256(content).hexdigest()


def test_digest_ignores_names_and_memory_layout(image_set: ImageSet) -> None:
    colour = image_set.images.expand(3, 3, 2, 2).contiguous()
    plain = replace(image_set, images=colour)
    other = replace(image_set, name="other", source="elsewhere", images=colour.to(memory_format=torch.channels_last))
    assert plain.digest == other.digest


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), r"images must be uint8 .*, not float32 of shape"),
        (torch.zeros(2, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"not uint8 of shape \(2, 2, 2\)"),
        (torch.zeros(0, 1, 2, 2, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), r"not uint8 of shape \(0, "),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"of shape \(2,\), not int64"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2), r"labels must be int64 .*, not float32"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 2]), r"labels must lie in 0\.\.1, not 0\.\.2"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([-1, 0]), r"labels must lie in 0\.\.1, not -1\.\.0"),
    ],
)
def test_images_and_labels_of_the_wrong_kind_are_refused(
    images: torch.Tensor, labels: torch.Tensor, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ImageSet("tiny", "test", "by hand", ("a", "b"), images, labels)


def test_the_embedded_data_sets_are_registered() -> None:
    assert {"cifar10", "shapes"} <= set(DATASETS)
