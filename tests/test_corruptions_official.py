"""The published files: read only when they are whole and the published ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from hahbench.corruptions import OFFICIAL
from hahbench.corruptions.official import FOLDER, MD5, find_official, read_official
from hahbench.errors import DataError

INDEX = np.array([0, 3, 9_999])


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of the published size whose MD5s, for once, are the published ones: image i at severity s is s or i."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(np.arange(10_000) % 10, 5).astype(np.uint8))
    fog = np.repeat(np.arange(1, 6, dtype=np.uint8), 10_000)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    fog[:, 0, 0, 0] = np.tile(np.arange(10_000) % 251, 5)
    np.save(folder / "fog.npy", fog)
    for name in ("labels", "fog"):
        monkeypatch.setitem(MD5, name, md5(folder / f"{name}.npy"))
    return folder


def read(folder: Path, severity: int = 4) -> np.ndarray:
    return read_official(folder, "fog", severity, index=INDEX, labels=INDEX % 10)


def test_there_is_an_md5_for_each_published_file() -> None:
    assert set(MD5) == {*OFFICIAL, "labels"}
    assert len(set(MD5.values())) == 20


def test_images_are_those_of_the_severity_and_the_index(folder: Path) -> None:
    for severity in (1, 4, 5):
        images = read(folder, severity)
        assert images.dtype == np.uint8
        assert images.shape == (3, 32, 32, 3)
        assert (images[:, 1:] == severity).all()
        assert images[:, 0, 0, 0].tolist() == [0, 3, 9_999 % 251]


def test_a_folder_is_found_by_its_name_and_labels(folder: Path, tmp_path: Path) -> None:
    labels = np.arange(100) % 10
    assert find_official([tmp_path / "elsewhere", tmp_path], labels) == folder
    with pytest.warns(UserWarning, match="100 of 100 labels are not those .*; corruptions are regenerated"):
        assert find_official([tmp_path], labels + 1) is None
    np.save(folder / "labels.npy", np.zeros(35, np.uint8))
    with pytest.warns(UserWarning, match=r"must be uint8 of shape \(50000,\), .*; corruptions are regenerated"):
        assert find_official([tmp_path], labels) is None
    (folder / "labels.npy").unlink()
    assert find_official([tmp_path], labels) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00v\x00{'descr' (", b"text"])
def test_a_damaged_header_is_named_with_its_file(folder: Path, content: bytes) -> None:
    (folder / "fog.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"fog\.npy: is truncated or no \.npy file"):
        read(folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    with (folder / "fog.npy").open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(DataError, match=r"fog\.npy: is truncated or no \.npy file"):
        read(folder)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((50_000, 32, 32), np.uint8),
            r"must be uint8 of shape \(50000, 32, 32, 3\), not uint8",
        ),
        (np.zeros((100, 32, 32, 3), np.uint8), r"not uint8 of shape \(100, 32, 32, 3\)"),
        (np.zeros((10, 32, 32, 3), np.float32), "not float32"),
        (np.array([{"an": "object"}], dtype=object), r"is truncated or no \.npy file: ValueError: .*Python objects"),
    ],
)
def test_another_shape_or_type_is_refused(folder: Path, array: np.ndarray, message: str) -> None:
    np.save(folder / "fog.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read(folder)


def test_a_file_in_which_one_byte_was_changed_after_it_was_read_is_refused(folder: Path) -> None:
    read(folder)
    changed = bytearray((folder / "fog.npy").read_bytes())
    changed[-1] ^= 1
    (folder / "fog.npy").write_bytes(changed)
    with pytest.raises(DataError, match="is not the published file: its MD5 is"):
        read(folder)


def test_a_regenerated_set_is_called_that(folder: Path) -> None:
    np.save(folder / "fog.npy", np.zeros((50_000, 32, 32, 3), np.uint8))
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="the set was regenerated"):
        read(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "fog.npy").unlink()
    with pytest.raises(DataError, match=r"fog\.npy: cannot be read: No such file"):
        read(folder)


def test_images_in_another_order_are_noticed(folder: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 3 labels are not those .* the first is image 3: 3, not 4"):
        read_official(folder, "fog", 1, index=INDEX, labels=np.array([0, 4, 0]))


def test_an_image_beyond_the_test_set_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="has 10000 images a severity; image 10000 is asked for"):
        read_official(folder, "fog", 1, index=np.array([10_000]), labels=np.array([0]))
