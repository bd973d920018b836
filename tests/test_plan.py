"""Axis, Study, designs, and what a plan makes of them."""

import dataclasses
import itertools
import time
from collections import Counter
from typing import Any

import pytest
from conftest import tiny_study, tiny_task
from hypothesis import given
from hypothesis import strategies as st

from descriptions import ImpossibleError, MistakeError, check_fields, digest, one_of, replace_all, require
from search_spaces import DESIGNS, Axis, Omitted, On, Plan, Recipe, Study, Training, label, plan
from search_spaces.design import factorial, one_at_a_time
from ssm_models import SSM, Diagonal, ModelConfig
from ssm_models.discretize import DISCRETIZATIONS, GBT
from ssm_models.init import INITS
from ssm_models.structures import STRUCTURES
from ssm_models.transform import TRANSFORMS
from tasks import Delay, Digits


def small_axes() -> st.SearchStrategy[dict[str, list[int]]]:
    levels = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)
    return st.dictionaries(st.sampled_from("abcd"), levels, min_size=1, max_size=4)


@given(small_axes())
def test_one_at_a_time_varies_each_axis_alone(axes):
    baseline = {path: levels[0] for path, levels in axes.items()}
    cells = one_at_a_time(axes, baseline)
    assert cells[0] == {}
    assert len(cells) == 1 + sum(len(levels) - 1 for levels in axes.values())
    assert all(len(cell) == 1 for cell in cells[1:])
    assert all(cell[path] != baseline[path] for cell in cells[1:] for path in cell)


@given(small_axes())
def test_factorial_has_every_combination_once_with_the_baseline_first(axes):
    baseline = {path: levels[0] for path, levels in axes.items()}
    cells = factorial(axes, baseline)
    full = [tuple((baseline | cell)[path] for path in axes) for cell in cells]
    assert cells[0] == {}
    assert all(set(cell) == set(axes) for cell in cells[1:])
    assert sorted(full) == sorted(itertools.product(*axes.values()))


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS.keys())
@given(axes=small_axes(), order=st.randoms(use_true_random=False))
def test_a_design_has_the_same_cells_whatever_the_order_of_levels(design, axes, order):
    baseline = {path: levels[0] for path, levels in axes.items()}
    shuffled = {path: order.sample(levels, len(levels)) for path, levels in axes.items()}

    def cells(of):
        return {tuple(sorted(cell.items())) for cell in design(of, baseline)}

    assert cells(axes) == cells(shuffled)


def test_a_baseline_outside_the_levels_is_an_arm_of_its_own():
    cells = factorial({"a": [1, 2]}, {"a": 0})
    assert cells == [{}, {"a": 1}, {"a": 2}]


def test_arms_are_named_by_how_they_differ():
    study = tiny_study(
        axes=(
            Axis("model.structure.init", ["lin", "inv"]),
            Axis("model.structure.discretization", ["zoh", "bilinear"]),
        )
    )
    factors = plan(dataclasses.replace(study, design="factorial"))
    assert [arm.name for arm in factors.arms] == [
        "baseline",
        "discretization=bilinear",
        "init=inv",
        "init=inv, discretization=bilinear",
    ]
    assert [arm.name for arm in plan(study).arms] == ["baseline", "init=inv", "discretization=bilinear"]


def test_two_axes_with_the_same_last_word_keep_their_paths_apart():
    axes = (Axis("training.lr", [4e-3, 1e-3]), Axis("model.structure.lr_A", [1e-3, 0.0]))
    assert [arm.name for arm in plan(tiny_study(axes=axes)).arms] == ["baseline", "lr=0.001", "lr_A=0.0"]


def test_trials_are_seed_major_and_paired():
    trials = plan(tiny_study(seeds=(3, 1))).trials
    assert [(t.seed, t.arm) for t in trials] == [
        (3, "baseline"),
        (3, "init=real"),
        (1, "baseline"),
        (1, "init=real"),
    ]


def test_keys_differ_exactly_when_descriptions_do():
    trials = plan(tiny_study(seeds=(0, 1, 2))).trials
    assert len({trial.key for trial in trials}) == len(trials) == 6
    again = plan(tiny_study(seeds=(0, 1, 2), name="another")).trials
    assert [t.key for t in again] == [t.key for t in trials]  # studies that contain the same trial share it
    other = plan(tiny_study(seeds=(0, 1, 2), lr=1e-3)).trials
    assert not {t.key for t in other} & {t.key for t in trials}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Training)])
