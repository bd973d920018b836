"""What must be said below a table of effects: what did not finish, what n can show, what is not separable."""

import math

import pandas as pd

from orchestrator.cells import Unit, unit_of
from orchestrator.paired import MOST_SEEDS, POWER, seeds_for_sign_flip, sign_flip_floor


def notes(effects: pd.DataFrame) -> list[str]:
    """Sentences for below the table of `effects(...)`, most important first."""
    if effects.empty:
        return ["There are no trials."]
    return [
        *_unfinished(effects),
        *_about_p(effects),
        *_not_separable(effects),
        *_no_p(effects),
        *_no_spread(effects),
        *_at_chance(effects),
        *_sizes(effects),
    ]


def _alpha(effects: pd.DataFrame) -> float:
    return round(1 - float(effects["confidence"].iloc[0]), 12)


def _unfinished(effects: pd.DataFrame) -> list[str]:
    lost = effects[effects["n"] < effects["planned"]]
    if lost.empty:
        return []
    cases = "; ".join(
        f"{row['arm']} on {row['task']}, of {row['planned']}: {row['reasons']}" for _, row in lost.iterrows()
    )
    sentences = [
        f"Trials that did not finish: {cases}. Mean, effect and p of these arms are conditional on "
        "finishing: they hold for the seeds that did."
    ]
    if bool(lost["baseline"].any()):
        tasks = lost.loc[lost["baseline"], "task"].tolist()
        sentences.append(f"The baseline lost seeds on {_and(tasks)}: so is every effect there.")
    return sentences


def _about_p(effects: pd.DataFrame) -> list[str]:
    """What n can and cannot show, for each combination of n and family size m that occurs."""
    others = effects[~effects["baseline"]]
    if others.empty:
        return []
    if not effects["baseline"].any():
        return ["There is no baseline among the arms: no effects."]
    tasks: dict[int, list[str]] = {}
    families: dict[int, list[int]] = {}
    for task, rows in others.groupby("task", sort=False):
        n = int(rows["pairs"].max())
        tasks.setdefault(n, []).append(str(task))
        families.setdefault(n, []).append(int(rows["p_holm"].notna().sum()) or len(rows))
    sentences = [
        (f"On {_and(names)}: " if len(tasks) > 1 else "") + _what_n_shows(n, families[n], _alpha(effects))
        for n, names in tasks.items()
    ]
    count = effects["task"].nunique()
    if count > 1 and bool(others["p"].notna().any()):
        sentences.append(f"p is corrected over the arms of each task, not over the {count} tasks.")
    return sentences


def _what_n_shows(n: int, families: list[int], alpha: float) -> str:
    """The sentence on n seeds and families of these sizes."""
    if n == 0:
        return "no seed was finished by both the baseline and another arm, so there are no effects."
    few, many = min(families), max(families)
    least, need = seeds_for_sign_flip(few, alpha), seeds_for_sign_flip(many, alpha)
    arms = f"{_span(few, many)} arm{'s' if many > 1 else ''}"
    reach = f"p < {alpha:g} after Holm over {arms}"
    if n == 1:
        return (
            "n = 1: one seed shows no spread, so there are no intervals and no p. 2 seeds give a paired t test, "
            f"{_span(least, need)} let a distribution-free test reach {reach}."
        )
    text = f"n = {n}: p is the paired t test's and assumes normally distributed differences"
    if n >= need:
        return f"{text}."
    return (
        f"{text}; a distribution-free test (sign-flip, Wilcoxon) of {n} pairs cannot go below "
        f"p = {sign_flip_floor(n):.3g}, and reaches {reach} only from n = {_span(least, need)}."
    )


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _not_separable(effects: pd.DataFrame) -> list[str]:
    """Which arms, what they would need, and what n could have found."""
    sentences: list[str] = []
    for task, all_rows in effects.groupby("task", sort=False):
        rows = all_rows[all_rows["p"].notna() & ~all_rows["separable"]]
        if rows.empty:
            continue
        arms = ", ".join(f"{row['arm']} ({_needed(row)})" for _, row in rows.iterrows())
        unit = unit_of(str(rows["metric"].iloc[0]), all_rows["mean"])
        found = all_rows["detectable"].dropna()
        limit = f" The smallest effect that n can find there is {_range(found, unit)}." if len(found) else ""
        sentences.append(f"Not separable from the baseline on {task}: {arms}.{limit}")
    if not sentences:
        return []
    sentences.append(
        f"Seeds in brackets give {100 * POWER:.0f} % power at the corrected level if the effect and the "
        "spread seen are the true ones: a rough guide. Not separable does not mean equal."
    )
    alone = effects[(effects["effect_low"] * effects["effect_high"] > 0) & ~effects["separable"]]
    if len(alone):
        cases = "; ".join(
            f"{row['arm']} on {row['task']} (p = {row['p']:.2g}, {row['p_holm']:.2g} after Holm)"
            for _, row in alone.iterrows()
        )
        sentences.append(f"An interval is for one arm alone; these leave out 0 but are not separable: {cases}.")
    return sentences


