"""What one trial leaves behind: a `Result` (one row) and a curve (one `Epoch` an epoch)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Status = Literal["ok", "diverged", "oom", "failed", "pruned"]

#: A trial with one of these has its answer and never runs again; the others are tried again by the next run.
FINAL: tuple[Status, ...] = ("ok", "diverged")


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One point of a learning curve."""

    epoch: int  # from 1
    step: int  # optimiser steps so far
    train_loss: float  # mean over the epoch; nats (classification) or squared error (regression)
    validation_loss: float
    validation: float  # the task's metric on the validation split
    lr: float  # learning rate of the main parameter group at the last step
    seconds: float  # training time since the trial began, over all its attempts


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of a study. The columns of the Parquet record, in order (`store.SCHEMA`)."""

    key: str  # SHA-256 of the trial's full description
    study: str
    arm: str  # "baseline" or how it differs: "init=legs"
    task: str
    seed: int
    baseline: bool
    status: Status
    reason: str | None = None  # one sentence when status is not ok
    metric: str  # name of the task's metric, "accuracy"
    higher_is_better: bool
    chance: float  # the metric's value for knowing nothing
    validation: float | None = None  # the metric at the selected epoch
    test: float | None = None  # the metric on the test split, measured once, at the selected epoch
    best_epoch: int | None = None
    epochs: int = 0
    steps: int = 0
    parameters: int | None = None
    seconds: float = 0.0  # training wall time over all attempts
    levels: dict[str, str] = field(default_factory=dict)  # axis name -> level, of the axes that apply to this arm
    caveats: list[str] = field(default_factory=list)  # what the names of the arm's levels do not say
    description: dict[str, Any] = field(default_factory=dict)  # canonical description of the trial
    traceback: str | None = None
    code: str = ""  # digest of the source that decides a result
    git_sha: str | None = None
    git_dirty: bool | None = None
    packages: dict[str, str] = field(default_factory=dict)
    device: str = ""
    data: str | None = None  # digest of the samples
    finished_at: datetime
