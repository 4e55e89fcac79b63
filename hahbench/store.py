"""Cells and exhibits on disk: one Parquet file each, written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from hahbench import __version__
from hahbench.atomic import check_writable, replacing
from hahbench.errors import StoreError
from hahbench.outcome import ACTIVATION_COLUMNS, EXAMPLE_COLUMNS, OUTCOME_COLUMNS
from hahbench.spec import Cell, Exhibit, ExhibitKind, ModelRecord, digest

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
``ok``, ``suspect:`` and why the robust accuracy or the norms may be overstated, or empty where nobody looked."""

EXHIBIT_COLUMNS: dict[str, str] = {
    "key": "str",
    "kind": "str",
    "model": "str",
    "model_digest": "str",
    "data_digest": "str",
    "version": "str",
    "attack": "str",
    "norm": "str",
    "cell": "str",
    "created": "str",
}
"""What a file says of its exhibit."""

_SHOWN: dict[ExhibitKind, dict[str, str]] = {
    "activations": ACTIVATION_COLUMNS,
    "adversarial-examples": EXAMPLE_COLUMNS,
}

_METADATA = b"hahbench"
_NO_RESULT = "is no result file; delete it and run the suite again"


class Store:
    """A folder of finished cells.

    In it are a folder for each kind of exhibit, one for records of the models, and one for cells that are not finished.

    Args:
        folder: made when the first cell is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, kept: Cell | Exhibit) -> Path:
        """Where a cell's outcomes or an exhibit lie, or would."""
        if isinstance(kept, Exhibit):
            folder, name = self.folder / kept.kind, f"{kept.model}-{kept.attack or kept.kind}"
        else:
            level = "" if kept.level is None else f"-{kept.level:.6g}"
            folder, name = self.folder, f"{kept.model}-{kept.attack.name}{level}-{kept.seed}"
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
        # Files of another layout count as absent.
        return folder / f"{name[:120]}-{digest(kept.key, SCHEMA)[:20]}.parquet"

    def __contains__(self, kept: Cell | Exhibit) -> bool:
        return self.path(kept).is_file()

    def check_writable(self) -> None:
        """Raise before hours of work what would be raised after them.

        Raises:
            StoreError: the folder cannot be made or written to.
        """
        try:
            check_writable(self.folder)
        except OSError as error:
            raise StoreError(f"{self.folder}: results cannot be written here: {error.strerror}") from error

    @contextlib.contextmanager
    def claim(self, cell: Cell) -> Iterator[bool]:
        """Whether no other process is at work on the cell; then none begins it before the block ends.

        The claim of a process that is killed ends with it. Where files cannot be locked everything can be claimed.
        """
        path = self.path(cell).with_suffix(".lock")
        # Else, where files cannot be locked, filelock leaves a marker that outlives a killed run.
        lock = FileLock(path, fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        except (OSError, NotImplementedError):
            with contextlib.suppress(OSError):
                path.unlink()
            yield True
            return
        try:
            yield True
        finally:
            # Before it is free: whoever has opened it and takes it then finds the cell finished.
            with contextlib.suppress(OSError):
                path.unlink()
            lock.release()

    def counts(self, cell: Cell) -> set[int]:
        """The numbers of samples on which this model, by its name, was measured under this attack, level and seed."""
        stem = self.path(cell).stem.rpartition("-")[0]
        found = set()
        for path in self.folder.glob(f"{glob.escape(stem)}-*.parquet"):
            # A damaged file is the matter of whoever needs it.
            with contextlib.suppress(StoreError):
                found.add(int(_read_table(path)[0]["n"]))
        return found

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
            "params": json.dumps(cell.attack.portable_params, sort_keys=True),
            "attack_version": cell.attack_version,
            "level": cell.level,
            "seed": cell.seed,
            **facts,
        }
        _write(self.path(cell), outcomes[list(OUTCOME_COLUMNS)], row)

    def write_unfinished(self, cell: Cell, outcomes: pd.DataFrame, made_by: Mapping[str, str]) -> None:
        """Keep the outcomes of a cell's first samples, in place of those kept before.

        Args:
            cell: what was asked.
            outcomes: with ``OUTCOME_COLUMNS``.
            made_by: the ``CELL_COLUMNS`` that say what made them.

        Raises:
            StoreError: the disk is full or the folder not writable; what is there already stays.
        """
        _write(self._unfinished(cell), outcomes[list(OUTCOME_COLUMNS)], made_by)

    def read_unfinished(self, cell: Cell) -> tuple[dict[str, str], pd.DataFrame] | None:
        """What ``write_unfinished`` kept of a cell last, ``made_by`` first; None where that is nothing, or damaged."""
        try:
            said, table = _read_table(self._unfinished(cell))
        except StoreError:
            return None
        return said, table.to_pandas()

    def drop_unfinished(self, cell: Cell) -> None:
        """Forget what ``write_unfinished`` kept of a cell."""
        with contextlib.suppress(OSError):
            self._unfinished(cell).unlink()

    def _unfinished(self, cell: Cell) -> Path:
        path = self.path(cell)
        return path.parent / "unfinished" / path.name

    def verdict(self, cell: Cell) -> str:
        """The verdict of a finished cell; empty where it was not examined.

        Raises:
            StoreError: the file is missing, damaged or of another layout.
        """
        return str(_read_table(self.path(cell))[0]["verdict"])

    def set_verdict(self, cell: Cell, verdict: str) -> None:
        """Keep the verdict of a finished cell.

        Raises:
            StoreError: as for reading and for writing.
        """
        said, table = _read_table(self.path(cell))
        _write_table(self.path(cell), table, {**said, "verdict": verdict})

    def write_exhibit(self, exhibit: Exhibit, shown: pd.DataFrame, created: str) -> None:
        """Keep an exhibit.

        Args:
            exhibit: what was asked.
            shown: with the columns of its kind, see ``hahbench.outcome``; empty where there is nothing to show.
            created: the time, ISO 8601.

        Raises:
            StoreError: the disk is full or the folder not writable; what is there already stays.
        """
        row = {"key": exhibit.key, **dataclasses.asdict(exhibit), "created": created}
        _write(self.path(exhibit), shown[list(_SHOWN[exhibit.kind])], row)

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
        return _read_all(paths, CELL_COLUMNS, OUTCOME_COLUMNS)

    def read_exhibits(self, kind: ExhibitKind) -> tuple[pd.DataFrame, pd.DataFrame]:
        """All exhibits of a kind: a frame with ``EXHIBIT_COLUMNS``, and what they show with a column ``key`` added.

        Of exhibits of the same model, data and attack, such as those of an older version, the newest counts. Both
        frames are empty where there are none.

        Raises:
            StoreError: a file is damaged or of another layout.
        """
        exhibits, shown = _read_all(sorted((self.folder / kind).glob("*.parquet")), EXHIBIT_COLUMNS, _SHOWN[kind])
        same = ["model", "model_digest", "data_digest", "attack"]
        exhibits = exhibits.sort_values("created", kind="stable").drop_duplicates(same, keep="last", ignore_index=True)
        return exhibits, shown[shown["key"].isin(exhibits["key"])]

    def write_record(self, record: ModelRecord) -> None:
        """Keep what is said of a model, in place of what was said before.

        Raises:
            StoreError: the disk is full or the folder not writable; what is there already stays.
        """
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", record.model)[:120]
        path = self.folder / "models" / f"{name}-{digest(record.model, record.model_digest)[:20]}.json"
        content = json.dumps(dataclasses.asdict(record), indent=1, default=str)
        _write_whole(path, content.encode())

    def read_records(self) -> list[ModelRecord]:
        """What is kept of each model; none of those that an older hahbench measured.

        Raises:
            StoreError: a file is damaged.
        """
        return [_read_record(path) for path in sorted((self.folder / "models").glob("*.json"))]


