"""Writes a regenerated set in the layout of the published one, with a manifest."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hahbench.atomic import replacing
from hahbench.corruptions.base import SEVERITIES, Corruption, Images
from hahbench.corruptions.generate import REGENERATED, check_seed, corrupted
from hahbench.errors import DataError

MANIFEST = "manifest.json"


def write_regenerated(
    out: Path,
    corruptions: Iterable[Corruption],
    images: Images,
    labels: NDArray[np.int64],
    *,
    seed: int,
    source: Mapping[str, Any],
    versions: str,
    progress: Callable[[str, float], None],
) -> list[Path]:
    """Write ``<corruption>.npy``, uint8 (5 N, H, W, 3) with the severities in order, and ``labels.npy``, uint8 (5 N,).

    A file that is there already, made of the same images with the same seed by the same generator, is kept, so that
    what was stopped goes on where it stood.

    Args:
        out: the folder.
        corruptions: what to write.
        images: (N, H, W, 3) uint8.
        labels: (N,).
        seed: of the random draws.
        source: what the manifest says of the images.
        versions: what it says of the libraries.
        progress: called with the corruption and the fraction of it that is done.

    Returns:
        The files, the manifest last.

    Raises:
        DataError: the folder holds another set, cannot be written to, or the images are not as a corruption needs them.
    """
    check_seed(seed)
    if labels.max(initial=0) > np.iinfo(np.uint8).max:
        raise DataError(f"labels up to {labels.max()} are not allowed; the layout has room for 256 classes")
    made = {"name": REGENERATED, "seed": seed, "images": len(images), "source": dict(source)}
    files = _files_of(out, made)
    paths = [out / "labels.npy"]
    try:
        # First, so that what is stopped at any point can go on.
        _write_manifest(out, made, versions, files)
        _write(paths[0], np.tile(labels, len(SEVERITIES)).astype(np.uint8))
        for corruption in corruptions:
            name = corruption.__name__
            path = out / f"{name}.npy"
            paths.append(path)
            if path.is_file() and files.get(name) == _md5(path):
                progress(name, 1.0)
                continue
            array = np.empty((len(SEVERITIES), *images.shape), np.uint8)
            for done, severity in enumerate(SEVERITIES):
                progress(name, done / len(SEVERITIES))
                array[done] = corrupted(corruption, images, severity, index=np.arange(len(images)), seed=seed)
            _write(path, array.reshape(-1, *images.shape[1:]))
            files[name] = _md5(path)
            _write_manifest(out, made, versions, files)
            progress(name, 1.0)
    except OSError as error:
        raise DataError(f"{out}: cannot be written to: {error.strerror}; the files finished before are kept") from error
    return [*paths, out / MANIFEST]


def _files_of(out: Path, made: Mapping[str, Any]) -> dict[str, str]:
    """The MD5s of the corruptions that ``out`` holds already."""
    manifest = out / MANIFEST
    if not manifest.exists():
        if any(out.glob("*.npy")):
            raise DataError(f"{out}: holds .npy files, but no {MANIFEST}; give another folder")
        return {}
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
        files: dict[str, str] = dict(said["md5"])
        differing = ", ".join(key for key in made if said[key] != made[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest}: cannot be read as a manifest; give another folder") from error
    if differing:
        raise DataError(f"{out}: holds another set, which differs in its {differing}; give another folder")
    return files


def _write_manifest(out: Path, made: Mapping[str, Any], versions: str, files: Mapping[str, str]) -> None:
    with replacing(out / MANIFEST) as temporary:
        text = json.dumps({**made, "versions": versions, "md5": files}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def _write(path: Path, array: NDArray[np.uint8]) -> None:
    # Straight to the file, numpy would make of a full disk an error without a reason.
    buffer = io.BytesIO()
    np.save(buffer, array)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
