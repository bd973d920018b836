"""Axis, Study, designs, and what a plan makes of them."""

import dataclasses
import itertools

import pytest
from conftest import tiny_study, tiny_task
from hypothesis import given
from hypothesis import strategies as st

from descriptions import MistakeError
from search_spaces import DESIGNS, Axis, On, Recipe, Study, Training, label, plan
from search_spaces.design import factorial, one_at_a_time
from ssm_models import SSM, Diagonal, ModelConfig
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


def test_an_axis_that_does_not_exist_for_a_structure_collapses():
    axes = (
        Axis("model.structure", [Diagonal(state=4), Bare()]),
        Axis("model.structure.init", ["lin", "inv", "real"]),
    )
    made = plan(dataclasses.replace(tiny_study(axes=axes), design="factorial"))
    assert [arm.name for arm in made.arms] == ["baseline", "init=inv", "init=real", "structure=Bare"]
    assert [o.cell for o in made.collapsed] == ["structure=Bare, init=inv", "structure=Bare, init=real"]
    assert made.arms[-1].caveats == ("Bare is bare.",)
    assert made.collapsed[0].reason == "init does not exist here: the same model as 'structure=Bare'."


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
