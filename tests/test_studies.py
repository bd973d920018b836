"""The built-in studies: each plans without a mistake, asks what its file says, and every arm of it runs."""

import pytest
import torch

from descriptions import MistakeError
from search_spaces import Plan, built_in_studies, load_study, plan, variants
from ssm_models import build_model

torch.set_num_threads(1)

REFERENCES = [reference for name in built_in_studies() for reference in variants(name)]
PLANS: dict[str, Plan] = {reference: plan(load_study(reference)) for reference in REFERENCES}


def test_every_study_has_a_name_of_its_own_and_the_paper_sized_ones_are_found() -> None:
    assert len({planned.study.name for planned in PLANS.values()}) == len(REFERENCES)
    assert sum(reference.endswith(":PAPER") for reference in REFERENCES) == 5


@pytest.mark.parametrize("reference", REFERENCES)
def test_its_baseline_is_one_of_the_arms_it_compares_and_it_has_seeds_to_compare_with(reference: str) -> None:
    planned = PLANS[reference]
    assert sum(arm.baseline for arm in planned.arms) == 1
    assert len(planned.arms) > 2
    assert len(planned.study.seeds) >= 3
    assert planned.study.question.endswith("?")
    assert reference.partition(":")[0] in planned.study.name


@pytest.mark.parametrize("reference", [name for name in REFERENCES if ":" not in name])
def test_every_arm_has_a_finite_gradient_on_every_task(reference: str) -> None:
    planned = PLANS[reference]
    for on in planned.study.on:
        spec = on.task.spec
        g = torch.Generator().manual_seed(0)
        shape = (2, spec.length)
        x = (
            torch.randint(spec.inputs, shape, generator=g)
            if spec.tokens
            else torch.randn(*shape, spec.inputs, generator=g)
        )
        for arm in planned.arms:
            if on.name in arm.recipes:
                model = build_model(
                    arm.recipes[on.name].model, inputs=spec.inputs, tokens=spec.tokens, outputs=spec.outputs, seed=0
                )
                model(x).square().mean().backward()
                for name, parameter in model.named_parameters():
                    assert parameter.grad is not None, (arm.name, name)
                    assert torch.isfinite(parameter.grad).all(), (arm.name, name)


def test_the_ladder_compares_the_six_rungs() -> None:
    assert len(PLANS["lru_ladder"].arms) == 6


def test_the_kernels_that_share_no_field_with_s4d_run_once_each() -> None:
    planned = PLANS["s4d_parameterization"]
    assert len(planned.arms) == 5 * 2 * 2 + 2
    assert {len(arm.levels) for arm in planned.arms if "DSS" in arm.name} == {1}


def test_frozen_controls_are_arms_of_their_own() -> None:
    names = {arm.name for arm in PLANS["s4d_initialization"].arms}
    assert any("imag_scale=0.01" in name and "lr_A=0" in name for name in names)
    assert any("imag_random" in name for name in names)


def test_a_study_that_a_file_does_not_define_is_a_mistake_with_the_nearest_one() -> None:
    with pytest.raises(MistakeError, match="Did you mean 'PAPER'"):
        load_study("timescale:PAPR")
