"""LRU and the dense linear RNN below it: the ring, the normalisation, the ladder, and the ways to run them."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lattice import error, in_chunks, step_by_step
from scipy.stats import kstest
from torch import Tensor

from descriptions import ImpossibleError, MistakeError
from ssm_models.scan import associative
from ssm_models.structures.linear_rnn import LinearRNN, associative_one_matrix, glorot_within
from ssm_models.structures.lru import LADDER, LRU, PARAMETERIZATIONS, LRULayer, ring
from ssm_models.structures.shared_state import SharedState
from ssm_models.structures.structure import Structure

torch.set_num_threads(1)

TOLERANCE = {torch.float64: (1e-9, 1e-9), torch.float32: (5e-6, 5e-5)}
LAYERS: dict[str, Structure] = {
    **{name: LRU(state=6, parameterization=name) for name in PARAMETERIZATIONS},
    "ring": LRU(state=6, r_min=0.9, r_max=0.999, max_phase=math.pi / 10),
    "no gamma": LRU(state=6, gamma=False),
    "no skip": LRU(state=6, skip=False),
    "bidirectional": LRU(state=6, bidirectional=True),
    "dense": LinearRNN(state=6),
    "dense bidirectional": LinearRNN(state=6, bidirectional=True),
}


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def build(name: str, dtype: torch.dtype = torch.float64) -> SharedState:
    ssm = LAYERS[name].build(3, seed=0).to(dtype)
    assert isinstance(ssm, SharedState)
    return ssm


def matrices(ssm: SharedState) -> tuple[np.ndarray, ...]:
    """(A, B, C, D) in numpy, A as a matrix."""
    A, B, C = (x.detach().numpy() for x in ssm.system())
    return A if A.ndim == 2 else np.diag(A), B, C, np.zeros(3) if ssm.D is None else ssm.D.detach().numpy()


# ------------------------------------------------------------------------------------------ the ways to run it


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", [name for name in LAYERS if "bidirectional" not in name])
def test_forward_scan_steps_and_chunks_agree_forward_and_backward(name: str, dtype: torch.dtype) -> None:
    ssm = build(name, dtype)
    u, weight = noise(2, 50, 3, dtype=dtype).requires_grad_(), noise(2, 50, 3, dtype=dtype, seed=2)
    results = []
    for run in (lambda u: step_by_step(ssm, u), ssm.scan, ssm, lambda u: in_chunks(ssm, u)):
        y = run(u)
        results.append((y, *torch.autograd.grad((y * weight).sum(), (u, *ssm.parameters()))))
    forward, backward = TOLERANCE[dtype]
    for other in results[1:]:
        assert other[0].dtype == dtype
        assert error(other[0], results[0][0]) < forward
        for gradient, expected in zip(other[1:], results[0][1:], strict=True):
            assert error(gradient, expected) < backward


@pytest.mark.parametrize("L", [1, 2, 40])
@pytest.mark.parametrize("name", LAYERS)
def test_output_is_the_double_loop_over_powers_of_a(name: str, L: int) -> None:
    ssm, u = build(name), noise(2, L, 3)
    A, B, C, D = matrices(ssm)
    K = [[(c @ np.linalg.matrix_power(A, k) @ B).real for k in range(L)] for c in C]  # Re, without a factor 2
    expected = u.numpy() * D
    for i in range(L):
        for j in range(L):
            if j <= i:
                expected[:, i] += u[:, j].numpy() @ K[0][i - j].T
            if j >= i and len(K) == 2:
                expected[:, i] += u[:, j].numpy() @ K[1][j - i].T
    np.testing.assert_allclose(ssm(u).detach().numpy(), expected, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_allclose(ssm.impulse_response(L).detach().numpy(), np.array(K), atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_resets_are_the_pieces_run_separately(name: str) -> None:
    ssm, u = build(name), noise(2, 50, 3)
    resets = torch.zeros(2, 50, dtype=torch.bool)
    resets[0, [7, 8, 40]] = resets[1, [0, 33]] = True
    y = ssm(u, resets)
    for row in range(2):
        edges = sorted({0, 50, *resets[row].nonzero().flatten().tolist()})
        for i, j in itertools.pairwise(edges):
            torch.testing.assert_close(y[row, i:j], ssm(u[row : row + 1, i:j])[0])
    assert error(y, ssm(u)) > 1e-3


@pytest.mark.parametrize("name", LAYERS)
def test_output_keeps_full_precision_under_autocast(name: str) -> None:
    ssm, u = build(name, torch.float32), noise(2, 40, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full, low = ssm(u), ssm(u.bfloat16())
    torch.testing.assert_close(full, ssm(u), rtol=0, atol=0)
    assert low.dtype == torch.bfloat16


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_overflows_over_16384_steps(name: str) -> None:
    ssm = dataclasses.replace(LAYERS[name], state=64).build(2, seed=0)
    ssm(noise(1, 16384, 2, dtype=torch.float32)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in ssm.parameters())


# --------------------------------------------------------------------------------------------------------- LRU


@pytest.mark.parametrize(("r_min", "r_max", "max_phase"), [(0.0, 1.0, 2 * math.pi), (0.9, 0.999, math.pi / 10)])
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_lambda_starts_uniformly_on_the_ring(name: str, r_min: float, r_max: float, max_phase: float) -> None:
    d = LRU(state=20000, parameterization=name, r_min=r_min, r_max=r_max, max_phase=max_phase)
    a = d.build(1, seed=0).eigenvalues().detach()
    square, phase = a.abs().square().numpy(), a.angle().remainder(2 * math.pi).numpy()
    assert kstest(square, "uniform", args=(r_min**2, r_max**2 - r_min**2)).pvalue > 0.01
    assert kstest(phase, "uniform", args=(0, max_phase)).pvalue > 0.01
    assert kstest(np.sqrt(square), "uniform", args=(r_min, r_max - r_min)).pvalue < 1e-3  # of area, not of radius
    assert abs(np.corrcoef(square, phase)[0, 1]) < 0.03


def test_every_parameterization_starts_at_the_same_lambda() -> None:
    first, *others = (LRU(state=50, parameterization=name).build(2, seed=0) for name in PARAMETERIZATIONS)
    assert isinstance(first, LRULayer)
    for other in others:
        torch.testing.assert_close(other.eigenvalues(), first.eigenvalues(), rtol=1e-5, atol=1e-6)
        for name in ("B", "C", "D", "gamma_log"):
            assert torch.equal(getattr(other, name), getattr(first, name))
        assert not torch.equal(other.A, first.A)


@pytest.mark.parametrize("extreme", [0.0, 2**-53, 1 - 2**-53])
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_no_draw_of_the_whole_disc_is_infinite(name: str, extreme: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, generator, dtype: torch.full(shape, extreme, dtype=dtype))
    ssm = LRU(state=2, parameterization=name).build(2, seed=0)
    ssm(noise(1, 5, 2, dtype=torch.float32)).sum().backward()
    assert all(torch.isfinite(p).all() and torch.isfinite(p.grad).all() for p in ssm.parameters())


@given(st.lists(st.floats(-30, 20), min_size=2, max_size=2))
def test_stable_exp_is_inside_the_unit_circle_whatever_is_learnt(numbers: list[float]) -> None:
    p = torch.tensor(numbers, dtype=torch.float64)[:, None]
    assert PARAMETERIZATIONS["stable_exp"].forward(p[0], p[1]).abs().item() < 1


def test_the_other_parameterizations_can_leave_the_unit_circle() -> None:
    outside = torch.tensor([-0.1]).double(), torch.tensor([1.2]).double()
    assert PARAMETERIZATIONS["exp"].forward(*outside).abs().item() == pytest.approx(math.exp(0.1))
    assert PARAMETERIZATIONS["complex"].forward(*outside).abs().item() > 1


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_inverse_of_a_parameterization(name: str) -> None:
    nu, theta = torch.tensor([1e-4, 0.5, 3.0]).double(), torch.tensor([0.1, 3.0, 6.0]).double()
    forward, inverse = PARAMETERIZATIONS[name]
    expected = torch.exp(torch.complex(-nu, theta))
    torch.testing.assert_close(forward(*inverse(nu, theta)), expected)


def stationary_variance(ssm: LRULayer, length: int) -> Tensor:
    """E|x_n|^2 under white noise of unit variance on all channels, as the energy of the impulse responses."""
    a, B, _ = ssm.system()
    impulse = torch.cat([B.T[:, None], B.new_zeros(B.shape[1], length - 1, B.shape[0])], dim=1)
    return associative(a, impulse, torch.zeros_like(B.T)).abs().square().sum(dim=(0, 1)).detach()


def test_gamma_drives_every_mode_to_the_same_variance() -> None:
    ssm = LRU(state=40, r_min=0.3, r_max=0.97).build(5, seed=0).double()
    without = LRU(state=40, r_min=0.3, r_max=0.97, gamma=False).build(5, seed=0).double()
    b = torch.view_as_complex(ssm.B.detach()).abs().square().sum(dim=1)
    modulus = ssm.eigenvalues().detach().abs()
    gamma = torch.exp(ssm.gamma_log.detach())
    closed_form = gamma**2 * b / (1 - modulus**2)
    torch.testing.assert_close(stationary_variance(ssm, 1500), closed_form)
    torch.testing.assert_close(closed_form, b, rtol=1e-5, atol=0)  # so it does not depend on lambda
    torch.testing.assert_close(stationary_variance(without, 1500), b / (1 - modulus**2))
    assert (b / (1 - modulus**2)).max() / (b / (1 - modulus**2)).min() > 10


def test_the_variance_of_a_state_and_of_an_output_is_one_on_average() -> None:
    ssm = LRU(state=300, r_min=0.3, r_max=0.9, skip=False).build(200, seed=0)
    B, C = torch.view_as_complex(ssm.B), torch.view_as_complex(ssm.C)
    assert B.abs().square().sum(dim=1).mean().item() == pytest.approx(1, rel=0.02)
    for z, variance in ((B, 1 / 200), (C, 2 / 300)):
        assert z.real.var().item() == pytest.approx(variance / 2, rel=0.03)
        assert z.imag.var().item() == pytest.approx(variance / 2, rel=0.03)
    y = ssm(noise(20, 200, 200, dtype=torch.float32))[:, 100:]
    assert y.var().item() == pytest.approx(1, rel=0.1)


def test_spectrum_is_lambda() -> None:
    ssm = LRU(state=6).build(3, seed=0)
    spectrum = ssm.spectrum()
    assert torch.equal(spectrum.A_bar, ssm.eigenvalues().detach()[None])
    assert spectrum.A is None
    assert spectrum.dt is None
    with pytest.raises(ImpossibleError, match="discrete time"):
        ssm.rate = 2.0


# -------------------------------------------------------------------------------------------------- the ladder

STEPS: dict[str, set[str]] = {
    "exp": {"parameterization"},
    "stable_exp": {"parameterization"},
    "ring": {"r_min", "r_max"},
    "gamma": {"gamma"},
}


@pytest.mark.parametrize("rung", STEPS)
def test_each_rung_changes_the_one_thing_it_is_named_after(rung: str) -> None:
    names = list(LADDER)
    before, after = (dataclasses.asdict(LADDER[name]) for name in (names[names.index(rung) - 1], rung))
    assert {field for field, value in after.items() if value != before[field]} == STEPS[rung]


def test_the_first_step_changes_the_transition_alone() -> None:
    assert list(LADDER) == ["dense", "complex", *STEPS]
    dense, first = dataclasses.asdict(LADDER["dense"]), dataclasses.asdict(LADDER["complex"])
    assert all(first[field] == value for field, value in dense.items())
    assert set(first) - set(dense) == {"parameterization", "r_min", "r_max", "max_phase", "gamma", "lr_gamma"}
    assert (first["r_min"], first["r_max"], first["max_phase"], first["gamma"]) == (0, 1, 2 * math.pi, False)


def test_a_linear_rnn_is_an_lru_in_its_eigenbasis() -> None:
    dense = LinearRNN(state=6).build(3, seed=0).double()
    diagonal = LRU(state=6, parameterization="complex", gamma=False).build(3, seed=0).double()
    eigenvalues, M = torch.linalg.eig(dense.A.detach())
    with torch.no_grad():
        diagonal.A.copy_(torch.stack([eigenvalues.real, eigenvalues.imag]))
        diagonal.B.copy_(torch.view_as_real(torch.linalg.solve(M, dense.B.to(M.dtype))))
        diagonal.C.copy_(torch.view_as_real(dense.C.to(M.dtype) @ M))
        diagonal.D.copy_(dense.D)
    u = noise(2, 60, 3)
    torch.testing.assert_close(diagonal(u), dense(u), rtol=1e-9, atol=1e-9)


# --------------------------------------------------------------------------------------------------- the dense


@pytest.mark.parametrize("flags", [False, True])
@pytest.mark.parametrize("L", [1, 2, 3, 31, 32, 100, 530])
def test_scan_with_one_matrix_is_the_loop_forward_and_backward(L: int, flags: bool) -> None:
    A, bu, initial = 0.4 * noise(4, 4), noise(2, L, 4), noise(2, 4, seed=3)
    keep = (noise(2, L, 1, seed=4) > -1.5).double() if flags else torch.ones(1, L, 1).double()

    def loop(A: Tensor, bu: Tensor, initial: Tensor) -> Tensor:
        states = [initial]
        for k in range(L):
            states.append(torch.einsum("mn,bn->bm", A, keep[:, k] * states[-1]) + bu[:, k])
        return torch.stack(states[1:], dim=1)

    results = []
    for run in (lambda *x: associative_one_matrix(*x, keep), loop):
        inputs = [x.clone().requires_grad_() for x in (A, bu, initial)]
        y = run(*inputs)
        results.append((y, *torch.autograd.grad((y * noise(2, L, 4, seed=5)).sum(), inputs)))
    for value, truth in zip(*results, strict=True):
        assert error(value, truth) < 1e-12


@pytest.mark.parametrize("N", [1, 2, 8, 64, 256])
def test_a_glorot_matrix_starts_with_every_eigenvalue_inside_the_circle(N: int) -> None:
    A, plain = (glorot_within(radius, N, torch.Generator().manual_seed(0)) for radius in (0.999, 1e9))
    largest, as_drawn = (np.abs(np.linalg.eigvals(x.numpy())).max() for x in (A, plain))
    assert largest == pytest.approx(min(0.999, as_drawn))
    torch.testing.assert_close(A, plain * (largest / as_drawn))
    if N == 256:
        assert as_drawn > 1  # what the scaling is for
        assert plain.var().item() == pytest.approx(1 / N, rel=0.02)


def test_spectrum_of_a_linear_rnn_has_one_of_each_pair() -> None:
    ssm = LinearRNN(state=9).build(3, seed=0)
    a = ssm.spectrum().A_bar[0].numpy()
    both = np.concatenate([a, a[a.imag > 0].conj()])
    np.testing.assert_allclose(np.sort(np.abs(both)), np.sort(np.abs(np.linalg.eigvals(ssm.A.detach().double()))))


# ---------------------------------------------------------------------------------------------------- the fields


@pytest.mark.parametrize(
    ("structure", "field", "names"),
    [
        (LRU, "lr_A", {"A"}),
        (LRU, "lr_B", {"B"}),
        (LRU, "lr_gamma", {"gamma_log"}),
        (LRU, "lr_C", {"C"}),
        (LinearRNN, "lr_A", {"A"}),
        (LinearRNN, "lr_B", {"B"}),
        (LinearRNN, "lr_C", {"C"}),
    ],
)
def test_rate_zero_freezes_and_none_leaves_the_rate_to_the_trainer(
    structure: type[LRU] | type[LinearRNN], field: str, names: set[str]
) -> None:
    own = {"A", "B", "gamma_log"} if structure is LRU else {"A", "B"}
    frozen, free = (structure(state=6, **{field: rate}).build(3, seed=0) for rate in (0.0, None))
    assert names == {name for name, _ in frozen.named_buffers()}
    assert frozen.own_rates().keys() == own - names
    assert free.own_rates() == {name: None if name in names else 1e-3 for name in own}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_keep_the_promise_of_a_structure(name: str) -> None:
    assert isinstance(LAYERS[name], Structure)
    ssm, other = LAYERS[name].build(3, seed=0), LAYERS[name].build(3, seed=1)
    assert all(p.dtype == torch.float32 for p in ssm.parameters())
    for key, value in ssm.state_dict().items():
        assert torch.equal(value, LAYERS[name].build(3, seed=0).state_dict()[key])
        assert not torch.equal(value, other.state_dict()[key])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LRU(parameterization="stable"), "Did you mean 'stable_exp'"),
        (lambda: LRU(state=0), "state=0"),
        (lambda: LRU(r_max=1.5), "r_max=1.5"),
        (lambda: LRU(max_phase=7.0), "max_phase=7"),
        (lambda: LRU(lr_gamma=-1.0), "lr_gamma=-1"),
        (lambda: LinearRNN(state=0), "state=0"),
        (lambda: LinearRNN(lr_A=-1.0), "lr_A=-1"),
    ],
)
def test_mistakes_are_named(make: Callable[[], object], says: str) -> None:
    with pytest.raises(MistakeError) as raised:
        make()
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"r_min": 0.9, "r_max": 0.5}, "no ring with r_min=0.9 and r_max=0.5"),
        ({"r_min": 1.0}, "no ring"),
        ({"r_max": 0.0}, "no ring"),
        ({"lr_A": 0.0, "parameterization": "exp"}, "parameterization='stable_exp'"),
        ({"gamma": False, "lr_gamma": None}, "lr_gamma=0.001"),
    ],
)
def test_what_cannot_be_combined_says_why(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ImpossibleError) as raised:
        LRU(**fields)
    assert says in str(raised.value)


def test_a_ring_may_have_no_width() -> None:
    nu, _ = ring(0.9, 0.9, 1.0, 5, torch.Generator())
    torch.testing.assert_close(torch.exp(-nu), torch.full((5,), 0.9).double())


@pytest.mark.parametrize(
    ("description", "count"),
    [
        (LRU(), 1),
        (LRU(parameterization="exp"), 2),
        (LRU(parameterization="complex", bidirectional=True), 3),
        (LinearRNN(), 1),
        (LinearRNN(lr_A=0), 0),
        (LinearRNN(lr_A=0, bidirectional=True), 1),
    ],
)
def test_caveats_say_what_the_names_do_not(description: LRU | LinearRNN, count: int) -> None:
    assert len(description.caveats()) == count
    assert all(sentence.endswith(".") for sentence in description.caveats())
