"""CIFAR-10 with training images that were JPEG at quality 20; README.md says what that does to a network."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hahbench.data import ImageSet, Split, load_images, register_dataset

QUALITY = 20


@register_dataset("cifar10-quality-20")
def cifar10_quality_20(split: Split, path: Path | None) -> ImageSet:
    """CIFAR-10, its training images through JPEG at quality 20, its test images as they are."""
    images = load_images("cifar10", split, path)
    if split == "test":
        return images
    pixels = images.images.permute(0, 2, 3, 1).contiguous().numpy()
    encoded = torch.from_numpy(np.stack([_through_jpeg(image) for image in pixels]))
    return dataclasses.replace(images, images=encoded.permute(0, 3, 1, 2).contiguous())


def _through_jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file))
