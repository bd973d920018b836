"""The `ablate` command. What is run and shown is decided elsewhere; here are names, help texts and exit codes.

Exit codes: 0 done; 1 some trials failed; 2 a mistake of the user (one sentence, no traceback); 130 interrupted.
"""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from descriptions import MistakeError, one_of
from orchestrator import api, inspection, inspection_page, listing
from orchestrator.driver import OtherCode, Ran, run_plan
from orchestrator.report import FORMATS
from search_spaces import load_study
from search_spaces import plan as plan_study

app = typer.Typer(
    name="ablate",
    help="Ablation studies of state-space models: plan them, run them on Ray, read their tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

console = Console(highlight=False)

StudyName = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A built-in study (`quickstart`), a module, or a file (`./my_study.py`)."),
]
Results = Annotated[Path, typer.Option("--results", help="Folder of the results.", envvar="ABLATE_RESULTS")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="MLflow server or database. Default: a database beside the results.",
        envvar="MLFLOW_TRACKING_URI",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DEFAULT_RESULTS = Path("results")


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="studies, tasks, structures or levels; everything by default.")] = "all",
    as_json: AsJson = False,
) -> None:
    """Show what there is to study: studies, tasks, structures and their fields, named levels.

    Example: `ablate list levels`
    """
    sections = listing.sections(what)
    if as_json:
        _print_json({name: [dict(row) for row in rows] for name, rows in sections.items()})
    else:
        for name, rows in sections.items():
            console.print(listing.table(name, rows))


