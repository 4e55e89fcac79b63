"""Finished cells on disk: one Parquet file each, written whole or not at all."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hahbench import __version__
from hahbench.atomic import replacing
from hahbench.errors import StoreError
from hahbench.outcome import OUTCOME_COLUMNS
from hahbench.spec import Cell, digest

SCHEMA = 2
"""Version of the file layout; raised with every change of the columns."""

CELL_COLUMNS: dict[str, str] = {
    "key": "str",
    "model": "str",
    "model_argument": "str",
    "display": "str",
    "reference": "str",
    "parameters": "int64",
    "dataset_argument": "str",
    "from_path": "bool",
    "dataset": "str",
    "source": "str",
    "data_digest": "str",
    "n": "int64",
    "attack": "str",
    "attack_version": "str",
    "kind": "str",
    "norm": "str",
    "params": "str",
    "level": "float64",
    "seed": "int64",
    "worst_case": "bool",
    "verdict": "str",
    "model_digest": "str",
    "seconds": "float64",
    "device": "str",
    "versions": "str",
    "created": "str",
}
"""What a file says of its cell. ``model_argument`` and ``dataset_argument`` are what ``--model`` and ``--dataset`` were
given, ``from_path`` whether ``--data`` was; ``dataset`` is the name that the data set gives itself, ``n`` the number of
samples; ``level`` is NaN and ``norm`` empty for attacks without one; ``params`` is JSON; ``verdict`` is
``ok``, ``suspect:`` and why the robust accuracy may be overstated, or empty where there is none to examine."""

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
        # Files of another layout count as absent.
        return self.folder / f"{name[:120]}-{digest(cell.key, SCHEMA)[:20]}.parquet"

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
            "params": json.dumps(dict(cell.attack.params), sort_keys=True),
            "attack_version": cell.attack_version,
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

    def read(self, only: Iterable[Cell] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Finished cells: a frame with ``CELL_COLUMNS``, and their outcomes with a column ``key`` added.

        Args:
            only: the cells to read, all of which must be finished; None reads all that there are.

        Raises:
            StoreError: there is nothing to read, or a file is damaged or of another layout.
        """
        if only is None:
            paths = sorted(self.folder.glob("*.parquet"))
            if not paths:
                raise StoreError(
                    f"{self.folder}: holds no results; 'hahbench run SUITE --store {self.folder}' makes some"
                )
        else:
            paths = [self.path(cell) for cell in only]
        read = [_read_cell(path) for path in paths]
        cells = pd.DataFrame([row for row, _ in read]).astype(CELL_COLUMNS)
        return cells, pd.concat([outcomes.assign(key=row["key"]) for row, outcomes in read], ignore_index=True)


def _read_cell(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        said = json.loads((table.schema.metadata or {})[_METADATA])
        layout = said["schema"]
        if layout == SCHEMA:
            return {name: said["cell"][name] for name in CELL_COLUMNS}, table.to_pandas()[list(OUTCOME_COLUMNS)]
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise StoreError(f"{path}: is no result file; delete it and run the suite again") from error
    raise StoreError(f"{path}: has layout {layout}; this hahbench, {__version__}, reads layout {SCHEMA}; move it away")
