"""The twenty combinations that are invalid or degenerate: each refused, void, impossible to spell, or said in words.

Numbered as in a review of the published code: what runs there and is wrong, overflows, or silently means another model.
"""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from lattice import error, noise

from descriptions import ImpossibleError, MistakeError
from search_spaces import Axis, Recipe, Study, plan
from ssm_models import PTD, ModelConfig
from ssm_models.init import Mixed
from ssm_models.structures import (
    DPLR,
    DSS,
    EMA,
    LRU,
    MIMO,
    Companion,
    Dense,
    DFouT,
    Diagonal,
    RealDiagonal,
    Shift,
    Structure,
)
from tasks import Copying

torch.set_num_threads(1)


def fields(structure: type[Structure]) -> set[str]:
    return {field.name for field in dataclasses.fields(structure)}  # type: ignore[arg-type]


def says(description: Structure, words: str) -> bool:
    return any(words in caveat for caveat in description.caveats())


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "3 sigmoid cannot store |Re| of 1 and more": (
        lambda: Diagonal(init="real", real_transform="sigmoid"),
        "stays below 1",
    ),
    "3 nor can it for real modes": (lambda: RealDiagonal(real_transform="sigmoid"), "below 1"),
    "6 an odd state has no conjugate pairs": (lambda: Dense(state=7), "even"),
    "6 the low-rank form needs 4 states": (lambda: DPLR(state=2), "4"),
    "7 no steps where the future is seen": (lambda: Diagonal(bidirectional=True).build(2, 0).stepper(), "future"),
    "7 no state to hand over either": (
        lambda: DPLR(state=8, bidirectional=True).build(2, 0).chunk(noise(1, 3, 2), noise(1, 2, 8)),
        "future",
    ),
    "1 no steps of a kernel that is normalised over its length": (
        lambda: DSS(state=8, kernel="softmax").build(2, 0).stepper(),
        "length",
    ),
    "10 forward Euler at steps where the fast modes grow": (
        lambda: Diagonal(discretization="forward_euler"),
        "unstable",
    ),
    "10 the same for real modes": (lambda: RealDiagonal(state=64, discretization="forward_euler"), "unstable"),
    "11 LRU has no step size to change": (lambda: setattr(LRU(state=4).build(2, 0), "rate", 2.0), "discrete time"),
    "11 neither has DFouT": (lambda: setattr(DFouT(state=4).build(2, 0), "rate", 2.0), "discrete time"),
    "15 the HiPPO B needs a HiPPO basis": (lambda: Diagonal(init="lin", B_init="hippo"), "does not come from one"),
    "19 mixed laws need copies that they divide": (lambda: Diagonal(init=Mixed(("lin", "inv")), n_ssm=1).check(4), "2"),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_refused_with_the_reason(rule: str) -> None:
    attempt, words = REFUSED[rule]
    with pytest.raises((ImpossibleError, MistakeError)) as raised:
        attempt()
    assert words in str(raised.value)


NO_SUCH_FIELD: dict[str, tuple[type[Structure], set[str]]] = {
    "8 DPLR is bilinear with one step a channel": (DPLR, {"discretization", "dt_tied"}),
    "11 LRU is discrete": (LRU, {"discretization", "dt_min", "dt_max", "dt_tied", "dt_transform"}),
    "11 DFouT is discrete": (DFouT, {"discretization", "dt_min", "dt_max", "dt_tied", "dt_transform", "init"}),
    "11 Companion is discrete": (Companion, {"discretization", "dt_min", "init"}),
    "11 Shift is discrete": (Shift, {"discretization", "dt_min", "init"}),
    "11 EMA is discrete": (EMA, {"discretization", "dt_min", "init"}),
    "13 MIMO has a step a state, not a channel": (MIMO, {"dt_tied", "n_ssm"}),
    "15 DSS fuses B with C": (DSS, {"B_init", "lr_B"}),
    "18 no kernel is cut at a length": (Diagonal, {"l_max"}),
    "18 nor that of DPLR": (DPLR, {"l_max"}),
    "6 the rank is that of the init": (DPLR, {"rank"}),
}


@pytest.mark.parametrize("rule", NO_SUCH_FIELD)
def test_a_field_that_would_be_void_does_not_exist(rule: str) -> None:
    structure, absent = NO_SUCH_FIELD[rule]
    assert not absent & fields(structure)


