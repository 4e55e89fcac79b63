"""Times the corruptions of CIFAR-10-C: ``python -m benchmarks.corruptions --help``."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Annotated

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
        corrupted(corruption, samples[:64], 1, index=np.arange(64), seed=0)
        wall, processor = time.perf_counter(), time.process_time()
        for severity in SEVERITIES:
            corrupted(corruption, samples, severity, index=np.arange(n), seed=0)
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - processor
        made = n * len(SEVERITIES)
        rows.append((name, seconds, cpu_seconds, 1e6 * seconds / made, 1e6 * cpu_seconds / made))
    headings = ["corruption", "seconds", "CPU seconds", "microseconds an image", "CPU microseconds an image"]
    table = pd.DataFrame(rows, columns=headings)
    table.loc[len(table)] = ["all", *table[headings[1:3]].sum(), *table[headings[3:]].mean()]
    print(table.to_markdown(index=False, floatfmt=("", ".2f", ".2f", ".0f", ".0f")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{n} images of {images.name} at {len(SEVERITIES)} severities; peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
