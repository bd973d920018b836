"""The executor that runs trials with Ray Tune, on a Ray that lives as long as the call.

Measured on two cores, a trivial trial costs 3.2 s when each gets a process of its own and 0.15 s when Tune's slots keep
theirs from trial to trial (`reuse_actors`). A Tune *function* cannot keep its process; a class can.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import cloudpickle, tune

from orchestrator.execute import Event, Finished, Listener, Running, best_device, row, run_trial
from orchestrator.provenance import Origin, is_ours
from orchestrator.store import Store
from orchestrator.train import Outcome
from search_spaces import Trial

#: How often a trial is begun again, from its last checkpoint, because the process that ran it died.
WORKER_DEATHS = 2

#: Epochs of small trials take milliseconds, and a message for each would drown Tune's driver.
NEWS_EVERY_S = 0.5

_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a study's own files are found from where the command was started
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # three files a trial, and 300 KB of driver memory
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's handler would wait for the trials that run
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # our store is the record: nothing is ever restored from Tune's
}


def on_ray(
    trials: Sequence[Trial],
    store: Store,
    listen: Listener,
    origin: Origin,
    *,
    concurrency: int | None = None,
    verbose: bool = False,
) -> None:
    """Run trials, `concurrency` at a time (default: one a GPU, or one a core), started in the order given."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if not verbose:
        logging.getLogger("ray").setLevel(logging.CRITICAL)
    gpus = torch.cuda.device_count()
    slots = min(concurrency or gpus or len(os.sched_getaffinity(0)), len(trials))
    ray.init(
        address="local",
        num_cpus=slots,
        include_dashboard=False,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.CRITICAL,
        object_store_memory=128 * 2**20,  # trials are descriptions; data are made or read where they are used
    )
    try:
        with tempfile.TemporaryDirectory(prefix="ssm-ablate-") as scratch:
            _fit(trials, store, listen, origin, slots, min(1.0, gpus / slots), Path(scratch), verbose)
    finally:
        ray.shutdown()


def _fit(
    trials: Sequence[Trial],
    store: Store,
    listen: Listener,
    origin: Origin,
    slots: int,
    gpus: float,
    scratch: Path,
    verbose: bool,
) -> None:
    tune.Tuner(
        tune.with_resources(
            tune.with_parameters(Slot, trials=_portable(trials), store=store.absolute(), origin=origin),
            {"cpu": 1, "gpu": gpus},
        ),
        param_space={"index": tune.grid_search(list(range(len(trials))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=slots, reuse_actors=True),
        run_config=tune.RunConfig(
            name="study",
            storage_path=str(scratch),
            verbose=1 if verbose else 0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials keep their own
            failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
            callbacks=[_Forward(trials, store, listen, origin)],
        ),
    ).fit()


def _portable(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that a worker can read: tasks and structures of the user's own travel with their code, by value."""
    for trial in trials:
        for part in (trial.task, trial.model.structure):
            if not is_ours(part):
                cloudpickle.register_pickle_by_value(sys.modules[type(part).__module__])  # type: ignore[no-untyped-call]
    return list(trials)


class Slot(tune.Trainable):
    """A worker process that runs one trial after another."""

    _trials: list[Trial]
    _store: Store
    _origin: Origin
    _events: Iterator[Event]

    def setup(  # type: ignore[override]  # with_parameters adds to it
        self, config: dict[str, Any], *, trials: list[Trial], store: Store, origin: Origin
    ) -> None:
        """Called by Tune once a process."""
        self._trials, self._store, self._origin = trials, store, origin
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune for each further trial."""
        trial = self._trials[new_config["index"]]
        self._events = run_trial(trial, self._store, best_device(), self._origin)
        return True

    def step(self) -> dict[str, Any]:
        """Train for a while, or to the end."""
        until = time.monotonic() + NEWS_EVERY_S
        for event in self._events:
            if isinstance(event, Finished) or time.monotonic() > until:
                break
        return {"event": event, "done": isinstance(event, Finished)}


class _Forward(tune.Callback):
    """Tells our listener what Tune is told."""

    def __init__(self, trials: Sequence[Trial], store: Store, listen: Listener, origin: Origin) -> None:
        self._trials, self._store, self._listen, self._origin = trials, store, listen, origin

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore that never happens, and ours hold a terminal."""
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._listen(Running(self._trials[trial.config["index"]], None))

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._listen(result["event"])

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """What a trial raises is a result and does not come here: this is the worker's end, or Ray's."""
        text = Path(trial.error_file).read_text()  # get_error() reads a copy that may not have been made yet
        reason = (
            f"The worker process died {WORKER_DEATHS + 1} times: killed, or out of memory."
            if "The actor died" in text
            else f"Ray could not run it: {text.strip().splitlines()[-1]}"
        )
        outcome = Outcome(status="failed", reason=reason)
        result = row(self._trials[trial.config["index"]], outcome, best_device(), self._origin, text)
        self._store.write(result, ())
        self._listen(Finished(result, ()))