def _write(path: Path, rows: pd.DataFrame, said: Mapping[str, Any]) -> None:
    _write_table(path, pa.Table.from_pandas(rows, preserve_index=False), said)


def _write_table(path: Path, table: pa.Table, said: Mapping[str, Any]) -> None:
    table = table.replace_schema_metadata({_METADATA: json.dumps({"schema": SCHEMA, "cell": said})})
    # Written by Arrow itself, a full disk would be an error without a number.
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    _write_whole(path, buffer.getbuffer())


def _write_whole(path: Path, content: bytes | memoryview) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}; the cells finished before are kept") from error


def record_from(said: Mapping[str, Any]) -> ModelRecord:
    """A record of a model from its fields, as JSON has them."""
    return ModelRecord(**{**said, "training_log": tuple(said["training_log"])})


def _read_record(path: Path) -> ModelRecord:
    try:
        return record_from(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: is no record of a model; delete it and run the suite again") from error


def _read_all(
    paths: list[Path], said: Mapping[str, str], columns: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    read = [_read(path, list(said), list(columns)) for path in paths]
    facts = pd.DataFrame([row for row, _ in read], columns=list(said)).astype(said)
    empty = pd.DataFrame(columns=[*columns, "key"]).astype({**columns, "key": "str"})
    parts = [rows.assign(key=row["key"]) for row, rows in read if len(rows)]
    return facts, pd.concat(parts, ignore_index=True) if parts else empty


def _read(path: Path, said_of: list[str], columns: list[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    said, table = _read_table(path)
    try:
        return {name: said[name] for name in said_of}, table.to_pandas()[columns]
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise StoreError(f"{path}: {_NO_RESULT}") from error


def _read_table(path: Path) -> tuple[dict[str, Any], pa.Table]:
    """What a file says of what it holds, and that."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        table = pq.read_table(io.BytesIO(content))
        said = json.loads((table.schema.metadata or {})[_METADATA])
        layout = said["schema"]
        if layout == SCHEMA:
            return dict(said["cell"]), table
    # What is damaged in the middle makes Arrow raise an OSError.
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: {_NO_RESULT}") from error
    raise StoreError(f"{path}: has layout {layout}; this hahbench, {__version__}, reads layout {SCHEMA}; move it away")
