"""The runner on real attacks and a small untrained network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from hahbench.data import load_images
from hahbench.run import Job, Observer, run
from hahbench.spec import AttackSpec, Cell, ModelCard
from hahbench.store import Store

MODEL = """
import torch
from hahbench import register_model

@register_model("tiny")
def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 5, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(196, 10)
    )
"""
SUITE = """
dataset = "shapes"
n = 24
models = []
attacks = ["clean", "gaussian-noise", "fmn-linf", "fmn-l2"]
"""
CELLS = 1 + 3 * 7 + 1 + 1


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(MODEL)
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path


def start(project: Path, store: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hahbench", "run", "suite.toml", "--model", "own.py", "--store", store]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=project, env=environment, text=True, stderr=subprocess.PIPE)


def cell_files(store: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in store.glob("*.parquet")}


def test_runs_that_share_a_store_share_the_work(tmp_path: Path) -> None:
    """A second run overtakes the first in the middle of its first cell."""
    store = Store(tmp_path)
    attacks = [AttackSpec("clean", "clean"), AttackSpec("noise", "gaussian-noise", levels=(0.1,), draws=2)]
    images = load_images("shapes", "test", None)
    untrained = ModelCard("untrained", "hahbench.models.vgg:vgg16", {"width": 0.02})

    def start_run(observer: Observer) -> list[Cell]:
        torch.manual_seed(0)
        options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
        return run([untrained], attacks, images, 4, store=store, observer=observer, **options)

    class Silent:
        def planned(self, jobs: Sequence[Job], done: int) -> None: ...
        def started(self, job: Job) -> None: ...
        def progress(self, job: Job, fraction: float, robust_accuracy: float) -> None: ...
        def warned(self, job: Job, message: str) -> None: ...
        def finished(self, job: Job, outcomes: pd.DataFrame, seconds: float) -> None: ...

    class Overtaken(Silent):
        def started(self, job: Job) -> None:
            if job.cell.attack.name == "clean":
                start_run(Silent())
                self.after_the_other = cell_files(tmp_path)
            else:
                raise AssertionError(f"{job.cell} is done a second time")

    overtaken = Overtaken()
    cells = start_run(overtaken)
    assert len(cells) == len(cell_files(tmp_path)) == 3
    changed = [name for name, time in cell_files(tmp_path).items() if overtaken.after_the_other[name] != time]
    assert changed == [store.path(cells[0]).name]


def test_a_killed_run_resumes_with_nothing_lost_and_nothing_done_twice(project: Path) -> None:
    interrupted = start(project, "killed")
    while len(cell_files(project / "killed")) < 5:
        assert interrupted.poll() is None, "finished before it was killed"
        time.sleep(0.005)
    interrupted.send_signal(signal.SIGKILL)
    interrupted.communicate()
    before = cell_files(project / "killed")
    assert 5 <= len(before) < CELLS

    resumed = start(project, "killed")
    _, said = resumed.communicate()
    assert resumed.returncode == 0, said
    assert f"{CELLS - len(before)} cells to run, {len(before)} in the store already" in said
    after = cell_files(project / "killed")
    assert len(after) == CELLS
    assert {name: after[name] for name in before} == before

    whole = start(project, "whole")
    whole.communicate()
    cells, rows = Store(project / "killed").read()
    cells_whole, rows_whole = Store(project / "whole").read()
    timing = ["seconds", "created"]
    pd.testing.assert_frame_equal(cells.drop(columns=timing), cells_whole.drop(columns=timing))
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), rows_whole.drop(columns="seconds"))
