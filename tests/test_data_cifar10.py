from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from hahbench.data import DATASETS, ImageSet
from hahbench.data.cifar10 import CLASSES, load
from hahbench.errors import DataError

Pixels = npt.NDArray[np.uint8]


def random_pixels(n: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def encoded(pixels: Pixels, image_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


def write_parquet(file: Path, contents: Sequence[object], labels: Sequence[object], column: str = "img") -> None:
    images = [{"bytes": content, "path": None} for content in contents]
    pq.write_table(pa.table({column: images, "label": labels}), file)


def write_image(file: Path, pixels: Pixels) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def assert_holds(image_set: ImageSet, pixels: Pixels, labels: list[int]) -> None:
    assert torch.equal(image_set.images, torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    assert image_set.labels.tolist() == labels
    assert image_set.classes == CLASSES


def test_the_registry_finds_it() -> None:
    assert DATASETS["cifar10"] is load


class TestParquet:
    @pytest.mark.parametrize("column", ["img", "image"])
    def test_shards_are_read_in_order(self, tmp_path: Path, column: str) -> None:
        pixels = random_pixels(5)
        contents = [encoded(image) for image in pixels]
        write_parquet(tmp_path / "train-00001-of-00002.parquet", contents[3:], [1, 0], column)
        write_parquet(tmp_path / "train-00000-of-00002.parquet", contents[:3], [9, 3, 3], column)
        write_parquet(tmp_path / "test-00000-of-00001.parquet", contents[:1], [7], column)
        train = load("train", tmp_path)
        assert_holds(train, pixels, [9, 3, 3, 1, 0])
        assert (train.name, train.split, train.source) == ("cifar10", "train", "Hugging Face parquet")
        assert_holds(load("test", tmp_path), pixels[:1], [7])

    def test_jpeg_images_are_another_data_set(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "test-0.parquet", [encoded(random_pixels(1)[0], "JPEG")], [0])
        assert load("test", tmp_path).name == "cifar10-jpeg"

    def test_a_missing_split_is_named(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "test-0.parquet", [encoded(random_pixels(1)[0])], [0])
        with pytest.raises(DataError, match="holds no train split"):
            load("train", tmp_path)

    @pytest.mark.parametrize("cut", [0, 3, 100, -1])
    def test_a_truncated_file_is_named_in_one_line(self, tmp_path: Path, cut: int) -> None:
        file = tmp_path / "test-0.parquet"
        write_parquet(file, [encoded(image) for image in random_pixels(3)], [0, 1, 2])
        file.write_bytes(file.read_bytes()[:cut])
        with pytest.raises(DataError, match=r"test-0\.parquet cannot be read: [^\n]+$"):
            load("test", tmp_path)

    @pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
    def test_a_damaged_image_is_named_with_its_row(self, tmp_path: Path, image_format: str) -> None:
        good = encoded(random_pixels(1)[0], image_format)
        for bad in (good[: len(good) // 2], good[:10], b"", None):
            write_parquet(tmp_path / "test-0.parquet", [good, bad], [0, 1])
            with pytest.raises(DataError, match=r"test-0\.parquet, row 1: the image cannot be decoded: [^\n]+$"):
                load("test", tmp_path)

    def test_images_of_another_size_are_refused(self, tmp_path: Path) -> None:
        wide = np.zeros((28, 30, 3), np.uint8)
        write_parquet(tmp_path / "test-0.parquet", [encoded(wide)], [0])
        with pytest.raises(DataError, match="row 0: the image must be 32x32 pixels, not 30x28"):
            load("test", tmp_path)

    def test_other_columns_are_refused(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "test-0.parquet", [encoded(random_pixels(1)[0])], [0], column="picture")
        with pytest.raises(DataError, match=r"must have columns img \(or image\) and label, not picture, label"):
            load("test", tmp_path)

    def test_a_column_that_holds_no_encoded_images_is_refused(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"img": ["a.png"], "label": [0]}), tmp_path / "test-0.parquet")
        with pytest.raises(DataError, match=r"test-0\.parquet cannot be read: "):
            load("test", tmp_path)

    @pytest.mark.parametrize("content", ["a.png", 3, [1, 2]])
    def test_images_are_encoded_bytes(self, tmp_path: Path, content: object) -> None:
        write_parquet(tmp_path / "test-0.parquet", [content], [0])
        with pytest.raises(DataError, match=r"test-0\.parquet, row 0: the image must be encoded bytes, not \w+$"):
            load("test", tmp_path)

    @pytest.mark.parametrize(
        ("labels", "row"), [([0, -1], 1), ([10, 0], 0), (["cat", "dog"], 0), ([0, None], 1), ([0.5, 1.0], 0)]
    )
    def test_labels_are_classes(self, tmp_path: Path, labels: list[object], row: int) -> None:
        write_parquet(tmp_path / "test-0.parquet", [encoded(image) for image in random_pixels(2)], labels)
        with pytest.raises(DataError) as caught:
            load("test", tmp_path)
        assert str(caught.value) == (
            f"CIFAR-10: {tmp_path}/test-0.parquet, row {row}: "
            f"the label must be a whole number in 0..9, not {labels[row]!r}"
        )

    @pytest.mark.parametrize("missing", range(3))
    @pytest.mark.parametrize("suffix", ["", "-a1b2c3d4"])
    def test_a_missing_shard_is_named(self, tmp_path: Path, missing: int, suffix: str) -> None:
        for i in {0, 1, 2} - {missing}:
            file = tmp_path / f"train-0000{i}-of-00003{suffix}.parquet"
            write_parquet(file, [encoded(random_pixels(1)[0])], [0])
        with pytest.raises(DataError, match=rf"lacks the shard 0000{missing}-of-00003 beside train-0000"):
            load("train", tmp_path)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["00000-of-00001", "00000-of-00001-a1b2c3d4"], "holds the shard 00000-of-00001 twice: test-00000"),
            (["00000-of-00001", "noisy"], "holds test-noisy.parquet, which is no numbered shard, beside others"),
            (["00000-of-00001", "00000-of-00002", "00001-of-00002"], "holds shards of 00001 and of 00002"),
        ],
    )
    def test_files_that_are_no_one_split_are_not_mixed(self, tmp_path: Path, names: list[str], message: str) -> None:
        for name in names:
            write_parquet(tmp_path / f"test-{name}.parquet", [encoded(random_pixels(1)[0])], [0])
        with pytest.raises(DataError, match=message):
            load("test", tmp_path)