def _needed(row: pd.Series) -> str:
    if not pd.isna(row["n_needed"]):
        return f"{row['n_needed']} seeds"
    return f"over {MOST_SEEDS:,} seeds" if row["detectable"] > 0 else "no spread seen"


def _range(values: pd.Series, unit: Unit) -> str:
    low, high = (f"{float(f'{value * unit.scale:.2g}'):g}" for value in (values.min(), values.max()))
    name = {"%": " percentage points", "": ""}.get(unit.name, f" ({unit.name})")
    return f"{low}{name}" if low == high else f"{low} to {high}{name}, depending on the arm"


def _no_spread(effects: pd.DataFrame) -> list[str]:
    """Arms whose differences from the baseline are all equal."""
    flat = effects[(effects["pairs"] > 1) & effects["effect_low"].isna()]
    same, shifted = flat[flat["effect"] == 0], flat[flat["effect"] != 0]
    sentences = []
    if len(same):
        sentences.append(
            f"Exactly the baseline's scores on every seed: {_cases(same)}. The change does nothing there, or the "
            "task does not show it."
        )
    if len(shifted):
        sentences.append(
            f"The same difference on every seed, so no interval, and p is the sign-flip test's: {_cases(shifted)}."
        )
    return sentences


def _no_p(effects: pd.DataFrame) -> list[str]:
    """Arms without a p on tasks where others have one."""
    tested = effects.loc[effects["p"].notna(), "task"]
    without = effects[~effects["baseline"] & effects["p"].isna() & effects["task"].isin(tested)]
    if without.empty:
        return []
    return [f"Not tested, because fewer than 2 seeds are paired with the baseline's: {_cases(without)}."]


def _at_chance(effects: pd.DataFrame) -> list[str]:
    """Arms whose mean may be that of knowing nothing: an effect between two of them says little."""
    inside = (effects["low"] <= effects["chance"]) & (effects["chance"] <= effects["high"])
    worse = (effects["mean"] < effects["chance"]) == effects["higher_is_better"]
    beyond = effects["mean"].notna() & ((effects["mean"] == effects["chance"]) | worse)
    at = effects[inside | beyond]
    if at.empty:
        return []
    cases = "; ".join(f"{_and(rows['arm'].tolist())} on {task}" for task, rows in at.groupby("task", sort=False))
    return [f"Not shown to be better than chance: {cases}."]


def _sizes(effects: pd.DataFrame) -> list[str]:
    """Arms whose parameters differ from the baseline's by 1 % or more: their effect may be that of size."""
    bigger: dict[str, str] = {}
    for _, rows in effects.groupby("task", sort=False):
        base = rows.loc[rows["baseline"], "parameters"].dropna()
        for _, row in rows[~rows["baseline"]].iterrows():
            if len(base) and not pd.isna(row["parameters"]):
                change = 100 * (int(row["parameters"]) / int(base.iloc[0]) - 1)
                if math.fabs(change) >= 1:
                    bigger.setdefault(row["arm"], f"{row['arm']} ({change:+.0f} %)")
    return [f"Parameters differ from the baseline's: {', '.join(bigger.values())}."] if bigger else []


def _cases(rows: pd.DataFrame) -> str:
    """`init=legs on listops; ...`."""
    return "; ".join(f"{_and(found['arm'].tolist())} on {task}" for task, found in rows.groupby("task", sort=False))


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
