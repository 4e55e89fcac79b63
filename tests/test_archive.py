from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hahbench.archive import read_archive, write_archive
from hahbench.errors import StoreError
from hahbench.spec import digest
from hahbench.store import Store
from tests.command import run_command
from tests.test_models_record import RECORD
from tests.test_store import CELL, FACTS, outcomes

__all__ = ["outcomes"]

NOISE = dataclasses.replace(CELL.attack, name="gaussian-noise", kind="gaussian-noise", norm=None)
CELLS = [
    CELL,
    *(
        dataclasses.replace(CELL, model=model, attack=NOISE, level=level, seed=seed)
        for model in ("shapes/HaH", "../Standard\n")
        for level in (0.1, 2 / 255)
        for seed in (1, 0)
    ),
]
METADATA = b"hahbench archive"


@pytest.fixture
def store(tmp_path: Path, outcomes: pd.DataFrame) -> Store:
    store = Store(tmp_path / "store")
    for number, cell in enumerate(CELLS):
        # No two cells have the same outcomes.
        store.write(cell, outcomes.assign(adv_pred=np.arange(3) + number), {**FACTS, "display": f"Model {number}"})
    store.write_record(RECORD)
    return store


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> Path:
    write_archive(store, tmp_path / "outcomes.parquet")
    return tmp_path / "outcomes.parquet"


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def test_what_is_exported_and_imported_is_the_same_store(store: Store, archive: Path, tmp_path: Path) -> None:
    copy = Store(tmp_path / "copy")
    assert read_archive(archive, copy) == (len(CELLS), len(CELLS))
    assert all(cell in copy for cell in CELLS)
    for ours, copied in zip(store.read(), copy.read(), strict=True):
        pd.testing.assert_frame_equal(copied, ours)
    assert copy.read_records() == store.read_records() == [RECORD]
    assert files(copy.folder) == files(store.folder)


def test_what_a_store_holds_already_stays(store: Store, archive: Path) -> None:
    store.set_verdict(CELL, "ok")
    store.path(CELLS[1]).unlink()
    corrected = dataclasses.replace(RECORD, link="https://example.org/corrected")
    store.write_record(corrected)
    assert read_archive(archive, store) == (len(CELLS), 1)
    assert store.verdict(CELL) == "ok"
    assert CELLS[1] in store
    assert store.read_records() == [corrected]


def test_a_reader_finds_outcomes_with_pandas_alone(archive: Path) -> None:
    rows = pd.read_parquet(archive)
    assert rows.groupby("cell").size().tolist() == [3] * len(CELLS)


def test_rows_may_come_in_any_order(store: Store, archive: Path, tmp_path: Path) -> None:
    table = pq.read_table(archive)
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), archive)
    read_archive(archive, Store(tmp_path / "copy"))
    found, expected = (
        kept.read()[1].groupby("key")["adv_pred"].agg(sorted).to_dict() for kept in (Store(tmp_path / "copy"), store)
    )
    assert found == expected


