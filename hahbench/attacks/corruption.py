"""The corruptions of CIFAR-10-C (Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hahbench.attacks.base import Progress
from hahbench.cache import cache_folder
from hahbench.corruptions import CORRUPTIONS, OFFICIAL, SEVERITIES, Images
from hahbench.corruptions.generate import REGENERATED, corrupted
from hahbench.corruptions.official import FOLDER, find_official, read_official
from hahbench.corruptions.weather import frost, photographs_digest
from hahbench.errors import HahbenchError
from hahbench.outcome import Candidates, Samples
from hahbench.registry import suggest
from hahbench.spec import AttackSpec

_PUBLISHED_FOR = ("cifar10", "cifar10-jpeg")
_NAMES = sorted({*OFFICIAL, *CORRUPTIONS})

_Source: TypeAlias = Callable[[Images, NDArray[np.int64]], Images]
"""Called with the clean images and their indices; gives the corrupted ones."""


def on_sources(
    specs: Iterable[AttackSpec],
    dataset: str,
    labels: NDArray[np.int64],
    data: Path | None,
    photographs: Path | None = None,
) -> list[AttackSpec]:
    """Attacks with each corruption on the best source there is, see ``on_source``.

    Args:
        specs: what is asked for.
        dataset: the name of the data set; CIFAR-10 alone has published files.
        labels: (N,), of its test images.
        data: where the published files are looked for, before hahbench's cache; None for there alone.
        photographs: as for ``on_source``.

    Raises:
        DataError: a photograph is missing or cannot be read.
    """
    specs = list(specs)
    corruptions = any(spec.kind == "corruption" for spec in specs)
    official = _official(data, labels) if corruptions and dataset in _PUBLISHED_FOR else None
    return [on_source(spec, official, photographs) for spec in specs]


def on_same_sources(specs: Iterable[AttackSpec], labels: NDArray[np.int64], data: Path | None) -> list[AttackSpec]:
    """Attacks whose params are portable, with the places of their files on this machine; arguments as above.

    Raises:
        HahbenchError: the published files are asked for and are not there, or photographs are asked for.
    """
    specs = list(specs)
    official = None
    for place, spec in enumerate(specs):
        if spec.params.get("photographs_digest") and not spec.params.get("photographs"):
            raise HahbenchError(f"attack {spec.name!r} was made of photographs, and photographs cannot be given here")
        if spec.kind == "corruption-official":
            official = official or _official(data, labels)
            if official is None:
                raise HahbenchError(f"attack {spec.name!r} reads the published files; --data has no folder {FOLDER}")
            specs[place] = dataclasses.replace(spec, params={**spec.params, "folder": str(official)})
    return specs


def _official(data: Path | None, labels: NDArray[np.int64]) -> Path | None:
    return find_official([*([data] if data else []), cache_folder()], labels)


def on_source(spec: AttackSpec, official: Path | None, photographs: Path | None = None) -> AttackSpec:
    """The same corruption from the best source there is; other attacks as they are.

    Args:
        spec: what is asked for.
        official: the folder of the published files; None where there is none.
        photographs: the folder of the photographs that ``frost`` is made of; None where there is none.

    Returns:
        A spec that reads the published file where there is one, unless it names photographs itself. Photographs come
        with their digest, for the cell's key; without them ``frost`` becomes ``frost_procedural``, and the spec's name
        says so.

    Raises:
        DataError: a photograph is missing or cannot be read.
    """
    if spec.kind != "corruption":
        return spec
    name = spec.params.get("corruption")
    folder = spec.params.get("photographs")
    if not folder and official is not None and name in OFFICIAL and (official / f"{name}.npy").is_file():
        return dataclasses.replace(spec, kind="corruption-official", params={**spec.params, "folder": str(official)})
    folder = folder or (photographs if name == "frost" else None)
    if isinstance(folder, str | Path):
        told = {"photographs": str(folder), "photographs_digest": photographs_digest(Path(folder))}
        return dataclasses.replace(spec, params={**spec.params, **told})
    if name == "frost":
        params = {**spec.params, "corruption": "frost_procedural"}
        return dataclasses.replace(spec, name=f"{spec.name}-procedural", params=params)
    return spec


class _AtSeverities:
    """What corruptions have in common, wherever their images come from."""

    worst_case: ClassVar[bool] = False
    per_sample: ClassVar[bool] = True

    @property
    def passes(self) -> float:
        """No forward pass; one is counted, the judge's, so that progress moves."""
        return 1.0

    def check_level(self, level: float | None) -> None:
        """The level is a severity.

        Raises:
            HahbenchError: there is no level, or it is not one of 1 to 5.
        """
        check_severity(level)

    def check_data(self, channels: int, classes: int) -> None:
        """Corruptions are defined for colour images.

        Raises:
            HahbenchError: the images have another number of channels than 3.
        """
        _check_colour(channels)


