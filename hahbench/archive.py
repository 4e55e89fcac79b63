"""All cells of a store in one small file, to publish or to commit, and back."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hahbench.atomic import check_writable, replacing
from hahbench.errors import StoreError
from hahbench.outcome import OUTCOME_COLUMNS
from hahbench.spec import AttackSpec, Cell, ModelRecord, digest
from hahbench.store import CELL_COLUMNS, SCHEMA, Store, record_from

_METADATA = b"hahbench archive"
_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int64": int, "bool": bool, "float64": (int, float)}


def write_archive(store: Store, path: Path) -> int:
    """Write all finished cells of a store, and what is kept of their models, into one Parquet file.

    It has ``OUTCOME_COLUMNS`` and ``cell``, the number of the cell; its metadata say of each cell what the store says.
    Exhibits, which hold images, are left out. Cells of one attack lie together, so that what they have in common, such
    as the norms of the same noise, is stored about once.

    Returns:
        The number of cells.

    Raises:
        StoreError: the store holds nothing or a damaged file; or ``path`` lies in it, where all files are cells.
        OSError: the file cannot be written.
    """
    check_writable(path.parent)
    if path.parent.resolve() == store.folder.resolve():
        raise StoreError(f"{path}: lies in the store {store.folder}, where each file is a cell; choose another folder")
    cells, outcomes = store.read()
    cells = cells.sort_values(["attack", "level", "seed", "model", "key"], ignore_index=True)
    numbers = pd.Series(cells.index, cells["key"])
    rows = outcomes.assign(cell=outcomes["key"].map(numbers)).sort_values("cell", kind="stable")
    said: dict[str, Any] = {
        "cells": [
            {name: None if value != value else value for name, value in row.items()} for row in cells.to_dict("records")
        ],
        "records": [dataclasses.asdict(record) for record in store.read_records()],
    }
    # What JSON cannot hold, such as a path, is text in the store, too.
    said = json.loads(json.dumps(said, default=str))
    table = pa.Table.from_pandas(rows[[*OUTCOME_COLUMNS, "cell"]], preserve_index=False)
    metadata = {"schema": SCHEMA, "digest": digest(said), **said}
    table = table.replace_schema_metadata({_METADATA: json.dumps(metadata)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19, write_page_checksum=True)
    return len(cells)


def read_archive(path: Path, store: Store) -> tuple[int, int]:
    """Put the cells of an archive into a store; those that it holds already stay as they are, as do their models.

    Returns:
        The number of cells in the archive, and how many of them are new.

    Raises:
        StoreError: the file is missing, damaged, no archive, or of another layout; or the store is not writable.
    """
    store.check_writable()
    cells, records = _read(path)
    new = 0
    for said, cell, outcomes in cells:
        if cell not in store:
            store.write(cell, outcomes, said)
            new += 1
    known = {(record.model, record.model_digest) for record in store.read_records()}
    for record in records:
        if (record.model, record.model_digest) not in known:
            store.write_record(record)
    return len(cells), new


def _read(path: Path) -> tuple[list[tuple[dict[str, Any], Cell, pd.DataFrame]], list[ModelRecord]]:
    no_archive = f"{path}: is damaged, or no file of 'hahbench export outcomes'"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
        metadata = json.loads((table.schema.metadata or {})[_METADATA])
        layout = metadata["schema"]
    # What is damaged in the middle makes Arrow raise an OSError.
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(no_archive) from error
    if layout != SCHEMA:
        raise StoreError(f"{path}: has layout {layout}; this hahbench reads layout {SCHEMA}")
    try:
        said = {name: metadata[name] for name in ("cells", "records")}
        if metadata["digest"] != digest(said):
            raise ValueError("not what was written")
        cells = list(_cells(said["cells"], table.to_pandas()))
        return cells, [_record(record) for record in said["records"]]
    except (pa.ArrowException, AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(no_archive) from error


def _cells(every: list[Mapping[str, Any]], rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], Cell, pd.DataFrame]]:
    numbers = rows["cell"].to_numpy()
    if numbers.dtype.kind != "i" or not np.array_equal(np.unique(numbers), np.arange(len(every))):
        raise ValueError("cells without rows, or rows without a cell")
    parts = [part for _, part in rows[list(OUTCOME_COLUMNS)].astype(OUTCOME_COLUMNS).groupby(numbers)]
    for given, part in zip(every, parts, strict=True):
        said = {**given, "level": math.nan if given["level"] is None else given["level"]}
        for name, dtype in CELL_COLUMNS.items():
            if not isinstance(said[name], _TYPES[dtype]):
                raise TypeError(name)
        spec = AttackSpec(said["attack"], said["kind"], said["norm"] or None, params=json.loads(said["params"]))
        level = None if math.isnan(said["level"]) else float(said["level"])
        identity = (said["model"], said["model_digest"], said["data_digest"])
        cell = Cell(*identity, spec, said["attack_version"], level, said["seed"])
        if cell.key != said["key"]:
            raise ValueError("the key is another one")
        facts = {name: said[name] for name in CELL_COLUMNS if name != "level"}
        yield facts, cell, part.reset_index(drop=True)


def _record(said: Mapping[str, Any]) -> ModelRecord:
    record = record_from(said)
    for field in dataclasses.fields(record):
        if field.type == "str" and not isinstance(getattr(record, field.name), str):
            raise TypeError(field.name)
    return record
