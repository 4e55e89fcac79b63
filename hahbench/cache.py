"""Where downloads go."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of downloaded data sets and weights, and where the published files of CIFAR-10-C are looked for."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hahbench"
