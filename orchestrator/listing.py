"""Pages of the command that are not the ablation table: what there is, what a study amounts to, who leads."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from descriptions import one_of
from orchestrator.driver import Ran
from search_spaces import DESIGNS, SCHEDULES, Arm, Omitted, Plan, built_in_studies, label, load_study, plan, variants
from ssm_models import ModelConfig
from ssm_models.levels import MODEL_LEVELS, PARAMETRISED_LEVELS, STRUCTURE_LEVELS
from ssm_models.structures import STRUCTURES
from tasks import METRICS, TASKS

Row = dict[str, Any]
T = TypeVar("T")


def sections(what: str) -> dict[str, list[Row]]:
    """What `ablate list` shows: section name -> its rows."""
    makers: dict[str, Callable[[], list[Row]]] = {
        "studies": _studies,
        "tasks": _tasks,
        "structures": _structures,
        "levels": _levels,
    }
    one_of("list", what, ["all", *makers])
    return {name: make() for name, make in makers.items() if what in (name, "all")}


def _studies() -> list[Row]:
    rows = []
    for name in (reference for study in built_in_studies() for reference in variants(study)):
        planned = plan(load_study(name))
        rows.append({"study": name, "trials": len(planned.trials), "question": planned.study.question})
    return rows


def _tasks() -> list[Row]:
    rows = []
    for name, make in TASKS.items():
        spec = make().spec
        wide = f"{spec.inputs} tokens" if spec.tokens else f"{spec.inputs} channels"
        direction = "higher" if METRICS[spec.metric].higher_is_better else "lower"
        rows.append(
            {
                "task": name,
                "kind": spec.kind,
                "length": spec.length,
                "input": wide,
                "outputs": spec.outputs,
                "metric": f"{spec.metric} ({direction} is better)",
                "chance": round(spec.chance, 4),
            }
        )
    return rows


def _structures() -> list[Row]:
    described: dict[str, type[Any]] = {
        "model": ModelConfig,
        **{f"model.structure = {name}": cls for name, cls in STRUCTURES.items()},
    }
    return [
        {"of": of, "path": f"{of.split(' ')[0]}.{field.name}", "default": label(getattr(cls(), field.name))}
        for of, cls in described.items()
        for field in dataclasses.fields(cls)
    ]


def _levels() -> list[Row]:
    named = {
        **{
            f"model.structure.{field}": [*levels, *(repr(value) for value in PARAMETRISED_LEVELS.get(field, []))]
            for field, levels in STRUCTURE_LEVELS.items()
        },
        **{f"model.{field}": levels for field, levels in MODEL_LEVELS.items()},
        "training.schedule": SCHEDULES,
        "design": DESIGNS,
    }
    return [{"path": path, "levels": ", ".join(levels)} for path, levels in named.items()]


def table(title: str, rows: Sequence[Row]) -> Table:
    """Rows with a column for each key of the first; numbers to the right."""
    page = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for name, value in rows[0].items() if rows else ():
        page.add_column(name, justify="right" if isinstance(value, int) else "left", overflow="fold")
    for row in rows:
        page.add_row(*(escape(str(value)) for value in row.values()))
    return page


#: So many arms are listed, and so many cells that are left out, before a plan is summed up.
ARMS_SHOWN, CELLS_SHOWN = 40, 10


def plan_page(planned: Plan, stored: set[str], *, everything: bool = False, with_trials: bool = False) -> Group:
    """What a study amounts to: a long list in short, unless everything is asked for."""
    study = planned.study
    missing = sum(trial.key not in stored for trial in planned.trials) if stored else len(planned.trials)
    arms = planned.arms if everything else planned.arms[:ARMS_SHOWN]
    parts: list[RenderableType] = [
        Text.assemble((study.name, "bold"), f": {study.question}"),
        Text(
            f"{study.design}: {len(planned.arms)} arms x {len(study.tasks)} tasks x {len(study.seeds)} seeds = "
            f"{len(planned.trials)} trials, {len(planned.trials) - missing} stored, {missing} to run\n"
        ),
        table("Arms", [_arm_row(arm, planned) for arm in arms]),
    ]
    if len(arms) < len(planned.arms):
        parts.append(Text(f"... and {len(planned.arms) - len(arms)} more (--all)", style="dim"))
    left_out = [
        ("Skipped: cannot exist", planned.skipped),
        ("Collapsed: the same model as another arm", planned.collapsed),
    ]
    for title, omitted in left_out:
        if omitted:
            rows = _in_full(omitted) if everything or len(omitted) <= CELLS_SHOWN else by_reason(omitted)
            parts += [Text(), table(title, rows)]
    parts += _caveats(planned, everything)
    if with_trials:
        parts += [Text(), table("Trials", _trial_rows(planned, stored))]
    return Group(*parts)


def _in_full(omitted: Sequence[Omitted]) -> list[Row]:
    return [
        {
            "cell": o.cell,
            "task": o.task or "all",
            "reason": o.reason,
            **({} if o.twin is None else {"the same model as": o.twin}),
        }
        for o in omitted
    ]


def by_reason(omitted: Sequence[Omitted]) -> list[Row]:
    """One row for all reasons that differ only in the values that they name, the most frequent first."""
    several_tasks = any(o.task for o in omitted)
    return [
        {
            "cells": len(group),
            **({"task": group[0].task or "all"} if several_tasks else {}),
            "reason": _common([o.reason for o in group]),
            "for example": group[0].cell if group[0].twin is None else f"{group[0].cell} -> {group[0].twin}",
        }
        for group in _alike(omitted, lambda o: (o.reason, o.task))
    ]


def _caveats(planned: Plan, everything: bool) -> list[RenderableType]:
    found = [(arm.name, sentence) for arm in planned.arms for sentence in arm.caveats]
    if not found:
        return []
    if everything or len(found) <= CELLS_SHOWN:
        return [Text(), Text("Caveats", style="bold"), *(Text(f"{name}: {sentence}") for name, sentence in found)]
    rows = [
        {"arms": len(group), "caveat": _common([sentence for _, sentence in group]), "for example": group[0][0]}
        for group in _alike(found, lambda pair: (pair[1], None))
    ]
    return [Text(), table("Caveats", rows)]


#: A value that a sentence names: 'lin', 64, 1.2e-05.
_VALUE = re.compile(r"'[^']*'|(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def _alike(items: Sequence[T], sentence_and_task: Callable[[T], tuple[str, str | None]]) -> list[list[T]]:
    """Groups whose sentences differ only in the values that they name, the largest first."""
    groups: dict[tuple[str, str | None], list[T]] = {}
    for item in items:
        sentence, task = sentence_and_task(item)
        groups.setdefault((_VALUE.sub("\0", sentence), task), []).append(item)
    return sorted(groups.values(), key=len, reverse=True)


def _common(sentences: Sequence[str]) -> str:
    """Sentences that differ only in their values as one, with an ellipsis for the values that differ."""
    columns = zip(*(_VALUE.findall(sentence) for sentence in sentences), strict=True)
    shown = iter([column[0] if len(set(column)) == 1 else "…" for column in columns])
    return _VALUE.sub(lambda match: next(shown), sentences[0])


def _trial_rows(planned: Plan, stored: set[str]) -> list[Row]:
    return [
        {
            "key": trial.key[:12],
            "task": trial.task_name,
            "arm": trial.arm,
            "seed": trial.seed,
            "stored": "yes" if trial.key in stored else "",
        }
        for trial in planned.trials
    ]


def _arm_row(arm: Arm, planned: Plan) -> Row:
    tasks = [on.name for on in planned.study.on]
    on = "all" if len(arm.recipes) == len(tasks) else ", ".join(task for task in tasks if task in arm.recipes)
    return {
        "arm": arm.name,
        "tasks": on,
        "structure": label(next(iter(arm.recipes.values())).model.structure),
    }


def plan_json(planned: Plan, stored: set[str]) -> Row:
    """The same for programs."""
    return {
        "study": planned.study.name,
        "question": planned.study.question,
        "design": planned.study.design,
        "arms": [
            {
                "arm": arm.name,
                "levels": {path: label(level) for path, level in arm.levels.items()},
                "tasks": list(arm.recipes),
                "caveats": list(arm.caveats),
            }
            for arm in planned.arms
        ],
        "skipped": [dataclasses.asdict(omitted) for omitted in planned.skipped],
        "collapsed": [dataclasses.asdict(omitted) for omitted in planned.collapsed],
        "trials": [
            {
                "key": trial.key,
                "task": trial.task_name,
                "arm": trial.arm,
                "seed": trial.seed,
                "stored": trial.key in stored,
            }
            for trial in planned.trials
        ],
    }


def leaderboard_table(ranked: pd.DataFrame) -> Table:
    """Arms by rank within their study and task."""
    page = Table(box=None, header_style="dim", pad_edge=False)
    studies = ranked["study"].nunique()
    for name in (["study"] if studies > 1 else []) + ["task", "rank", "arm"]:
        page.add_column(name, no_wrap=name != "arm", overflow="fold")
    for name in ("mean", "95 % interval", "n", "effect", "p (Holm)"):
        page.add_column(name, justify="right", no_wrap=True)
    for (study, task), arms in ranked.groupby(["study", "task"], sort=False):
        for rank, row in enumerate(arms.to_dict("records"), start=1):
            page.add_row(
                *([escape(str(study))] if studies > 1 else []),
                escape(str(task)) if rank == 1 else "",
                str(rank),
                escape(row["arm"]),
                _number(row["mean"]),
                f"{_number(row['low'])} to {_number(row['high'])}" if pd.notna(row["low"]) else "",
                str(row["n"]),
                _number(row["effect"], sign=True),
                _number(row["p_holm"]),
            )
    return page


def _number(value: float, *, sign: bool = False) -> str:
    if pd.isna(value):
        return ""
    return f"{value:+.4g}" if sign else f"{value:.4g}"


def where_to_look(ran: Ran, study: str, results: Path, tracking_uri: str | None) -> str:
    """The next commands, after a run."""
    uri = tracking_uri or f"sqlite:///{results / 'mlflow.db'}"
    folder = "" if results == Path("results") else f" --results {results}"
    lines = [
        f"[dim]Results[/]  {results / ran.plan.study.name} (Parquet)",
        f"[dim]Table[/]    ablate table {study}{folder} --format latex",
    ]
    if uri.startswith("sqlite:"):
        lines.append(f"[dim]MLflow[/]   mlflow ui --backend-store-uri {uri}")
    else:
        lines.append(f"[dim]MLflow[/]   {uri}")
    return "\n".join(lines)
