"""How one trial is run and stored, wherever that is, and the executor that does so in this process.

An executor takes trials and a listener, and tells it of epochs and results; the trial cannot tell where it is. What
runs a trial stores it before it says so, so a result outlives the driver. The other executor is `on_ray`.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from orchestrator.provenance import Origin, device_name, packages
from orchestrator.result import Epoch, Result, Status
from orchestrator.store import Store
from orchestrator.train import Outcome, train
from search_spaces import Trial
from tasks import METRICS

Curve = tuple[Epoch, ...]


@dataclass(frozen=True)
class Running:
    """News of a trial that trains: its last epoch, or None when it has just begun."""

    trial: Trial
    epoch: Epoch | None


@dataclass(frozen=True)
class Finished:
    """News of a trial that ended, one way or another, and is stored."""

    result: Result
    curve: Curve


Event = Running | Finished
Listener = Callable[[Event], None]


def in_process(trials: Sequence[Trial], store: Store, listen: Listener, origin: Origin) -> None:
    """Run trials one after another in this process: for debuggers, for tests, and as the reference for the others."""
    for trial in trials:
        listen(Running(trial, None))
        for event in run_trial(trial, store, best_device(), origin):
            listen(event)


def best_device() -> torch.device:
    """The GPU if this process was given one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run_trial(trial: Trial, store: Store, device: torch.device, origin: Origin) -> Iterator[Event]:
    """Train a trial and store how it ended, whatever that is: a failure is a row too."""
    curve: list[Epoch] = []
    try:
        with _one_thread(device):
            for report in train(trial, device=device, checkpoint=store.checkpoint(trial.key), code=origin.code):
                if isinstance(report, Epoch):
                    curve.append(report)
                    yield Running(trial, report)
                else:
                    finished = Finished(row(trial, report, device, origin), report.curve)
    except Exception as error:  # the one place where anything may be raised: it becomes a row
        outcome = Outcome(status=_status(error), reason=_sentence(error), epochs=len(curve), curve=tuple(curve))
        finished = Finished(row(trial, outcome, device, origin, traceback.format_exc()), outcome.curve)
    store.write(finished.result, finished.curve)
    yield finished


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Trials of small models run beside each other, each on one core: threads within one would only get in the way."""
    before = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def _status(error: Exception) -> Status:
    text = str(error)
    out_of_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in text
    return "oom" if out_of_memory else "failed"


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def row(trial: Trial, outcome: Outcome, device: torch.device, origin: Origin, trace: str | None = None) -> Result:
    metric = METRICS[trial.task.spec.metric]
    return Result(
        key=trial.key,
        study=trial.study,
        arm=trial.arm,
        task=trial.task_name,
        seed=trial.seed,
        baseline=trial.baseline,
        status=outcome.status,
        reason=outcome.reason,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        chance=trial.task.spec.chance,
        validation=outcome.validation,
        test=outcome.test,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
        steps=outcome.steps,
        parameters=outcome.parameters,
        seconds=outcome.seconds,
        levels=trial.levels,
        caveats=trial.model.structure.caveats(),
        description=trial.description,
        traceback=trace,
        code=origin.code,
        git_sha=origin.git_sha,
        git_dirty=origin.git_dirty,
        packages=packages(),
        device=device_name(device),
        data=outcome.data,
        finished_at=datetime.now(UTC),
    )
