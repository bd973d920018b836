"""From a study to its arms, the cells that were skipped or collapsed with the reason, and the trials."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from descriptions import ImpossibleError, MistakeError, paths, read, replace
from search_spaces.design import DESIGNS, Cell
from search_spaces.study import Axis, On, Recipe, Study, label
from search_spaces.trial import Trial
from ssm_models import fit_to

BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One complete model description, named by how it differs from the baseline."""

    name: str
    levels: Cell  # axis path -> level, where it differs from the baseline
    recipes: Mapping[str, Recipe]  # task name -> what runs there; a task on which the arm is skipped is absent
    caveats: tuple[str, ...] = ()

    @property
    def baseline(self) -> bool:
        """Whether the others are compared with this one."""
        return not self.levels


@dataclass(frozen=True)
class Omitted:
    """A cell that is not run, on one task or (task None) on all, and the reason."""

    cell: str
    task: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study amounts to."""

    study: Study
    arms: tuple[Arm, ...]
    skipped: tuple[Omitted, ...]  # cells that cannot exist
    collapsed: tuple[Omitted, ...]  # cells that are the same model as an arm that runs
    trials: tuple[Trial, ...] = field(repr=False)


def plan(study: Study) -> Plan:
    """Work out a study. Raises `MistakeError` with every mistake in it, a line each."""
    mistakes = _mistakes(study)
    if mistakes:
        raise MistakeError("\n".join(dict.fromkeys(mistakes)))
    cells = DESIGNS[study.design](
        {axis.path: axis.levels for axis in study.axes},
        {axis.path: read(study.baseline, axis.path) for axis in study.axes if _has(study.baseline, axis.path)},
    )
    arms: list[Arm] = []
    skipped: list[Omitted] = []
    collapsed: list[Omitted] = []
    for cell in cells:
        arm = _arm(study, cell, arms, skipped, collapsed)
        if arm is not None:
            arms.append(arm)
    trials = tuple(_trials(study, arms))
    return Plan(study=study, arms=tuple(arms), skipped=tuple(skipped), collapsed=tuple(collapsed), trials=trials)


def _arm(study: Study, cell: Cell, arms: list[Arm], skipped: list[Omitted], collapsed: list[Omitted]) -> Arm | None:
    """The arm of a cell, or None after writing down why there is none."""
    full_name = _name(cell, study)
    try:
        recipe, applied = _vary(study.baseline, cell)
    except ImpossibleError as reason:
        skipped.append(Omitted(full_name, None, str(reason)))
        return None
    name = _name(applied, study)
    twin = next((arm for arm in arms if arm.name == name), None)
    if twin is not None:
        void = ", ".join(path.rsplit(".", 1)[-1] for path in cell if path not in applied)
        collapsed.append(Omitted(full_name, None, f"{void} does not exist here: the same model as {twin.name!r}."))
        return None
    recipes: dict[str, Recipe] = {}
    for on in study.on:
        try:
            fitted = _fit(_vary(_settled(study, on), applied)[0], on)
        except ImpossibleError as reason:
            skipped.append(Omitted(name, on.name, str(reason)))
            continue
        twin = next((arm for arm in arms if arm.recipes.get(on.name) == fitted), None)
        if twin is not None:
            collapsed.append(
                Omitted(name, on.name, f"it changes nothing on {on.name}: the same model as {twin.name!r}.")
            )
            continue
        recipes[on.name] = fitted
    if not recipes:
        return None
    return Arm(name=name, levels=applied, recipes=recipes, caveats=tuple(recipe.model.structure.caveats()))


def _vary(recipe: Recipe, cell: Cell) -> tuple[Recipe, Cell]:
    """The recipe with a cell's levels, and those levels that applied to it.

    Shallow paths first, because `model.structure` decides which fields exist under it. A path that does not exist
    then is void: it changes nothing, so it does not apply.
    """
    applied = {}
    for path in sorted(cell, key=lambda path: path.count(".")):
        if _has(recipe, path):
            recipe = replace(recipe, path, cell[path])
            applied[path] = cell[path]
    return recipe, {path: level for path, level in cell.items() if path in applied}


def _settled(study: Study, on: On) -> Recipe:
    recipe = study.baseline
    for path in sorted(on.settings, key=lambda path: path.count(".")):
        recipe = replace(recipe, path, on.settings[path])
    return recipe


def _fit(recipe: Recipe, on: On) -> Recipe:
    spec = on.task.spec
    return replace(recipe, "model", fit_to(recipe.model, tokens=spec.tokens, pooled=spec.pooled))


def _has(recipe: Recipe, path: str) -> bool:
    return path in paths(recipe)


def _name(cell: Cell, study: Study) -> str:
    """`init=legs, discretization=dirac`; a path's last word, or the whole path where two axes share it."""
    if not cell:
        return BASELINE
    words = [axis.path.rsplit(".", 1)[-1] for axis in study.axes]
    short = {
        axis.path: word if words.count(word) == 1 else axis.path for axis, word in zip(study.axes, words, strict=True)
    }
    return ", ".join(f"{short[path]}={label(level)}" for path, level in cell.items())


def _trials(study: Study, arms: list[Arm]) -> Iterator[Trial]:
    """Seed-major, so that a study stopped early has complete pairs."""
    for seed in study.seeds:
        for on in study.on:
            for arm in arms:
                if on.name in arm.recipes:
                    recipe = arm.recipes[on.name]
                    yield Trial(
                        task=on.task,
                        model=recipe.model,
                        training=recipe.training,
                        seed=seed,
                        study=study.name,
                        arm=arm.name,
                        task_name=on.name,
                        baseline=arm.baseline,
                        levels={path: label(level) for path, level in arm.levels.items()},
                    )


def _mistakes(study: Study) -> list[str]:
    """Everything in a study that can never be right. A combination that cannot exist is not a mistake."""
    found: list[str] = []
    for axis in study.axes:
        found += _axis_mistakes(axis, _variants(study, axis))
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


def _variants(study: Study, axis: Axis) -> list[Recipe]:
    """The recipes in which an axis may have its field: the baseline and what the axes above it turn it into."""
    found = [study.baseline]
    for above in study.axes:
        if axis.path.startswith(above.path + "."):
            for level in above.levels:
                try:
                    found.append(replace(study.baseline, above.path, level))
                except ValueError:
                    continue  # reported for the axis above
    return found


def _axis_mistakes(axis: Axis, variants: list[Recipe]) -> list[str]:
    homes = [recipe for recipe in variants if _has(recipe, axis.path)]
    if not homes:
        try:
            read(variants[0], axis.path)
        except MistakeError as mistake:
            return [f"Axis: {mistake}"]
    found = []
    for level in axis.levels:
        reasons = [_level_mistake(recipe, axis.path, level) for recipe in homes]
        if all(reason is not None for reason in reasons):
            found.append(f"Axis {axis.path!r}: {reasons[0]}")
    return found


def _level_mistake(recipe: Recipe, path: str, level: Any) -> str | None:
    try:
        replace(recipe, path, level)
    except ImpossibleError:
        return None
    except MistakeError as mistake:
        return str(mistake)
    return None


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + ".") or other.startswith(one + ".")
