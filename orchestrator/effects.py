"""What each arm changes: DataFrame of trials in, DataFrame of paired effects out.

Arms are compared with the baseline seed by seed, within a task, and p is corrected (Holm) over its arms.
No trial is dropped silently: what did not finish is counted, explained, and said beside its numbers.
"""

import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from textwrap import shorten
from typing import Any

import pandas as pd

from descriptions import MistakeError
from orchestrator.paired import (
    NAN,
    Comparison,
    compare,
    detectable,
    holm,
    mean_interval,
    seeds_for_sign_flip,
    seeds_needed,
)

Trial = dict[Hashable, Any]  # a row of the results, by column

#: The columns of a study's results that `effects` reads.
NEEDED = (
    "arm",
    "task",
    "seed",
    "baseline",
    "status",
    "reason",
    "metric",
    "higher_is_better",
    "chance",
    "test",
    "parameters",
    "seconds",
)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one arm did on one task: a row of `effects`. A number that the trials cannot give is NaN or NA."""

    task: str
    arm: str
    baseline: bool
    metric: str
    higher_is_better: bool
    n: int  # trials that finished with a score
    planned: int  # all trials
    diverged: int
    failed: int  # oom, failed and pruned
    mean: float  # of the n test scores, in the metric's unit
    sd: float
    low: float  # t-interval of the mean
    high: float
    effect: float = NAN  # mean of arm - baseline over the pairs; above 0 the arm scores higher, better or not
    effect_low: float = NAN  # t-interval of the effect, for this arm alone (not corrected for the others)
    effect_high: float = NAN
    pairs: int = 0  # seeds that both the arm and the baseline finished
    p: float = NAN  # paired t test; the sign-flip test's where all differences are equal
    p_holm: float = NAN  # Holm, over the arms of the task that have a p
    separable: bool = False  # p_holm < 1 - confidence
    n_needed: int | None = None  # seeds to find an effect like the one seen, at the level of Holm's first step
    detectable: float = NAN  # the smallest |effect| that Holm's first step could find with this n and spread
    note: str = ""
    reasons: str = ""  # why trials did not finish, counted
    chance: float  # the metric's value for knowing nothing
    parameters: int | None
    seconds: float  # mean training time of the n trials
    confidence: float


def effects(df: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """One row per task and arm (`Effect`), in the order in which they first appear, the baseline first.

    `df` has one row a trial (`Result`). What is said about an arm that lost trials holds for the trials that
    finished, and its `note` says so.

    Raises:
        MistakeError: when a column is missing, two rows are the same trial, a task has two metrics or two
            baselines, or `confidence` is not between 0 and 1.

    """
    _check(df, confidence)
    trials: dict[tuple[str, str], list[Trial]] = {}
    for trial in df[list(NEEDED)].to_dict("records"):
        trials.setdefault((trial["task"], trial["arm"]), []).append(trial)
    marked = {arm for (_, arm), found in trials.items() if any(trial["baseline"] for trial in found)}
    arms = sorted(df["arm"].unique(), key=lambda arm: arm not in marked)  # a stable sort keeps the order
    rows: list[Effect] = []
    for task in df["task"].unique():
        rows += _of_task([trials[task, arm] for arm in arms if (task, arm) in trials], confidence)
    table = pd.DataFrame([vars(row) for row in rows], columns=[field.name for field in fields(Effect)])
    return table.astype({"n_needed": "Int64", "parameters": "Int64"})


def _check(df: pd.DataFrame, confidence: float) -> None:
    if not 0 < confidence < 1:
        raise MistakeError(f"confidence={confidence} must be between 0 and 1.")
    if missing := [name for name in NEEDED if name not in df.columns]:
        raise MistakeError(f"The results have no column {missing[0]!r}.")
    twice = df.loc[df.duplicated(["task", "arm", "seed"]), ["task", "arm", "seed"]]
    for task, arm, seed in twice.itertuples(index=False):
        raise MistakeError(f"Arm {arm!r} has seed {seed} on {task!r} more than once; pairs need one trial for each.")
    for task, metrics in df.groupby("task", sort=False)[["metric", "higher_is_better"]]:
        if len(metrics.drop_duplicates()) > 1:
            raise MistakeError(f"Task {task!r} is scored in several ways: {sorted(set(metrics['metric']))}.")
    for task, names in df[df["baseline"].astype(bool)].groupby("task", sort=False)["arm"]:
        if names.nunique() > 1:
            raise MistakeError(f"Task {task!r} has several baselines: {sorted(set(names))}.")


def _of_task(arms: list[list[Trial]], confidence: float) -> list[Effect]:
    """The arms of one task: each described, then compared with the baseline, then corrected together."""
    described = [_describe(trials, confidence) for trials in arms]
    baseline = next((scores for row, scores in described if row.baseline), None)
    compared = {row.arm: compare(scores, baseline or {}, confidence) for row, scores in described if not row.baseline}
    corrected = holm({arm: pair.p for arm, pair in compared.items()})
    m = len(corrected) or max(1, len(compared))
    alpha = round(1 - confidence, 12)  # 0.05, not 0.050000000000000044
    rows: list[Effect] = []
    for row, _ in described:
        if not row.baseline:
            row = _add(row, compared[row.arm], corrected.get(row.arm, NAN), alpha / m)
            row = replace(row, separable=row.p_holm < alpha)
        rows.append(replace(row, note=_note(row, baseline is not None, seeds_for_sign_flip(m, alpha), alpha)))
    return rows


def _add(row: Effect, pair: Comparison, p_holm: float, level: float) -> Effect:
    return replace(
        row,
        effect=pair.effect,
        effect_low=pair.low,
        effect_high=pair.high,
        pairs=pair.pairs,
        p=pair.p,
        p_holm=p_holm,
        n_needed=seeds_needed(pair.effect, pair.spread, level),
        detectable=detectable(pair.pairs, pair.spread, level),
    )


def _describe(trials: list[Trial], confidence: float) -> tuple[Effect, dict[int, float]]:
    """An arm on its own, and its scores by seed."""
    finished = [trial for trial in trials if trial["status"] == "ok" and _is_number(trial["test"])]
    # by rising seed, so that rows in any order give the same sums
    scores = dict(sorted((int(trial["seed"]), float(trial["test"])) for trial in finished))
    unfinished = [trial for trial in trials if trial["seed"] not in scores]
    diverged = sum(trial["status"] == "diverged" for trial in trials)
    mean, sd, low, high = mean_interval(list(scores.values()), confidence)
    sizes = [int(trial["parameters"]) for trial in trials if _is_number(trial["parameters"])]
    first = trials[0]
    row = Effect(
        task=str(first["task"]),
        arm=str(first["arm"]),
        baseline=bool(first["baseline"]),
        metric=str(first["metric"]),
        higher_is_better=bool(first["higher_is_better"]),
        n=len(scores),
        planned=len(trials),
        diverged=diverged,
        failed=len(unfinished) - diverged,
        mean=mean,
        sd=sd,
        low=low,
        high=high,
        reasons=_reasons(unfinished),
        chance=float(first["chance"]),
        parameters=sizes[0] if sizes else None,
        seconds=sum(float(trial["seconds"]) for trial in finished) / len(finished) if finished else NAN,
        confidence=confidence,
    )
    return row, scores


def _is_number(value: Any) -> bool:
    return not pd.isna(value) and math.isfinite(value)


def _reasons(unfinished: list[Trial]) -> str:
    """`2 diverged (the loss is NaN at step 12), 1 oom`. A trial that is ok without a finite score says so."""
    counts: Counter[str] = Counter()
    for trial in unfinished:
        status, reason = str(trial["status"]), trial["reason"] if isinstance(trial["reason"], str) else ""
        if status == "ok":
            status, reason = "failed", "no finite test score"
        line = "".join(c if c.isprintable() else " " for c in reason.strip().partition("\n")[0])  # no escape codes
        text = shorten(line, 90, placeholder=" ...").rstrip(".")
        counts[f"{status} ({text})" if text else status] += 1
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def _note(row: Effect, compared: bool, seeds_free: int, alpha: float) -> str:
    """What must be known to read the row's numbers, in one sentence, or nothing."""
    parts: list[str] = []
    lost = row.planned - row.n
    if row.n == 0:
        parts.append(f"none of {row.planned} trials finished: no score")
    elif lost:
        parts.append(f"{lost} of {row.planned} did not finish; mean, effect and p hold for the {row.n} that did")
    if not row.baseline and not compared:
        parts.append("there is no baseline to compare with")
    elif not row.baseline and row.pairs < row.n:
        parts.append(f"the baseline finished {row.pairs} of its {row.n} seeds; effect and p are over those")
    if row.n == 1 or row.pairs == 1:
        what = "one seed" if row.n == 1 else "one pair"
        parts.append(
            f"{what}: no interval and no p; 2 give a paired t test, {seeds_free} allow p < {alpha:g} "
            "without assuming a distribution"
        )
    if row.pairs > 1 and math.isnan(row.effect_low):
        parts.append(
            "the same score as the baseline's on every seed: the change did nothing that the score shows"
            if row.effect == 0
            else "the same difference on every seed: no interval, and p is the sign-flip test's"
        )
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""
