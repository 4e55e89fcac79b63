"""All cells of a store in one small file, to publish or to commit, and back."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hahbench.atomic import replacing
from hahbench.errors import StoreError
from hahbench.store import SCHEMA, Store, record_from

_METADATA = b"hahbench archive"
_CELL = "cell"


def write_archive(store: Store, path: Path) -> int:
    """Write all finished cells of a store, and what is kept of their models, into one Parquet file.

    It has the columns of ``OUTCOME_COLUMNS`` and ``cell``, the number of the cell; its metadata say of each cell what
    the store says. Exhibits, which hold images, are left out. Cells of one attack lie together, so that what they have
    in common, such as the norms of the same noise, is stored about once.

    Returns:
        The number of cells.

    Raises:
        StoreError: the store holds nothing or a damaged file.
        OSError: the file cannot be written.
    """
    cells = sorted(store.read_cells(), key=lambda cell: _place(cell[0]))
    rows = pa.concat_tables(
        table.append_column(_CELL, pa.array([number] * len(table), pa.int32()))
        for number, (_, table) in enumerate(cells)
    )
    records = [dataclasses.asdict(record) for record in store.read_records()]
    said = {"schema": SCHEMA, "cells": [said for said, _ in cells], "records": records}
    rows = rows.replace_schema_metadata({_METADATA: json.dumps(said, default=str)})
    with replacing(path) as temporary:
        pq.write_table(rows, temporary, compression="zstd", compression_level=19)
    return len(cells)


def _place(said: Mapping[str, Any]) -> tuple[str, float, int, str, str]:
    return said["attack"], said["level"] or 0.0, said["seed"], said["model"], said["key"]


def read_archive(path: Path, store: Store) -> tuple[int, int]:
    """Put the cells of an archive into a store; those that it holds already stay as they are.

    Returns:
        The number of cells in the archive, and how many of them are new.

    Raises:
        StoreError: the file is missing, damaged, no archive, or of another layout; or the store is not writable.
    """
    no_archive = f"{path}: is no archive of 'hahbench export outcomes'"
    try:
        rows = pq.read_table(io.BytesIO(path.read_bytes()))
        said = json.loads((rows.schema.metadata or {})[_METADATA])
        cells, layout = said["cells"], said["schema"]
        records = [record_from(record) for record in said["records"]]
        sizes = rows.column(_CELL).value_counts().to_pylist()
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(no_archive) from error
    if layout != SCHEMA:
        raise StoreError(f"{path}: has layout {layout}; this hahbench reads layout {SCHEMA}")
    rows = rows.drop_columns([_CELL])
    new = first = 0
    for size in sorted(sizes, key=lambda size: size["values"]):
        new += store.add_cell(cells[size["values"]], rows.slice(first, size["counts"]))
        first += size["counts"]
    for record in records:
        store.write_record(record)
    return len(cells), new
