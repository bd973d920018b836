"""What a run of the tracking server says: one entry a trial, one a summary. Knows no MLflow.

Tags, for MLflow's search box (`tags.kind = 'summary' AND tags.task = 'digits'`):

    kind                          trial or summary
    study, arm, task, metric      both kinds
    seed, key, status, code       trials
    baseline, higher_is_better    summaries
    complete                      the entry's digest, added by the writer

A trial's params are its levels. Its metrics are `test` and `validation` (both at the selected epoch),
`seconds`, `parameters` and the like, and the learning curve under `curve/` with step = epoch, which MLflow
shows as a group. A summary's metrics are the numeric columns of `effects`.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import pandas as pd

from orchestrator.result import Epoch, Result

_TAG, _PARAM = 8000, 6000  # characters that MLflow takes
_FINAL = ("test", "validation", "best_epoch", "epochs", "steps", "parameters", "seconds")
_CURVE = ("train_loss", "validation_loss", "validation", "lr")
_TRIAL_TAGS = ("arm", "task", "metric", "seed", "key", "status", "code")
_SUMMARY_TAGS = ("arm", "task", "metric", "baseline", "higher_is_better", "note")


class Point(NamedTuple):
    """A number of a run, in the order of `mlflow.entities.Metric`."""

    name: str
    value: float
    ms: int  # since 1970
    step: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What one run says."""

    name: str
    tags: dict[str, str]
    params: dict[str, str] = dataclasses.field(default_factory=dict)
    points: tuple[Point, ...]
    status: str = "FINISHED"
    start_ms: int
    end_ms: int

    @property
    def identity(self) -> tuple[str, ...]:
        """What there is to be one run of."""
        return identity_of(self.tags)

    @property
    def digest(self) -> str:
        """Changes when what is said does; times stay out: one that says the same is not written again."""
        points = [(point.name, repr(point.value), point.step) for point in self.points]
        said = json.dumps([self.name, self.tags, self.params, points, self.status], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def identity_of(tags: Mapping[str, str]) -> tuple[str, ...]:
    """A trial's key, or a summary's arm, task and metric; empty for a run that is none of ours."""
    names = {"trial": ("kind", "key"), "summary": ("kind", "arm", "task", "metric")}
    return tuple(tags.get(name, "") for name in names.get(tags.get("kind", ""), ()))


def trial_entry(study: str, result: Result, curve: Sequence[Epoch]) -> Entry:
    """A trial: its run is done when the trial was, and has failed unless the trial is ok."""
    end = round(result.finished_at.timestamp() * 1000)
    start = end - round(result.seconds * 1000)
    final = [(name, getattr(result, name), end, 0) for name in _FINAL]
    learning = [
        (f"curve/{name}", getattr(epoch, name), start + round(epoch.seconds * 1000), epoch.epoch)
        for epoch in curve
        for name in _CURVE
    ]
    return Entry(
        name=f"{result.arm} / {result.task} / {result.seed}",
        tags={
            "kind": "trial",
            "study": study,
            **{name: str(getattr(result, name)) for name in _TRIAL_TAGS},
            "mlflow.note.content": _note(result),
        },
        params={axis: str(level)[:_PARAM] for axis, level in result.levels.items()},
        # NaN has no place on an axis; the status and the note say that it happened.
        points=tuple(
            Point(name, float(value), ms, step)
            for name, value, ms, step in final + learning
            if value is not None and math.isfinite(value)
        ),
        status="FINISHED" if result.status == "ok" else "FAILED",
        start_ms=start,
        end_ms=end,
    )


def _note(result: Result) -> str:
    """Shown as Markdown on the run's page: what went wrong, then the full description."""
    reason = [f"**{result.status}**: {result.reason}"] if result.reason else []
    trace = [f"```\n{result.traceback[-3000:]}\n```"] if result.traceback else []
    described = [f"```json\n{json.dumps(result.description, indent=1)}\n```"]
    return "\n\n".join(reason + trace + described)[:_TAG]


def summary_entry(study: str, row: Mapping[str, Any]) -> Entry:
    """A row of `effects`; numbers that it lacks are NaN here."""
    now = round(time.time() * 1000)
    numbers = {name: value for name, value in row.items() if name not in _SUMMARY_TAGS and not isinstance(value, str)}
    return Entry(
        name=f"{row['arm']} / {row['task']}",
        tags={"kind": "summary", "study": study} | {name: str(row[name])[:_TAG] for name in _SUMMARY_TAGS},
        points=tuple(Point(name, _number(value), now, 0) for name, value in numbers.items()),
        start_ms=now,
        end_ms=now,
    )


def _number(value: Any) -> float:
    number = math.nan if value is None or value is pd.NA else float(value)
    return number if math.isfinite(number) else math.nan


def result_of(row: Mapping[str, Any]) -> Result:
    """A row of a DataFrame as a `Result`: dicts may be JSON text, and pandas' missing values become None."""
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(Result).items():
        value = row[name]
        if get_origin(hint) in (dict, list):
            value = json.loads(value) if isinstance(value, str) else get_origin(hint)(value)
        elif type(None) in get_args(hint) and pd.isna(value):
            value = None
        elif int in (hint, *get_args(hint)):
            value = int(value)  # pandas makes floats of a column of integers with gaps
        values[name] = value
    return Result(**values)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a DataFrame."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
