"""From a study to its arms, the cells that were skipped or collapsed with the reason, and the trials."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from descriptions import ImpossibleError, MistakeError, digest, exists, read, replace_all
from search_spaces.design import DESIGNS, Cell, same
from search_spaces.study import Axis, On, Recipe, Study, label
from search_spaces.trial import Trial
from ssm_models import fit_to

BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One complete model description, named by how it differs from the baseline."""

    name: str
    levels: Cell  # axis path -> level, where it differs from the baseline
    recipes: Mapping[str, Recipe]  # task name -> what runs there; a task on which the arm is left out is absent

    @property
    def baseline(self) -> bool:
        """Whether the others are compared with this one."""
        return not self.levels

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """What its structure says of itself, on any task."""
        structures = [recipe.model.structure for recipe in self.recipes.values()]
        return tuple(dict.fromkeys(sentence for structure in structures for sentence in structure.caveats()))


@dataclass(frozen=True)
class Omitted:
    """A cell that is not run, on one task or (task None) on all, and the reason; if it collapsed, into which arm."""

    cell: str
    task: str | None
    reason: str
    twin: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study amounts to."""

    study: Study
    arms: tuple[Arm, ...]
    skipped: tuple[Omitted, ...]  # cells that cannot exist
    collapsed: tuple[Omitted, ...]  # cells that are the same model as an arm that runs
    trials: tuple[Trial, ...] = field(repr=False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Structures that check themselves decompose small matrices: on busy cores threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def plan(study: Study) -> Plan:
    """Work out a study. Raises `MistakeError` with every mistake in it, a line each."""
    mistakes = _mistakes(study)
    if mistakes:
        raise MistakeError("\n".join(dict.fromkeys(mistakes)))
    baseline = {axis.path: read(study.baseline, axis.path) for axis in study.axes if exists(study.baseline, axis.path)}
    settled = [(on, _settled(study, on)) for on in study.on]
    cells = DESIGNS[study.design]({axis.path: axis.levels for axis in study.axes}, baseline)
    variants = [_variant(study, cell, baseline, settled) for cell in cells]
    found = _Found()
    # Of equal cells the one with the fewest levels, then the first, is the arm that the others collapse into.
    for i in sorted(range(len(cells)), key=lambda i: len(variants[i].levels)):
        found.add(i, variants[i])
    arms = tuple(found.arms[i] for i in sorted(found.arms))
    return Plan(
        study=study,
        arms=arms,
        skipped=tuple(omitted for i in sorted(found.skipped) for omitted in found.skipped[i]),
        collapsed=tuple(omitted for i in sorted(found.collapsed) for omitted in found.collapsed[i]),
        trials=tuple(_trials(study, arms)),
    )


@dataclass(frozen=True, kw_only=True)
class _Variant:
    """What a cell turns the baseline into, on each task."""

    cell: str  # name of the cell, with its void levels
    name: str  # name of the levels
    levels: Cell  # those that make a difference
    void: tuple[str, ...]  # fields that do not exist here
    recipes: Mapping[str, Recipe]  # task name -> recipe, with the settings of the task
    fitted: Mapping[str, Recipe]  # the same as the task can use it
    reasons: Mapping[str, str]  # task name -> why there is none


def _variant(study: Study, cell: Cell, baseline: Cell, settled: list[tuple[On, Recipe]]) -> _Variant:
    recipes, fitted, reasons = {}, {}, {}
    for on, start in settled:
        try:
            recipes[on.name] = replace_all(start, cell)[0]
            fitted[on.name] = _fit(recipes[on.name], on)
        except (ImpossibleError, MistakeError) as reason:  # each level is right somewhere: these do not go together
            reasons[on.name] = str(reason)
    void = [path for path in cell if not _applies(path, cell, baseline)]
    levels = {path: cell[path] for path in cell if path not in void and _differs(path, cell, baseline)}
    return _Variant(
        cell=_name({path: cell[path] for path in cell if path in levels or path in void}, study),
        name=_name(levels, study),
        levels=levels,
        void=tuple(path.rsplit(".", 1)[-1] for path in void),
        recipes=recipes,
        fitted=fitted,
        reasons=reasons,
    )


def _applies(path: str, cell: Cell, baseline: Cell) -> bool:
    """Whether a cell has the field at one of its paths: a level above it decides, or else the baseline."""
    above = _above(path, cell)
    if above is None:
        return path in baseline
    return _applies(above, cell, baseline) and exists(cell[above], path[len(above) + 1 :])


def _differs(path: str, cell: Cell, baseline: Cell) -> bool:
    """Whether a level is worth naming: the baseline has another one there, or a level above it brings another."""
    if path not in baseline or not same(baseline[path], cell[path]):
        return True
    above = _above(path, cell)
    return above is not None and not same(read(cell[above], path[len(above) + 1 :]), cell[path])


def _above(path: str, cell: Cell) -> str | None:
    return max((other for other in cell if path.startswith(other + ".")), key=len, default=None)


class _Found:
    """Arms and what was left out, each by the number of its cell."""

    def __init__(self) -> None:
        self.arms: dict[int, Arm] = {}
        self.skipped: dict[int, list[Omitted]] = {}
        self.collapsed: dict[int, list[Omitted]] = {}
        self._names: set[str] = set()
        self._owners: dict[tuple[str, str], tuple[str, Recipe]] = {}  # task, digest -> arm that runs it, its recipe

    def add(self, i: int, variant: _Variant) -> None:
        """Make an arm of a cell where it is the first of its kind, and write down why where it is not."""
        digests = {task: _digest(recipe) for task, recipe in variant.fitted.items()}
        recipes = {task: variant.fitted[task] for task, key in digests.items() if (task, key) not in self._owners}
        twins = {task: self._owners[task, key] for task, key in digests.items() if task not in recipes}
        tasks = len(variant.reasons) + len(variant.fitted)
        cell = variant.name if recipes else variant.cell
        self.skipped[i] = _omitted(cell, {task: (reason, None) for task, reason in variant.reasons.items()}, tasks)
        why = {task: (_why(variant, task, recipe), name) for task, (name, recipe) in twins.items()}
        self.collapsed[i] = _omitted(cell, why, tasks)
        if recipes:
            if variant.name in self._names:
                raise MistakeError(f"Two different arms are called {variant.name!r}: their levels are written alike.")
            self._names.add(variant.name)
            self.arms[i] = Arm(name=variant.name, levels=variant.levels, recipes=recipes)
            self._owners |= {(task, digests[task]): (variant.name, variant.recipes[task]) for task in recipes}


def _why(variant: _Variant, task: str, twin: Recipe) -> str:
    if variant.void:
        return f"{', '.join(variant.void)} {'does' if len(variant.void) == 1 else 'do'} not exist here"
    return "the values are the same" if variant.recipes[task] == twin else f"it changes nothing on {task}"


def _omitted(cell: str, why: Mapping[str, tuple[str, str | None]], tasks: int) -> list[Omitted]:
    """One entry a task, or one for all tasks if they have one reason; `why` is task -> (reason, twin)."""
    if len(why) == tasks and len(set(why.values())) == 1:
        return [Omitted(cell, None, *next(iter(why.values())))]
    return [Omitted(cell, task, *reason) for task, reason in why.items()]


def _digest(recipe: Recipe) -> str:
    try:
        return digest(recipe)
    except (TypeError, ValueError) as error:
        raise MistakeError(str(error)) from error


def _settled(study: Study, on: On) -> Recipe:
    """The baseline with the settings of a task."""
    recipe, applied = replace_all(study.baseline, on.settings)
    for path in on.settings:
        if path not in applied:
            read(recipe, path)  # raises: there is no such field
    return recipe


def _fit(recipe: Recipe, on: On) -> Recipe:
    return replace(recipe, model=fit_to(recipe.model, tokens=on.task.spec.tokens, pooled=on.task.spec.pooled))


def _name(cell: Cell, study: Study) -> str:
    """`init=legs, discretization=dirac`; a path's last word, or the whole path where two axes share it."""
    if not cell:
        return BASELINE
    words = [axis.path.rsplit(".", 1)[-1] for axis in study.axes]
    short = {
        axis.path: word if words.count(word) == 1 else axis.path for axis, word in zip(study.axes, words, strict=True)
    }
    return ", ".join(f"{short[path]}={label(level)}" for path, level in cell.items())


