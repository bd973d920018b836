"""Results -> MLflow: a view of the Parquet record, which `ablate sync` can rebuild from nothing.

One experiment a study. In it one run a trial (`arm / task / seed`) and one summary run an arm and task
(`arm / task`), so that MLflow's own page shows means over seeds. What the runs say is in `entries`. Every run
has the tag `complete`, a digest of what it says: a run without it was cut off and one with another is out of
date, and both are written again. Importing MLflow takes seconds, so that happens where it is first used.
"""

import math
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from descriptions import MistakeError, did_you_mean
from orchestrator.entries import Entry, Point, identity_of, records, result_of, summary_entry, trial_entry
from orchestrator.result import Epoch, Result
from orchestrator.tracking_uri import check_uri, database_file, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.entities import PagedList

COLUMNS = ["study", "task", "arm", "metric", "mean", "low", "high", "n", "effect", "p_holm", "run_id"]

T = TypeVar("T")

#: Read by MLflow when it is imported; what the user's own environment says wins.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds; a dead server is to be noticed soon, not after minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
#: Without it MLflow 3 takes an experiment for one about language models, and hides its runs behind traces.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_PAGE = 500  # runs a request
_ACTIVE = 1  # ViewType.ACTIVE_ONLY: without deleted runs
_BATCH = 800  # metrics a request; MLflow takes 1,000 entities, params and tags included


