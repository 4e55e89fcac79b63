"""The runner on real attacks and a small untrained network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

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
