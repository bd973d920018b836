"""The tables of a study: one for pandas, one to read, the same numbers in both."""

from collections.abc import Callable

import pandas as pd

from descriptions import MistakeError, did_you_mean, one_of
from orchestrator.effects import effects
from orchestrator.formats import as_json, csv, markdown
from orchestrator.latex import latex
from orchestrator.terminal import text

#: The columns of `ablation_table` under each task, as `effects.Effect` defines them.
VALUES = ("mean", "effect", "effect_low", "effect_high", "p_holm", "n")


def ablation_table(df: pd.DataFrame, *, baseline: str | None = None, confidence: float = 0.95) -> pd.DataFrame:
    """Arms as rows, the baseline first; a column pair (task, value) for each of VALUES; unrounded numbers.

    `table["listops"]` is one task, `table.xs("effect", axis=1, level="value")` one value. Numbers are in the
    metric's own unit; what a study cannot give is NaN. `effects(df)` has more, one row per task and arm.

    Args:
        df: results, one row a trial.
        baseline: compare with this arm instead of the study's own baseline.
        confidence: of the intervals.

    """
    if baseline is not None:
        known = [str(arm) for arm in df["arm"].unique()]
        if baseline not in known:
            raise MistakeError(f"There is no arm {baseline!r}.{did_you_mean(baseline, known)}")
        df = df.assign(baseline=df["arm"] == baseline)
    rows = effects(df, confidence=confidence)
    arms = rows.sort_values("baseline", ascending=False, kind="stable")["arm"].unique()
    columns = pd.MultiIndex.from_product([rows["task"].unique(), VALUES], names=["task", "value"])
    table = rows.pivot(index="arm", columns="task", values=list(VALUES)).swaplevel(axis=1)
    table = table.reindex(index=pd.Index(arms, name="arm"), columns=columns)
    return table.astype({column: "Int64" if column[1] == "n" else "float64" for column in columns})


def render(effects: pd.DataFrame, notes: list[str], format: str, *, title: str = "Ablation", width: int = 100) -> str:
    """The table of `effects(...)` with its `notes(...)` in one of FORMATS; `width` is for text only."""
    one_of("format", format, FORMATS)
    return FORMATS[format](effects, notes, title, width)


#: name -> (effects, notes, title, width) -> text
FORMATS: dict[str, Callable[[pd.DataFrame, list[str], str, int], str]] = {
    "text": text,
    "markdown": markdown,
    "csv": csv,
    "latex": latex,
    "json": as_json,
}
