"""Run a study: what is missing is run, stored, and shown; what is stored is never run again."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from descriptions import MistakeError
from orchestrator.effects import effects
from orchestrator.execute import Event, Finished, Listener, in_process
from orchestrator.progress import Tally, show_progress
from orchestrator.provenance import origin_of
from orchestrator.result import FINAL, Result
from orchestrator.store import Store, frame, other_studies
from orchestrator.tracking import Tracker
from orchestrator.tracking_uri import check_uri
from search_spaces import Plan, Trial

#: What to do with results that other code made: stop and ask, use them, or run their trials again.
OtherCode = Literal["refuse", "keep", "again"]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run amounted to."""

    plan: Plan
    results: tuple[Result, ...]  # of every trial of the plan that has ended, now or earlier
    ran: int  # trials that this run ran
    interrupted: bool = False
    problem: str | None = None  # why MLflow does not show all of it

    @property
    def failed(self) -> int:
        """Trials without an answer that a next run would try again."""
        return sum(result.status not in FINAL for result in self.results)


def default_tracking(results: Path) -> str:
    """MLflow beside the results."""
    return f"sqlite:///{results.absolute() / 'mlflow.db'}"


def run_plan(
    plan: Plan,
    results: Path,
    *,
    console: Console,
    tracking_uri: str | None = None,
    use_ray: bool = True,
    concurrency: int | None = None,
    only: str | None = None,
    other_code: OtherCode = "refuse",
    verbose: bool = False,
) -> Ran:
    """Run the trials of a plan that have no result yet.

    Args:
        plan: what to run.
        results: folder of the record.
        console: where progress is shown.
        tracking_uri: MLflow server or database; by default a database beside the results.
        use_ray: run on Ray, or one after another in this process.
        concurrency: trials at a time on Ray.
        only: run just the trials whose key begins with this.
        other_code: what to do with results that other code made.
        verbose: let Ray and MLflow talk.

    """
    trials = [trial for trial in plan.trials if only is None or trial.key.startswith(only)]
    if not trials:
        raise MistakeError(
            f"No trial of {plan.study.name!r} has a key that begins with {only!r}; `ablate plan` lists them."
        )
    uri = tracking_uri or default_tracking(results)
    check_uri(uri)  # now, while nothing is written
    store = Store(results, plan.study.name)
    store.open_for_writing()
    origin = origin_of(plan.trials)
    stored = _stored(plan, store, origin.code, other_code)
    missing = [trial for trial in trials if trial.key not in stored]
    if not missing and store.compacted:
        return Ran(plan=plan, results=_ended(plan, store), ran=0)
    tally = Tally(plan, list(stored.values()), len(missing))

    def execute(listen: Listener) -> None:
        if use_ray and missing:
            from orchestrator.on_ray import on_ray  # not above: a study that is stored need not wait for Ray

            on_ray(missing, store, listen, origin, concurrency=concurrency, verbose=verbose)
        else:
            in_process(missing, store, listen, origin)

    with Tracker(uri, plan.study.name) as tracker:
        interrupted = not _watched(execute, tally, tracker, console)
        ended = _ended(plan, store)
        if interrupted:
            tracker.close(2.0)  # nobody waits for a view after Ctrl-C
        else:
            _finish(ended, store, tracker)
    return Ran(plan=plan, results=ended, ran=tally.done, interrupted=interrupted, problem=tracker.problem)


def _watched(execute: Callable[[Listener], None], tally: Tally, tracker: Tracker, console: Console) -> bool:
    """Execute, showing trials and handing each to MLflow as it ends. Returns whether that went to the end."""
    with show_progress(tally, console) as progress:

        def listen(event: Event) -> None:
            progress.listen(event)
            if isinstance(event, Finished):
                tracker.log(event.result, event.curve)

        try:
            execute(listen)
        except KeyboardInterrupt:
            return False
    return True


def _finish(ended: tuple[Result, ...], store: Store, tracker: Tracker) -> None:
    """Show MLflow what it was not told as it happened (what other runs and studies made), sum up, and compact."""
    curves = store.curves()
    for result in ended:
        tracker.log(result, curves.get(result.key, ()))  # what is there already is not written again
    tracker.summarise(effects(frame(ended)))
    store.compact()


def _stored(plan: Plan, store: Store, code: str, other_code: OtherCode) -> dict[str, Result]:
    """Answers that the plan's trials have already, in this study or in another one of the folder, by key.

    They are relabelled where another study, or this one before it was edited, called them something else.
    """
    trials = {trial.key: trial for trial in plan.trials}
    found = {r.key: r for r in store.results() if r.key in trials and r.status in FINAL}
    stale = [key for key, result in found.items() if result.code != code]
    if stale and other_code == "refuse":
        raise MistakeError(
            f"{len(stale)} of the {len(found)} stored results of {store.study!r} were made by other code than is "
            f"installed now: say --other-code keep to use them, or --other-code again to run those trials again."
        )
    if other_code == "again":
        found = {key: result for key, result in found.items() if key not in stale}
    labelled = {key: _relabelled(result, trials[key]) for key, result in found.items()}
    _copy([named for key, named in labelled.items() if named != found[key]], store, store)
    for other in other_studies(store.root, store.study):
        shared = [
            _relabelled(result, trials[result.key])
            for result in other.results()
            if result.status in FINAL
            and (other_code == "keep" or result.code == code)
            and result.key in trials
            and result.key not in labelled
        ]
        _copy(shared, other, store)
        labelled |= {result.key: result for result in shared}
    return labelled


def _copy(results: list[Result], source: Store, target: Store) -> None:
    """Store results of a study, under the names that they have now, with their curves."""
    curves = source.curves() if results else {}
    for result in results:
        target.write(result, curves.get(result.key, ()))


def _relabelled(result: Result, trial: Trial) -> Result:
    return dataclasses.replace(
        result,
        study=trial.study,
        arm=trial.arm,
        task=trial.task_name,
        baseline=trial.baseline,
        levels=trial.levels,
    )


def _ended(plan: Plan, store: Store) -> tuple[Result, ...]:
    """The stored results of a plan, in the plan's order."""
    stored = {result.key: result for result in store.results()}
    return tuple(stored[trial.key] for trial in plan.trials if trial.key in stored)
