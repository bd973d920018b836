"""Designs: from a baseline and its axes to the cells that are compared.

A cell is a dict from an axis's path to a level; the baseline is the empty cell and always comes first. A design knows
nothing of models: whether a cell exists, which of its levels change something, and which cells are the same model, is
for the plan to find out.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Cell = dict[str, Any]
#: (axis path -> its levels, axis path -> the baseline's level where the baseline has that field) -> cells
Design = Callable[[Mapping[str, Sequence[Any]], Mapping[str, Any]], list[Cell]]


def one_at_a_time(axes: Mapping[str, Sequence[Any]], baseline: Mapping[str, Any]) -> list[Cell]:
    """The baseline, and for each axis each other level with everything else at the baseline: 1 + sum (levels - 1)."""
    alternatives = [{path: level} for path, levels in axes.items() for level in levels]
    return [{}, *(cell for cell in alternatives if _differences(cell, baseline))]


def factorial(axes: Mapping[str, Sequence[Any]], baseline: Mapping[str, Any]) -> list[Cell]:
    """Every combination of levels, and the baseline if it is not among them: prod levels.

    A cell keeps the levels that the baseline has too: a new structure may bring another one of its own.
    """
    combinations = [dict(zip(axes, levels, strict=True)) for levels in itertools.product(*axes.values())]
    return [{}, *(cell for cell in combinations if _differences(cell, baseline))]


def _differences(cell: Cell, baseline: Mapping[str, Any]) -> Cell:
    return {path: level for path, level in cell.items() if path not in baseline or not same(baseline[path], level)}


def same(one: Any, other: Any) -> bool:
    """Whether two levels are one level. True is not 1, though Python says so; 1.0 and 1 are."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


DESIGNS: dict[str, Design] = {"one_at_a_time": one_at_a_time, "factorial": factorial}