def test_every_training_field_is_in_the_key(field):
    other = {
        "epochs": 3,
        "batch_size": 8,
        "lr": 0.1,
        "weight_decay": 0.5,
        "schedule": "linear",
        "warmup": 0.3,
        "clip": None,
        "precision": "bfloat16",
    }
    study = tiny_study(axes=(Axis(f"training.{field}", [other[field]]),))
    assert len({t.key for t in plan(study).trials if t.seed == 0}) == 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bare:
    """A structure that has no field `init`."""

    state: int = 4

    def check(self, width: int) -> None: ...

    def build(self, width: int, seed: int) -> SSM:
        return Diagonal(state=self.state).build(width, seed)

    def caveats(self) -> list[str]:
        return ["Bare is bare."]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other(Bare):
    """A structure with an init of its own."""

    init: str = "legs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picky(Bare):
    """A structure that knows some of the inits."""

    init: str = "rand"

    def __post_init__(self) -> None:
        one_of("init", self.init, ["rand"], elsewhere=INITS)


def test_an_axis_that_does_not_exist_for_a_structure_collapses():
    axes = (
        Axis("model.structure", [Diagonal(state=4), Bare()]),
        Axis("model.structure.init", ["lin", "inv", "real"]),
    )
    made = plan(dataclasses.replace(tiny_study(axes=axes), design="factorial"))
    assert [arm.name for arm in made.arms] == ["baseline", "init=inv", "init=real", "structure=Bare"]
    assert [o.cell for o in made.collapsed] == ["structure=Bare, init=inv", "structure=Bare, init=real"]
    assert made.arms[-1].caveats == ("Bare is bare.",)
    assert {(o.task, o.reason, o.twin) for o in made.collapsed} == {
        (None, "init does not exist here", "structure=Bare")
    }


def factors(*axes: Axis, structure: Any = None, tasks: tuple[On, ...] | None = None) -> Study:
    """A full factorial around a tiny baseline."""
    study = tiny_study(axes=axes)
    baseline, _ = replace_all(study.baseline, {"model.structure": structure or Diagonal(state=4)})
    return dataclasses.replace(study, baseline=baseline, tasks=tasks or study.tasks, design="factorial")


def left_out(omitted: tuple[Omitted, ...]) -> list[tuple[str, str, str | None]]:
    assert all(o.task is None for o in omitted)
    return [(o.cell, o.reason, o.twin) for o in omitted]


def test_a_level_that_the_baseline_has_too_is_kept_when_a_new_structure_brings_another():
    """Dropped as no difference, `init=lin` would run twice as Other's own init and never as lin."""
    made = plan(
        factors(
            Axis("model.structure", [Diagonal(state=4), Other()]), Axis("model.structure.init", ["lin", "inv", "legs"])
        )
    )
    inits = {arm.name: arm.recipes["copying"].model.structure.init for arm in made.arms}
    assert inits == {
        "baseline": "lin",
        "init=inv": "inv",
        "init=legs": "legs",
        "structure=Other, init=lin": "lin",
        "structure=Other, init=inv": "inv",
        "structure=Other, init=legs": "legs",
    }
    assert made.arms[-1].levels == {"model.structure": Other(), "model.structure.init": "legs"}


def test_the_name_of_an_arm_has_no_void_level_even_if_it_comes_before_its_twins():
    made = plan(
        factors(Axis("model.structure", [Bare(), Diagonal(state=4)]), Axis("model.structure.init", ["inv", "lin"]))
    )
    assert [arm.name for arm in made.arms] == ["baseline", "structure=Bare", "init=inv"]
    assert made.arms[1].levels == {"model.structure": Bare()}
    assert left_out(made.collapsed) == [
        ("structure=Bare, init=lin", "init does not exist here", "structure=Bare"),
    ]


def test_a_path_below_a_void_level_is_void_too():
    axes = (
        Axis("model.structure", [Diagonal(state=4), Bare()]),
        Axis("model.structure.discretization", ["zoh", GBT(0.75)]),
        Axis("model.structure.discretization.alpha", [0.75, 1.0]),
    )
    made = plan(factors(*axes))
    assert [arm.name for arm in made.arms] == [
        "baseline",
        "discretization=GBT(alpha=0.75), alpha=0.75",
        "discretization=GBT(alpha=0.75), alpha=1.0",
        "structure=Bare",
    ]
    assert Counter(o.twin for o in made.collapsed) == {"baseline": 2, "structure=Bare": 3}


