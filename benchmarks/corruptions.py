"""Times the corruptions of CIFAR-10-C: ``python -m benchmarks.corruptions --help``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
import pandas as pd
import typer

from hahbench.corruptions import CORRUPTIONS, SEVERITIES
from hahbench.corruptions.generate import corrupted
from hahbench.data import load_images
from hahbench.errors import HahbenchError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """The command: an error that the user can mend is one line and exit code 2."""
    try:
        app()
    except HahbenchError as error:
        print("benchmark:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


@app.command()
def benchmark(
    dataset: Annotated[str, typer.Option("--dataset", help="Name, or FILE.py:NAME of one's own.")] = "shapes",
    data: Annotated[Path | None, typer.Option("--data", help="Folder that the data set is read from.")] = None,
    n: Annotated[int, typer.Option("--n", help="Use the first n test samples.")] = 1000,
) -> None:
    """Print the time that each corruption takes, at all severities, on all cores."""
    images = load_images(dataset, "test", data)
    samples = images.images[: images.check_count(n)].permute(0, 2, 3, 1).contiguous().numpy()
    rows = []
    for name in CORRUPTIONS:
        corruption = CORRUPTIONS[name]
        corrupted(corruption, samples, 1, index=np.arange(n), seed=0)
        wall = time.perf_counter()
        for severity in SEVERITIES:
            corrupted(corruption, samples, severity, index=np.arange(n), seed=0)
        seconds = time.perf_counter() - wall
        rows.append((name, seconds))
    table = pd.DataFrame(rows, columns=["corruption", "seconds"])
    table["microseconds an image"] = 1e6 * table["seconds"] / (n * len(SEVERITIES))
    all_of_them = pd.DataFrame(
        {"corruption": ["all"], **table.agg({"seconds": "sum", "microseconds an image": "mean"})}
    )
    table = pd.concat([table, all_of_them])
    print(table.to_markdown(index=False, floatfmt=("", ".2f", ".0f")))
    print(f"\n{n} images of {images.name} at {len(SEVERITIES)} severities, {joblib.cpu_count()} cores")


if __name__ == "__main__":
    main()