class _Board:
    """One study's experiment, and which runs it has."""

    def __init__(self, uri: str, study: str) -> None:
        self.study = study
        self._client = _connect(uri)
        self._experiment = _experiment(self._client, uri, study)
        self._known: dict[tuple[str, ...], tuple[str, str]] = {}  # identity -> run id, digest
        # The list is complete before anything is deleted: deleting would shift the pages.
        for run in list(_search(self._client, [self._experiment])):
            self._learn(run)

    def _learn(self, run: "Run") -> None:
        identity = identity_of(run.data.tags)
        if identity in self._known:  # two processes wrote at once
            self._client.delete_run(run.info.run_id)
        elif identity:  # else somebody's own run
            cut_off = run.info.status == "RUNNING"
            self._known[identity] = (run.info.run_id, "" if cut_off else run.data.tags.get("complete", ""))

    def trial(self, result: Result, curve: Sequence[Epoch]) -> bool:
        """Write a trial's run unless it is there: whether it was written."""
        entry = trial_entry(self.study, result, curve)
        run_id, digest = self._known.get(entry.identity, ("", ""))
        if digest == entry.digest:
            return False
        if run_id:
            self._client.delete_run(run_id)  # a curve cannot be taken back, so an outdated run is replaced
        self._create(entry)
        return True

    def summaries(self, effects: pd.DataFrame) -> None:
        """Bring the summary runs level with `effects`: add, update, and delete those of arms gone."""
        entries = {e.identity: e for e in (summary_entry(self.study, row) for row in records(effects))}
        for identity, (run_id, digest) in list(self._known.items()):
            if identity[0] == "summary" and identity not in entries:
                self._client.delete_run(run_id)
                del self._known[identity]
            elif identity in entries and digest != entries[identity].digest:
                # NaN too: MLflow cannot take back the p that a summary no longer has.
                self._write(run_id, entries[identity], entries[identity].points)
        for identity, entry in entries.items():
            if identity not in self._known:
                self._create(entry)

    def _create(self, entry: Entry) -> None:
        run = self._client.create_run(self._experiment, entry.start_ms, entry.tags, entry.name)
        finite = [point for point in entry.points if math.isfinite(point.value)]
        self._write(run.info.run_id, entry, finite)

    def _write(self, run_id: str, entry: Entry, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*point) for point in points]
        params = [Param(name, value) for name, value in entry.params.items()]
        tags = [RunTag(name, value) for name, value in (entry.tags | {"complete": entry.digest}).items()]
        last = max(0, (len(metrics) - 1) // _BATCH) * _BATCH
        for i in range(0, last, _BATCH):
            self._client.log_batch(run_id, metrics[i : i + _BATCH])
        self._client.log_batch(run_id, metrics[last:], params, tags)  # the tag `complete` comes last
        self._client.set_terminated(run_id, entry.status, entry.end_ms)
        self._known[entry.identity] = (run_id, entry.digest)


class Tracker:
    """Writes the results of a running study to MLflow, in a thread of its own.

    No call waits for MLflow and none raises because of it. At the first failure the tracker stops, `problem`
    says what happened in one sentence, and the study goes on: Parquet has everything, and `ablate sync`
    catches up. Only a URI of an unknown scheme raises `MistakeError`, when the tracker is made.
    """

    def __init__(self, uri: str, study: str) -> None:
        check_uri(uri)
        self.problem: str | None = None
        self._uri, self._study = uri, study
        self._queue: queue.SimpleQueue[Callable[[_Board], object] | None] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def log(self, result: Result, curve: Sequence[Epoch]) -> None:
        """Hand over a finished trial."""
        points = tuple(curve)
        self._put(lambda board: board.trial(result, points))

    def summarise(self, effects: pd.DataFrame) -> None:
        """Hand over the effects of the study, one summary run a row."""
        self._put(lambda board: board.summaries(effects))

    def close(self, limit_s: float = 30.0) -> None:
        """Wait until everything is written, but no longer than `limit_s`."""
        if self.problem is not None:
            return  # nothing more to wait for
        self._queue.put(None)
        self._thread.join(limit_s)
        if self._thread.is_alive():
            self._given_up.set()
            self.problem = self._advice(f"was not done after another {limit_s:g} s")

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.close(30.0 if kind is None else 2.0)  # after Ctrl-C nobody waits

    def _put(self, write: Callable[[_Board], object]) -> None:
        if self.problem is None:
            self._queue.put(write)

    def _work(self) -> None:
        try:
            board = _Board(self._uri, self._study)
            while (write := self._queue.get()) is not None and not self._given_up.is_set():
                write(board)
        except Exception as error:  # whatever MLflow and its drivers raise: a view must not stop a study
            self.problem = self._advice(f"failed ({_first_line(error)})")

    def _advice(self, what: str) -> str:
        where = without_password(self._uri)
        return f"MLflow at {where} {what}; no result is lost: run `ablate sync {self._study}`."


def sync(uri: str, study: str, results: pd.DataFrame, curves: pd.DataFrame, effects: pd.DataFrame) -> tuple[int, int]:
    """Bring MLflow level with the record: (trials written, trials that were there already).

    `results` has the columns of `Result`, `curves` those of `Epoch` and the key of the trial. Raises
    `MistakeError` when MLflow cannot be reached.
    """
    points: dict[str, list[Epoch]] = {}
    for row in records(curves.sort_values("epoch")):
        points.setdefault(row.pop("key"), []).append(Epoch(**row))
    with _reaching(uri):
        board = _Board(uri, study)
        rows = [result_of(row) for row in records(results)]
        written = sum(board.trial(result, points.get(result.key, [])) for result in rows)
        board.summaries(effects)
    return written, len(rows) - written


def leaderboard(
    uri: str,
    study: str | None = None,
    *,
    task: str | None = None,
    metric: str | None = None,
    top: int | None = None,
) -> pd.DataFrame:
    """The arms of each study and task by their mean, best first, from MLflow's summary runs (`COLUMNS`).

    Raises `MistakeError` when MLflow cannot be reached or has no such study.
    """
    asked = {"kind": "summary", "task": task, "metric": metric}
    filters = [f'tags.{name} = "{value}"' for name, value in asked.items() if value is not None]
    rows = []
    with _reaching(uri):
        client = _connect(uri, create=False)
        experiments = _experiments(client, study)
        for higher_is_better, order in ((True, "DESC"), (False, "ASC")):
            where = " AND ".join([*filters, f"tags.higher_is_better = '{higher_is_better}'"])
            rows += [_row(run) for run in _search(client, experiments, where, f"metrics.mean {order}")]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64"})
    groups = table.sort_values(["study", "task"], kind="stable", ignore_index=True).groupby(["study", "task"])
    return groups.head(len(table) if top is None else top).reset_index(drop=True)


def _row(run: "Run") -> dict[str, Any]:
    said = {**run.data.tags, **run.data.metrics, "run_id": run.info.run_id}
    return {name: said.get(name, math.nan) for name in COLUMNS}


def _connect(uri: str, *, create: bool = True) -> "MlflowClient":
    check_uri(uri)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    path = database_file(uri)
    if path is not None and not path.exists():
        if not create:
            raise MistakeError(f"There is no MLflow database at {str(path)!r} yet; `ablate sync` makes it.")
        # MLflow makes a database by all its migrations, seconds in which a kill would leave a broken one.
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        unfinished.unlink(missing_ok=True)
        MlflowClient(f"sqlite:///{unfinished}").search_experiments(max_results=1)
        unfinished.replace(path)
    return MlflowClient(uri)


def _experiment(client: "MlflowClient", uri: str, study: str) -> str:
    """The id of a study's experiment, made or restored where needed."""
    found = client.get_experiment_by_name(study)
    if found is None:
        # Files that people attach to runs go beside the database; by default they go to the current folder.
        path = database_file(uri)
        beside = None if path is None else (path.parent / "mlartifacts").resolve().as_uri()
        return client.create_experiment(study, beside, _KIND)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _experiments(client: "MlflowClient", study: str | None) -> list[str]:
    """The ids of a study's experiment or of all."""
    found = _all(lambda token: client.search_experiments(max_results=_PAGE, page_token=token))
    ids = {experiment.name: experiment.experiment_id for experiment in found}
    if study is not None and study not in ids:
        raise MistakeError(f"MLflow has no study {study!r}.{did_you_mean(study, ids)}")
    return [number for name, number in ids.items() if study in (None, name)]


def _search(client: "MlflowClient", ids: list[str], where: str = "", order: str = "start_time") -> Iterator["Run"]:
    return _all(lambda token: client.search_runs(ids, where, _ACTIVE, _PAGE, [order], token))


def _all(fetch: Callable[[str | None], "PagedList[T]"]) -> Iterator[T]:
    """The items of all pages."""
    page = fetch(None)
    yield from page
    while page.token:
        page = fetch(page.token)
        yield from page


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database and its network raise into one sentence."""
    try:
        yield
    except MistakeError:
        raise
    except Exception as error:
        from mlflow.exceptions import MlflowException  # not before: its environment is set by `_connect`
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, (MlflowException, SQLAlchemyError, OSError, ImportError)):
            raise
        raise MistakeError(f"MLflow at {without_password(uri)} cannot be used: {_first_line(error)}.") from error


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return without_password(shorten(line, 200, placeholder=" ...").rstrip("."))