@app.command()
def plan(
    study: StudyName,
    results: Results = DEFAULT_RESULTS,
    trials: Annotated[bool, typer.Option("--trials", help="List every trial with its key.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="List every arm and every cell left out, however many they are.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a study amounts to: arms, cells left out and why, trials to run and already stored. Runs nothing.

    Example: `ablate plan quickstart`
    """
    planned, stored = api.planned(study, results)
    if as_json:
        _print_json(listing.plan_json(planned, stored))
    else:
        console.print(listing.plan_page(planned, stored, everything=everything, with_trials=trials))


@app.command()
def run(
    study: StudyName,
    results: Results = DEFAULT_RESULTS,
    tracking_uri: TrackingUri = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at a time. Default: one a GPU, or one a core without GPUs."),
    ] = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Without Ray, one trial after another: for debuggers.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Run just the trials whose key begins so (`ablate plan --trials`)."),
    ] = None,
    other_code: Annotated[
        OtherCode, typer.Option(help="What to do with stored results that other code made.")
    ] = "refuse",
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray and MLflow say.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the trials of a study that have no result yet, then print its table. Run it again to go on.

    Example: `ablate run ./my_study.py --concurrency 4`
    """
    _logging(verbose)
    progress = Console(stderr=not console.is_terminal, highlight=False)
    ran = run_plan(
        plan_study(load_study(study)),
        results,
        console=progress,
        tracking_uri=tracking_uri,
        use_ray=not in_process,
        concurrency=concurrency,
        only=only,
        other_code=other_code,
        verbose=verbose,
    )
    if ran.problem:
        _say(f"[yellow]MLflow:[/] {escape(ran.problem)}")
    if ran.interrupted:
        _say(_how_to_go_on(ran, study, results))
        _leave(130)
    if as_json:
        _put(api.table_text(ran.results, "json"))
    else:
        console.print(api.table_page(ran.results, width=console.width))
    _say(listing.where_to_look(ran, study, results, tracking_uri))
    if ran.failed:
        raise typer.Exit(1)


@app.command()
def table(
    study: StudyName,
    results: Results = DEFAULT_RESULTS,
    format_: Annotated[str, typer.Option("--format", "-f", help=f"{', '.join(FORMATS)}.")] = "text",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead.")] = None,
    mixed_code: Annotated[bool, typer.Option("--mixed-code", help="Allow results that different code made.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the ablation table of a study from its stored results.

    Example: `ablate table quickstart --format latex -o table.tex`
    """
    format_ = "json" if as_json else format_
    one_of("--format", format_, FORMATS)
    found = api.stored_results(study, results, mixed_code=mixed_code)
    if output is not None:
        _write(output, api.table_text(found, format_))
    elif format_ == "text" and console.is_terminal:
        console.print(api.table_page(found, width=console.width))
    else:
        _put(api.table_text(found, format_, width=console.width))


@app.command()
def leaderboard(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="A study's name; all studies by default.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    tracking_uri: TrackingUri = None,
    task: Annotated[str | None, typer.Option(help="Just this task.")] = None,
    metric: Annotated[str | None, typer.Option(help="Just tasks with this metric.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="The best so many arms of each task.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the arms of each task by their mean, as MLflow has them.

    Example: `ablate leaderboard quickstart --task digits --top 3`
    """
    ranked = api.leaderboard(study, results=results, tracking_uri=tracking_uri, task=task, metric=metric, top=top)
    if as_json:
        _put(ranked.to_json(orient="records", indent=2))
    else:
        console.print(listing.leaderboard_table(ranked))


@app.command()
def inspect(
    study: StudyName,
    arm: Annotated[str | None, typer.Option(help="Name of an arm. Default: the baseline.")] = None,
    all_arms: Annotated[bool, typer.Option("--all-arms", help="One row an arm, and no pictures.")] = False,
    task: Annotated[str | None, typer.Option(help="Default: the first task on which the arm runs.")] = None,
    length: Annotated[int | None, typer.Option(min=2, help="Steps of a sequence. Default: the task's.")] = None,
    lag: Annotated[int | None, typer.Option(min=1, help="Steps to be remembered. Default: the task's, if any.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the pictures. Default: inspect/STUDY/ARM.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what an arm starts from: its eigenvalues, time scales and kernels, with warnings. Trains nothing.

    Example: `ablate inspect quickstart --arm init=legs --task delay`
    """
    from orchestrator import drawings  # with Matplotlib, which nothing else needs

    planned = plan_study(load_study(study))
    if all_arms:
        if arm is not None or output is not None:
            raise MistakeError("--all-arms draws nothing and takes every arm: leave out --arm and --output.")
        every = list(inspection.inspect_all(planned, task=task, length=length, lag=lag))
        if as_json:
            _print_json([inspection_page.as_json(found, []) for found in every])
        else:
            console.print(inspection_page.table(every, planned.study.name))
        return
    found, model = inspection.inspect(planned, *inspection.find_arm(planned, arm, task), length=length, lag=lag)
    files, notes = drawings.draw(found, inspection.layers(model)[0], output or drawings.default_folder(found))
    if as_json:
        _print_json(inspection_page.as_json(found, files))
    else:
        console.print(inspection_page.page(found, files, notes))


@app.command()
def sync(study: StudyName, results: Results = DEFAULT_RESULTS, tracking_uri: TrackingUri = None) -> None:
    """Bring MLflow level with the stored results of a study. Running it twice changes nothing.

    Example: `ablate sync quickstart --tracking-uri http://localhost:5000`
    """
    written, there = api.sync(study, results=results, tracking_uri=tracking_uri)
    console.print(f"{written} trials written to MLflow, {there} were there already.")


def main() -> None:
    """Run the command that the arguments name, and exit."""
    try:
        app()
    except MistakeError as mistake:
        sys.stderr.write(f"Error: {mistake}\n")
        sys.exit(2)
    except BrokenPipeError:  # `ablate table | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _leave(code: int) -> None:
    """Exit at once: after Ctrl-C nobody waits for the threads of libraries to wind down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _how_to_go_on(ran: Ran, study: str, results: Path) -> str:
    stored, total = len(ran.results) - ran.failed, len(ran.plan.trials)
    folder = "" if results == DEFAULT_RESULTS else f" --results {results}"
    rest = f"`ablate run {study}{folder}` goes on with the other {total - stored}."
    return f"Stopped. {stored} of {total} trials are stored; {rest}"


def _say(text: str) -> None:
    """To people, not into a pipe that takes the table."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def _put(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text if text.endswith("\n") else text + "\n")
    except OSError as error:
        raise MistakeError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
    _say(f"Written to {path}.")


def _print_json(value: Any) -> None:
    _put(json.dumps(value, indent=2, allow_nan=False))


def _logging(verbose: bool) -> None:
    handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False, markup=False)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, handlers=[handler], format="%(message)s", force=True
    )
