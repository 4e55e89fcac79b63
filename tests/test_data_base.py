from __future__ import annotations

import hashlib
import struct
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hahbench import data
from hahbench.data import DATASETS, DatasetLoader, ImageSet, Split, load_images, register_dataset
from hahbench.errors import DataError, DuplicateNameError, HahbenchError, UnknownNameError
from hahbench.registry import Registry


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
        (
            torch.zeros(2, 1, 2, 2, dtype=torch.uint8, device="meta"),
            torch.zeros(2, dtype=torch.int64),
            r"images must be a uint8 .* on the CPU, not uint8 of shape \(2, 1, 2, 2\) on meta$",
        ),
        (
            torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64, device="meta"),
            r"labels must be an int64 .* on the CPU, not int64 of shape \(2,\) on meta$",
        ),
        (
            torch.zeros(2, 1, 2, 2),
            torch.zeros(2, dtype=torch.int64),
            r"images must be a uint8 .*, not float32 of shape",
        ),
        (torch.zeros(2, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"not uint8 of shape \(2, 2, 2\)"),
        (torch.zeros(0, 1, 2, 2, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), r"not uint8 of shape \(0, "),
        (torch.zeros(2, 1, 0, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"not uint8 of shape \(2, "),
        (np.zeros((2, 1, 2, 2), np.uint8), torch.zeros(2, dtype=torch.int64), "images must be a .*, not a ndarray$"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), [0, 1], r"labels must be an int64 tensor .*, not a list$"),
        (
            torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
            torch.zeros(3, dtype=torch.int64),
            r"\(2,\) on the CPU, not int64",
        ),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2), r"labels must be an int64 .*, not float32"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 2]), r"labels must lie in 0\.\.1, not 0\.\.2"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([-1, 0]), r"labels must lie in 0\.\.1, not -1\.\.0"),
    ],
)
def test_images_and_labels_of_the_wrong_kind_are_refused(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageSet("tiny", "test", "by hand", ("a", "b"), images, labels)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 224, 160), (4, 1, 7), (1, 1, 1)])
@pytest.mark.parametrize("classes", [1, 2, 1000])
def test_images_of_any_size_channels_and_classes_are_a_data_set(shape: tuple[int, int, int], classes: int) -> None:
    images = torch.full((2, *shape), 51, dtype=torch.uint8)
    names = tuple(f"class {i}" for i in range(classes))
    mine = ImageSet("mine", "test", "by hand", names, images, torch.tensor([0, classes - 1]))
    samples = mine.first(2)
    assert torch.equal(samples.images, torch.full((2, *shape), 0.2))
    assert samples.labels.tolist() == [0, classes - 1]
    content = f"{(2, *shape)}".encode() + images.numpy().tobytes() + struct.pack("<2q", 0, classes - 1)
    assert mine.digest == hashlib.sha256(content).hexdigest()


def test_a_source_that_is_no_text_is_refused(image_set: ImageSet) -> None:
    with pytest.raises(DataError, match=r"^data set 'tiny' \(test\): source must be a string, not PosixPath$"):
        replace(image_set, source=Path("/"))  # type: ignore[arg-type]


def test_the_embedded_data_sets_are_registered() -> None:
    assert {"cifar10", "shapes"} <= set(DATASETS)


@pytest.fixture
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "DATASETS", Registry[DatasetLoader]("data set"))


@pytest.mark.usefixtures("_own_registry")
class TestADataSetOfOnesOwn:
    def test_the_example_in_the_docs_runs(self, tmp_path: Path) -> None:
        assert data.__doc__ is not None
        exec(textwrap.dedent(data.__doc__.partition("::\n")[2]), {})
        images = torch.arange(2 * 28 * 28).to(torch.uint8).reshape(2, 1, 28, 28)
        torch.save((images, torch.tensor([3, 9])), tmp_path / "test.pt")
        digits = load_images("digits", "test", tmp_path)
        assert torch.equal(digits.images, images)
        assert (digits.name, digits.split, digits.classes[3]) == ("digits", "test", "3")

    def test_an_error_of_its_loader_is_one_line_that_names_it(self) -> None:
        @register_dataset("digits")
        def digits(split: Split, path: Path | None) -> ImageSet:
            raise FileNotFoundError(f"no {split} images\n  in {path}")

        with pytest.raises(DataError) as caught:
            load_images("digits", "train", Path("here"))
        assert str(caught.value) == "data set 'digits': FileNotFoundError: no train images in here"
        with pytest.raises(DataError, match=r"data set 'digits': .*; --data was not given"):
            load_images("digits", "train", None)

    def test_an_error_that_speaks_to_the_user_is_passed_on(self) -> None:
        error = HahbenchError("digits: give --data")

        @register_dataset("digits")
        def digits(split: Split, path: Path | None) -> ImageSet:
            raise error

        with pytest.raises(HahbenchError) as caught:
            load_images("digits", "test", None)
        assert caught.value is error

    @pytest.mark.parametrize("returned", [None, (torch.zeros(1), torch.zeros(1))])
    def test_its_loader_returns_an_image_set(self, returned: Any) -> None:
        register_dataset("digits")(lambda split, path: returned)
        with pytest.raises(DataError) as caught:
            load_images("digits", "test", None)
        assert str(caught.value) == (
            f"data set 'digits': the loader returned {type(returned).__name__}; allowed: an ImageSet"
        )

    def test_its_name_is_free_and_asked_for_as_registered(self) -> None:
        register_dataset("digits")(lambda split, path: None)  # type: ignore[arg-type, return-value]
        with pytest.raises(DuplicateNameError, match="data set 'digits' is registered already"):
            register_dataset("digits")(lambda split, path: None)  # type: ignore[arg-type, return-value]
        with pytest.raises(UnknownNameError, match="unknown data set 'digit'; did you mean 'digits'"):
            load_images("digit", "test", None)
