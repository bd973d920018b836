"""The LSSL layer: the function that Diagonal and DPLR are where it should be, stable at the start, one in all modes."""

import itertools
import math

import numpy as np
import pytest
import torch
from lattice import error, in_chunks, noise, step_by_step
from scipy.linalg import expm
from scipy.signal import cont2discrete

from descriptions import ImpossibleError, MistakeError, seed_for
from ssm_models import SSM, Diagonal, Structure
from ssm_models.discretize import DISCRETIZATIONS, GBT
from ssm_models.hippo import HIPPO
from ssm_models.init import INIT_NAMES, INITS, LAWS, Mixed
from ssm_models.ptd import PTD
from ssm_models.structures.dense import Dense, DenseLayer, largest_entry
from ssm_models.structures.dense_siso import block_diagonal
from ssm_models.structures.dplr import DPLR

torch.set_num_threads(1)

SMALL_STEPS = {"dt_min": 1e-5, "dt_max": 1e-3}
BLOCKS = [*LAWS, "real"]


def layer(width: int = 3, seed: int = 0, **fields: object) -> DenseLayer:
    fields = {"state": 8, **fields}
    if fields.get("init", "legs") not in HIPPO:
        fields.setdefault("B_init", "ones")
    return Dense(**fields).build(width, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
@pytest.mark.parametrize("init", sorted(INIT_NAMES))
def test_all_modes_agree_forward_and_backward(init: str, discretization: str) -> None:
    for dtype, (forward, backward) in {torch.float64: (1e-9, 1e-9), torch.float32: (5e-6, 5e-5)}.items():
        steps = SMALL_STEPS if discretization == "forward_euler" else {}
        ssm = layer(2, init=init, discretization=discretization, **steps).to(dtype)
        u, weight = noise(2, 13, 2, dtype=dtype).requires_grad_(), noise(2, 13, 2, dtype=dtype, seed=2)
        results = []
        for run in (lambda u, ssm=ssm: step_by_step(ssm, u), ssm, ssm.scan, lambda u, ssm=ssm: in_chunks(ssm, u)):
            y = run(u)
            results.append((y, *torch.autograd.grad((y * weight).sum(), (u, *ssm.parameters()))))
        for y, *gradients in results[1:]:
            assert y.dtype == dtype
            assert error(y, results[0][0]) < forward
            assert max(map(error, gradients, results[0][1:])) < backward


@pytest.mark.parametrize("discretization", [*DISCRETIZATIONS, GBT(0.7)])
@pytest.mark.parametrize("init", BLOCKS)
def test_a_law_in_blocks_starts_as_the_function_that_diagonal_does(init: str, discretization: str | GBT) -> None:
    shared = {"state": 8, "init": init, "discretization": discretization, "bidirectional": True, "B_init": "ones"}
    steps = SMALL_STEPS if discretization == "forward_euler" else {}
    dense = Dense(**shared, **steps).build(3, seed=5)
    diagonal = Diagonal(**shared, **steps).build(3, seed=5)
    u = noise(2, 50, 3)
    assert error(dense(u), diagonal(u)) < 2e-6
    wide, exact = dense.double(), diagonal.double()
    with torch.no_grad():  # the same numbers without the rounding of what is stored
        wide.A.copy_(block_diagonal(exact.eigenvalues()))
        wide.C.copy_(torch.stack([exact.C.sum(dim=-1), exact.C[..., 0] - exact.C[..., 1]], dim=-1).flatten(-2))
    assert error(wide.kernels(50), exact.kernels(50)) < 1e-12


@pytest.mark.parametrize("B_init", ["alternating", "clockwise", "normal"])
def test_any_b_of_the_modes_is_the_one_that_diagonal_has(B_init: str) -> None:
    shared = {"state": 8, "B_init": B_init, "init": "lin", "C_init": "ones", "discretization": "bilinear"}
    u = noise(2, 50, 3)
    assert error(Dense(**shared).build(3, seed=5)(u), Diagonal(**shared).build(3, seed=5)(u)) < 2e-6


@pytest.mark.parametrize("init", HIPPO)
def test_a_hippo_matrix_starts_as_the_function_that_dplr_does(init: str) -> None:
    dplr = DPLR(state=16, init=init, real_transform="none", bidirectional=True).build(3, seed=5)
    u = noise(2, 50, 3)
    assert error(layer(state=16, init=init, bidirectional=True, seed=5)(u), dplr(u)) < 2e-6


@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
@pytest.mark.parametrize("init", ["legs", "fout", "rand"])
def test_the_kernel_is_that_of_scipys_discretisation(init: str, discretization: str) -> None:
    steps = SMALL_STEPS if discretization == "forward_euler" else {}
    ssm = layer(2, init=init, discretization=discretization, **steps).double()
    for h in range(2):
        A, B, C = ssm.A[h].detach().numpy(), ssm.B[h, :, None].detach().numpy(), ssm.C[0, h].detach().numpy()
        dt = ssm.dt()[h].item()
        if discretization == "dirac":
            a_bar, b_bar = expm(dt * A), B
        elif discretization == "exponential_euler":
            a_bar, b_bar = expm(dt * A), dt * B
        else:
            method = {"forward_euler": "euler", "backward_euler": "backward_diff"}.get(discretization, discretization)
            a_bar, b_bar, *_ = cont2discrete((A, B, C[None], np.zeros((1, 1))), dt, method=method)
        taps = [(C @ np.linalg.matrix_power(a_bar, k) @ b_bar).item() for k in range(20)]
        np.testing.assert_allclose(ssm.kernels(20)[0, :, h].detach().numpy(), taps, atol=1e-12 * np.abs(taps).max())


def test_hippo_matrices_and_their_b_are_as_defined() -> None:
    for name in HIPPO:
        ssm = layer(2, init=name)
        torch.testing.assert_close(ssm.A[1].detach(), HIPPO[name](8).A.float())
        torch.testing.assert_close(ssm.B[1].detach(), HIPPO[name](8).B.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("init", ["legs", "lin", "rand"])
def test_c_starts_as_independent_standard_normals_in_every_basis(init: str) -> None:
    C = layer(400, state=16, init=init).C[0].detach()
    covariance = C.T @ C / 400
    assert (covariance - torch.eye(16)).abs().max() < 6 / math.sqrt(400)
    assert covariance.diagonal().mean().item() == pytest.approx(1, abs=0.05)


def test_one_is_one_in_two_by_two_blocks() -> None:
    ssm = layer(init="lin", C_init="ones")
    torch.testing.assert_close(ssm.B.detach(), torch.ones(3, 8))
    torch.testing.assert_close(ssm.C.detach(), torch.ones(1, 3, 8))


def test_the_slowest_mode_of_a_random_matrix_decays_at_one_half() -> None:
    ssm = layer(20, state=32, init="rand")
    spectrum = ssm.spectrum()
    torch.testing.assert_close(spectrum.A.real.amax(dim=-1), torch.full((20,), -0.5).double(), rtol=0, atol=1e-5)
    assert (spectrum.A_bar.abs() < 1).all()
    assert not torch.equal(ssm.A[0], ssm.A[1])


def test_the_spectrum_of_blocks_is_the_law() -> None:
    A = layer(1, init="inv").spectrum().A[0]
    law = INITS["inv"](1, 8, torch.Generator())[0]
    assert A.shape == (8,)
    torch.testing.assert_close(A[A.imag >= 0].imag.sort().values, law.imag.sort().values, rtol=1e-6, atol=1e-6)


def test_c_and_dt_and_d_do_not_depend_on_what_a_is() -> None:
    for init, other in itertools.pairwise([*BLOCKS, "rand"]):
        one, two = layer(init=init).state_dict(), layer(init=other).state_dict()
        assert all(torch.equal(one[name], two[name]) for name in ("C", "inv_dt", "D"))
    assert torch.equal(layer().inv_dt, Diagonal(state=8).build(3, 0).inv_dt)
    assert torch.equal(layer().D, torch.randn(3, generator=torch.Generator().manual_seed(seed_for(0, "D"))))


def test_copies_are_tied_and_mixed() -> None:
    ssm = layer(4, init=Mixed(("legs", "fout")), B_init="hippo", n_ssm=2)
    A = ssm.recurrence().A
    assert ssm.A.shape == (2, 8, 8)
    torch.testing.assert_close(ssm.A[1].detach(), HIPPO["fout"](8).A.float())
    assert not torch.allclose(A[0], A[1])
    dt = ssm.dt()
    assert not torch.allclose(dt[0], dt[2])  # A_bar differs by dt alone
    with pytest.raises(ImpossibleError, match="divides"):
        Dense(init=Mixed(("legs", "fout")), n_ssm=1).check(4)
    with pytest.raises(ImpossibleError, match="n_ssm=3 does not divide width=4"):
        Dense(n_ssm=3).build(4, 0)


def test_a_rate_of_zero_freezes() -> None:
    frozen = layer(lr_A=0.0, lr_B=0.0, lr_dt=0.0)
    assert {name for name, _ in frozen.named_buffers()} == {"A", "B", "inv_dt"}
    assert layer().own_rates() == {"A": 1e-3, "B": 1e-3, "inv_dt": 1e-3}
    u = noise(1, 9, 3)
    assert torch.equal(frozen(u), layer()(u))


def test_powers_tell_an_unstable_start() -> None:
    assert largest_entry("legs", 64, "bilinear", 0.1) < 1
    assert largest_entry("legs", 64, "forward_euler", 1e-3) < 2
    assert largest_entry("legs", 64, "forward_euler", 0.1) == math.inf
    assert largest_entry("lin", 64, "forward_euler", 1e-3) > 1e20


@pytest.mark.parametrize("rule", ["zoh", "bilinear", "backward_euler", GBT(0.5)])
@pytest.mark.parametrize("init", sorted(INIT_NAMES))
def test_no_start_grows_under_a_rule_that_is_stable_at_every_step(init: str, rule: str | GBT) -> None:
    assert max(largest_entry(init, 16, rule, dt) for dt in (1e-4, 1e-1, 1.0)) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"state": 7}, "even"),
        ({"state": 2}, ">= 4"),
        ({"init": "legss"}, "Did you mean 'legs'"),
        ({"B_init": "hipo"}, "Did you mean 'hippo'"),
        ({"C_init": "normall"}, "Did you mean 'normal'"),
        ({"discretization": "bilinar"}, "Did you mean 'bilinear'"),
        ({"n_ssm": 0}, "n_ssm=0"),
        ({"lr_A": -1.0}, "lr_A=-1"),
    ],
)
def test_mistakes_are_named(fields: dict[str, object], says: str) -> None:
    with pytest.raises(MistakeError) as raised:
        Dense(**fields)  # type: ignore[arg-type]
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"init": "lin"}, "does not come from one"),
        ({"init": Mixed(("legs", "lin"))}, "does not come from one"),
        ({"init": PTD()}, "diagonal structures"),
        ({"init": "rand", "B_init": "alternating"}, "no modes"),
        ({"discretization": "forward_euler"}, "unstable for init='legs'"),
        ({"discretization": GBT(0.4), "init": "fout"}, "unstable for init='fout'"),
        ({"n_ssm": 1, "lr_A": 0.0, "lr_B": 0.0}, "n_ssm=None"),
        ({"lr_dt": 0.0, "dt_transform": "softplus"}, "lr_dt=0"),
    ],
)
def test_impossible_combinations_say_why(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ImpossibleError) as raised:
        Dense(**fields)  # type: ignore[arg-type]
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"lr_A": 0.0}, 0),
        ({}, 1),
        ({"init": "rand", "B_init": "ones", "lr_A": 0.0}, 1),
        ({"init": "lin", "B_init": "ones"}, 2),
        ({"B_init": "ones", "lr_A": 0.0}, 1),
        ({"discretization": "forward_euler", **SMALL_STEPS, "lr_A": 0.0}, 1),
        ({"discretization": "dirac", "bidirectional": True}, 3),
    ],
)
def test_caveats_say_what_the_names_do_not(fields: dict[str, object], count: int) -> None:
    caveats = Dense(**fields).caveats()  # type: ignore[arg-type]
    assert len(caveats) == count
    assert all(sentence.endswith(".") for sentence in caveats)


def test_dense_keeps_the_promise_of_a_structure() -> None:
    assert isinstance(Dense(), Structure)
    assert isinstance(layer(), SSM)
