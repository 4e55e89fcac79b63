"""A whole set: the corruption of an image depends on the seed, its index and nothing beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hahbench.corruptions import BENCHMARK, CORRUPTIONS, OFFICIAL, Images, generate
from hahbench.corruptions.generate import corrupted
from hahbench.corruptions.write import write_regenerated
from hahbench.data import DATASETS
from hahbench.errors import DataError

DRAWING = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost_procedural",
    "fog",
    "spatter",
    "elastic_transform",
)


@pytest.fixture(scope="module")
def images() -> Images:
    shapes = DATASETS["shapes"]("test", None).images[:520]
    return np.ascontiguousarray(shapes.permute(0, 2, 3, 1).numpy())


def test_every_corruption_of_the_published_set_can_be_made_but_frost() -> None:
    assert set(CORRUPTIONS) == {*OFFICIAL, "frost_procedural"} - {"frost"}
    assert len(OFFICIAL) == 19
    assert len(BENCHMARK) == 15


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_the_same_image_whatever_its_neighbours_and_place(name: str, images: Images) -> None:
    """The 520 images go through the generator in two parts, the 20 in one, backwards."""
    whole = corrupted(CORRUPTIONS[name], images, 3, index=np.arange(520), seed=1)
    index = np.arange(519, 499, -1)
    assert np.array_equal(corrupted(CORRUPTIONS[name], images[index], 3, index=index, seed=1), whole[index])
    assert not np.array_equal(whole, images)


@pytest.mark.parametrize("name", DRAWING)
def test_draws_differ_between_images_seeds_and_severities(name: str, images: Images) -> None:
    same = np.repeat(images[:1], 8, axis=0)
    first = corrupted(CORRUPTIONS[name], same, 5, index=np.arange(8), seed=0)
    assert len(np.unique(first.reshape(8, -1), axis=0)) > 1
    assert not np.array_equal(first, corrupted(CORRUPTIONS[name], same, 5, index=np.arange(8), seed=1))


def test_each_severity_has_its_own_draws(images: Images) -> None:
    """Noise of the standard deviations 0.04 and 0.1; the same draws would be correlated but for rounding."""
    grey = np.full_like(images[:4], 128)
    noise = [
        corrupted(CORRUPTIONS["gaussian_noise"], grey, severity, index=np.arange(4), seed=0).astype(float) - 128
        for severity in (1, 5)
    ]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_processes_that_share_the_work_make_the_same_images(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = corrupted(CORRUPTIONS["snow"], images, 3, index=np.arange(520), seed=0)
    monkeypatch.setattr(generate, "_FEWEST_TO_SHARE", 2)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    assert np.array_equal(corrupted(CORRUPTIONS["snow"], images, 3, index=np.arange(520), seed=0), alone)


def test_two_corruptions_do_not_share_their_noise(images: Images) -> None:
    grey = np.full_like(images[:4], 128)
    noise = [
        corrupted(CORRUPTIONS[name], grey, 5, index=np.arange(4), seed=0).astype(float) - 128
        for name in ("gaussian_noise", "speckle_noise")
    ]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_a_negative_seed_is_refused(images: Images) -> None:
    with pytest.raises(DataError, match=r"seed -1 is not allowed; allowed: 0 to 2\*\*64 - 1"):
        corrupted(CORRUPTIONS["fog"], images[:1], 1, index=np.arange(1), seed=-1)


def write(out: Path, images: Images, names: tuple[str, ...], **changes: Any) -> list[Path]:
    arguments: dict[str, Any] = {"seed": 0, "source": {"dataset": "shapes"}, "versions": "numpy 1"}
    arguments |= {"progress": lambda name, done: None, **changes}
    return write_regenerated(
        out, [CORRUPTIONS[name] for name in names], images, np.arange(len(images)) % 6, **arguments
    )


def test_files_have_the_layout_of_the_published_ones_and_a_manifest(tmp_path: Path, images: Images) -> None:
    paths = write(tmp_path, images[:7], ("fog", "contrast"))
    assert [path.name for path in paths] == ["labels.npy", "fog.npy", "contrast.npy", "manifest.json"]
    labels, fog = np.load(tmp_path / "labels.npy"), np.load(tmp_path / "fog.npy")
    assert labels.dtype == fog.dtype == np.uint8
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 0] * 5
    assert fog.shape == (35, 32, 32, 3)
    assert np.array_equal(fog[14:21], corrupted(CORRUPTIONS["fog"], images[:7], 3, index=np.arange(7), seed=0))
    said = json.loads((tmp_path / "manifest.json").read_text())
    assert said["name"] == "CIFAR-10-C (regenerated), generator 1"
    assert said["seed"] == 0
    assert said["source"] == {"dataset": "shapes"}
    for name in ("fog", "contrast"):
        content = (tmp_path / f"{name}.npy").read_bytes()
        assert said["md5"][name] == hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_a_set_that_was_stopped_goes_on_where_it_stood(tmp_path: Path, images: Images) -> None:
    write(tmp_path, images[:7], ("fog",))
    before = (tmp_path / "fog.npy").stat().st_mtime_ns
    write(tmp_path, images[:7], ("fog", "contrast"))
    assert (tmp_path / "fog.npy").stat().st_mtime_ns == before
    assert (tmp_path / "contrast.npy").exists()


def test_a_set_that_was_stopped_in_its_first_corruption_goes_on(tmp_path: Path, images: Images) -> None:
    def stop(name: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, images[:7], ("fog",), progress=stop)
    assert (tmp_path / "labels.npy").exists()
    write(tmp_path, images[:7], ("fog",), versions="numpy 2")
    assert (tmp_path / "fog.npy").exists()


def test_a_file_that_was_changed_is_made_again(tmp_path: Path, images: Images) -> None:
    write(tmp_path, images[:7], ("fog",))
    before = (tmp_path / "fog.npy").read_bytes()
    (tmp_path / "fog.npy").write_bytes(b"xx")
    write(tmp_path, images[:7], ("fog",))
    assert (tmp_path / "fog.npy").read_bytes() == before


@pytest.mark.parametrize("text", ["[]", "{", '{"md5": [1]}', '{"md5": {}}'])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, images: Images, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read as a manifest"):
        write(tmp_path, images[:7], ("fog",))


def test_nothing_is_written_for_a_seed_or_labels_out_of_range(tmp_path: Path, images: Images) -> None:
    with pytest.raises(DataError, match="seed -1 is not allowed"):
        write(tmp_path / "out", images[:7], ("fog",), seed=-1)
    with pytest.raises(DataError, match="labels up to 299 are not allowed; the layout has room for 256 classes"):
        write_regenerated(
            tmp_path / "out",
            [],
            images[:2],
            np.array([0, 299]),
            seed=0,
            source={},
            versions="",
            progress=lambda name, done: None,
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "differing"), [({"seed": 1}, "seed"), ({"source": {"dataset": "cifar10"}}, "source")]
)
def test_another_set_in_the_same_folder_is_refused(
    tmp_path: Path, images: Images, changes: dict[str, Any], differing: str
) -> None:
    write(tmp_path, images[:7], ("fog",))
    with pytest.raises(DataError, match=f"holds another set, which differs in its {differing}"):
        write(tmp_path, images[:7], ("fog",), **changes)


def test_the_published_files_are_never_replaced(tmp_path: Path, images: Images) -> None:
    np.save(tmp_path / "fog.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"holds \.npy files, but no manifest\.json"):
        write(tmp_path, images[:7], ("fog",))
