"""What a trial costs beyond its training: our local executor beside Ray's documented way, in one run.

    python benchmarks/overhead.py [--trials 64] [--documented 4] [--slots 2]

Overhead of a trial = (slots x wall time - seconds spent training) / trials. `steady` counts from the first finished
trial to the last, so that starting Ray is not in it; `all` counts everything. Ray's documented way to run a Ray Train
job as a Tune trial is a Tune function that builds a TorchTrainer and fits it; a few of them show its cost.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.execute import Event, Finished, in_process
from orchestrator.on_ray import on_ray
from orchestrator.provenance import Origin, origin_of
from orchestrator.store import Store
from search_spaces import Recipe, Study, Training, Trial, plan
from ssm_models import Diagonal, ModelConfig
from tasks import Copying


def trivial_trials(count: int) -> list[Trial]:
    """One epoch of a few steps of a very small model."""
    study = Study(
        name="trivial",
        question="What does a trial cost that does next to nothing?",
        baseline=Recipe(
            model=ModelConfig(structure=Diagonal(state=4), depth=1, width=4),
            training=Training(epochs=1, batch_size=32),
        ),
        axes=(),
        tasks=(Copying(blanks=8, memorize=4, n_train=64, n_validation=32, n_test=32),),
        seeds=tuple(range(count)),
    )
    return list(plan(study).trials)


Row = tuple[str, int, float, float]
Run = Callable[[list[Trial], Store, Any, Origin], None]


def measure(name: str, trials: list[Trial], slots: int, run: Run) -> Row:
    """(name, trials, steady overhead, overhead of all) in seconds a trial."""
    finished: list[tuple[float, float]] = []  # when, seconds of training

    def listen(event: Event) -> None:
        if isinstance(event, Finished):
            assert event.result.status == "ok", event.result.traceback
            finished.append((time.monotonic(), event.result.seconds))

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), "trivial")
        store.open_for_writing()
        began = time.monotonic()
        run(trials, store, listen, origin_of(trials))
        wall = time.monotonic() - began
    trained = sum(seconds for _, seconds in finished)
    steady_wall = finished[-1][0] - finished[0][0]
    steady_trained = sum(seconds for _, seconds in finished[1:])
    steady = (slots * steady_wall - steady_trained) / max(1, len(finished) - 1)
    return name, len(trials), steady, (slots * wall - trained) / len(trials)


def documented(trials: list[Trial], store: Store, listen: Any, origin: Origin, slots: int) -> None:
    """Ray's documented pattern: each Tune trial is a function that starts a TorchTrainer of its own."""
    import ray
    from ray import tune
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def worker(config: dict[str, Any]) -> None:
        import torch

        from orchestrator.execute import run_trial

        for _ in run_trial(config["trial"], config["store"], torch.device("cpu"), config["origin"]):
            pass

    def driver(config: dict[str, Any]) -> None:
        TorchTrainer(
            worker,
            train_loop_config={"trial": trials[config["index"]], "store": store, "origin": origin},
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(name=f"train-{config['index']}", storage_path=str(store.root / "train")),
        ).fit()

    class Tell(tune.Callback):  # type: ignore[misc]  # ray is untyped
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            key = keys[trial.config["index"]]
            listen(Finished(next(r for r in store.results() if r.key == key), ()))

    keys = [trial.key for trial in trials]
    ray.init(
        address="local",
        num_cpus=2 * slots,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="critical",
    )
    try:
        tune.Tuner(
            tune.with_resources(driver, {"cpu": 1}),
            param_space={"index": tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(max_concurrent_trials=slots),
            run_config=tune.RunConfig(storage_path=str(store.root / "tune"), verbose=0, callbacks=[Tell()]),
        ).fit()
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--documented", type=int, default=4, help="trials run Ray's documented way; 0: none")
    parser.add_argument("--slots", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    trials = trivial_trials(given.trials)
    measure("warm up", trials[:1], 1, in_process)
    rows = [
        measure("in process", trials, 1, in_process),
        measure(
            "ray, local (ours)",
            trials,
            given.slots,
            lambda t, s, tell, code: on_ray(t, s, tell, code, concurrency=given.slots),
        ),
    ]
    if given.documented:
        few = trials[: given.documented]
        rows.append(
            measure(
                "TorchTrainer per Tune trial",
                few,
                given.slots,
                lambda t, s, tell, code: documented(t, s, tell, code, given.slots),
            )
        )
    table = Table(
        title=f"Seconds a trivial trial costs beyond its training ({given.slots} slots)", title_justify="left"
    )
    for column in ("executor", "trials", "steady", "all, start included", "steady, times ours"):
        table.add_column(column, justify="left" if column == "executor" else "right")
    for name, count, steady, whole in rows:
        table.add_row(name, str(count), f"{steady:.3f}", f"{whole:.3f}", f"{steady / rows[1][2]:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
