from __future__ import annotations

import dataclasses
import errno
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hahbench.atomic import replacing
from hahbench.errors import StoreError
from hahbench.outcome import OUTCOME_COLUMNS, outcome_frame
from hahbench.spec import AttackSpec, Cell
from hahbench.store import CELL_COLUMNS, SCHEMA, Store

ATTACK = AttackSpec("fmn-l2", "fmn", "l2", params={"steps": 100})
CELL = Cell("shapes/HaH", "m" * 64, "d" * 64, ATTACK, "1", None, 0)
FACTS: dict[str, Any] = {
    "model_argument": "HaH",
    "display": "HaH",
    "reference": "",
    "parameters": 7,
    "dataset_argument": "shapes",
    "from_path": False,
    "dataset": "shapes",
    "source": "drawn",
    "n": 3,
    "worst_case": True,
    "verdict": "",
    "seconds": 1.5,
    "device": "cpu",
    "versions": "",
    "created": "2026-01-01T00:00:00+00:00",
}


@pytest.fixture
def outcomes() -> pd.DataFrame:
    columns = {name: np.arange(3) for name in OUTCOME_COLUMNS}
    return outcome_frame(**{**columns, "member": np.array(["", "fab-t", "square"]), "l2": np.array([0.0, 0.1, np.inf])})


def test_what_is_written_is_read_back_exactly(tmp_path: Path, outcomes: pd.DataFrame) -> None:
    store = Store(tmp_path / "store")
    assert CELL not in store
    store.write(CELL, outcomes, FACTS)
    assert CELL in store
    cells, rows = store.read()
    pd.testing.assert_frame_equal(rows.drop(columns="key"), outcomes)
    assert set(rows["key"]) == {CELL.key}
    assert list(cells.columns) == list(CELL_COLUMNS)
    (cell,) = cells.to_dict("records")
    assert [cell[name] for name in ("key", "model", "attack", "norm", "n")] == [CELL.key, CELL.model, "fmn-l2", "l2", 3]
    assert np.isnan(cell["level"])


@pytest.mark.parametrize(
    "change",
    [
        {"model_digest": "x"},
        {"data_digest": "x"},
        {"seed": 1},
        {"level": 0.1},
        {"attack_version": "2"},
        {"attack": dataclasses.replace(ATTACK, params={"steps": 10})},
        {"attack": dataclasses.replace(ATTACK, norm="l1")},
    ],
)
def test_whatever_can_change_the_result_changes_the_key(change: dict[str, Any]) -> None:
    assert dataclasses.replace(CELL, **change).key != CELL.key


def test_what_cannot_change_the_result_leaves_the_key() -> None:
    more_levels = dataclasses.replace(ATTACK, levels=(0.1, 0.2), draws=3)
    assert dataclasses.replace(CELL, attack=more_levels).key == CELL.key


def test_a_writer_killed_half_way_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from hahbench.atomic import replacing
        with replacing(Path({str(tmp_path / "a.parquet")!r})) as temporary:
            temporary.write_bytes(b"PAR1 half")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert not (tmp_path / "a.parquet").exists()
    with pytest.raises(StoreError, match="holds no results"):
        Store(tmp_path).read()


def test_a_failed_write_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("former")

    def write_and_fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "former"


def test_a_damaged_file_is_named(tmp_path: Path, outcomes: pd.DataFrame) -> None:
    store = Store(tmp_path)
    store.write(CELL, outcomes, FACTS)
    path = store.path(CELL)
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:60] + bytes(400) + whole[460:]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="is no result file; delete it") as caught:
            store.read()
        assert str(path) in str(caught.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="results cannot be written here: Not a directory"):
        Store(tmp_path / "file" / "store").check_writable()


def test_reading_nothing_says_how_to_make_something(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none: holds no results; 'hahbench run SUITE --store .*none' makes some"):
        Store(tmp_path / "none").read()


def test_only_the_cells_asked_for_are_read(tmp_path: Path, outcomes: pd.DataFrame) -> None:
    store = Store(tmp_path)
    store.write(CELL, outcomes, FACTS)
    (tmp_path / "foreign.parquet").write_text("damaged")
    assert len(store.read([CELL])[0]) == 1


def test_a_file_of_another_layout_is_not_called_damaged(
    tmp_path: Path, outcomes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    with monkeypatch.context() as future:
        future.setattr("hahbench.store.SCHEMA", SCHEMA + 1)
        store.write(CELL, outcomes, FACTS)
    with pytest.raises(StoreError, match=rf"has layout {SCHEMA + 1}; this hahbench, .*, reads layout {SCHEMA}"):
        store.read()


def test_where_files_cannot_be_locked_a_claim_is_refused_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with Store(tmp_path).claim(CELL) as first, Store(tmp_path).claim(CELL) as second:
        assert (first, second) == (True, True)
    assert not list(tmp_path.iterdir())


def test_a_claim_is_refused_until_it_ends(tmp_path: Path) -> None:
    with Store(tmp_path).claim(CELL) as first, Store(tmp_path).claim(CELL) as second:
        assert (first, second) == (True, False)
    with Store(tmp_path).claim(CELL) as third:
        assert third
    assert not list(tmp_path.iterdir())