def _trials(study: Study, arms: tuple[Arm, ...]) -> Iterator[Trial]:
    """Seed-major, so that a study stopped early has complete pairs."""
    levels = {arm.name: {path: label(level) for path, level in arm.levels.items()} for arm in arms}
    for seed in study.seeds:
        for on in study.on:
            for arm in arms:
                if (recipe := arm.recipes.get(on.name)) is not None:
                    yield Trial(
                        task=on.task,
                        model=recipe.model,
                        training=recipe.training,
                        seed=seed,
                        study=study.name,
                        arm=arm.name,
                        task_name=on.name,
                        baseline=arm.baseline,
                        levels=levels[arm.name],
                    )


def _mistakes(study: Study) -> list[str]:
    """Everything in a study that can never be right. A combination that cannot exist is not a mistake."""
    found: list[str] = []
    for axis in study.axes:
        found += _axis_mistakes(study, axis)
        for on in study.on:
            clash = next((path for path in on.settings if _overlap(path, axis.path)), None)
            if clash is not None:
                found.append(f"The settings of task {on.name!r} fix {clash!r}, which axis {axis.path!r} varies.")
    for on in study.on:
        try:
            _fit(_settled(study, on), on)
        except (MistakeError, ImpossibleError) as mistake:
            found.append(f"The baseline on task {on.name!r}: {mistake}")
    return found


def _homes(study: Study, axis: Axis) -> list[Recipe]:
    """Recipes in which an axis has its field: the baseline, on any task, and what the axes above turn it into."""
    found = [study.baseline]
    for on in study.on:
        with suppress(ImpossibleError, MistakeError):  # reported for the task
            found += [_settled(study, on)] if on.settings else []
    for above in sorted(study.axes, key=lambda other: len(other.path)):
        if axis.path.startswith(above.path + "."):
            found += [made for start in found for made in _with_levels(start, above)]
    return [recipe for recipe in found if exists(recipe, axis.path)]


def _with_levels(start: Recipe, axis: Axis) -> Iterator[Recipe]:
    for level in axis.levels:
        with suppress(ImpossibleError, MistakeError):  # reported for that axis
            yield replace_all(start, {axis.path: level})[0]


def _axis_mistakes(study: Study, axis: Axis) -> Iterator[str]:
    homes = _homes(study, axis)
    if not homes:
        try:
            read(study.baseline, axis.path)
        except MistakeError as mistake:
            yield f"Axis: {mistake}"
    for level in axis.levels if homes else ():
        reasons = [_level_mistake(recipe, axis.path, level) for recipe in homes]
        if None not in reasons:
            yield f"Axis {axis.path!r}: {reasons[0]}"


def _level_mistake(recipe: Recipe, path: str, level: Any) -> str | None:
    with suppress(ImpossibleError):
        try:
            replace_all(recipe, {path: level})
        except MistakeError as mistake:
            return str(mistake)
    return None


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + ".") or other.startswith(one + ".")