class TestClassFolders:
    def test_splits_are_folders_and_classes_come_in_turn(self, tmp_path: Path) -> None:
        pixels = random_pixels(5)
        for file, image in zip(
            ["cat/0.png", "truck/a.PNG", "cat/1.png", "truck/b.png", "cat/2.png"], pixels, strict=True
        ):
            write_image(tmp_path / "train" / file, image)
        (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
        (tmp_path / "train" / ".hidden").mkdir()
        train = load("train", tmp_path)
        assert_holds(train, pixels, [3, 9, 3, 9, 3])
        assert (train.name, train.source) == ("cifar10", "class folders")

    def test_without_split_folders_they_are_test_images(self, tmp_path: Path) -> None:
        pixels = random_pixels(10)
        for name, image in zip(CLASSES, pixels, strict=True):
            write_image(tmp_path / name / "1.png", image)
        assert_holds(load("test", tmp_path), pixels, list(range(10)))
        with pytest.raises(DataError, match=r"holds test images alone; train images go into .*train/<class>"):
            load("train", tmp_path)

    @pytest.mark.parametrize("suffix", ["jpg", "jpeg"])
    def test_jpeg_images_are_another_data_set(self, tmp_path: Path, suffix: str) -> None:
        write_image(tmp_path / "test" / "frog" / f"1.{suffix}", random_pixels(1)[0])
        assert load("test", tmp_path).name == "cifar10-jpeg"

    @pytest.mark.parametrize("folder", ["test", "."])
    def test_a_folder_that_is_no_class_is_named(self, tmp_path: Path, folder: str) -> None:
        for name in ("cat", "plane"):
            write_image(tmp_path / folder / name / "1.png", random_pixels(1)[0])
        with pytest.raises(DataError, match=r"plane is not named after a class; allowed: airplane, automobile, "):
            load("test", tmp_path)

    def test_folders_without_images_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "test" / "cat").mkdir(parents=True)
        with pytest.raises(DataError, match="holds no images"):
            load("test", tmp_path)

    def test_a_damaged_image_is_named(self, tmp_path: Path) -> None:
        write_image(tmp_path / "cat" / "1.png", random_pixels(1)[0])
        (tmp_path / "cat" / "2.png").write_bytes(b"no image")
        with pytest.raises(DataError, match=r"2\.png: the image cannot be decoded"):
            load("test", tmp_path)

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        write_image(tmp_path / "cat" / "1.png", random_pixels(1)[0])
        (tmp_path / "cat" / "2.png").mkdir()
        with pytest.raises(DataError, match=r"cat/2\.png cannot be read: Is a directory$"):
            load("test", tmp_path)

    def test_an_image_that_pillow_finds_too_large_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_image(tmp_path / "cat" / "1.png", random_pixels(1)[0])
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(DataError, match=r"1\.png: the image cannot be decoded: DecompressionBombError: "):
            load("test", tmp_path)


class TestTorchvision:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder of 20 images, whose MD5s stand in for those of CIFAR-10 that torchvision checks."""
        batches = tmp_path / "cifar-10-batches-py"
        batches.mkdir()

        def write(name: str, content: dict[str, object]) -> list[str]:
            (batches / name).write_bytes(pickle.dumps(content))
            return [name, hashlib.md5((batches / name).read_bytes()).hexdigest()]

        def batch(seed: int) -> dict[str, object]:
            return {"data": random_pixels(10, seed).transpose(0, 3, 1, 2).reshape(10, -1), "labels": list(range(10))}

        monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch(1))])
        monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch(2))])
        name, md5 = write("batches.meta", {"label_names": list(CLASSES)})
        monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
        return tmp_path

    def test_both_splits_are_read(self, folder: Path) -> None:
        train = load("train", folder)
        assert_holds(train, random_pixels(10, 1), list(range(10)))
        assert_holds(load("test", folder), random_pixels(10, 2), list(range(10)))
        assert (train.name, train.source) == ("cifar10", "torchvision")

    def test_damaged_files_are_refused(self, folder: Path) -> None:
        with (folder / "cifar-10-batches-py" / "test_batch").open("ab") as file:
            file.write(b"x")
        with pytest.raises(DataError, match=r"cifar-10-batches-py is incomplete or damaged"):
            load("test", folder)

    def test_without_a_path_the_users_cache_is_used(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder.rename(folder.parent / "hahbench")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
        assert_holds(load("test", None), random_pixels(10, 2), list(range(10)))
        assert capsys.readouterr().out == ""

    def test_a_failed_download_says_how_to_give_a_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(CIFAR10, "url", (tmp_path / "no-such-file.tar.gz").as_uri())
        with pytest.raises(DataError, match=r"^CIFAR-10 cannot be downloaded into [^\n]*; give the path [^\n]*$"):
            load("test", None)


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_a_path_without_cifar10_is_named_with_the_three_layouts(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"{folder} .*cifar-10-batches-py.*<split>-\*\.parquet.*<split>/<class>"):
        load("test", tmp_path / folder)
