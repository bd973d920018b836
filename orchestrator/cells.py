"""The table that every format prints: an effects table as text, rounded by its uncertainty, without markup.

Arms are rows and tasks are column groups. A cell holds `mean ± half-width` and the effect with its interval,
and says how many trials finished when not all did. Accuracies are printed in %, small or large numbers in a
power of ten that the heading names.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from orchestrator.paired import seeds_for_sign_flip

#: Marks of a separable arm: n is enough for a distribution-free test to find one, or is not.
FREE, NORMAL = "*", "†"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Unit(NamedTuple):
    """What numbers are printed in: value * scale, under a heading that shows `name`."""

    scale: float
    name: str


@dataclass(frozen=True)
class Heading:
    """A column group."""

    task: str
    metric: str
    unit: Unit
    arrow: str  # where better is

    @property
    def label(self) -> str:
        """`accuracy (%) ↑`."""
        return f"{self.metric} ({self.unit.name}) {self.arrow}" if self.unit.name else f"{self.metric} {self.arrow}"


@dataclass(frozen=True)
class Cell:
    """One arm on one task. A text is empty where there is no number."""

    mean: str = ""
    half: str = ""  # half-width of the interval of the mean
    effect: str = ""
    low: str = ""
    high: str = ""
    mark: str = ""  # FREE or NORMAL when separable
    helps: bool = False  # the effect is towards better
    lost: str = ""  # "2/3, 1 diverged" when trials did not finish
    best: bool = False
    second: bool = False

    @property
    def score(self) -> str:
        """`86.3 ± 1.2`, and a dash for no score."""
        return f"{self.mean} ± {self.half}" if self.half else self.mean or "–"

    @property
    def change(self) -> str:
        """`+1.2 [-0.3, +2.7]`, and nothing for no effect."""
        return f"{self.effect} [{self.low}, {self.high}]" if self.low else self.effect


@dataclass(frozen=True)
class Sheet:
    """The printed table."""

    headings: list[Heading]
    arms: list[str]  # the baseline first
    baseline: str | None
    cells: dict[tuple[str, str], Cell]  # by arm and task
    legend: list[str]  # how to read it; true of these very cells


def sheet(effects: pd.DataFrame) -> Sheet:
    """The printed table of `effects(...)`."""
    headings: list[Heading] = []
    cells: dict[tuple[str, str], Cell] = {}
    for task, rows in effects.groupby("task", sort=False):
        first = rows.iloc[0]
        unit = unit_of(str(first["metric"]), rows["mean"])
        arrow = "↑" if first["higher_is_better"] else "↓"
        headings.append(Heading(str(task), str(first["metric"]), unit, arrow))
        cells |= {(arm, str(task)): cell for arm, cell in _column(rows, unit).items()}
    marked = effects.loc[effects["baseline"], "arm"].unique().tolist()
    arms = [*marked, *(arm for arm in effects["arm"].unique() if arm not in marked)]
    return Sheet(headings, arms, marked[0] if marked else None, cells, _legend(effects, list(cells.values())))


def unit_of(metric: str, means: pd.Series) -> Unit:
    """% for accuracies; a power of 1000 for numbers under 0.01 or from 100,000; else the metric as it is."""
    if "accuracy" in metric:
        return Unit(100.0, "%")
    typical = float(means.abs().median())  # NaN when no arm has a score
    if not typical > 0 or 0.01 <= typical < 1e5:
        return Unit(1.0, "")
    exponent = min(300, max(-300, 3 * math.floor(math.log10(typical) / 3)))  # where floats end
    return Unit(10.0**-exponent, f"10{str(exponent).translate(_SUPERSCRIPT)}")


def _column(rows: pd.DataFrame, unit: Unit) -> dict[str, Cell]:
    """The cells of one task, by arm."""
    numbers = ["mean", "low", "high", "effect", "effect_low", "effect_high"]
    shown = rows.assign(**{name: rows[name] * unit.scale for name in numbers})
    shown["half"] = (shown["high"] - shown["low"]) / 2
    shown["effect_half"] = (shown["effect_high"] - shown["effect_low"]) / 2
    digits = _digits(shown["half"], shown["mean"])
    effect_digits = _digits(shown["effect_half"], shown["effect"])
    best, second = _ranks(rows)
    family = max(1, int(rows["p_holm"].notna().sum()))
    enough = seeds_for_sign_flip(family, round(1 - float(rows["confidence"].iloc[0]), 12))
    cells: dict[str, Cell] = {}
    for _, row in shown.iterrows():
        own, own_effect = _finer(digits, row["half"]), _finer(effect_digits, row["effect_half"])
        cells[row["arm"]] = Cell(
            mean=_fixed(row["mean"], own),
            half=_fixed(row["half"], own),
            effect=_fixed(row["effect"], own_effect, "+"),
            low=_fixed(row["effect_low"], own_effect, "+"),
            high=_fixed(row["effect_high"], own_effect, "+"),
            mark=(FREE if row["pairs"] >= enough else NORMAL) if row["separable"] else "",
            helps=bool((row["effect"] > 0) == row["higher_is_better"]),
            lost=_lost(row),
            best=row["arm"] in best,
            second=row["arm"] == second,
        )
    return cells


def _digits(halves: pd.Series, values: pd.Series) -> int:
    """Decimals of a column: two digits of the median half-width; without one, three of the largest value."""
    known = halves[halves > 0]
    size = float(known.median()) if len(known) else float(values.abs().max())
    if not size > 0:
        return 1
    return min(8, max(0, (1 if len(known) else 2) - math.floor(math.log10(size))))


def _finer(digits: int, half: float) -> int:
    """More decimals for a half-width that would be printed as 0: a printed ± is never 0."""
    return digits if not half > 0 else min(12, max(digits, -math.floor(math.log10(half))))


def _fixed(value: float, digits: int, sign: str = "-") -> str:
    """A number without a negative zero; nothing for NaN."""
    if math.isnan(value):
        return ""
    rounded = round(value, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:{sign if rounded else '-'}.{digits}f}"


def _lost(row: pd.Series) -> str:
    if row["n"] == row["planned"]:
        return ""
    said = [f"{row[name]} {name}" for name in ("diverged", "failed") if row[name]]
    return ", ".join([f"{row['n']}/{row['planned']}", *said])


def _ranks(rows: pd.DataFrame) -> tuple[set[str], str | None]:
    """The arms with the best mean, and the second of three or more where its interval overlaps no other arm's.

    An arm that lost trials is not ranked, its mean is of those that went well; and next to one there is no second.
    """
    scored = rows[rows["n"] > 0]
    ranked = scored[scored["n"] == scored["planned"]]
    if len(ranked) < 2:
        return set(), None
    order = ranked.sort_values("mean", ascending=not ranked["higher_is_better"].iloc[0], kind="stable")
    best = set(order.loc[order["mean"] == order["mean"].iloc[0], "arm"])
    if len(best) > 1 or len(ranked) < max(3, len(scored)):
        return best, None
    second, others = order.iloc[1], order.drop(index=order.index[1])
    apart = (others["low"] > second["high"]) | (others["high"] < second["low"])  # False where there is no interval
    return best, str(second["arm"]) if bool(apart.all()) else None


def _legend(effects: pd.DataFrame, cells: list[Cell]) -> list[str]:
    """Only what these cells use."""
    if effects.empty:
        return []
    confidence = float(effects["confidence"].iloc[0])
    interval, rule = (
        f"{100 * confidence:g} % t-interval",
        f"p < {1 - confidence:.3g} by the paired t test after Holm",
    )
    marks = {cell.mark for cell in cells}
    has_effects = any(cell.effect for cell in cells)
    has_intervals = any(cell.low for cell in cells)
    lines = {
        f"Mean ± half-width of its {interval} over seeds.": any(cell.half for cell in cells),
        "Effect: mean difference from the baseline, paired by seed"
        + (f", with its {interval} for that arm alone." if has_intervals else "."): has_effects,
        f"{FREE} Separable from the baseline: {rule}.": FREE in marks,
        f"{NORMAL} Separable from the baseline if differences are normal: {rule}; n is too small for a test "
        "that does not assume it.": NORMAL in marks,
        f"No arm is separable from the baseline: none has {rule}.": has_intervals and marks == {""},
        "k/n: k of n trials finished; the numbers hold for those k only.": any(cell.lost for cell in cells),
        "Bold: best mean of the arms that finished all trials; not a test.": any(cell.best for cell in cells),
        "Underlined: second, where its interval overlaps no other.": any(cell.second for cell in cells),
    }
    return [line for line, used in lines.items() if used]