@pytest.mark.parametrize("order", [1, -1], ids=["by path first", "in the structure first"])
def test_one_model_that_two_cells_describe_is_one_arm_under_the_shorter_name(order):
    made = plan(
        factors(
            Axis("model.structure", [Diagonal(state=4), Diagonal(state=4, init="inv")][::order]),
            Axis("model.structure.init", ["lin", "inv"]),
            Axis("model.structure.B_init", ["ones", "normal"]),
        )
    )
    ran = [digest(arm.recipes["copying"]) for arm in made.arms]
    assert len(set(ran)) == len(ran) == 4
    assert {arm.name for arm in made.arms} == {"baseline", "B_init=normal", "init=inv", "init=inv, B_init=normal"}
    assert {o.reason for o in made.collapsed} == {"the values are the same"}
    assert Counter(o.twin for o in made.collapsed) == dict.fromkeys((arm.name for arm in made.arms), 1)


@pytest.mark.parametrize("order", [1, -1], ids=["init first", "transform first"])
def test_the_levels_of_a_cell_are_set_together(order):
    """From `real`, whose Re A sigmoid cannot reach, to `lin` with sigmoid: the second change alone cannot exist."""
    axes = [
        Axis("model.structure.init", ["real", "lin"]),
        Axis("model.structure.real_transform", ["exp", "sigmoid"]),
    ][::order]
    made = plan(factors(*axes, structure=Diagonal(state=4, init="real")))
    assert {frozenset(arm.name.split(", ")) for arm in made.arms} == {
        frozenset({"baseline"}),
        frozenset({"init=lin"}),
        frozenset({"init=lin", "real_transform=sigmoid"}),
    }
    ((cell, reason, _),) = left_out(made.skipped)
    assert cell == "real_transform=sigmoid"
    assert "stays below 1" in reason


def test_the_settings_of_a_task_are_set_together():
    settings = {"model.structure.dt_min": 0.2, "model.structure.dt_max": 0.5}  # the first alone is above dt_max
    made = plan(dataclasses.replace(tiny_study(), tasks=(On(tiny_task(), settings),)))
    assert {(t.model.structure.dt_min, t.model.structure.dt_max) for t in made.trials} == {(0.2, 0.5)}


def test_a_cell_that_fits_only_with_the_settings_of_a_task_runs_there():
    tasks = (On(tiny_task(), {}, "plain"), On(tiny_task(), {"model.structure.dt_max": 0.5}, "fast"))
    made = plan(factors(Axis("model.structure.dt_min", [1e-3, 0.2]), tasks=tasks))
    assert {arm.name: list(arm.recipes) for arm in made.arms} == {
        "baseline": ["plain", "fast"],
        "dt_min=0.2": ["fast"],
    }
    assert [(o.cell, o.task) for o in made.skipped] == [("dt_min=0.2", "plain")]


def test_values_that_are_right_alone_but_not_together_are_skipped_not_refused():
    axes = (Axis("model.structure.dt_min", [1e-3, 5e-2]), Axis("model.structure.dt_max", [1e-1, 1e-2]))
    made = plan(factors(*axes))
    assert [arm.name for arm in made.arms] == ["baseline", "dt_max=0.01", "dt_min=0.05"]
    assert left_out(made.skipped) == [
        ("dt_min=0.05, dt_max=0.01", "dt_min=0.05, dt_max=0.01: it must hold that dt_min <= dt_max.", None)
    ]


def test_a_level_that_no_structure_accepts_is_a_mistake_and_one_that_some_refuse_is_not():
    structures = Axis("model.structure", [Diagonal(state=4), Picky()])
    made = plan(factors(structures, Axis("model.structure.init", ["lin", "rand"])))
    assert [arm.name for arm in made.arms] == ["baseline", "init=rand", "structure=Picky, init=rand"]
    assert left_out(made.skipped) == [("structure=Picky, init=lin", "init='lin' is not one of ['rand'].", None)]
    with pytest.raises(MistakeError, match=r"^Axis 'model.structure.init': .*Did you mean 'rand'\?$"):
        plan(factors(structures, Axis("model.structure.init", ["lin", "rnd"])))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loose(Bare):
    """A structure with a field of two types."""

    gain: float | str = 2.0


def test_arms_that_would_share_a_name_are_refused():
    with pytest.raises(MistakeError, match=r"Two different arms are called 'gain=1.0'"):
        plan(factors(Axis("model.structure.gain", [1.0, "1.0"]), structure=Loose()))