SAID: dict[str, tuple[Structure, str]] = {
    "1 softmax depends on the length": (DSS(kernel="softmax"), "length"),
    "2 an unbounded real part may grow": (Diagonal(real_transform="none"), "grows exponentially"),
    "4 a decay of 0 is lifted": (Diagonal(init="fout"), "lifts to -1e-4"),
    "4 also with the low-rank term": (DPLR(init="fout"), "1e-4"),
    "5 a window without its low-rank term is none": (Diagonal(init="legt"), "no longer a basis"),
    "7 bidirectional sees the future": (Diagonal(bidirectional=True), "later inputs"),
    "16 a transformed Im keeps its sign": (Diagonal(imag_transform="exp"), "turn the other way"),
    "10 forward Euler may be left while training": (
        Diagonal(discretization="forward_euler", dt_min=1e-5, dt_max=1e-4),
        "stable for small steps only",
    ),
}


@pytest.mark.parametrize("rule", SAID)
def test_what_runs_but_means_something_else_is_said(rule: str) -> None:
    assert says(*SAID[rule])


def test_rule_1_the_softmax_kernel_of_another_length_is_another_kernel() -> None:
    ssm = DSS(state=16, kernel="softmax", dt_min=1e-3, dt_max=1e-3).build(4, 0).double()
    assert error(ssm.kernels(256)[0, :128], ssm.kernels(128)[0]) > 0.1


def test_rule_2_a_growing_mode_overflows_and_the_shifted_softmax_does_not() -> None:
    grown = Diagonal(state=4, real_transform="none", dt_min=0.1, dt_max=0.1).build(2, 0)
    softmax = DSS(state=4, kernel="softmax", dt_min=0.1, dt_max=0.1).build(2, 0)
    with torch.no_grad():
        grown.A_re.fill_(-0.1)
        for name, parameter in softmax.named_parameters():
            if "re" in name.lower():
                parameter.fill_(0.1)
    assert not torch.isfinite(grown.kernels(16384)).all()
    assert torch.isfinite(softmax.kernels(16384)).all()


def test_rule_9_a_real_mode_faster_than_bilinear_can_follow_alternates_instead_of_becoming_nan() -> None:
    ssm = RealDiagonal(state=64, discretization="bilinear", dt_min=0.1, dt_max=0.1).build(2, 0).double()
    assert (torch.exp(ssm.recurrence().log_a).real < 0).any()
    assert torch.isfinite(ssm.kernels(100)).all()
    u = noise(1, 20, 2, dtype=torch.float64)
    assert error(ssm(u), ssm.scan(u)) < 1e-12
    z = -0.1 * torch.arange(1, 65, dtype=torch.float64)
    assert torch.isnan(torch.log((1 + z / 2) / (1 - z / 2))).any()  # what real arithmetic alone would give


def test_rule_13_a_multi_input_layer_is_a_scan_and_never_a_convolution_with_width_squared_kernels() -> None:
    assert not hasattr(MIMO(state=8, blocks=1).build(2, 0), "kernels")


def test_rule_14_perturbed_spectra_are_stable_and_closed_under_conjugation() -> None:
    for strength in (0.01, 0.1):
        A = PTD(strength=strength).modes(1, 16, torch.Generator())
        assert (A.real < 0).all()
        assert (A.imag > 0).all()  # one of each pair: the other is its conjugate, as A + E is real


def test_rule_17_zoh_of_a_real_mode_is_positive_and_a_scan_has_no_logarithm_that_needs_it_to_be() -> None:
    zoh = RealDiagonal(state=8).build(2, 0).double()
    assert (torch.exp(zoh.recurrence().log_a).real > 0).all()


def test_rule_20_any_even_state_runs() -> None:
    for state in (6, 10, 66):
        assert torch.isfinite(Diagonal(state=state).build(2, 0)(noise(1, 20, 2))).all()


def test_rule_11_a_factorial_runs_a_discrete_structure_once() -> None:
    study = Study(
        name="rule-11",
        question="Do void axes collapse?",
        baseline=Recipe(model=ModelConfig(structure=Diagonal(state=8), depth=1, width=4)),
        axes=(
            Axis("model.structure", [Diagonal(state=8), LRU(state=4)]),
            Axis("model.structure.discretization", ["zoh", "bilinear"]),
            Axis("model.structure.dt_max", [0.1, 0.01]),
        ),
        tasks=(Copying(blanks=4, memorize=3, n_train=64, n_validation=32, n_test=32),),
        design="factorial",
    )
    planned = plan(study)
    assert sum("LRU" in arm.name for arm in planned.arms) == 1
    assert len(planned.arms) == 5
    assert len(planned.collapsed) == 3
    assert all("not exist here" in omitted.reason for omitted in planned.collapsed)
    assert math.isclose(len(planned.arms) + len(planned.collapsed) + len(planned.skipped), 8)
