"""A figure once it is a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure that may be published.

    Attributes:
        title: its heading.
        png: the file.
        models: the display names of the models that it shows.
        note: what must be known of it beside the title, in plain text.
    """

    title: str
    png: Path
    models: frozenset[str]
    note: str = ""
