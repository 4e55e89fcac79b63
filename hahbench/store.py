"""Finished cells on disk: one Parquet file each, written whole or not at all."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hahbench.atomic import replacing
from hahbench.errors import StoreError
from hahbench.outcome import OUTCOME_COLUMNS
from hahbench.spec import Cell

SCHEMA = 1
"""Version of the file layout; raised when a reader of the former one would misread it."""

CELL_COLUMNS: dict[str, str] = {
    "key": "str",
    "model": "str",
    "argument": "str",
    "display": "str",
    "reference": "str",
    "parameters": "int64",
    "loader": "str",
    "dataset": "str",
    "source": "str",
    "data_digest": "str",
    "n": "int64",
    "attack": "str",
    "kind": "str",
    "norm": "str",
    "level": "float64",
    "seed": "int64",
    "worst_case": "bool",
    "model_digest": "str",
    "seconds": "float64",
    "device": "str",
    "versions": "str",
    "created": "str",
}
"""What a file says of its cell. ``argument`` is what ``--model`` was given, ``loader`` the name under which the data
set was asked for, ``dataset`` the name that it gives itself; ``level`` is NaN and ``norm`` empty for attacks without
one; ``n`` counts the samples."""

_METADATA = b"hahbench"


class Store:
    """A folder of finished cells.

    Args:
        folder: made when the first cell is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, cell: Cell) -> Path:
        """Where the outcomes of ``cell`` lie, or would."""
        level = "" if cell.level is None else f"-{cell.level:.6g}"
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{cell.model}-{cell.attack.name}{level}-{cell.seed}")
        return self.folder / f"{name[:120]}-{cell.key[:20]}.parquet"

    def __contains__(self, cell: Cell) -> bool:
        return self.path(cell).is_file()

    def check_writable(self) -> None:
        """Raise before hours of work what would be raised after them.

        Raises:
            StoreError: the folder cannot be made or written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                probe.write(b"\0" * 4096)
        except OSError as error:
            raise StoreError(f"{self.folder}: results cannot be written here: {error.strerror}") from error

    def write(self, cell: Cell, outcomes: pd.DataFrame, facts: Mapping[str, Any]) -> None:
        """Keep a finished cell.

        Args:
            cell: what was asked.
            outcomes: what happened, with ``OUTCOME_COLUMNS``.
            facts: the ``CELL_COLUMNS`` that the cell itself does not know.

        Raises:
            StoreError: the disk is full or the folder not writable; what is there already stays.
        """
        row: dict[str, Any] = {
            "key": cell.key,
            "model": cell.model,
            "model_digest": cell.model_digest,
            "data_digest": cell.data_digest,
            "attack": cell.attack.name,
            "kind": cell.attack.kind,
            "norm": cell.attack.norm or "",
            "level": cell.level,
            "seed": cell.seed,
            **facts,
        }
        table = pa.Table.from_pandas(outcomes[list(OUTCOME_COLUMNS)], preserve_index=False)
        table = table.replace_schema_metadata({_METADATA: json.dumps({"schema": SCHEMA, "cell": row})})
        path = self.path(cell)
        # Written by Arrow itself, a full disk would be an error without a number.
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(buffer.getbuffer())
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be written: {error.strerror}; the cells finished before are kept"
            ) from error

    def read(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """All finished cells: a frame with ``CELL_COLUMNS``, and their outcomes with a column ``key`` added.

        Raises:
            StoreError: there is no such folder, or a file in it is damaged or from a newer version.
        """
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder}: no such folder of results; 'hahbench run SUITE --store DIR' makes one")
        rows: list[dict[str, Any]] = []
        tables: list[pd.DataFrame] = []
        for path in sorted(self.folder.glob("*.parquet")):
            row, outcomes = _read_cell(path)
            rows.append(row)
            tables.append(outcomes.assign(key=row["key"]))
        cells = pd.DataFrame(rows, columns=list(CELL_COLUMNS)).astype(CELL_COLUMNS)
        columns = {**OUTCOME_COLUMNS, "key": "str"}
        empty = pd.DataFrame(columns=list(columns)).astype(columns)
        return cells, pd.concat(tables, ignore_index=True) if tables else empty


def _read_cell(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    try:
        table = pq.read_table(path)
        said = json.loads((table.schema.metadata or {})[_METADATA])
        if said["schema"] > SCHEMA:
            raise StoreError(f"{path}: written by a newer hahbench (layout {said['schema']}, this one reads {SCHEMA})")
        row = {name: said["cell"][name] for name in CELL_COLUMNS}
        outcomes = table.to_pandas()[list(OUTCOME_COLUMNS)]
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise StoreError(f"{path}: is no result file; delete it and run the suite again") from error
    return row, outcomes