def rewritten(archive: Path, change: Callable[[dict[str, Any]], object], rows: pa.Table | None = None) -> None:
    """The archive with other metadata, and with a digest of them."""
    table = pq.read_table(archive)
    said = json.loads(table.schema.metadata[METADATA])
    change(said)
    if "digest" in said:
        said["digest"] = digest({name: said[name] for name in ("cells", "records") if name in said})
    rows = table if rows is None else rows
    pq.write_table(rows.replace_schema_metadata({METADATA: json.dumps(said)}), archive)


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no cells": lambda said: said.pop("cells"),
    "no digest": lambda said: said.pop("digest"),
    "a cell less": lambda said: said["cells"].pop(),
    "cells as a table": lambda said: said.update(cells={"a": 1}),
    "cells as texts": lambda said: said.update(cells=["a"] * len(CELLS)),
    "a cell without a name": lambda said: said["cells"][3].pop("model"),
    "a cell without a display name": lambda said: said["cells"][3].pop("display"),
    "a level that is a text": lambda said: said["cells"][3].update(level="0.1"),
    "another level": lambda said: said["cells"][3].update(level=0.5),
    "a number that is a text": lambda said: said["cells"][3].update(n="3"),
    "a key that is a list": lambda said: said["cells"][3].update(key=["a"]),
    "parameters that are no JSON": lambda said: said["cells"][3].update(params="{"),
    "parameters that are a list": lambda said: said["cells"][3].update(params="[]"),
    "a record of a number": lambda said: said["records"][0].update(model=3),
    "a record without a log": lambda said: said["records"][0].pop("training_log"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_archive_that_says_something_wrong_is_refused(damage: str, archive: Path, tmp_path: Path) -> None:
    rewritten(archive, DAMAGE[damage])
    copy = Store(tmp_path / "copy")
    with pytest.raises(StoreError, match=r"outcomes\.parquet: is damaged, or no file of 'hahbench export outcomes'"):
        read_archive(archive, copy)
    assert files(copy.folder) == []


@pytest.mark.parametrize(
    "column", [pa.array([None] * 27, pa.int32()), pa.array(["x"] * 27), pa.array([-1, *range(26)]), None]
)
def test_an_archive_whose_rows_are_of_no_cell_is_refused(
    column: pa.Array | None, archive: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(archive).drop_columns(["cell"])
    rewritten(archive, lambda said: None, rows if column is None else rows.append_column("cell", column))
    with pytest.raises(StoreError, match="is damaged"):
        read_archive(archive, Store(tmp_path / "copy"))


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_what_is_no_parquet_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StoreError, match="is damaged, or no file of"):
        read_archive(tmp_path / "file", Store(tmp_path / "copy"))
    with pytest.raises(StoreError, match="none: cannot be read: No such file"):
        read_archive(tmp_path / "none", Store(tmp_path / "copy"))


def test_no_flipped_bit_passes_unnoticed(archive: Path, tmp_path: Path) -> None:
    content, random = archive.read_bytes(), np.random.default_rng(0)
    whole = Store(tmp_path / "whole")
    read_archive(archive, whole)
    cells, expected = whole.read()
    for number in range(100):
        damaged = bytearray(content)
        damaged[random.integers(len(damaged))] ^= 1 << int(random.integers(8))
        archive.write_bytes(damaged)
        copy = Store(tmp_path / str(number))
        try:
            read_archive(archive, copy)
        except StoreError:
            continue
        # What was hit is read by nobody.
        for ours, copied in zip((cells, expected), copy.read(), strict=True):
            pd.testing.assert_frame_equal(copied, ours)


def test_another_layout_is_called_that(archive: Path, tmp_path: Path) -> None:
    rewritten(archive, lambda said: said.update(schema=99, records="of another form"))
    with pytest.raises(StoreError, match="has layout 99; this hahbench reads layout 2"):
        read_archive(archive, Store(tmp_path / "copy"))


def test_an_archive_is_not_written_among_the_cells(store: Store) -> None:
    with pytest.raises(StoreError, match="lies in the store"):
        write_archive(store, store.folder / "outcomes.parquet")
    assert len(store.read()[0]) == len(CELLS)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_store_that_cannot_be_entered_is_named(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(StoreError, match="results cannot be written here: Permission denied"):
        read_archive(archive, Store(tmp_path / "closed" / "store"))


def test_a_run_does_nothing_again_that_was_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "few.toml"
    suite.write_text('dataset = "shapes"\nn = 8\nmodels = ["Standard"]\nattacks = ["clean", "fmn-l2"]')
    assert run_command("run", suite, "--store", tmp_path / "store") == 0
    assert run_command("export", "outcomes", "--store", tmp_path / "store", "--out", tmp_path / "o.parquet") == 0
    assert run_command("import", tmp_path / "o.parquet", "--store", tmp_path / "copy") == 0
    assert f"2 cells in {tmp_path / 'o.parquet'}, 2 of them new" in capsys.readouterr().out
    for name in ("store", "copy"):
        assert run_command("report", "--store", tmp_path / name, "--out", tmp_path / f"{name}-report") == 0
    ours, copied = (
        (tmp_path / f"{name}-report" / "shapes-n8" / "leaderboard.json").read_text().replace(f"{name}", "store")
        for name in ("store", "copy")
    )
    assert copied == ours
    assert run_command("run", suite, "--store", tmp_path / "copy") == 0
    assert "0 cells to run, 2 in the store already" in capsys.readouterr().err
