"""CIFAR-10 (Krizhevsky 2009), from whichever files the user has."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hahbench.cache import cache_folder
from hahbench.corruptions.official import FOLDER as CORRUPTED_FOLDER
from hahbench.data.base import ImageSet, Split
from hahbench.errors import DataError
from hahbench.registry import one_line

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LAYOUTS = (
    "torchvision's 'cifar-10-batches-py', Hugging Face '<split>-*.parquet' files, "
    "or class folders '<split>/<class>/*.png' or '<class>/*.png'"
)
TORCHVISION_FOLDER = "cifar-10-batches-py"
IMAGE_COLUMNS = ("img", "image")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def load(split: Split, path: Path | None) -> ImageSet:
    """CIFAR-10 (Krizhevsky 2009): 50,000 train and 10,000 test images, 3 x 32 x 32, of 10 classes.

    Args:
        split: ``train`` or ``test``.
        path: a folder in one of three layouts: torchvision's, with ``cifar-10-batches-py`` in it; Hugging Face
            parquet files ``<split>-*.parquet``; class folders ``<split>/<class>/*.png`` (or jpg), or for the test
            split alone ``<class>/*.png``. Class folders are read round-robin, so that the first images are balanced.
            None downloads with torchvision into the user's cache folder.

    Returns:
        An image set named ``cifar10-jpeg`` where the files hold JPEG images, else ``cifar10``.

    Raises:
        DataError: the folder holds no such files, they are damaged or incomplete, or the download fails.
    """
    if path is None:
        return _download(split)
    if not path.is_dir():
        raise DataError(f"CIFAR-10: {path} is no folder; give one that holds {LAYOUTS}")
    if (path / TORCHVISION_FOLDER).is_dir():
        return _from_torchvision(split, path)
    if shards := sorted(path.glob(f"{split}-*.parquet")):
        _check_complete(shards)
        return _decode(split, "Hugging Face parquet", [image for shard in shards for image in _read_parquet(shard)])
    if (path / split).is_dir():
        return _decode(split, "class folders", _read_class_folders(path / split))
    if any((path / name).is_dir() for name in CLASSES):
        if split == "train":
            raise DataError(f"CIFAR-10: {path} holds test images alone; train images go into {path / split}/<class>")
        return _decode(split, "class folders", _read_class_folders(path))
    raise DataError(f"CIFAR-10: {path} holds no {split} split as {LAYOUTS}")


def _download(split: Split) -> ImageSet:
    from torchvision.datasets import CIFAR10

    cache = cache_folder()
    try:
        # Torchvision reports the download on stdout, which belongs to the results.
        with contextlib.redirect_stdout(sys.stderr):
            CIFAR10(cache, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"CIFAR-10 cannot be downloaded into {cache} ({one_line(error)}); give the path of a folder that holds "
            f"{LAYOUTS}"
        ) from error
    return _from_torchvision(split, cache)


def _from_torchvision(split: Split, path: Path) -> ImageSet:
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(path, train=split == "train")
    except RuntimeError as error:
        raise DataError(f"CIFAR-10: {path / TORCHVISION_FOLDER} is incomplete or damaged (wrong MD5)") from error
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet("cifar10", split, "torchvision", CLASSES, images, torch.tensor(data.targets))


class _EncodedImage(NamedTuple):
    where: str
    content: bytes | None
    label: int


def _check_complete(shards: Sequence[Path]) -> None:
    numbers: dict[str, Path] = {}
    for shard in shards:
        found = re.search(r"\d+-of-\d+", shard.name)
        if found is None and len(shards) > 1:
            raise DataError(
                f"CIFAR-10: {shards[0].parent} holds {shard.name}, which is no numbered shard, beside others"
            )
        if found is not None and (other := numbers.setdefault(found[0], shard)) is not shard:
            raise DataError(
                f"CIFAR-10: {shards[0].parent} holds the shard {found[0]} twice: {other.name}, {shard.name}"
            )
    totals = {number.partition("-of-")[2] for number in numbers}
    if len(totals) > 1:
        raise DataError(f"CIFAR-10: {shards[0].parent} holds shards of {' and of '.join(sorted(totals))}")
    for total in totals:
        for i in range(int(total)):
            number = f"{i:0{len(total)}}-of-{total}"
            if number not in numbers:
                raise DataError(f"CIFAR-10: {shards[0].parent} lacks the shard {number} beside {shards[0].name}")


def _read_parquet(file: Path) -> list[_EncodedImage]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(file).names
        image_column = next((name for name in IMAGE_COLUMNS if name in columns), None)
        if image_column is None or "label" not in columns:
            raise DataError(f"CIFAR-10: {file} must have columns img (or image) and label, not {', '.join(columns)}")
        table = pq.read_table(file, columns=[image_column, "label"])
        contents = pc.struct_field(table[image_column], "bytes").to_pylist()
        labels = table["label"].to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"CIFAR-10: {file} cannot be read: {one_line(error)}") from error
    images = []
    for row, (content, label) in enumerate(zip(contents, labels, strict=True)):
        where = f"{file}, row {row}"
        if not isinstance(content, bytes | None):
            raise DataError(f"CIFAR-10: {where}: the image must be encoded bytes, not {type(content).__name__}")
        if type(label) is not int or not 0 <= label < len(CLASSES):
            raise DataError(f"CIFAR-10: {where}: the label must be a whole number in 0..9, not {label!r}")
        images.append(_EncodedImage(where, content, label))
    return images


def _read_class_folders(folder: Path) -> list[_EncodedImage]:
    entries = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    found = sorted(entry.name for entry in entries if entry.name != CORRUPTED_FOLDER)
    if strange := [name for name in found if name not in CLASSES]:
        raise DataError(f"CIFAR-10: {folder / strange[0]} is not named after a class; allowed: {', '.join(CLASSES)}")
    ranked = [
        (rank, CLASSES.index(name), file)
        for name in found
        for rank, file in enumerate(sorted(f for f in (folder / name).iterdir() if f.suffix.lower() in IMAGE_SUFFIXES))
    ]
    if not ranked:
        raise DataError(f"CIFAR-10: {folder} holds no images; give a folder that holds {LAYOUTS}")
    return [_EncodedImage(str(file), _read(file), label) for _, label, file in sorted(ranked)]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"CIFAR-10: {file} cannot be read: {error.strerror}") from error


def _decode(split: Split, source: str, encoded: Sequence[_EncodedImage]) -> ImageSet:
    from PIL import Image

    pixels = np.empty((len(encoded), 32, 32, 3), np.uint8)
    formats = set()
    for i, (where, content, _) in enumerate(encoded):
        try:
            with Image.open(io.BytesIO(content or b"")) as image:
                formats.add(image.format)
                decoded = np.asarray(image.convert("RGB"))
        except Exception as error:  # Pillow raises of many types, a class of its own for huge images among them.
            raise DataError(f"CIFAR-10: {where}: the image cannot be decoded: {one_line(error)}") from error
        if decoded.shape != pixels.shape[1:]:
            height, width, _ = decoded.shape
            raise DataError(f"CIFAR-10: {where}: the image must be 32x32 pixels, not {width}x{height}")
        pixels[i] = decoded
    name = "cifar10-jpeg" if "JPEG" in formats else "cifar10"
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return ImageSet(name, split, source, CLASSES, images, torch.tensor([image.label for image in encoded]))
