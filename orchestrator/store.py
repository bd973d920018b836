"""Results on disk: the record. The only file that knows pyarrow.

    results/format.json                   which version of the format this folder holds
    results/<study>/trials/<key>.parquet  one row a finished trial, while a study runs
    results/<study>/curves/<key>.parquet  its learning curve
    results/<study>/trials.parquet        all rows, after `compact`; likewise curves.parquet
    results/<study>/checkpoints/<key>.pt  of trials that have not finished

Each file is written under another name and renamed, so a reader or a crash sees all of it or none of it.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from descriptions import MistakeError, did_you_mean
from orchestrator.result import Epoch, Result

FORMAT = 1

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("study", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("baseline", pa.bool_(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("higher_is_better", pa.bool_(), nullable=False),
        pa.field("chance", pa.float64(), nullable=False),
        pa.field("validation", pa.float64()),
        pa.field("test", pa.float64()),
        pa.field("best_epoch", pa.int64()),
        pa.field("epochs", pa.int64(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("parameters", pa.int64()),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("levels", pa.string(), nullable=False),  # JSON, as are the other three of _JSON
        pa.field("caveats", pa.string(), nullable=False),
        pa.field("description", pa.string(), nullable=False),
        pa.field("traceback", pa.string()),
        pa.field("code", pa.string(), nullable=False),
        pa.field("git_sha", pa.string()),
        pa.field("git_dirty", pa.bool_()),
        pa.field("packages", pa.string(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("data", pa.string()),
        pa.field("finished_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ],
    metadata={"ssm-ablate format": str(FORMAT)},
)

CURVE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("train_loss", pa.float64(), nullable=False),
        pa.field("validation_loss", pa.float64(), nullable=False),
        pa.field("validation", pa.float64(), nullable=False),
        pa.field("lr", pa.float64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
    ],
    metadata={"ssm-ablate format": str(FORMAT)},
)

_JSON = ("levels", "caveats", "description", "packages")

log = logging.getLogger(__name__)


class Store:
    """The results of one study in a results folder."""

    def __init__(self, root: Path, study: str) -> None:
        self.root = root
        self.study = study
        self.folder = root / study

    def absolute(self) -> "Store":
        """The same, wherever a process that uses it has its working directory."""
        return Store(self.root.absolute(), self.study)

    def open_for_writing(self) -> None:
        """Make the folders. Raises `MistakeError` when they cannot be written or hold another format."""
        _check_format(self.root)
        try:
            for name in ("trials", "curves", "checkpoints"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".writable.{os.getpid()}"
            probe.touch()
            probe.unlink()
            marker = self.root / "format.json"
            if not marker.exists():
                _write(marker, lambda path: path.write_text(json.dumps({"format": FORMAT}) + "\n"))
        except OSError as error:
            raise MistakeError(f"The results folder {str(self.root)!r} cannot be written: {error.strerror}.") from error

    def checkpoint(self, key: str) -> Path:
        """Where a trial that has not finished keeps its checkpoint."""
        return self.folder / "checkpoints" / f"{key}.pt"

    def write(self, result: Result, curve: Iterable[Epoch]) -> None:
        """Store a trial, the curve first: a row that exists is complete. Then its checkpoint is of no more use."""
        points = [{"key": result.key, **asdict(point)} for point in curve]
        row = {name: json.dumps(value) if name in _JSON else value for name, value in asdict(result).items()}
        self._put("curves", result.key, pa.Table.from_pylist(points, CURVE_SCHEMA))
        self._put("trials", result.key, pa.Table.from_pylist([row], SCHEMA))
        self.checkpoint(result.key).unlink(missing_ok=True)

    def _put(self, kind: str, key: str, table: pa.Table) -> None:
        _write(self.folder / kind / f"{key}.parquet", partial(pq.write_table, table))

    def results(self) -> list[Result]:
        """Every stored trial, in the order in which they finished."""
        rows = self._read("trials", SCHEMA).to_pylist()
        return sorted((_result(row) for row in rows), key=lambda result: (result.finished_at, result.key))

    def curves(self) -> dict[str, tuple[Epoch, ...]]:
        """Learning curves by the key of their trial."""
        found: dict[str, list[Epoch]] = {}
        for row in self._read("curves", CURVE_SCHEMA).to_pylist():
            found.setdefault(row.pop("key"), []).append(Epoch(**row))
        return {key: tuple(sorted(points, key=lambda point: point.epoch)) for key, points in found.items()}

    @property
    def compacted(self) -> bool:
        """Whether the last run of the study came to its end."""
        return not any((self.folder / "trials").glob("*.parquet"))

    def compact(self) -> None:
        """Gather the single files into one for rows and one for curves.

        A crash between the two steps leaves trials in both places; single files are newer and win when read.
        """
        for kind, schema in (("curves", CURVE_SCHEMA), ("trials", SCHEMA)):
            single = list((self.folder / kind).glob("*.parquet"))
            if single:
                table = self._read(kind, schema)
                _write(self.folder / f"{kind}.parquet", partial(pq.write_table, table))
                for file in single:
                    file.unlink(missing_ok=True)

    def _read(self, kind: str, schema: pa.Schema) -> pa.Table:
        tables, newer = [], set()
        for file in sorted((self.folder / kind).glob("*.parquet")):
            table = _read_file(file, schema)
            if table is not None:
                tables.append(table)
                newer.add(file.stem)
        whole = self.folder / f"{kind}.parquet"
        if whole.exists() and (table := _read_file(whole, schema)) is not None:
            old = pc.invert(pc.is_in(table["key"], value_set=pa.array(sorted(newer), pa.string())))
            tables.insert(0, table.filter(old))
        return pa.concat_tables(tables) if tables else schema.empty_table()


def _read_file(file: Path, schema: pa.Schema) -> pa.Table | None:
    """A table, or None after setting aside a file that is not one (cut short by a full disk or a lost node)."""
    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        aside = file.with_name(f"{file.name}.broken")
        file.replace(aside)
        log.warning(
            "%s is not a readable Parquet file (%s); it is now %s and its trials run again.",
            file,
            _first(error),
            aside.name,
        )
        return None
    found = (table.schema.metadata or {}).get(b"ssm-ablate format", b"none").decode()
    if found != str(FORMAT):
        raise MistakeError(f"{str(file)!r} has format {found}, and this version reads format {FORMAT}.")
    return table.cast(schema)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _result(row: dict[str, Any]) -> Result:
    return Result(**{name: json.loads(value) if name in _JSON else value for name, value in row.items()})


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write(unfinished)
    unfinished.replace(path)


def _check_format(root: Path) -> None:
    marker = root / "format.json"
    if not marker.exists():
        return
    try:
        found = json.loads(marker.read_text())["format"]
    except (ValueError, KeyError, TypeError, OSError):
        found = "unknown"
    if found != FORMAT:
        raise MistakeError(
            f"The results folder {str(root)!r} has format {found}, and this version reads format {FORMAT}: "
            f"name another folder with --results."
        )


def stored_studies(root: Path) -> list[str]:
    """Names of the studies that have results in a folder."""
    _check_format(root)
    return sorted(f.name for f in root.iterdir() if (f / "trials").is_dir()) if root.is_dir() else []


def other_studies(root: Path, study: str) -> list[Store]:
    """The other studies that have results in a folder."""
    return [Store(root, name) for name in stored_studies(root) if name != study]


def open_study(root: Path, study: str) -> Store:
    """The stored results of a study. Raises `MistakeError` with the names that exist when there are none."""
    known = stored_studies(root)
    if study not in known:
        there = f"it holds {', '.join(known)}" if known else "it holds no study"
        raise MistakeError(f"There are no results of {study!r} in {str(root)!r}: {there}.{did_you_mean(study, known)}")
    return Store(root, study)


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """One typed row a trial. Each axis is one more column, named by its path, empty where the arm has the baseline."""
    rows = list(results)
    table = pd.DataFrame([asdict(row) for row in rows], columns=[f.name for f in fields(Result)])
    for path in dict.fromkeys(path for row in rows for path in row.levels):
        table[path] = pd.Series([row.levels.get(path) for row in rows], dtype="string")
    return table.astype(
        {
            "best_epoch": "Int64",
            "parameters": "Int64",
            "validation": "float64",
            "test": "float64",
            "git_dirty": "boolean",
        }
    )


def curves_frame(curves: dict[str, tuple[Epoch, ...]]) -> pd.DataFrame:
    """One row an epoch, with the key of its trial."""
    rows = [{"key": key, **asdict(point)} for key, points in curves.items() for point in points]
    return pd.DataFrame(rows, columns=["key", *(f.name for f in fields(Epoch))])
