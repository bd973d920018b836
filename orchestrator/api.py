"""What notebooks call: `run`, `load_results`, `leaderboard`, `ablation_table`, each with a DataFrame in or out.

The command is a thin layer over the same functions.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from rich.console import Console, RenderableType

from descriptions import MistakeError
from orchestrator import report, tracking
from orchestrator.driver import OtherCode, default_tracking, run_plan
from orchestrator.effects import effects
from orchestrator.notes import notes
from orchestrator.report import ablation_table
from orchestrator.result import FINAL, Result
from orchestrator.store import Store, curves_frame, frame, open_study, stored_studies
from orchestrator.terminal import terminal_table
from search_spaces import Plan, Study, built_in_studies, load_study, names_code, plan

__all__ = ["ablation_table", "leaderboard", "load_curves", "load_results", "run", "sync"]

log = logging.getLogger(__name__)

Executor = Literal["ray", "in_process"]


def run(
    study: str | Study,
    results: str | Path = "results",
    *,
    tracking_uri: str | None = None,
    executor: Executor = "ray",
    concurrency: int | None = None,
    other_code: OtherCode = "refuse",
) -> pd.DataFrame:
    """Run the trials of a study that have no result yet, and return one row a trial of the study.

    `run("quickstart")`, `run("./my_study.py")` or `run(Study(...))`; trials that are stored are not run again.
    """
    planned = plan(load_study(study) if isinstance(study, str) else study)
    ran = run_plan(
        planned,
        Path(results),
        console=Console(stderr=True, highlight=False),
        tracking_uri=tracking_uri,
        use_ray=executor == "ray",
        concurrency=concurrency,
        other_code=other_code,
    )
    if ran.interrupted:
        raise KeyboardInterrupt
    if ran.problem is not None:
        log.warning(ran.problem)
    return frame(ran.results)


def load_results(path: str | Path = "results") -> pd.DataFrame:
    """One typed row a trial: of all studies in a results folder, or of one (`load_results("results/quickstart")`).

    The columns are those of `orchestrator.result.Result`; each axis is one more, named by its path.
    """
    return frame(result for store in _stores(Path(path)) for result in store.results())


def load_curves(path: str | Path = "results") -> pd.DataFrame:
    """One row an epoch, joined to `load_results` by `key`."""
    return curves_frame({key: points for store in _stores(Path(path)) for key, points in store.curves().items()})


def _stores(path: Path) -> list[Store]:
    if path.name in stored_studies(path.parent):
        return [Store(path.parent, path.name)]
    names = stored_studies(path)
    if not names:
        raise MistakeError(f"There are no results in {str(path)!r}.")
    return [Store(path, name) for name in names]


def leaderboard(
    study: str | None = None,
    *,
    results: str | Path = "results",
    tracking_uri: str | None = None,
    task: str | None = None,
    metric: str | None = None,
    top: int | None = None,
) -> pd.DataFrame:
    """The arms of each task by their mean, best first, as MLflow has them; of one study or of all."""
    if study is not None and names_code(study):
        study = load_study(study).name
    uri = tracking_uri or default_tracking(Path(results))
    return tracking.leaderboard(uri, study, task=task, metric=metric, top=top)


def sync(study: str, *, results: str | Path = "results", tracking_uri: str | None = None) -> tuple[int, int]:
    """Bring MLflow level with the stored results of a study: (trials written, trials that were there already)."""
    found = stored_results(study, Path(results), mixed_code=True)
    store = Store(Path(results), found[0].study)
    table = frame(found)
    uri = tracking_uri or default_tracking(Path(results))
    return tracking.sync(uri, store.study, table, curves_frame(store.curves()), effects(table))


def planned(study: str, results: Path) -> tuple[Plan, set[str]]:
    """The plan of a study, and the keys of its trials that have an answer in the folder."""
    made = plan(load_study(study))
    return made, {r.key for r in Store(results, made.study.name).results() if r.status in FINAL}


def stored_results(study: str, results: Path, *, mixed_code: bool = False) -> list[Result]:
    """The stored results of a study that is named by anything that `ablate run` takes, or by its bare name.

    Where its definition is at hand they are those of its plan, in the plan's order; else all that are stored.

    Raises:
        MistakeError: there are none, or (unless `mixed_code`) they were made by different code.

    """
    if study in stored_studies(results) and study not in built_in_studies():
        found = Store(results, study).results()
    else:
        made = plan(load_study(study))
        stored = {result.key: result for result in open_study(results, made.study.name).results()}
        found = [stored[trial.key] for trial in made.trials if trial.key in stored]
        if not found:
            raise MistakeError(
                f"The {len(stored)} results of {made.study.name!r} in {str(results)!r} belong to another "
                f"definition of it: `ablate run {study}` runs the one at hand."
            )
    codes = {result.code for result in found}
    if len(codes) > 1 and not mixed_code:
        raise MistakeError(
            f"The results of {study!r} were made by {len(codes)} versions of the code and cannot be compared: "
            f"`ablate run {study} --other-code again` makes them alike, --mixed-code shows them as they are."
        )
    return found


def table_page(results: Sequence[Result], *, width: int) -> RenderableType:
    """The ablation table with its notes, for a terminal of `width` columns."""
    found = effects(frame(results))
    return terminal_table(found, _notes(found, results), _title(results), width)


def table_text(results: Sequence[Result], format_: str, *, width: int = 100) -> str:
    """The ablation table with its notes in one of `report.FORMATS`."""
    found = effects(frame(results))
    return report.render(found, _notes(found, results), format_, title=_title(results), width=width)


def _notes(found: pd.DataFrame, results: Sequence[Result]) -> list[str]:
    """What the numbers can show, and what the names of levels do not say (unless it holds for the baseline too)."""
    everywhere = {caveat for result in results if result.baseline for caveat in result.caveats}
    own = dict.fromkeys((result.arm, caveat) for result in results for caveat in result.caveats)
    return [*notes(found), *(f"{arm}: {caveat}" for arm, caveat in own if caveat not in everywhere)]


def _title(results: Sequence[Result]) -> str:
    seeds = len({result.seed for result in results})
    return f"{results[0].study}: {seeds} seed{'s' if seeds > 1 else ''}"