def test_a_value_that_no_key_can_be_made_of_is_a_mistake():
    with pytest.raises(MistakeError, match="inf has no canonical text; use None"):
        plan(factors(Axis("model.structure.gain", [float("inf")]), structure=Loose()))


# A large lattice of structures that lack fields, have names of their own, and refuse some combinations.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Full(Bare):
    kind: int = 0
    init: str = "lin"
    discretization: str = "zoh"
    real_transform: str = "exp"

    def __post_init__(self) -> None:
        check_fields(self)
        one_of("init", self.init, INITS)
        require(self.kind >= 0, "kind must not be negative.")
        if self.real_transform == "sigmoid" and self.init == "real":
            raise ImpossibleError(f"real_transform='sigmoid' stays below 1, but kind {self.kind} starts above.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoRule(Bare):
    init: str = "rand"
    real_transform: str = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoInits(Bare):
    init: str = "real"
    discretization: str = "zoh"

    def __post_init__(self) -> None:
        one_of("init", self.init, ["real", "rand"], elsewhere=INITS)


def lattice(structures: list[Any], tasks: tuple[On, ...] | None = None) -> Study:
    return factors(
        Axis("model.structure", structures),
        Axis("model.structure.init", list(INITS)),
        Axis("model.structure.discretization", list(DISCRETIZATIONS)),
        Axis("model.structure.real_transform", list(TRANSFORMS)),
        structure=structures[0],
        tasks=tasks,
    )


def check_sums(made: Plan, cells: int) -> None:
    """Every cell is an arm, skipped, or collapsed into an arm, and no two arms are the same model."""
    assert len(made.arms) + len(made.skipped) + len(made.collapsed) == cells
    names = {arm.name for arm in made.arms}
    assert len(names) == len({digest(arm.recipes["copying"]) for arm in made.arms}) == len(made.arms)
    assert {o.twin for o in made.collapsed} <= names
    assert all(o.reason for o in made.skipped)
    assert not any(o.twin for o in made.skipped)


def test_a_lattice_of_twelve_structures_is_planned_in_seconds():
    full, inits, rules, transforms = 8, len(INITS), len(DISCRETIZATIONS), len(TRANSFORMS)
    structures = [*(Full(kind=k) for k in range(full)), NoRule(), TwoInits(), Bare(), Bare(state=6)]
    started = time.process_time()
    made = plan(lattice(structures))
    assert time.process_time() - started < 10  # a second or two; comparing each cell with all others took minutes
    cells = len(structures) * inits * rules * transforms
    check_sums(made, cells)
    per_structure = Counter(type(arm.recipes["copying"].model.structure).__name__ for arm in made.arms)
    impossible = rules  # init=real with real_transform=sigmoid
    assert per_structure == {
        "Full": full * (inits * rules * transforms - impossible),
        "NoRule": inits * transforms,
        "TwoInits": 2 * rules,
        "Bare": 2,
    }
    assert len(made.skipped) == full * impossible + (inits - 2) * rules * transforms
    assert Counter(o.reason for o in made.collapsed) == {
        "discretization does not exist here": inits * (rules - 1) * transforms,
        "real_transform does not exist here": 2 * rules * (transforms - 1),
        "init, discretization, real_transform do not exist here": 2 * (inits * rules * transforms - 1),
    }


def test_the_structures_that_there_are_can_be_crossed_with_every_level():
    structures = [make() for make in STRUCTURES.values()]
    made = plan(lattice(structures))
    check_sums(made, len(structures) * len(INITS) * len(DISCRETIZATIONS) * len(TRANSFORMS))
    ran = {type(arm.recipes["copying"].model.structure) for arm in made.arms}
    assert ran == set(STRUCTURES.values())


def test_a_field_that_a_task_does_not_use_collapses_on_that_task():
    study = Study(
        name="pooled",
        question="Does pooling matter?",
        baseline=Recipe(model=ModelConfig(structure=Diagonal(state=4), depth=1, width=4)),
        axes=(Axis("model.pooling", ["mean", "last"]),),
        tasks=(Digits(), Delay()),
        seeds=(0,),
    )
    made = plan(study)
    assert [(t.task_name, t.arm) for t in made.trials] == [
        ("digits", "baseline"),
        ("digits", "pooling=last"),
        ("delay", "baseline"),
    ]
    (omitted,) = made.collapsed
    assert (omitted.task, omitted.cell) == ("delay", "pooling=last")
    assert "changes nothing on delay" in omitted.reason


def test_a_cell_that_cannot_exist_is_skipped_with_its_reason():
    study = tiny_study(axes=(Axis("model.structure.n_ssm", [None, 2, 3]),))
    made = plan(study)
    assert [arm.name for arm in made.arms] == ["baseline", "n_ssm=2"]
    (omitted,) = made.skipped
    assert omitted.cell == "n_ssm=3"
    assert "n_ssm=3" in omitted.reason
    assert "width" in omitted.reason


def test_a_cell_that_cannot_exist_on_one_task_runs_on_the_others():
    study = Study(
        name="widths",
        question="?",
        baseline=Recipe(model=ModelConfig(structure=Diagonal(state=4), depth=1, width=6)),
        axes=(Axis("model.structure.n_ssm", [None, 3]),),
        tasks=(Digits(), On(Delay(), {"model.width": 4})),
        seeds=(0,),
    )
    made = plan(study)
    assert [t.task_name for t in made.trials if t.arm == "n_ssm=3"] == ["digits"]
    assert [(o.cell, o.task) for o in made.skipped] == [("n_ssm=3", "delay")]


def test_settings_of_a_task_apply_to_every_arm_there():
    study = dataclasses.replace(
        tiny_study(), tasks=(On(tiny_task(), {"model.width": 8, "training.lr": 0.5}, name="wide"),)
    )
    trials = plan(study).trials
    assert {(t.model.width, t.training.lr, t.task_name) for t in trials} == {(8, 0.5, "wide")}


def test_a_study_says_all_its_mistakes_at_once():
    axes = (
        Axis("model.structure.discretisation", ["zoh"]),
        Axis("model.structure.init", ["lin", "legss"]),
        Axis("model.depth", [1, "2"]),
    )
    with pytest.raises(MistakeError) as caught:
        plan(tiny_study(axes=axes))
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "Did you mean 'model.structure.discretization'?" in lines[0]
    assert "Did you mean 'legs'?" in lines[1]
    assert "ModelConfig.depth='2' is a str; it must be an int." in lines[2]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Axis("model.depth", []), "Axis 'model.depth' is empty: give it at least one level."),
        (lambda: Axis("model.structure.init", "lin"), "must be a list"),
        (lambda: Axis("model.depth", [1, 2, 1]), "has the level 1 twice"),
        (lambda: tiny_study(seeds=(0, 1, 0)), "The seed 0 stands twice in the study."),
        (lambda: tiny_study(seeds=()), "The study has no seeds."),
        (lambda: tiny_study(seeds=(-1,)), "Seed -1 is negative."),
        (lambda: tiny_study(seeds=("a",)), "Study.seeds=('a',)"),
        (lambda: tiny_study(name="../up"), "names a folder"),
        (
            lambda: tiny_study(axes=(Axis("model.depth", [1]), Axis("model.depth", [2]))),
            "The axis 'model.depth' stands twice",
        ),
        (lambda: dataclasses.replace(tiny_study(), design="one_at_time"), "Did you mean 'one_at_a_time'?"),
        (
            lambda: dataclasses.replace(tiny_study(), tasks=(tiny_task(), tiny_task())),
            "The task 'copying' stands twice",
        ),
        (
            lambda: plan(dataclasses.replace(tiny_study(), tasks=(On(tiny_task(), {"model.widht": 8}),))),
            "Did you mean 'model.width'?",
        ),
        (
            lambda: plan(dataclasses.replace(tiny_study(), tasks=(On(tiny_task(), {"model.structure.init": "inv"}),))),
            "which axis 'model.structure.init' varies",
        ),
    ],
)
def test_a_mistake_is_one_clear_sentence(make, sentence):
    with pytest.raises(MistakeError) as caught:
        make()
    assert sentence in str(caught.value)


def test_labels_show_what_differs_from_the_defaults():
    assert label("lin") == "lin"
    assert label(0.001) == "0.001"
    assert label(Diagonal()) == "Diagonal"
    assert label(Diagonal(state=16, init="inv")) == "Diagonal(state=16, init=inv)"


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedules_rise_to_one_and_stay_between_zero_and_one(schedule):
    training = Training(schedule=schedule, warmup=0.1)
    factors = [training.rate(step, 1000) for step in range(1000)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1, abs=1e-6)
    assert factors[0] > 0
    assert factors[:100] == sorted(factors[:100])
    assert factors[100:] == sorted(factors[100:], reverse=True)