@dataclasses.dataclass(frozen=True)
class RegeneratedCorruption(_AtSeverities):
    """Makes the corrupted images itself.

    Attributes:
        corruption: its name, such as ``fog``; ``frost`` needs photographs.
        photographs: the folder of the frost photographs of the original program, for ``frost`` alone.
        photographs_digest: of the photographs; a run fills it in, so that other photographs make another cell.
    """

    corruption: str
    photographs: str = ""
    photographs_digest: str = ""

    version: ClassVar[str] = REGENERATED

    def __post_init__(self) -> None:
        """Refuse an unknown corruption, and frost without photographs."""
        if self.photographs and self.corruption != "frost":
            raise HahbenchError(f"photographs = {self.photographs!r} is not allowed; only 'frost' takes them")
        if self.corruption == "frost" and not self.photographs:
            raise HahbenchError(
                "corruption 'frost' needs --photographs FOLDER or the published files; 'frost_procedural' needs neither"
            )
        if self.corruption != "frost" and self.corruption not in CORRUPTIONS:
            raise HahbenchError(f"corruption = {self.corruption!r} is not allowed; {suggest(self.corruption, _NAMES)}")

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """``samples`` with the corruption.

        Raises:
            HahbenchError: the level is no severity, or the corruption does not allow such images.
        """
        severity = check_severity(level)
        _check_colour(samples.images.shape[1])

        def make(images: Images, index: NDArray[np.int64]) -> Images:
            corruption = frost(Path(self.photographs)) if self.photographs else CORRUPTIONS[self.corruption]
            return corrupted(corruption, images, severity, index=index, seed=seed)

        return _candidates(samples, f"{self} {severity} {seed}", make)


@dataclasses.dataclass(frozen=True)
class OfficialCorruption(_AtSeverities):
    """Reads the corrupted images from the published files.

    Attributes:
        corruption: its name, such as ``fog``.
        folder: that of the files.
    """

    corruption: str
    folder: str

    version: ClassVar[str] = "CIFAR-10-C, published files"

    def __post_init__(self) -> None:
        """Refuse an unknown corruption."""
        if self.corruption not in OFFICIAL:
            raise HahbenchError(f"corruption = {self.corruption!r} is not allowed; {suggest(self.corruption, _NAMES)}")

    def __call__(
        self, model: nn.Module, samples: Samples, level: float | None, seed: int, progress: Progress
    ) -> Candidates:
        """``samples`` with the corruption.

        Raises:
            HahbenchError: the level is no severity, or the files are not the published ones of these samples.
        """
        severity = check_severity(level)
        labels = samples.labels.numpy(force=True)

        def read(images: Images, index: NDArray[np.int64]) -> Images:
            return read_official(Path(self.folder), self.corruption, severity, index=index, labels=labels)

        return _candidates(samples, f"{self} {severity}", read)


def check_severity(level: float | None) -> int:
    """``level`` as a severity.

    Raises:
        HahbenchError: there is no level, or it is not one of 1 to 5.
    """
    if level not in SEVERITIES:
        raise HahbenchError(f"level = {level} is not allowed; each of the levels must be a severity, 1 to 5")
    return int(level)


def _check_colour(channels: int) -> None:
    if channels != 3:
        raise HahbenchError(f"corruptions need colour images, not images of {channels} channels")


_last: tuple[Samples, str, Tensor] | None = None


def _candidates(samples: Samples, wanted: str, source: _Source) -> Candidates:
    """Corrupted images; the last ones are kept, since all models of a run are asked about them in turn."""
    global _last
    if _last is None or _last[0] is not samples or _last[1] != wanted:
        images = samples.images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(force=True)
        corrupt = source(np.ascontiguousarray(images), samples.index.numpy(force=True))
        made = torch.from_numpy(corrupt).permute(0, 3, 1, 2).to(samples.images.device)
        _last = samples, wanted, made
    return Candidates.untold(_last[2].float() / 255, forwards=0, backwards=0)
