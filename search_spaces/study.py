"""A study is a question: a baseline, the axes along which it is varied, the tasks, and the seeds."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from descriptions import MistakeError, check_fields, one_of, require
from search_spaces.design import DESIGNS, same
from search_spaces.training import Training
from ssm_models import ModelConfig
from tasks import Task


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model and how it is trained: what the paths of axes start from (`model.structure.init`, `training.lr`)."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class Axis:
    """One field of a recipe and the levels it takes: `Axis("model.structure.init", ["lin", "legs"])`."""

    path: str
    levels: tuple[Any, ...]

    def __init__(self, path: str, levels: list[Any] | tuple[Any, ...]) -> None:
        require(isinstance(path, str), f"The path of an axis is a string such as 'model.depth', not {path!r}.")
        require(
            isinstance(levels, (list, tuple)),
            f"The levels of axis {path!r} must be a list such as ['lin', 'legs'], not {levels!r}.",
        )
        require(len(levels) > 0, f"Axis {path!r} is empty: give it at least one level.")
        for i, level in enumerate(levels):
            twice = any(same(level, earlier) for earlier in levels[:i])
            require(not twice, f"Axis {path!r} has the level {level!r} twice.")
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "levels", tuple(levels))


@dataclass(frozen=True)
class On:
    """A task with the settings that every arm has on it: papers list width, depth and rate per data set.

    `On(Delay(), {"model.width": 4})` changes the recipe of all arms on that task alike; `name` tells two variants of
    one task apart in tables.
    """

    task: Task
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "name", self.name or self.task.name)


@dataclass(frozen=True, kw_only=True)
class Study:
    """The question, as a value. `plan(study)` says what it amounts to."""

    name: str
    question: str
    baseline: Recipe
    axes: tuple[Axis, ...]
    tasks: tuple[Task | On, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    design: str = "one_at_a_time"

    def __post_init__(self) -> None:
        for listed in ("axes", "tasks", "seeds"):
            value = getattr(self, listed)
            object.__setattr__(self, listed, tuple(value) if isinstance(value, (list, range)) else value)
        check_fields(self)
        one_of("design", self.design, DESIGNS)
        require(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name) is not None,
            f"name={self.name!r} names a folder: use letters, digits, '.', '_', '-'; begin with one of the first two.",
        )
        mistakes = [
            *_repeated("axis", [axis.path for axis in self.axes]),
            *_repeated("seed", list(self.seeds)),
            *_repeated("task", [on.name for on in self.on]),
        ]
        mistakes += [f"The study has no {what}." for what in ("tasks", "seeds") if not getattr(self, what)]
        mistakes += [f"Seed {seed} is negative." for seed in self.seeds if seed < 0]
        if mistakes:
            raise MistakeError("\n".join(mistakes))

    @property
    def on(self) -> tuple[On, ...]:
        """The tasks with their settings and names."""
        return tuple(task if isinstance(task, On) else On(task) for task in self.tasks)


def _repeated(what: str, values: list[Any]) -> list[str]:
    more = sorted({value for value in values if values.count(value) > 1}, key=str)
    hint = "; give one of them another name with On(task, name=...)" if what == "task" else ""
    return [f"The {what} {value!r} stands twice in the study{hint}." for value in more]


def label(level: Any) -> str:
    """How a level is written in names and tables: `lin`, `0.001`, `Diagonal(state=16)` for its non-default fields."""
    if not dataclasses.is_dataclass(level) or isinstance(level, type):
        return str(level)
    default = {f.name: f.default for f in dataclasses.fields(level)}
    changed = {name: getattr(level, name) for name in default if getattr(level, name) != default[name]}
    inside = ", ".join(f"{name}={label(value)}" for name, value in changed.items())
    return f"{type(level).__name__}({inside})" if inside else type(level).__name__
