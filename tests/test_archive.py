from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hahbench.archive import read_archive, write_archive
from hahbench.errors import StoreError
from hahbench.store import Store
from tests.command import run_command
from tests.test_store import CELL, FACTS, outcomes

__all__ = ["outcomes"]

NOISE = dataclasses.replace(CELL.attack, name="gaussian-noise", kind="gaussian-noise", norm=None)
CELLS = [
    CELL,
    *(
        dataclasses.replace(CELL, model=model, attack=NOISE, level=level, seed=seed)
        for model in ("shapes/HaH", "Standard")
        for level in (0.1, 0.05)
        for seed in (1, 0)
    ),
]


@pytest.fixture
def store(tmp_path: Path, outcomes: pd.DataFrame) -> Store:
    store = Store(tmp_path / "store")
    for number, cell in enumerate(CELLS):
        # No two cells have the same outcomes.
        store.write(cell, outcomes.assign(adv_pred=np.arange(3) + number), {**FACTS, "display": f"Model {number}"})
    return store


def test_what_is_exported_and_imported_is_the_same_store(store: Store, tmp_path: Path) -> None:
    assert write_archive(store, tmp_path / "outcomes.parquet") == len(CELLS)
    copy = Store(tmp_path / "copy")
    assert read_archive(tmp_path / "outcomes.parquet", copy) == (len(CELLS), len(CELLS))
    assert all(cell in copy for cell in CELLS)
    for ours, copied in zip(store.read(), copy.read(), strict=True):
        pd.testing.assert_frame_equal(copied, ours)
    assert sorted(path.name for path in copy.folder.iterdir()) == sorted(path.name for path in store.folder.iterdir())


def test_what_a_store_holds_already_stays(store: Store, tmp_path: Path) -> None:
    write_archive(store, tmp_path / "outcomes.parquet")
    store.set_verdict(CELL, "ok")
    store.path(CELLS[1]).unlink()
    assert read_archive(tmp_path / "outcomes.parquet", store) == (len(CELLS), 1)
    assert store.verdict(CELL) == "ok"
    assert CELLS[1] in store


def test_a_reader_finds_outcomes_with_pandas_alone(store: Store, tmp_path: Path) -> None:
    write_archive(store, tmp_path / "outcomes.parquet")
    rows = pd.read_parquet(tmp_path / "outcomes.parquet")
    assert rows.groupby("cell").size().tolist() == [3] * len(CELLS)


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", "a table"])
def test_what_is_no_archive_is_refused(content: bytes | str, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(pa.table({"cell": [0]}), path)
    before = sorted(store.folder.iterdir())
    with pytest.raises(StoreError, match=r"outcomes\.parquet: is no archive of 'hahbench export outcomes'"):
        read_archive(path, store)
    assert sorted(store.folder.iterdir()) == before
    with pytest.raises(StoreError, match=r"none\.parquet: no such file"):
        read_archive(tmp_path / "none.parquet", store)


def test_a_run_does_nothing_again_that_was_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "few.toml"
    suite.write_text('dataset = "shapes"\nn = 8\nmodels = ["Standard"]\nattacks = ["clean", "fmn-l2"]')
    assert run_command("run", suite, "--store", tmp_path / "store") == 0
    assert run_command("export", "outcomes", "--store", tmp_path / "store", "--out", tmp_path / "o.parquet") == 0
    assert run_command("import", tmp_path / "o.parquet", "--store", tmp_path / "copy") == 0
    assert f"2 cells in {tmp_path / 'o.parquet'}, 2 of them new" in capsys.readouterr().out
    assert run_command("run", suite, "--store", tmp_path / "copy") == 0
    assert "0 cells to run, 2 in the store already" in capsys.readouterr().err
    for name in ("store", "copy"):
        assert run_command("report", "--store", tmp_path / name, "--out", tmp_path / f"{name}-report") == 0
    ours, copied = (
        (tmp_path / f"{name}-report" / "shapes-n8" / "scores.csv").read_text() for name in ("store", "copy")
    )
    assert copied == ours
